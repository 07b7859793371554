//! The text of others that is shown on a terminal.
//!
//! Nothing is left in it that a terminal acts on or that turns the direction of writing; to clean it again
//! changes nothing; text that is harmless stays as it is; and in what pieces it comes makes no difference.

use orch_agents::harmless::{Harmless, one_line};

use crate::input::Input;

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sizes = input.sizes();
    let text = input.rest();
    let shown = Harmless::default().of(text);
    assert!(shown.chars().all(is_harmless), "{shown:?}");

    let mut harmless = Harmless::default();
    let pieces: String = sizes.pieces(text).map(|piece| harmless.of(piece)).collect();
    assert_eq!(pieces, shown, "in pieces of {sizes:?}");

    assert_eq!(Harmless::default().of(shown.as_bytes()), shown, "cleaned twice");
    if let Ok(text) = str::from_utf8(text)
        && text.chars().all(is_harmless)
    {
        assert_eq!(shown, text, "it was harmless");
    }
    let line = one_line(&shown);
    assert!(!line.contains(['\n', '\t']) && line.trim() == line, "{line:?}");
}

/// What may be shown: neither a control character (C0, DEL, C1), line ends and tabs aside, nor one with the
/// Unicode property `Bidi_Control`.
fn is_harmless(c: char) -> bool {
    let is_bidi = matches!(
        u32::from(c),
        0x061c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069
    );
    matches!(c, '\n' | '\t') || !(c.is_control() || is_bidi)
}
