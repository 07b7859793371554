//! Secrets are taken out of output before it is written anywhere.

use std::borrow::Cow;

use super::{environment::Environment, patterns::LineFilter};

/// What stands in the place of a secret.
const REDACTED: &[u8] = b"[redacted]";

/// Shorter values are no secrets, and taking them out would make output unreadable.
const SHORTEST: usize = 8;

/// What the names of variables with secrets have in them.
const MARKS: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"];

/// Values that look like a path or a switch are not secret, whatever the variable is called.
fn is_harmless(value: &str) -> bool {
    value.starts_with('/') || value.bytes().all(|byte| byte.is_ascii_digit())
}

/// The values of those variables whose names tell that they are secret.
pub(super) fn secrets<'v>(
    variables: impl Iterator<Item = (&'v str, &'v str)>,
) -> impl Iterator<Item = Vec<u8>> {
    variables
        .filter(|(name, value)| {
            let name = name.to_ascii_uppercase();
            let marked = MARKS.iter().any(|mark| name.contains(mark));
            marked && value.len() >= SHORTEST && !is_harmless(value)
        })
        .map(|(_, value)| value.as_bytes().to_vec())
}

/// Takes secrets out of a stream, also where they lie across the border of two pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    /// The longest first.
    secrets: Vec<Vec<u8>>,
    /// The end of what came, where it may be the beginning of a secret.
    held: Vec<u8>,
    /// Takes out what patterns match, where there are any.
    lines: Option<LineFilter>,
}

impl Redactor {
    /// Takes out the values of variables whose names tell that they are secret, and what the patterns
    /// of the environment match.
    pub(crate) fn new<'v>(
        environment: &'v Environment,
        variables: impl IntoIterator<Item = (&'v String, &'v String)>,
    ) -> Self {
        let own = variables.into_iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut secrets: Vec<Vec<u8>> =
            environment.secrets().iter().cloned().chain(self::secrets(own)).collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets, held: Vec::new(), lines: LineFilter::new(environment.patterns()) }
    }

    /// Takes a piece in and gives what may be written.
    pub(crate) fn push<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let bytes = self.push_secrets(bytes);
        match &mut self.lines {
            Some(lines) => lines.push(&bytes, REDACTED).into(),
            None => bytes,
        }
    }

    /// Gives what was held back: nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let rest = self.finish_secrets();
        match &mut self.lines {
            Some(lines) => {
                let mut out = lines.push(&rest, REDACTED);
                out.append(&mut lines.finish(REDACTED));
                out
            }
            None => rest,
        }
    }

    fn push_secrets<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.secrets.is_empty() {
            return bytes.into();
        }
        self.held.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(self.held.len());
        let mut at = 0;
        loop {
            let rest = &self.held[at..];
            let open = self.open(rest);
            match self.first(rest) {
                Some((start, length)) if start < open => {
                    out.extend_from_slice(&rest[..start]);
                    out.extend_from_slice(REDACTED);
                    at += start + length;
                }
                _ => {
                    out.extend_from_slice(&rest[..open]);
                    at += open;
                    break;
                }
            }
        }
        self.held.drain(..at);
        out.into()
    }

    fn finish_secrets(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.held);
        let mut out = Vec::new();
        while let Some((start, length)) = self.first(&rest) {
            out.extend_from_slice(&rest[..start]);
            out.extend_from_slice(REDACTED);
            rest.drain(..start + length);
        }
        out.append(&mut rest);
        out
    }

    /// A whole text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let lines = self.lines.as_ref().map(LineFilter::fresh);
        let mut redactor = Self { secrets: self.secrets.clone(), held: Vec::new(), lines };
        let mut out = redactor.push(text.as_bytes()).into_owned();
        out.append(&mut redactor.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Where the first secret begins, and how long the longest one there is.
    fn first(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let found = self.secrets.iter().filter_map(|secret| {
            let start = memchr::memmem::find(bytes, secret)?;
            Some((start, std::cmp::Reverse(secret.len())))
        });
        found.min().map(|(start, length)| (start, length.0))
    }

    /// Where the part at the end begins that may be the beginning of a secret.
    fn open(&self, bytes: &[u8]) -> usize {
        let of = |secret: &Vec<u8>| {
            let longest = bytes.len().min(secret.len() - 1);
            (1..=longest).rev().find(|length| bytes.ends_with(&secret[..*length])).unwrap_or(0)
        };
        bytes.len() - self.secrets.iter().map(of).max().unwrap_or(0)
    }
}

#[cfg(feature = "fuzz")]
pub mod fuzz;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let variables: BTreeMap<String, String> = values
            .iter()
            .enumerate()
            .map(|(number, value)| (format!("API_KEY_{number}"), (*value).to_owned()))
            .collect();
        Redactor::new(&Environment::default(), &variables)
    }

    #[test]
    fn only_what_is_called_a_secret_is_one() {
        let variables: BTreeMap<String, String> = [
            ("GITHUB_TOKEN", "ghp_0123456789"),
            ("db_password", "correct horse"),
            ("SHORT_KEY", "abc"),
            ("KEY_FILE", "/etc/keys/mine"),
            ("TOKEN_LIMIT", "1000000000"),
            ("GREETING", "good morning"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let redactor = Redactor::new(&Environment::default(), &variables);
        let text = "ghp_0123456789 correct horse abc /etc/keys/mine 1000000000 good morning";
        assert_eq!(
            redactor.text(text),
            "[redacted] [redacted] abc /etc/keys/mine 1000000000 good morning"
        );
    }

    #[test]
    fn the_longer_of_two_secrets_is_taken_out_whole() {
        let mut redactor = redactor(&["abcdefgh", "abcdefgh12345678"]);
        assert_eq!(*redactor.push(b"x abcdefgh"), *b"x ");
        assert_eq!(*redactor.push(b"12345678 y"), *b"[redacted] y");
        assert_eq!(*redactor.push(b"abcdefgh"), *b"");
        assert_eq!(*redactor.push(b" z"), *b"[redacted] z");
        assert_eq!(*redactor.push(b"abcdefgh"), *b"");
        assert_eq!(redactor.finish(), b"[redacted]");
    }

    #[test]
    fn patterns_see_what_is_left_of_values() {
        let patterns = super::super::patterns::Patterns::new(&["id-[0-9]+".into()]).unwrap();
        let environment = Environment::default().redact(patterns);
        let variables = BTreeMap::from([("API_KEY".to_owned(), "topsecret".to_owned())]);
        let mut redactor = Redactor::new(&environment, &variables);
        assert_eq!(*redactor.push(b"topsecret id-1"), *b"");
        assert_eq!(*redactor.push(b"23 x\nid"), *b"[redacted] [redacted] x\n");
        assert_eq!(*redactor.push(b"-4tops"), *b"");
        assert_eq!(redactor.finish(), b"[redacted]tops");
        assert_eq!(redactor.text("a id-5 topsecret"), "a [redacted] [redacted]");
    }

    #[test]
    fn nothing_is_held_back_without_need() {
        let mut redactor = redactor(&["secret-value"]);
        assert_eq!(*redactor.push(b"Continue? "), *b"Continue? ");
        assert_eq!(*redactor.push(b"sec"), *b"");
        assert_eq!(*redactor.push(b"ond"), *b"second");
    }

    proptest! {
        #[test]
        fn the_borders_of_pieces_make_no_difference(
            words in prop::collection::vec("hunter2-hunter2|hunter2|aaaaaaaaab|a{1,12}|b| ", 0..30),
            sizes in prop::collection::vec(1usize..9, 1..60),
        ) {
            let text = words.concat();
            let secrets = ["hunter2-hunter2", "aaaaaaaaab", "hunter2-h"];
            let whole = redactor(&secrets).text(&text);
            for secret in ["hunter2-hunter2", "aaaaaaaaab", "hunter2-h"] {
                prop_assert!(!whole.contains(secret), "{}", whole);
            }
            let (mut pieces, mut rest) = (redactor(&secrets), text.as_bytes());
            let mut out = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*size).min(rest.len()));
                out.extend_from_slice(&pieces.push(now));
                rest = later;
            }
            out.extend(pieces.finish());
            prop_assert_eq!(String::from_utf8(out).unwrap(), whole);
        }
    }
}
