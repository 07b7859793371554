//! Which agent a task is for, by the words of its description, where the plan names none.

use std::{collections::BTreeMap, fmt};

use crate::id::AgentName;

/// The patterns that hold where `[detect]` says nothing else, by the name of the agent. Of two agents
/// for which as much speaks the one that stands first here is taken: the more special work.
const BUILT_IN: &[(&str, &[&str])] = &[
    ("security-auditor", &["security", "auth", "authentication", "authorization", "audit"]),
    ("database-architect", &["migration", "schema", "SQL"]),
    ("test-automator", &["test", "testing", "coverage"]),
    ("frontend-developer", &["UI", "component", "frontend", "front-end"]),
    ("backend-architect", &["API", "backend", "back-end", "server", "database"]),
];

/// What speaks for an agent in the description of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The agent.
    pub agent: AgentName,
    /// The patterns that are found in the title, as the table has them.
    pub in_title: Vec<String>,
    /// Those that are found only in the prompt.
    pub in_prompt: Vec<String>,
}

impl Detection {
    /// How many patterns are found.
    #[must_use]
    pub fn count(&self) -> usize {
        self.in_title.len() + self.in_prompt.len()
    }
}

/// One clause: "`API`, `server` in its title".
impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (patterns, place) in [(&self.in_title, "title"), (&self.in_prompt, "prompt")] {
            if !patterns.is_empty() {
                let words: Vec<_> = patterns.iter().map(|word| format!("`{word}`")).collect();
                parts.push(format!("{} in its {place}", words.join(", ")));
            }
        }
        f.write_str(&parts.join(" and "))
    }
}

/// A table of patterns by agent.
#[derive(Debug)]
pub(super) struct Detector {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    agent: AgentName,
    patterns: Vec<(String, Pattern)>,
}

impl Detector {
    /// The rows of a plan, which come first, by name, and those of the built-in table that it doesn't
    /// replace. A row without patterns detects nothing.
    pub(super) fn new(own: &BTreeMap<AgentName, Vec<String>>) -> Self {
        let built_in = BUILT_IN.iter().filter_map(|(agent, patterns)| {
            let agent = AgentName::new(*agent).ok().filter(|agent| !own.contains_key(agent))?;
            Some((agent, patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>()))
        });
        let own = own.iter().map(|(agent, patterns)| (agent.clone(), patterns.clone()));
        let parsed = |text: String| Some((text.clone(), Pattern::parse(&text)?));
        let rows = own.chain(built_in).map(|(agent, patterns)| Row {
            agent,
            patterns: patterns.into_iter().filter_map(parsed).collect(),
        });
        Self { rows: rows.collect() }
    }

    /// The agents for which something speaks. The first has the most patterns, each counted once; where
    /// that is equal, the most in the title; and else stands first in the table.
    pub(super) fn detect(&self, title: &str, prompt: &str) -> Vec<Detection> {
        let (title, prompt) = (words(title), words(prompt));
        let mut found: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let mut detection = Detection {
                    agent: row.agent.clone(),
                    in_title: Vec::new(),
                    in_prompt: Vec::new(),
                };
                for (text, pattern) in &row.patterns {
                    if pattern.is_in(&title) {
                        detection.in_title.push(text.clone());
                    } else if pattern.is_in(&prompt) {
                        detection.in_prompt.push(text.clone());
                    }
                }
                detection
            })
            .filter(|detection| detection.count() > 0)
            .collect();
        // The sort is stable.
        found.sort_by_key(|one| std::cmp::Reverse((one.count(), one.in_title.len())));
        found
    }
}

/// Words that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<String>);

impl Pattern {
    /// `None` where there is no word in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric() && c != '*')
            .filter(|word| word.contains(char::is_alphanumeric))
            .map(str::to_lowercase)
            .collect();
        (!words.is_empty()).then_some(Self(words))
    }

    fn is_in(&self, words: &[String]) -> bool {
        words
            .windows(self.0.len())
            .any(|window| window.iter().zip(&self.0).all(|(word, pattern)| is_word(word, pattern)))
    }
}

/// The words of a text in lower case: runs of letters and digits.
pub(super) fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// Whether a word is the one of a pattern, or its plural; a `*` stands for any letters.
fn is_word(word: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return word.strip_prefix(pattern).is_some_and(|rest| matches!(rest, "" | "s"));
    };
    let Some(mut word) = word.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return word.ends_with(part);
        }
        // The first place is as good as any: what follows has the most room.
        let Some(at) = word.find(part) else { return false };
        word = &word[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> AgentName {
        AgentName::new(name).unwrap()
    }

    fn first(title: &str, prompt: &str) -> String {
        let found = Detector::new(&BTreeMap::new()).detect(title, prompt);
        found.first().map_or_else(String::new, |found| format!("{}: {found}", found.agent))
    }

    #[test]
    fn the_words_of_a_description_tell_the_agent() {
        for (title, prompt, expected) in [
            ("Add an API to the server", "", "backend-architect: `API`, `server` in its title"),
            (
                "A login UI",
                "Use the Button component",
                "frontend-developer: `UI` in its title and `component` in its prompt",
            ),
            (
                "",
                "Write tests; raise the coverage",
                "test-automator: `test`, `coverage` in its prompt",
            ),
            (
                "Migrations",
                "for the SQL schema",
                "database-architect: `migration` in its title and `schema`, `SQL` in its prompt",
            ),
            ("Audit", "", "security-auditor: `audit` in its title"),
            ("Front-end of the shop", "", "frontend-developer: `front-end` in its title"),
            ("Fix src/api/mod.rs", "", "backend-architect: `API` in its title"),
            // Words, not parts of words.
            ("The latest author builds apiary components2", "", ""),
            ("Rename a thing", "as it was said", ""),
            // As much speaks for both: the title counts, then the table.
            ("Test it", "the server", "test-automator: `test` in its title"),
            ("Tests of the API", "", "test-automator: `test` in its title"),
            ("", "auth of the API", "security-auditor: `auth` in its prompt"),
        ] {
            assert_eq!(first(title, prompt), expected, "{title} / {prompt}");
        }
    }

    #[test]
    fn a_plan_replaces_rows_and_adds_some() {
        let own = [
            (name("writer"), vec!["docs".into(), "read me".into(), "manual*".into()]),
            (name("test-automator"), Vec::new()),
            (name("backend-architect"), vec!["rust".into()]),
        ];
        let detector = Detector::new(&own.into());
        let of = |title: &str| {
            let found = detector.detect(title, "");
            found.into_iter().map(|found| found.agent.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("Test the server"), Vec::<String>::new());
        assert_eq!(of("Rust docs"), ["backend-architect", "writer"]);
        assert_eq!(of("Read-me, manuals"), ["writer"]);
        assert_eq!(of("read it to me"), Vec::<String>::new());
    }

    #[test]
    fn a_star_stands_for_letters() {
        for (pattern, word, fits) in [
            ("migrat*", "migrating", true),
            ("migrat*", "emigrating", false),
            ("*base", "database", true),
            ("*base", "databases", false),
            ("a*b*c", "axbyc", true),
            ("a*b*c", "acb", false),
            ("a*bc", "abc", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(is_word(word, pattern), fits, "{pattern} {word}");
        }
        assert_eq!(Pattern::parse(" * -"), None);
    }

    proptest! {
        #[test]
        fn what_is_detected_depends_on_the_words_alone(
            title in "[a-zA-Z ]{0,40}", prompt in "(api|ui|test|sql|auth|x| |,){0,12}"
        ) {
            let detector = Detector::new(&BTreeMap::new());
            let found = detector.detect(&title, &prompt);
            prop_assert_eq!(&found, &detector.detect(&title.to_uppercase(), &prompt.to_uppercase()));
            for pair in found.windows(2) {
                prop_assert!(pair[0].count() >= pair[1].count());
            }
        }
    }
}
