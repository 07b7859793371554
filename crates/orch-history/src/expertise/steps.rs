//! What an attempt did, step by step, and what can be learned from that.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use orch_agents::{AgentEvent, Record};

use super::{
    clean::{clean, normal},
    lessons::Lesson,
};
use crate::stream;

/// The longest command, error and solution that are kept, in characters.
const COMMAND: usize = 120;
const ERROR: usize = 200;
const SOLUTION: usize = 240;

/// How many of the last steps of an attempt are looked at.
const STEPS: usize = 4_000;

/// How many files and commands a solution names.
const NAMED: usize = 3;

/// Programs that end without success where they find nothing: that is an answer, no failure.
const ASKING: &[&str] = &[
    "[", "cat", "cmp", "command", "diff", "fd", "find", "git", "grep", "head", "ls", "pgrep", "ps",
    "readlink", "rg", "sed", "stat", "tail", "test", "type", "which",
];

/// Words by which a command is known that checks work.
const CHECKING: &[&str] = &[
    "build",
    "check",
    "clippy",
    "eslint",
    "jest",
    "lint",
    "mypy",
    "pytest",
    "ruff",
    "test",
    "tests",
    "tsc",
    "typecheck",
    "verify",
    "vitest",
];

/// What an attempt did, in order.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: VecDeque<Step>,
    /// What it said last.
    said: String,
    /// Where it worked.
    directory: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Ran { id: String, command: String, end: Option<Ended> },
    Changed(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Ended {
    ok: bool,
    error: String,
}

/// A command that has ended.
struct Run<'a> {
    at: usize,
    command: &'a str,
    program: String,
    ended: &'a Ended,
}

impl Steps {
    pub(super) fn read(path: &Path, directory: PathBuf) -> std::io::Result<Self> {
        let mut steps = Self { directory, ..Self::default() };
        stream::each(path, |record| steps.see(record))?;
        Ok(steps)
    }

    pub(super) fn see(&mut self, record: Record) {
        match record.event {
            // What is no command is given as JSON.
            AgentEvent::ToolCall { id, input, .. }
                if !input.trim_start().starts_with(['{', '[']) =>
            {
                self.push(Step::Ran { id, command: bare(&input).to_owned(), end: None });
            }
            AgentEvent::ToolResult { id, ok, exit_code, output } => {
                let open = |step: &&mut Step| matches!(step, Step::Ran { id: of, end: None, .. } if *of == id);
                if let Some(Step::Ran { end, .. }) = self.steps.iter_mut().rev().find(open) {
                    let code = exit_code.or_else(|| told_code(&output)).unwrap_or(0);
                    let ok = ok && code == 0;
                    let error = if ok { String::new() } else { telling(&output) };
                    *end = Some(Ended { ok, error });
                }
            }
            AgentEvent::FileChange { path, .. } => {
                let path = Path::new(&path);
                let path = path.strip_prefix(&self.directory).unwrap_or(path);
                let path = clean(&path.to_string_lossy(), COMMAND);
                self.push(Step::Changed(path));
            }
            AgentEvent::Message { text, thought: false, delta } => {
                if delta {
                    let room = (4 * SOLUTION).saturating_sub(self.said.len());
                    self.said.extend(text.chars().take(room));
                } else {
                    self.said = text;
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, step: Step) {
        self.said.clear();
        self.steps.push_back(step);
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
    }

    fn runs(&self) -> Vec<Run<'_>> {
        let run = |(at, step)| match step {
            &Step::Ran { ref command, end: Some(ref ended), .. } => {
                Some(Run { at, command, program: program(command)?, ended })
            }
            _ => None,
        };
        self.steps.iter().enumerate().filter_map(run).collect()
    }

    /// Commands that failed, and what was done until they failed otherwise or worked. Of those that never
    /// worked nothing is known.
    pub(super) fn fixed(&self, session: &str) -> Vec<Lesson> {
        let runs = self.runs();
        let mut lessons = Vec::new();
        for (n, failed) in runs.iter().enumerate() {
            let first = failed.program.split(' ').next().unwrap_or_default();
            if failed.ended.ok || ASKING.contains(&first) {
                continue;
            }
            let later = || runs[n + 1..].iter().filter(|run| run.program == failed.program);
            let Some(next) = later().next().filter(|_| later().any(|run| run.ended.ok)) else {
                continue;
            };
            let is_same =
                !next.ended.ok && normal(&next.ended.error) == normal(&failed.ended.error);
            if is_same {
                continue;
            }
            let solution = self.between(failed, next, &runs);
            if !solution.is_empty() {
                lessons.push(Lesson {
                    issue: format!("`{}` failed", quoted(failed.command)),
                    error: failed.ended.error.clone(),
                    solution: clean(&solution, SOLUTION),
                    session: session.to_owned(),
                });
            }
        }
        lessons
    }

    /// What was done between a failure and the next call of the same program.
    fn between(&self, failed: &Run<'_>, next: &Run<'_>, runs: &[Run<'_>]) -> String {
        let mut parts = Vec::new();
        if next.ended.ok && normal(failed.command) != normal(next.command) {
            parts.push(format!("`{}` works", quoted(next.command)));
        }
        let asks = |program: &str| ASKING.contains(&program.split(' ').next().unwrap_or_default());
        let helped: Vec<String> = runs
            .iter()
            .filter(|run| failed.at < run.at && run.at < next.at && run.ended.ok)
            .filter(|run| !asks(&run.program) && !matches!(&*run.program, "echo" | "cd"))
            .map(|run| format!("`{}`", quoted(run.command)))
            .collect();
        if let Some(list) = listed(helped) {
            parts.push(format!("after {list}"));
        }
        if let Some(list) = listed(self.changed(failed.at..next.at)) {
            parts.push(format!("after changes of {list}"));
        }
        parts.join("; ")
    }

    fn changed(&self, range: std::ops::Range<usize>) -> Vec<String> {
        let steps = self.steps.range(range);
        let paths = steps.filter_map(|step| match step {
            Step::Changed(path) => Some(path.clone()),
            Step::Ran { .. } => None,
        });
        let mut seen = BTreeSet::new();
        paths.filter(|path| seen.insert(path.clone())).collect()
    }

    /// What an attempt did that passed where others had not.
    pub(super) fn cure(&self) -> Option<String> {
        let changed = listed(self.changed(0..self.steps.len()));
        let changed = changed.map(|list| format!("changed {list}"));
        let said = Some(clean(&self.said, SOLUTION)).filter(|said| !said.is_empty());
        let said = said.map(|said| format!("in its words: {said}"));
        let parts: Vec<String> = [changed, said].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| clean(&parts.join("; "), SOLUTION))
    }

    /// What was checked after the last change of a file.
    pub(super) fn checks(&self) -> impl Iterator<Item = String> {
        let last = self.steps.iter().rposition(|step| matches!(step, Step::Changed(_)));
        let from = last.map_or(0, |last| last + 1);
        let is_check = |program: &str| program.split([' ', ':']).any(|w| CHECKING.contains(&w));
        let runs = self.runs();
        let mut seen = BTreeSet::new();
        let found: Vec<String> = runs
            .iter()
            .filter(|run| run.at >= from && run.ended.ok && is_check(&run.program))
            .filter(|run| seen.insert(normal(run.command)))
            .map(|run| format!("`{}` before the work is done", quoted(run.command)))
            .take(NAMED)
            .collect();
        found.into_iter()
    }
}

/// A command without the shell around it.
fn bare(line: &str) -> &str {
    let line = line.trim();
    for shell in
        ["/bin/bash -lc ", "bash -lc ", "/bin/sh -c ", "sh -c ", "bash -c ", "/bin/bash -c "]
    {
        if let Some(rest) = line.strip_prefix(shell) {
            let rest = rest.trim();
            return rest
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''))
                .or_else(|| rest.strip_prefix('"')?.strip_suffix('"'))
                .unwrap_or(rest);
        }
    }
    line
}

/// By what the calls of a program are known as such: `cargo test`, `npm run`, `make`. A folder that is
/// entered first, and variables in front, are passed over.
fn program(command: &str) -> Option<String> {
    let mut command = command.trim();
    while let Some((first, rest)) = command.split_once("&&") {
        if !first.trim_start().starts_with("cd ") {
            break;
        }
        command = rest.trim();
    }
    let end = command.find(['|', ';', '&', '>', '\n']).unwrap_or(command.len());
    let mut words = command[..end].split_whitespace().skip_while(|word| word.contains('='));
    let first = words.next()?;
    let name = first.rsplit('/').next().unwrap_or(first);
    let is_word = |word: &&str| {
        word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b':')
            && !word.starts_with('-')
    };
    let second = words.next().filter(is_word);
    let third = words.next().filter(is_word).filter(|_| second == Some("run"));
    let parts: Vec<&str> = [Some(name), second, third].into_iter().flatten().collect();
    Some(clean(&parts.join(" "), COMMAND))
}

/// A command as it stands between backticks.
pub(super) fn quoted(command: &str) -> String {
    clean(command, COMMAND).replace('`', "'")
}

/// The line of an output that tells most: the first that speaks of an error, else the last.
pub(super) fn telling(output: &str) -> String {
    const SIGNS: &[&str] =
        &["error", "fatal", "panicked", "exception", "not found", "no such", "denied", "undefined"];
    let lines = || output.lines().map(|line| clean(line, ERROR)).filter(|line| !line.is_empty());
    let speaks = |line: &String| {
        let line = line.to_lowercase();
        SIGNS.iter().any(|sign| line.contains(sign))
    };
    lines().find(speaks).or_else(|| lines().next_back()).unwrap_or_default()
}

/// The exit code that some agents only tell in words.
fn told_code(output: &str) -> Option<i64> {
    let told = output.lines().find_map(|line| {
        let (name, code) = line.trim().split_at_checked("exit code".len())?;
        name.eq_ignore_ascii_case("exit code").then_some(code)
    })?;
    told.trim_start_matches([':', ' ']).split_whitespace().next()?.parse().ok()
}

/// The first of some things in a line.
fn listed(mut things: Vec<String>) -> Option<String> {
    let more = things.len().saturating_sub(NAMED);
    things.truncate(NAMED);
    let list = things.join(", ");
    (!list.is_empty()).then(|| if more > 0 { format!("{list} and {more} more") } else { list })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn ran(command: &str, code: i64, output: &str) -> Vec<AgentEvent> {
        let id = format!("{command}{code}{output}");
        vec![
            AgentEvent::ToolCall { id: id.clone(), name: "shell".into(), input: command.into() },
            AgentEvent::ToolResult { id, ok: true, exit_code: Some(code), output: output.into() },
        ]
    }

    pub(in super::super) fn changed(path: &str) -> Vec<AgentEvent> {
        let change = orch_agents::event::Change::Update;
        vec![AgentEvent::FileChange { path: path.into(), change }]
    }

    pub(in super::super) fn said(text: &str) -> Vec<AgentEvent> {
        vec![AgentEvent::Message { text: text.into(), delta: false, thought: false }]
    }

    pub(in super::super) fn steps(events: Vec<Vec<AgentEvent>>) -> Steps {
        let mut steps = Steps { directory: "/w/a".into(), ..Steps::default() };
        for event in events.concat() {
            steps.see(Record { seq: 1, at: None, event });
        }
        steps
    }

    fn lines(events: Vec<Vec<AgentEvent>>) -> Vec<String> {
        let found = steps(events).fixed("r/a.1");
        found.into_iter().map(|l| format!("{} | {} | {}", l.issue, l.error, l.solution)).collect()
    }

    #[test]
    fn a_command_that_fails_and_then_works_teaches_what_helped() {
        let found = lines(vec![
            ran("/bin/bash -lc 'cd x && cargo test -p db'", 101, "running\nerror: no table\nmore"),
            changed("/w/a/src/db.rs"),
            ran("cargo test -p db", 101, "error: other"),
            ran("sqlx migrate run", 0, ""),
            ran("cargo test -p db", 0, "ok"),
        ]);
        assert_eq!(
            found,
            [
                "`cd x && cargo test -p db` failed | error: no table | after changes of src/db.rs",
                "`cargo test -p db` failed | error: other | after `sqlx migrate run`",
            ]
        );
    }

    #[test]
    fn another_way_to_call_it_is_the_solution() {
        let found = lines(vec![
            ran("npm run tset", 1, "npm ERR! missing script: tset"),
            ran("npm run test", 0, ""),
            ran("pytest", 127, "sh: pytest: not found"),
            ran("python -m pytest", 0, ""),
            ran("make all", 2, "make: *** error"),
            ran("make all -j1", 0, ""),
        ]);
        assert_eq!(found, ["`make all` failed | make: *** error | `make all -j1` works"]);
    }

    #[test]
    fn questions_flukes_and_what_never_worked_teach_nothing() {
        let found = lines(vec![
            ran("grep -r x", 1, ""),
            ran("grep -r x .", 0, "x"),
            ran("cargo build", 101, "error: a"),
            ran("cargo build", 0, ""),
            ran("go vet", 1, "error"),
            changed("a.go"),
            ran("go vet", 1, "error"),
            vec![AgentEvent::ToolCall { id: "9".into(), name: "edit".into(), input: "{}".into() }],
        ]);
        assert_eq!(found, Vec::<String>::new());
        let found = lines(vec![
            ran("go vet", 1, "error at 3"),
            changed("a.go"),
            ran("go vet", 1, "error at 4"),
            changed("b.go"),
            ran("go vet", 0, ""),
        ]);
        assert_eq!(found.len(), 1, "of those alike the last one was cured: {found:?}");
        assert!(found[0].ends_with("after changes of b.go"), "{found:?}");
    }

    #[test]
    fn programs_are_known_by_their_first_words() {
        for (command, known) in [
            ("RUST_LOG=x cargo test --all", "cargo test"),
            ("cd a && cd b && npm run lint:js -- x", "npm run lint:js"),
            ("./scripts/run.sh 5", "run.sh"),
            ("make 2>&1 | tail", "make"),
            ("pytest tests/a.py", "pytest"),
        ] {
            assert_eq!(program(command).as_deref(), Some(known), "{command}");
        }
        assert_eq!(program("  "), None);
        assert_eq!(told_code("Output: x\nExit Code: 3\n"), Some(3));
        assert_eq!(told_code("exit codes are numbers"), None);
    }
}
