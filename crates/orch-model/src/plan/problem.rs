//! What is wrong with a plan, where, and how to mend it.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::path::Path;

/// One mistake in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// What is wrong; lower-case, one line, without a full stop.
    pub message: String,
    /// Which value is meant, such as `task[3].needs[1]`; empty where the plan as a whole is.
    pub path: String,
    /// Where it stands: bytes of the plan's text, on character boundaries and within one line.
    /// `None` where the plan did not come from text.
    pub span: Option<Range<usize>>,
    /// What to say right at that place; `None` where the message says it all.
    pub label: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
    /// Other places that have to do with it, and why.
    pub related: Vec<(Range<usize>, String)>,
}

impl Problem {
    /// A problem of which nothing but the message is known yet.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            path: String::new(),
            span: None,
            label: None,
            help: None,
            related: Vec::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// Every mistake of a plan, in the order in which they stand in its text.
///
/// `Display` gives one line per problem with its path; [`Position`] turns a span into line and
/// column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The problems, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are; never 0 in an error.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A place in a text as people count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

impl Position {
    /// Where the byte at `offset` stands in `text`; the end of the text where the offset lies
    /// beyond it, the character that contains it where it lies within one.
    ///
    /// ```
    /// use orch_model::plan::Position;
    ///
    /// assert_eq!(Position::of("a\nbé!", 5), Position { line: 2, column: 3 });
    /// ```
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = &text[..floor(text, offset)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: 1 + before.bytes().filter(|byte| *byte == b'\n').count(),
            column: 1 + before[start..].trim_start_matches('\u{feff}').chars().count(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The last character boundary at or before `offset`.
pub(super) fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A problem before its path has been looked up in a text.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) message: String,
    pub(super) path: Path,
    /// The key is meant rather than its value.
    pub(super) on_key: bool,
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
    pub(super) related: Vec<(Path, String)>,
}

impl Finding {
    pub(super) fn new(path: Path, message: impl Into<String>) -> Self {
        Self { message: message.into(), path, ..Self::default() }
    }

    pub(super) fn on_key(mut self) -> Self {
        self.on_key = true;
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn related(mut self, path: Path, why: impl Into<String>) -> Self {
        self.related.push((path, why.into()));
        self
    }
}

/// A text whose control characters are written as escapes: keys and ids that it quotes may hold any.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line
}

/// A plan that did not come from text has paths and no spans.
impl From<Finding> for Problem {
    fn from(finding: Finding) -> Self {
        Self {
            message: one_line(finding.message),
            path: finding.path.to_string(),
            span: None,
            label: finding.label,
            help: finding.help.map(one_line),
            related: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_counted_in_characters() {
        let text = "\u{feff}é = 1\r\nx";
        for (offset, line, column) in
            [(0, 1, 1), (3, 1, 1), (5, 1, 2), (4, 1, 1), (11, 2, 1), (99, 2, 2)]
        {
            assert_eq!(Position::of(text, offset), Position { line, column }, "{offset}");
        }
        assert_eq!(Position { line: 3, column: 7 }.to_string(), "3:7");
    }

    #[test]
    fn problems_are_lines() {
        let first = Finding::new(Path::from("version"), "bad").help("mend it").label("here");
        let second =
            Finding::new(Path::default(), "worse").related(Path::default(), "why").on_key();
        let problems = Problems(vec![first.into(), second.into()]);
        assert_eq!(problems.to_string(), "version: bad (mend it)\nworse");
        assert_eq!(problems.len(), 2);
        let odd: Problem = Finding::new(Path::default(), "unknown key `a\n\u{1b}[1mb`").into();
        assert_eq!(odd.message, "unknown key `a\\n\\u{1b}[1mb`");
        assert!(!problems.is_empty());
        assert_eq!((&problems).into_iter().count(), problems.iter().count());
        assert_eq!(problems.clone().into_iter().next().unwrap().label.as_deref(), Some("here"));
        let error: &dyn std::error::Error = &problems;
        assert!(error.source().is_none());
    }
}
