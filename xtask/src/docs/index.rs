//! `docs/hops/README.md`: all hops in the order of the path.

use std::fmt::Write as _;

use super::{GENERATED, kernels::Kernels, page, row::Row, table::letters};

const FOREWORD: &str = "\
# The hops

Every place in the kernel that pathtrace can look at, by and large in the order in which a packet passes them. No packet
passes all. Each has a page, which says what marks it in the kernel and what is seen of it in the output.
";

const KERNELS: &str = "
## On which kernels

By which backends each hop was attached on Debian's kernels: **F**entry, **K**probe, **T**racepoint. A tracepoint may lie
a little beside the function, or see less; the hop's page says which it is.
";

/// The whole file.
pub(super) fn index(rows: &[Row], kernels: &Kernels) -> String {
    let mut text = format!("{GENERATED}{FOREWORD}\n| hop | sees | what happens there |\n|---|---|---|\n");
    for row in rows {
        let _ = writeln!(text, "| {} | {} | {} |", link(row), row.traffic, row.about);
    }
    text.push_str(KERNELS);
    text.push_str("\n| hop |");
    for kernel in &kernels.kernels {
        let _ = write!(text, " {} |", kernel.version());
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(kernels.kernels.len()));
    for row in rows {
        let _ = write!(text, "| {} |", link(row));
        for kernel in &kernels.kernels {
            let _ = write!(text, " {} |", letters(row, kernel));
        }
        text.push('\n');
    }
    text.push_str(
        "\nThe answers are in [kernels.json](kernels.json); `cargo xtask docs --measure` boots the kernels and asks \
         them anew.\n",
    );
    text
}

fn link(row: &Row) -> String {
    format!("[{}]({})", row.hop, page::file(row.hop))
}
