//! Text of others without anything that a terminal would act on.

use anstyle_parse::{DefaultCharAccumulator, Parser, Perform};

/// Takes escape sequences, control characters and characters that change the direction of writing
/// out of text, also where a sequence or a character comes in several pieces. Line ends and tabs
/// stay.
#[derive(Debug, Default)]
pub struct Harmless {
    parser: Parser<DefaultCharAccumulator>,
    shown: Shown,
}

#[derive(Debug, Default)]
struct Shown(String);

impl Harmless {
    /// What a terminal may show of the next piece.
    pub fn of(&mut self, bytes: &[u8]) -> String {
        for byte in bytes {
            if *byte == b'\n' {
                // A sequence that never ends hides no more than its line.
                self.parser = Parser::default();
            }
            self.parser.advance(&mut self.shown, *byte);
        }
        std::mem::take(&mut self.shown.0)
    }
}

impl Perform for Shown {
    fn print(&mut self, c: char) {
        let turns = matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        if !turns && !c.is_control() {
            self.0.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        if let b'\n' | b'\t' = byte {
            self.0.push(byte.into());
        }
    }
}

/// A whole text without anything that a terminal would act on.
#[must_use]
pub fn clean(text: &str) -> String {
    Harmless::default().of(text.as_bytes())
}

/// [`clean`] text in one line, so that it can't pass for lines of ours.
#[must_use]
pub fn one_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        for (text, shown) in [
            ("a\u{1b}[31mred\u{1b}[0m", "ared"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]52;c;aGk=\u{1b}\\x", "x"),
            ("\u{1b}P1$r0m\u{1b}\\x", "x"),
            ("a\u{202e}b\u{8}c\r\n\td", "abc\n\td"),
            ("\u{feff}日本 é", "\u{feff}日本 é"),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
        let control = clean("\u{9b}2Jx");
        assert!(control.ends_with('x') && !control.contains('\u{9b}'), "{control:?}");
        assert_eq!(one_line("a\n\u{1b}[1mmerged\u{1b}[0m b\n"), "a merged b");
    }

    #[test]
    fn what_comes_in_pieces_is_as_harmless_as_in_one() {
        let text = "a\u{1b}[31mé\u{1b}]0;title\u{7}\tb\u{1b}[2J\u{8}\r\n日本\u{1b}(B!";
        for size in 1..text.len() {
            let mut harmless = Harmless::default();
            let pieces = text.as_bytes().chunks(size).map(|piece| harmless.of(piece));
            assert_eq!(pieces.collect::<String>(), "aé\tb\n日本!", "in pieces of {size}");
        }
    }

    #[test]
    fn broken_text_hides_nothing_else() {
        assert_eq!(Harmless::default().of(b"a\xffb\xe6\nc"), "ab\nc");
        assert_eq!(clean("a\u{1b}]0;no end\nb\u{1b}[\nc"), "a\nb\nc");
    }
}
