//! A patch for a terminal: in colours, and without anything that a terminal would act on.

use anstyle::Style;

use super::{BAD, GOOD, Harmless, STRONG};

const PLACE: Style = anstyle::AnsiColor::Cyan.on_default();

/// Colours a patch that comes in pieces.
#[derive(Debug)]
pub(crate) struct Patch {
    harmless: Harmless,
    /// The beginning of a line whose end has not come yet.
    begun: String,
    in_hunk: bool,
    is_colored: bool,
}

impl Patch {
    /// `is_colored`: it is a patch, and not an overview of one.
    pub(crate) fn new(is_colored: bool) -> Self {
        Self { harmless: Harmless::default(), begun: String::new(), in_hunk: false, is_colored }
    }

    /// The lines that the next piece completes.
    pub(crate) fn of(&mut self, bytes: &[u8]) -> String {
        self.begun.push_str(&self.harmless.of(bytes));
        let Some(end) = self.begun.rfind('\n') else { return String::new() };
        let rest = self.begun.split_off(end + 1);
        let lines = std::mem::replace(&mut self.begun, rest);
        lines.lines().map(|line| self.line(line) + "\n").collect()
    }

    /// A last line that has no end.
    pub(crate) fn end(mut self) -> String {
        let rest = std::mem::take(&mut self.begun);
        if rest.is_empty() { rest } else { self.line(&rest) }
    }

    fn line(&mut self, line: &str) -> String {
        if !self.is_colored {
            return line.to_owned();
        }
        if line.starts_with("diff --git ") {
            self.in_hunk = false;
        }
        let style = if line.starts_with("@@ ") {
            self.in_hunk = true;
            PLACE
        } else if !self.in_hunk {
            STRONG
        } else if line.starts_with('+') {
            GOOD
        } else if line.starts_with('-') {
            BAD
        } else {
            return line.to_owned();
        };
        format!("{style}{line}{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-old\n+\u{1b}[2Jnew é\n same\n";

    #[test]
    fn a_patch_in_pieces_is_coloured_as_in_one_and_acts_on_no_terminal() {
        let whole = Patch::new(true).of(TEXT.as_bytes());
        let plain = anstream::adapter::strip_str(&whole).to_string();
        assert_eq!(plain, TEXT.replace("\u{1b}[2J", ""));
        assert!(whole.contains(&format!("{STRONG}--- a/x{STRONG:#}")), "{whole:?}");
        assert!(whole.contains(&format!("{BAD}-old{BAD:#}")), "{whole:?}");
        assert!(whole.contains(&format!("{GOOD}+new é{GOOD:#}")), "{whole:?}");
        for size in 1..9 {
            let mut patch = Patch::new(true);
            let pieces: String = TEXT.as_bytes().chunks(size).map(|p| patch.of(p)).collect();
            assert_eq!(pieces + &patch.end(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn an_overview_stays_as_it_is() {
        let mut patch = Patch::new(false);
        assert_eq!(patch.of(b" x | 2 +-\n 1 file"), " x | 2 +-\n");
        assert_eq!(patch.end(), " 1 file");
    }
}
