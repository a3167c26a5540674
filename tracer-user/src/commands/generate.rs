//! Completions and the manual page, from the same definitions as the command line.

use std::io::{self, Write as _};

use clap_complete::Shell;

use super::{Failure, Outcome};

pub(super) fn completions(shell: Shell, mut command: clap::Command) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "pathtrace", &mut text);
    print(&text)
}

pub(super) fn man(command: clap::Command) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    write_man(command, &mut text).map_err(Failure::Output)?;
    print(&text)
}

/// One page for all verbs: the generator's own synopsis leaves the values of options out, and its list of verbs refers
/// to pages that nobody has installed.
fn write_man(mut command: clap::Command, text: &mut Vec<u8>) -> io::Result<()> {
    command.build();
    let verbs: Vec<(String, String)> = command.get_subcommands_mut().filter_map(usage_and_purpose).collect();
    let own_usage = first_usage(&mut command);
    let man = clap_mangen::Man::new(command);
    man.render_title(text)?;
    man.render_name_section(text)?;
    writeln!(text, ".SH SYNOPSIS\n\\fB{}\\fR", escaped(&own_usage))?;
    for (usage, _) in &verbs {
        writeln!(text, ".br\n\\fB{}\\fR", escaped(usage))?;
    }
    man.render_description_section(text)?;
    man.render_options_section(text)?;
    writeln!(text, ".SH VERBS")?;
    for (usage, purpose) in &verbs {
        writeln!(text, ".TP\n\\fB{}\\fR\n{}", escaped(usage), escaped(purpose))?;
    }
    writeln!(text, ".PP\n{}", escaped("pathtrace VERB --help explains the options of a verb."))?;
    man.render_extra_section(text)?;
    man.render_version_section(text)
}

fn usage_and_purpose(verb: &mut clap::Command) -> Option<(String, String)> {
    let purpose = verb.get_about()?.to_string();
    (verb.get_name() != "help").then(|| (first_usage(verb), purpose))
}

/// How it is called, on one line.
fn first_usage(command: &mut clap::Command) -> String {
    let usage = command.render_usage().to_string();
    usage.lines().next().unwrap_or_default().trim_start_matches("Usage: ").to_owned()
}

/// As roff takes text literally; none of it begins with a dot or a quotation mark.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\e").replace('-', r"\-")
}

/// The generators write straight to standard output and panic when it is closed, hence the detour.
fn print(text: &[u8]) -> Result<Outcome, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(Failure::Output)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_manual_page_says_how_each_verb_is_called() {
        let mut text = Vec::new();
        write_man(Cli::command(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let synopsis = text.split(".SH ").find(|section| section.starts_with("SYNOPSIS")).unwrap();
        insta::assert_snapshot!(synopsis);
        assert!(text.contains(".SH VERBS") && !text.contains("(1)"), "{text}");
    }
}
