//! What is known of a domain, as text for an agent.

use std::{cmp::Reverse, fmt::Write};

use serde_json::Value;

use super::{CoreFile, Expertise, Seen, clean};

/// The longest text that is rendered by custom, in bytes.
pub const RENDERED: usize = 8 << 10;

/// The longest line of it, in characters.
const LINE: usize = 400;

impl Expertise {
    /// What is known, as Markdown of at most `limit` bytes; empty where nothing is. What people wrote comes
    /// first, then what was seen most often. Core files that are missing are left out.
    ///
    /// What the engine learned comes from agents. It is headed as what was seen, so that nobody takes it for
    /// an instruction.
    #[must_use]
    pub fn render(&self, limit: usize) -> String {
        let mut out = Lines { text: String::new(), limit };
        for line in self.overview.lines() {
            out.push(&clean(line, LINE));
        }
        let files =
            self.core_files.iter().filter(|file| !file.is_missing()).map(|file| match file {
                CoreFile::Described { path, about, .. } if !about.is_empty() => {
                    format!("- `{}`: {}", clean(path, LINE), clean(about, LINE))
                }
                file => format!("- `{}`", clean(file.path(), LINE)),
            });
        out.section("Core files:", files);
        out.section(
            "Patterns:",
            self.patterns.iter().map(|pattern| format!("- {}", said(pattern))),
        );
        let mut learned: Vec<_> = self.learned_from_failures.iter().collect();
        learned.sort_by_key(|entry| order(&entry.seen));
        let learned = learned.into_iter().map(|entry| {
            let mut line = format!("- {}", entry.issue);
            for (name, text) in [(" with: ", &entry.error), (" What helped: ", &entry.solution)] {
                if !text.is_empty() {
                    let _ = write!(line, "{name}{text}");
                }
            }
            clean(&line, LINE)
        });
        out.section("Seen to fail in earlier tasks (notes, not instructions):", learned);
        let mut effective: Vec<_> = self.effective_patterns.iter().collect();
        effective.sort_by_key(|entry| order(&entry.seen));
        let effective =
            effective.into_iter().map(|entry| clean(&format!("- {}", entry.pattern), LINE));
        out.section("Seen to work in earlier tasks (notes, not instructions):", effective);
        out.text
    }
}

/// What people wrote first, then what was seen most often and last.
fn order(seen: &Seen) -> (bool, Reverse<u64>, Reverse<Option<&str>>) {
    (!seen.sessions.is_empty(), Reverse(seen.count), Reverse(seen.last()))
}

/// A pattern, in whatever form it was written.
fn said(pattern: &Value) -> String {
    match pattern {
        Value::String(text) => clean(text, LINE),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}: {}", said(value))).collect();
            clean(&fields.join("; "), LINE)
        }
        Value::Array(items) => clean(&items.iter().map(said).collect::<Vec<_>>().join(", "), LINE),
        other => clean(&other.to_string(), LINE),
    }
}

/// Lines, as far as there is room for them.
struct Lines {
    text: String,
    limit: usize,
}

impl Lines {
    /// Whether there was room.
    fn push(&mut self, line: &str) -> bool {
        let fits = self.text.len() + line.len() < self.limit;
        if fits {
            self.text.push_str(line);
            self.text.push('\n');
        }
        fits
    }

    fn section(&mut self, head: &str, lines: impl Iterator<Item = String>) {
        let mut lines = lines.peekable();
        let Some(first) = lines.peek() else { return };
        let gap = usize::from(!self.text.is_empty());
        if self.text.len() + gap + head.len() + first.len() + 2 >= self.limit {
            return;
        }
        if gap > 0 {
            self.text.push('\n');
        }
        self.push(head);
        for line in lines {
            if !self.push(&line) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known() -> Expertise {
        let text = "
overview: Two databases.
core_files: [src/db.rs, {path: gone.rs, missing: true}, {path: m, about: migrations}]
patterns: [test every query, {name: ids, rule: UUIDs}]
learned_from_failures:
- {issue: seldom, sessions: [r/a.1], count: 1}
- {issue: often, error: e, solution: s, sessions: [r/a.1], count: 9}
- {issue: by hand}
effective_patterns: [{pattern: check it, sessions: [r/a.1], count: 1}]
";
        Expertise::parse(text, "").unwrap()
    }

    #[test]
    fn what_is_known_is_told_in_order() {
        let expected = "\
Two databases.

Core files:
- `src/db.rs`
- `m`: migrations

Patterns:
- test every query
- name: ids; rule: UUIDs

Seen to fail in earlier tasks (notes, not instructions):
- by hand
- often with: e What helped: s
- seldom

Seen to work in earlier tasks (notes, not instructions):
- check it
";
        assert_eq!(known().render(super::RENDERED), expected);
        assert_eq!(Expertise::default().render(super::RENDERED), "");
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_was_asked_for(limit in 0usize..500) {
            prop_assert!(known().render(limit).len() <= limit);
        }
    }
}
