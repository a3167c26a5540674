//! Running single commands as root.

use std::{ffi::OsStr, fs, io::IsTerminal as _, os::unix::fs::MetadataExt as _, process::Command};

use crate::process::succeeds;

/// A way to run a command as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// This process is root.
    Root,
    /// sudo asks for no password.
    Sudo,
    /// sudo may ask for a password on this terminal.
    SudoAsking,
}

impl Privilege {
    /// What works here without asking anybody.
    pub fn silent() -> Option<Self> {
        if is_root() {
            Some(Self::Root)
        } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
            Some(Self::Sudo)
        } else {
            None
        }
    }

    /// What works here, a password on the terminal included.
    pub fn any() -> Option<Self> {
        let asking = || std::io::stdin().is_terminal() && succeeds(Command::new("sudo").arg("-V"));
        Self::silent().or_else(|| asking().then_some(Self::SudoAsking))
    }

    /// A command that runs `program` as root with these variables set (sudo drops the caller's).
    pub fn command(self, variables: &[(&str, &OsStr)], program: impl AsRef<OsStr>) -> Command {
        let mut command = match self {
            Self::Root => {
                let mut command = Command::new(program);
                command.envs(variables.iter().copied());
                return command;
            }
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg("-n");
                command
            }
            Self::SudoAsking => Command::new("sudo"),
        };
        command.arg("env");
        for (name, value) in variables {
            let mut setting = std::ffi::OsString::from(name);
            setting.push("=");
            setting.push(value);
            command.arg(setting);
        }
        command.arg(program);
        command
    }
}

fn is_root() -> bool {
    // The owner of a process's folder is its effective user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::describe;

    #[test]
    fn sudo_gets_the_variables_as_arguments() {
        let command = Privilege::Sudo.command(&[("A", OsStr::new("b c"))], "/bin/program");
        assert_eq!(describe(&command), "sudo -n env A=b c /bin/program");
        let command = Privilege::Root.command(&[("A", OsStr::new("b"))], "/bin/program");
        assert_eq!(describe(&command), "/bin/program");
        assert_eq!(command.get_envs().next(), Some((OsStr::new("A"), Some(OsStr::new("b")))));
    }
}
