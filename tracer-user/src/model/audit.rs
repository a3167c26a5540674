//! Whether all that the kernel side wanted to say has come, or is known to be lost.

/// The accounts of all records, of hops and of names alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Audit {
    /// Records that a program wanted to write.
    pub fired: u64,
    /// Records that came.
    pub taken: u64,
    /// Records that the ring buffer had no room for.
    pub lost: u64,
    /// Records that nothing explains, of each kind too many or too few.
    pub unexplained: u64,
}

impl Audit {
    /// The accounts, each an amount of every kind of record.
    pub fn of(fired: &[u64], taken: &[u64], lost: &[u64]) -> Self {
        let total = |of: &[u64]| of.iter().sum();
        let each = fired.iter().zip(taken).zip(lost);
        Self {
            fired: total(fired),
            taken: total(taken),
            lost: total(lost),
            unexplained: each.map(|((fired, taken), lost)| fired.abs_diff(taken + lost)).sum(),
        }
    }

    /// Whether everything has come or is known to be lost.
    pub fn balances(&self) -> bool {
        self.unexplained == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fired_was_taken_or_lost() {
        let audit = Audit::of(&[0, 10, 4], &[0, 7, 4], &[0, 3, 0]);
        assert_eq!((audit.fired, audit.taken, audit.lost), (14, 11, 3));
        assert!(audit.balances());
    }

    #[test]
    fn one_kind_does_not_make_up_for_another() {
        let audit = Audit::of(&[0, 10, 4], &[0, 9, 5], &[0, 0, 0]);
        assert_eq!(audit.fired, audit.taken);
        assert_eq!(audit.unexplained, 2);
        assert!(!audit.balances());
    }
}
