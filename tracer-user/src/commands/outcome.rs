//! How a verb ended, as an exit status.

/// The end of a run that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The answer is no (`--strict`: something was lost or incomplete).
    Negative,
    /// The answer could not be found out.
    Unknown,
    /// The command that was traced ended with this status (128 + signal, if by a signal).
    Command(u8),
}

impl Outcome {
    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
            Self::Unknown => 2,
            Self::Command(status) => status,
        }
    }
}
