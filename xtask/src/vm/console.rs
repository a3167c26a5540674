//! Reading the guest's console: what belongs to the command, and how it ended.

/// What init prints before the command and after it; see `init.sh`.
const BEGIN: &str = "pathtrace-guest: begin";
const EXIT: &str = "pathtrace-guest: exit ";

/// Follows the console line by line.
#[derive(Debug, Default)]
pub(super) struct Console {
    begun: bool,
    exit: Option<i32>,
}

impl Console {
    /// Takes a line and returns it if the command printed it (or the kernel, while the command ran).
    pub(super) fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let line = line.trim_end_matches(['\r', '\n']);
        if !self.begun {
            // The firmware clears the screen first, without a new line.
            self.begun = line.ends_with(BEGIN);
            return None;
        }
        if self.exit.is_some() {
            return None;
        }
        // A command may end without a new line.
        let Some((last, code)) = line.split_once(EXIT) else { return Some(line) };
        self.exit = code.trim().parse().ok();
        (!last.is_empty()).then_some(last)
    }

    /// The command's exit code, once it has ended.
    pub(super) fn exit(&self) -> Option<i32> {
        self.exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_lines_and_exit_code_are_found() {
        let mut console = Console::default();
        let lines = [
            "SeaBIOS\r\n",
            "\u{1b}[2Jpathtrace-guest: begin\r\n",
            "one\r\n",
            "\n",
            "twopathtrace-guest: exit 101\r\n",
            "reboot: Power down\n",
        ];
        let printed: Vec<_> = lines.iter().filter_map(|line| console.line(line)).collect();
        assert_eq!(printed, ["one", "", "two"]);
        assert_eq!(console.exit(), Some(101));
    }

    #[test]
    fn a_guest_that_dies_has_no_exit_code() {
        let mut console = Console::default();
        assert_eq!(console.line("pathtrace-guest: begin"), None);
        assert_eq!(console.line("Kernel panic - not syncing"), Some("Kernel panic - not syncing"));
        assert_eq!(console.exit(), None);
    }
}
