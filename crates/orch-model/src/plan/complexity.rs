//! How much a task asks of a model, guessed from how it is described.

use serde::{Deserialize, Serialize};

use super::detect::words;

/// Words of work that needs thought more than text.
const REASONING: &[&str] = &[
    "algorithm",
    "architecture",
    "asynchronous",
    "concurrency",
    "concurrent",
    "deadlock",
    "debug",
    "design",
    "investigate",
    "invariant",
    "migrate",
    "optimise",
    "optimize",
    "performance",
    "prove",
    "race",
    "redesign",
    "refactor",
    "rewrite",
    "why",
];

/// Words of work that is much code.
const CODE: &[&str] = &[
    "all",
    "across",
    "build",
    "create",
    "endpoints",
    "every",
    "feature",
    "framework",
    "implement",
    "module",
    "pipeline",
    "port",
    "system",
];

/// How much a task asks of a model, each part from 0 to 100.
///
/// A guess by a fixed rule, so that the same plan always gives the same: it can't know what the work turns
/// out to be. [`Complexity::score`] is what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Complexity {
    /// How much there is to think about: 20 for each different word such as `design`, `debug`, `race`,
    /// `refactor`.
    pub reasoning: u8,
    /// How much there is to write: 10 for each glob of files that it claims, 30 where that has `**`, and 10
    /// for each different word such as `implement`, `module`, `every`.
    pub code: u8,
    /// How much there is to know of a field: 20 for each pattern of `[detect]` that is found.
    pub domain: u8,
    /// How much there is to take in: 1 for each 40 characters of the prompt, and 5 for each task whose work it
    /// builds on.
    pub context: u8,
}

/// What the complexity of a task is guessed from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Described<'a> {
    pub(super) title: &'a str,
    pub(super) prompt: &'a str,
    pub(super) files: &'a [String],
    pub(super) needs: usize,
    /// How many patterns of the table are found in it.
    pub(super) patterns: usize,
}

impl Complexity {
    pub(super) fn of(task: Described<'_>) -> Self {
        let mut words = [words(task.title), words(task.prompt)].concat();
        words.sort_unstable();
        words.dedup();
        let known = |list: &[&str]| words.iter().filter(|word| list.contains(&&***word)).count();
        let files: usize =
            task.files.iter().map(|glob| if glob.contains("**") { 30 } else { 10 }).sum();
        Self {
            reasoning: percent(20 * known(REASONING)),
            code: percent(files + 10 * known(CODE)),
            domain: percent(20 * task.patterns),
            context: percent(task.prompt.chars().count() / 40 + 5 * task.needs),
        }
    }

    /// All of it together, from 0 to 100: three parts of ten reasoning, three code, two domain and two
    /// context.
    #[must_use]
    pub fn score(self) -> u8 {
        let [reasoning, code, domain, context] =
            [self.reasoning, self.code, self.domain, self.context].map(u32::from);
        percent(((3 * reasoning + 3 * code + 2 * domain + 2 * context) / 10) as usize)
    }
}

fn percent(number: usize) -> u8 {
    u8::try_from(number.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_task_that_says_more_asks_for_more() {
        let small =
            Described { title: "Fix a typo", prompt: "in the title", ..Described::default() };
        assert_eq!(Complexity::of(small), Complexity::default());
        let prompt = "Redesign the module. ".to_owned() + &"x".repeat(1_600);
        let files = ["src/**".to_owned(), "Cargo.toml".to_owned()];
        let large = Described { prompt: &prompt, files: &files, needs: 2, patterns: 3, ..small };
        let expected = Complexity { reasoning: 20, code: 50, domain: 60, context: 50 };
        assert_eq!(Complexity::of(large), expected);
        assert_eq!(expected.score(), 6 + 15 + 12 + 10);
        let most = Complexity { reasoning: 100, code: 100, domain: 100, context: 100 };
        assert_eq!(most.score(), 100);
    }

    proptest! {
        #[test]
        fn more_text_never_asks_for_less(
            prompt in "(design|implement|race|x| ){0,30}", more in "[a-z ]{0,80}", needs in 0_usize..30
        ) {
            let of = |prompt: &str| Complexity::of(Described { prompt, needs, ..Described::default() });
            let longer = format!("{prompt} {more}");
            prop_assert!(of(&longer).score() >= of(&prompt).score());
        }
    }
}
