//! What becomes of a file that a disk, a crash or a person got at.

use crate::input::Input;

/// Damages a file as the rest of the input says.
pub(crate) fn damage(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    while !input.is_empty() {
        let deed = input.below(8);
        let at = input.place(bytes.len());
        match deed {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << input.below(8),
            2 if at < bytes.len() => bytes[at] = input.byte(),
            3 => bytes.truncate(at),
            4 => {
                let length = 1 + input.below(64);
                let new = input.take(length);
                bytes.splice(at..at, new.iter().copied());
            }
            // A page that was never written.
            5 => {
                let end = bytes.len().min(at + 1 + input.below(256));
                bytes[at..end].fill(0);
            }
            6 => {
                let end = bytes.len().min(at + 1 + input.below(256));
                bytes.drain(at..end);
            }
            // A part that is there twice.
            7 => {
                let end = bytes.len().min(at + 1 + input.below(256));
                let again = bytes[at..end].to_vec();
                let to = input.place(bytes.len());
                bytes.splice(to..to, again);
            }
            _ => {}
        }
        if bytes.len() > 1 << 16 {
            break;
        }
    }
}
