//! A UNIX socket and the processes on it, in a cell of a table.

use std::{borrow::Cow, fmt};

use super::subject::{Ends, Processes};
use crate::model::Path;

/// What is left of a name at least.
const NAME: usize = 12;
/// Between the name and the processes.
const GAP: &str = "  ";

/// `/run/app.sock  client(812) → server(799)`. The name is that of one socket and says nothing of the direction. What
/// is wider than `width` is shortened: the name at its beginning, as its end tells more, then the processes.
pub(super) struct Socket<'a> {
    pub(super) path: &'a Path,
    /// Characters; `None` for as many as it takes.
    pub(super) width: Option<usize>,
}

impl fmt::Display for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Ends(self.path).to_string();
        let is_anybody_known = self.path.sender.is_some() || self.path.receiver.is_some();
        let processes =
            if is_anybody_known { format!("{GAP}{}", Processes(self.path)) } else { String::new() };
        let Some(width) = self.width else { return write!(f, "{name}{processes}") };
        let left = width.saturating_sub(processes.chars().count()).max(NAME);
        let name = without_beginning(&name, left);
        let left = width.saturating_sub(name.chars().count());
        write!(f, "{name}{}", without_end(&processes, left))
    }
}

/// The last characters behind an ellipsis, or all if there is room.
fn without_beginning(text: &str, width: usize) -> Cow<'_, str> {
    let len = text.chars().count();
    if len <= width {
        return text.into();
    }
    let kept: String = text.chars().skip(len - width.saturating_sub(1)).collect();
    format!("…{kept}").into()
}

/// The first characters before an ellipsis, or all if there is room.
fn without_end(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        analyze::{arbitrary, samples},
        model::Unix,
    };

    fn cell(name: &[u8], width: usize) -> String {
        let unix = samples::unix();
        let socket = unix.unix.clone().map(|unix| Unix { name: Some(Arc::from(name)), ..unix });
        Socket { path: &Path { unix: socket, ..unix }, width: Some(width) }.to_string()
    }

    #[test]
    fn what_is_too_wide_is_shortened() {
        assert_eq!(cell(b"/run/app.sock", 48), "/run/app.sock  client(812) → server(799)");
        assert_eq!(
            cell(b"/run/user/1000/some/folder/app.sock", 48),
            "…some/folder/app.sock  client(812) → server(799)"
        );
        assert_eq!(cell(b"/run/app/control.sock", 30), "…ontrol.sock  client(812) → s…");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_cell(path in arbitrary::path(), width in 20_usize..80) {
            let cell = Socket { path: &path, width: Some(width) }.to_string();
            prop_assert!(cell.chars().count() <= width, "{cell}");
        }
    }
}
