//! Output that secrets are taken out of.
//!
//! What comes out is what a slow model gives: at each place the longest secret that begins there is taken
//! out, then what patterns match within a line. So no secret remains, text without secrets is unchanged, and in
//! what pieces the output comes makes no difference.

use std::sync::LazyLock;

use orch_exec::process::{Patterns, fuzz::Redactor};
use regex::bytes::Regex;

use crate::input::Input;

const REDACTED: &[u8] = b"[redacted]";

/// Lines up to this length, in bytes, are looked at as a whole.
const LONGEST_LINE: usize = 16 << 10;

static PATTERNS: LazyLock<[(Patterns, Option<Regex>); 4]> = LazyLock::new(|| {
    let sets: [&[&str]; 4] =
        [&[], &["a+b"], &["k[0-9]+", r"ab\b"], &["^a", "b$", r"(?i)token:\s*\S+"]];
    sets.map(|texts| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let all: Vec<String> = texts.iter().map(|text| format!("(?:{text})")).collect();
        let regex = format!("(?-u){}", all.join("|"));
        let regex = (!texts.is_empty()).then(|| Regex::new(&regex).expect("it is a pattern"));
        (Patterns::new(&texts).expect("they are patterns"), regex)
    })
});

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sizes = input.sizes();
    // Seldom: whatever looks for patterns begins with a cache of its own, which takes most of the time.
    let (patterns, regex) = &PATTERNS[input.below(16).saturating_sub(12)];
    let values: Vec<String> = (0..input.below(4)).map(|_| input.text(20)).collect();
    let text = output(&values, input);
    let mut redactor = Redactor::new(&values, patterns);

    let secrets: Vec<&[u8]> =
        values.iter().filter(|value| is_secret(value)).map(|value| value.as_bytes()).collect();
    let kept = without(&text, &secrets);
    let mut expected = kept.join(REDACTED);
    let longest = expected.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::len).max();
    if let Some(regex) = regex {
        expected = matches_taken_out(&expected, regex);
    }

    let mut whole = redactor.clone().push_all([&*text]);
    // What is as long as this is given out before its line has ended.
    if regex.is_none() || longest.is_none_or(|longest| longest < LONGEST_LINE) {
        assert_eq!(whole.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
    let pieces = redactor.clone().push_all(sizes.pieces(&text));
    assert_eq!(pieces, whole, "in pieces of {sizes:?}");
    if let Ok(text) = str::from_utf8(&text) {
        whole = String::from_utf8_lossy(&whole).into_owned().into_bytes();
        assert_eq!(redactor.text(text).into_bytes(), whole, "at once");
    }
    // One that was finished holds nothing back.
    redactor.push(&text);
    redactor.finish();
    assert!(redactor.finish().is_empty());
}

trait PushAll {
    fn push_all<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8>;
}

impl PushAll for Redactor {
    fn push_all<'a>(mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out: Vec<u8> = pieces.into_iter().flat_map(|piece| self.push(piece)).collect();
        out.extend(self.finish());
        out
    }
}

/// The rest of the input, with values and beginnings of values in it.
fn output(values: &[String], mut input: Input<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    while !input.is_empty() {
        let byte = input.byte();
        let value = values.get(usize::from(byte & 3)).map_or(&b""[..], |value| value.as_bytes());
        match byte {
            0xf8..=0xff => text.extend_from_slice(value),
            0xf0..=0xf7 => text.extend_from_slice(&value[..input.place(value.len())]),
            byte => text.push(byte),
        }
    }
    text
}

fn is_secret(value: &str) -> bool {
    value.len() >= 8 && !value.starts_with('/') && !value.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands between the secrets: at each place the longest one that begins there is one.
fn without<'a>(text: &'a [u8], secrets: &[&[u8]]) -> Vec<&'a [u8]> {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let here = secrets.iter().filter(|secret| text[at..].starts_with(secret));
        match here.map(|secret| secret.len()).max() {
            Some(length) => {
                parts.push(&text[begin..at]);
                at += length;
                begin = at;
            }
            None => at += 1,
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Each line by itself, its end aside.
fn matches_taken_out(text: &[u8], regex: &Regex) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        let end = line.len() - usize::from(line.ends_with(b"\n") || line.ends_with(b"\r"));
        let mut at = 0;
        for found in regex.find_iter(&line[..end]).filter(|found| !found.is_empty()) {
            out.extend_from_slice(&line[at..found.start()]);
            out.extend_from_slice(REDACTED);
            at = found.end();
        }
        out.extend_from_slice(&line[at..]);
    }
    out
}
