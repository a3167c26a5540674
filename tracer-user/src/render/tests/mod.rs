//! Everything that is printed, as it is printed.

mod banner;
mod doctor;
mod hostile;
mod line;
mod proof;
mod summary;
mod tree;

use super::*;
use crate::{
    analyze::{LatencyTable, samples},
    model::Trust,
};

fn style() -> Style {
    Style { realtime_offset_ns: samples::REALTIME_OFFSET_NS, ..Style::default() }
}

fn text(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap()
}

/// All the paths, one after the other.
fn paths(format: Format, style: Style, paths: &[Path]) -> String {
    let mut out = Vec::new();
    let mut writer = writer(format, style, &samples::coverage());
    for path in paths {
        writer.path(path, &mut out).unwrap();
    }
    text(out)
}

/// The summary after these paths.
fn summary_of(paths: &[Path], trust: &Trust, coverage: &Coverage, style: Style) -> String {
    let mut table = LatencyTable::default();
    for path in paths {
        table.add(path);
    }
    let mut out = Vec::new();
    write_summary(&Summary { table: &table, trust, coverage }, style, &mut out).unwrap();
    text(out)
}
