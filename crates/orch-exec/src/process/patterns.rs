//! Patterns of what is taken out of output.

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// A line is looked at as a whole up to twice this length, in bytes. Beyond that a match is certain to be
/// taken out whole where it is no longer than this.
const LONGEST: usize = 8 << 10;

/// Regular expressions (the syntax of the crate `regex`, over bytes and with ASCII classes) whose matches
/// within a line are taken out of output before it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Patterns {
    texts: Vec<String>,
    /// All of them in one; `None` where there are none.
    regex: Option<Regex>,
}

impl Patterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// Where one is no regular expression, or matches an empty text and so everywhere; names it.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        let compile = |text: &str| RegexBuilder::new(text).unicode(false).build();
        for text in texts {
            let bad = |why: String| format!("bad pattern `{text}`: {why}");
            let regex = compile(text).map_err(|error| bad(error.to_string()))?;
            if regex.is_match(b"") {
                return Err(bad(
                    "it matches an empty text, so everything would be taken out".into()
                ));
            }
        }
        if texts.is_empty() {
            return Ok(Self::default());
        }
        let all: Vec<String> = texts.iter().map(|text| format!("(?:{text})")).collect();
        let regex = compile(&all.join("|")).map_err(|error| format!("bad patterns: {error}"))?;
        Ok(Self { texts: texts.to_vec(), regex: Some(regex) })
    }
}

impl TryFrom<Vec<String>> for Patterns {
    type Error = String;
    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        Self::new(&texts)
    }
}

impl From<Patterns> for Vec<String> {
    fn from(patterns: Patterns) -> Self {
        patterns.texts
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Patterns {}

/// Takes matches out of a stream, line by line.
#[derive(Debug, Clone)]
pub(super) struct LineFilter {
    regex: Regex,
    /// The line that has no end yet.
    open: Vec<u8>,
}

impl LineFilter {
    /// `None` where there is nothing to take out.
    pub(super) fn new(patterns: &Patterns) -> Option<Self> {
        Some(Self { regex: patterns.regex.clone()?, open: Vec::new() })
    }

    /// One that has seen nothing.
    pub(super) fn fresh(&self) -> Self {
        Self { regex: self.regex.clone(), open: Vec::new() }
    }

    /// Takes a piece in and gives what may be written: lines, and what is certain of one that goes on and
    /// on. Where the pieces begin and end makes no difference.
    pub(super) fn push(&mut self, mut bytes: &[u8], redacted: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.open.len() + bytes.len());
        while !bytes.is_empty() {
            let room = 2 * LONGEST - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            bytes = later;
            self.open.extend_from_slice(now);
            if let Some(last) = memchr::memrchr2(b'\n', b'\r', &self.open) {
                let whole = last + 1;
                for line in self.open[..whole].split_inclusive(|byte| matches!(byte, b'\n' | b'\r'))
                {
                    self.replace(line, line.len(), redacted, &mut out);
                }
                self.open.drain(..whole);
            } else if self.open.len() == 2 * LONGEST {
                let done = self.replace(&self.open, LONGEST, redacted, &mut out);
                self.open.drain(..done);
            }
        }
        out
    }

    /// Gives what was held back: nothing follows.
    pub(super) fn finish(&mut self, redacted: &[u8]) -> Vec<u8> {
        let line = std::mem::take(&mut self.open);
        let mut out = Vec::with_capacity(line.len());
        self.replace(&line, line.len(), redacted, &mut out);
        out
    }

    /// Gives a text up to `end`, or to the end of a match that begins before that, without what
    /// matches; and how much that was.
    fn replace(&self, text: &[u8], end: usize, redacted: &[u8], out: &mut Vec<u8>) -> usize {
        // The end of a line is no part of it.
        let line = text.strip_suffix(b"\n").or(text.strip_suffix(b"\r")).unwrap_or(text);
        let mut at = 0;
        for found in self.regex.find_iter(line).take_while(|found| found.start() < end) {
            // A look at what is around, `\b` for example, may match nothing.
            if found.is_empty() {
                continue;
            }
            out.extend_from_slice(&text[at..found.start()]);
            out.extend_from_slice(redacted);
            at = found.end();
        }
        let done = at.max(end);
        out.extend_from_slice(&text[at..done]);
        done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(texts: &[&str]) -> LineFilter {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        LineFilter::new(&Patterns::new(&texts).unwrap()).expect("there are patterns")
    }

    /// What comes out where the text comes in pieces of these sizes.
    fn filtered(texts: &[&str], text: &[u8], sizes: &[usize]) -> Vec<u8> {
        let (mut filter, mut rest, mut out) = (filter(texts), text, Vec::new());
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            out.extend(filter.push(now, b"#"));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        out.extend(filter.finish(b"#"));
        out
    }

    #[test]
    fn patterns_match_within_a_line() {
        let patterns = ["sk-[a-z0-9]{4,}", r"(?i)token:\s*\S+", "hunter2"];
        let text = b"a sk-abc1 b\nTOKEN: x1 y\rTOKEN:\nx1\nhunter2hunter2\n\xff hunter";
        let out = filtered(&patterns, text, &[100]);
        assert_eq!(out, b"a # b\n# y\rTOKEN:\nx1\n##\n\xff hunter");
    }

    #[test]
    fn a_line_without_end_is_held_back_only_so_far() {
        let mut filter = filter(&["k[0-9]+"]);
        let dots = vec![b'.'; 2 * LONGEST - 1];
        assert!(filter.push(&dots, b"#").is_empty());
        assert_eq!(filter.push(b"k", b"#").len(), LONGEST);
        assert_eq!(filter.push(b"123 \n", b"#").len(), LONGEST + 1 - 2 + 3 + 1 - 1);
    }

    #[test]
    fn a_match_across_the_border_of_what_is_held_back_is_taken_out() {
        for before in [LONGEST - 3, LONGEST, 2 * LONGEST - 3, 2 * LONGEST, 3 * LONGEST - 2] {
            let text = [vec![b'.'; before], b"k123456".to_vec(), vec![b'.'; 3 * LONGEST]].concat();
            let out = filtered(&["k[0-9]+"], &text, &[1000]);
            let expected = [vec![b'.'; before], b"#".to_vec(), vec![b'.'; 3 * LONGEST]].concat();
            assert!(out == expected, "{before}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_by_name() {
        for (text, why) in [("a(", "unclosed"), ("x*", "empty text"), ("", "empty text")] {
            let error = Patterns::new(&["fine".into(), text.into()]).unwrap_err();
            assert!(error.contains(&format!("`{text}`")) && error.contains(why), "{error}");
        }
        assert!(LineFilter::new(&Patterns::default()).is_none());
        let text = serde_json::to_string(&Patterns::new(&["a+".into()]).unwrap()).unwrap();
        assert_eq!(text, r#"["a+"]"#);
        assert!(serde_json::from_str::<Patterns>(r#"["a("]"#).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_borders_of_pieces_make_no_difference(
            words in prop::collection::vec("key=[a-c]{1,6}|hunter2|hunter|[a-d ]{1,9}|\n|\r\n", 0..40),
            stretch in prop::option::of((0usize..40, 1usize..40_000)),
            sizes in prop::collection::vec(1usize..5000, 1..20),
            small in prop::collection::vec(1usize..7, 1..60),
        ) {
            let patterns = ["key=[a-z]+", "hunter2", r"c\b"];
            let mut words = words;
            if let Some((at, length)) = stretch {
                words.insert(at.min(words.len()), ".".repeat(length));
            }
            let text = words.concat();
            let whole = filtered(&patterns, text.as_bytes(), &[usize::MAX]);
            prop_assert_eq!(&filtered(&patterns, text.as_bytes(), &sizes), &whole);
            if stretch.is_none() {
                prop_assert_eq!(&filtered(&patterns, text.as_bytes(), &small), &whole);
            }
            // Each line by itself, at once.
            let regex = Regex::new("(?-u)key=[a-z]+|hunter2|c\\b").unwrap();
            let oracle: Vec<u8> = text
                .split_inclusive(['\n', '\r'])
                .flat_map(|line| regex.replace_all(line.as_bytes(), &b"#"[..]).into_owned())
                .collect();
            prop_assert_eq!(String::from_utf8(whole).unwrap(), String::from_utf8(oracle).unwrap());
        }
    }
}
