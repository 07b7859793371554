//! What can be told to an agent of its task: plain data that a template makes a prompt of.
//!
//! The engine gathers it for tasks that have a prompt; a runner of agents adds what only it knows, such as
//! the last words of an agent. Lists and texts are cut to what a prompt can hold, and say how much is
//! missing. It contains nothing of the environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    id::{DomainName, EpicId, RunId, TaskId},
    plan::spec::Expects,
    state::Attempt,
};

/// How many of the tasks that one needs are described; of the others only the number is told.
pub const MOST_DEPENDENCIES: usize = 20;
/// How many commits are listed of a task.
pub const MOST_COMMITS: usize = 20;
/// How many files are listed of a task.
pub const MOST_FILES: usize = 40;
/// How long the first line of a commit, or a path, may be, in characters.
pub const LONGEST_LINE: usize = 300;
/// How long what an agent said at its end may be, in bytes.
pub const LONGEST_MESSAGE: usize = 4 << 10;

/// All that an agent can be told of its task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptContext {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// What it is about.
    pub title: Option<String>,
    /// What the plan says: the prompt. Where conflicts are to be resolved, what is in conflict.
    pub prompt: String,
    /// What the agent is asked for.
    pub action: PromptAction,
    /// The epic of the task.
    pub epic: Option<PromptEpic>,
    /// The attempt.
    pub attempt: Attempt,
    /// What the prompt is put into.
    pub template: PromptTemplate,
    /// What comes first, in order.
    pub skills: Vec<PromptText>,
    /// The field of knowledge.
    pub domain: Option<DomainName>,
    /// What is known in that field; whoever composes the prompt fills it.
    pub knowledge: Option<String>,
    /// What the tasks that it needs produced.
    pub dependencies: Vec<PromptDependency>,
    /// How many more there are.
    pub more_dependencies: usize,
    /// The top folder of the user's repository.
    pub repository: PathBuf,
    /// Where it works.
    pub directory: PathBuf,
    /// The branch of its worktree and the commit that this was made from; `None` where it has none.
    pub branch: Option<PromptBranch>,
    /// Globs of the files that it is expected to write; empty: any.
    pub files: Vec<String>,
    /// The locks that it holds.
    pub locks: Vec<PromptLock>,
    /// Commands that must succeed after it.
    pub verify: Vec<String>,
    /// What it must leave behind.
    pub expects: Expects,
    /// The attempt before.
    pub last: Option<LastAttempt>,
}

impl PromptContext {
    /// The first attempt at a task of which nothing but its prompt is known.
    #[must_use]
    pub fn new(run: RunId, task: TaskId, prompt: impl Into<String>) -> Self {
        Self {
            run,
            task,
            title: None,
            prompt: prompt.into(),
            action: PromptAction::Work,
            epic: None,
            attempt: 1,
            template: PromptTemplate::Usual,
            skills: Vec::new(),
            domain: None,
            knowledge: None,
            dependencies: Vec::new(),
            more_dependencies: 0,
            repository: PathBuf::new(),
            directory: PathBuf::new(),
            branch: None,
            files: Vec::new(),
            locks: Vec::new(),
            verify: Vec::new(),
            expects: Expects::Any,
            last: None,
        }
    }
}

/// What an agent is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PromptAction {
    /// The task's work.
    Work,
    /// To resolve what its work conflicts in.
    Resolve,
}

/// What a prompt is put into: [`Template`] with its text.
///
/// [`Template`]: crate::plan::Template
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PromptTemplate {
    /// The usual one of the kind of agent.
    #[default]
    Usual,
    /// The default one.
    Default,
    /// None.
    None,
    /// This one.
    Text(PromptText),
}

/// A text with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptText {
    /// The name, or the file.
    pub name: String,
    /// The text.
    pub text: String,
}

/// The epic of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptEpic {
    /// Its id.
    pub id: EpicId,
    /// What it is about.
    pub title: Option<String>,
}

/// What a task that was needed produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptDependency {
    /// The task.
    pub task: TaskId,
    /// What it was about.
    pub title: Option<String>,
    /// Whether its work has been merged.
    pub is_merged: bool,
    /// The attempt that did it.
    pub attempt: Attempt,
    /// The last words of its agent; a runner of agents fills it.
    pub summary: Option<String>,
    /// The commit that brought its work in; `None` where it changed nothing.
    pub commit: Option<String>,
    /// Its commits and files.
    #[serde(flatten)]
    pub made: Made,
}

/// What a task made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Made {
    /// Its commits, the newest first: abbreviated name and first line.
    pub commits: Vec<MadeCommit>,
    /// How many more there are.
    pub more_commits: usize,
    /// The files that it changed.
    pub files: Vec<String>,
    /// How many more there are.
    pub more_files: usize,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeCommit {
    /// Its abbreviated name.
    pub id: String,
    /// Its first line.
    pub subject: String,
}

/// Where the commits of an agent go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptBranch {
    /// The branch, without `refs/heads/`.
    pub name: String,
    /// The commit that it was made from, abbreviated; `None` where that is not known yet.
    pub base: Option<String>,
}

/// A lock that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptLock {
    /// Its name.
    pub name: String,
    /// Whether others may hold it too, as far as they share it.
    pub shared: bool,
    /// How many units of it, and of how many; `None`: it is not counted.
    pub units: Option<(u32, u32)>,
    /// The variable with its value, where it is a pool.
    pub env: Option<String>,
}

/// The attempt before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAttempt {
    /// Which.
    pub attempt: Attempt,
    /// The class of its failure.
    pub class: String,
    /// What went wrong, in one line.
    pub message: String,
    /// Where its work conflicted, and what is asked for now: text for the agent.
    pub conflict: Option<String>,
    /// The file with its output.
    pub output: Option<PathBuf>,
    /// The reference that keeps its work.
    pub reference: Option<String>,
    /// What that is.
    #[serde(flatten)]
    pub made: Made,
    /// What it said last; a runner of agents fills it.
    pub said: Option<String>,
    /// The end of what the verification printed; a runner of agents fills it.
    pub verification: Option<String>,
}

/// A line as it can stand in a list: without control characters, [`LONGEST_LINE`] at most.
#[must_use]
pub fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.take(LONGEST_LINE).collect();
    if text.chars().nth(LONGEST_LINE).is_some() {
        line.push('…');
    }
    line
}

impl Made {
    /// What a list of commits and files comes to in a prompt.
    #[must_use]
    pub fn of<'a>(
        commits: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
        files: impl ExactSizeIterator<Item = &'a str>,
    ) -> Self {
        Self {
            more_commits: commits.len().saturating_sub(MOST_COMMITS),
            more_files: files.len().saturating_sub(MOST_FILES),
            commits: commits
                .take(MOST_COMMITS)
                .map(|(id, subject)| MadeCommit { id: id.to_owned(), subject: one_line(subject) })
                .collect(),
            files: files.take(MOST_FILES).map(one_line).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_and_say_so() {
        let files: Vec<String> = (0..MOST_FILES + 3).map(|n| format!("f{n}")).collect();
        let made = Made::of(
            [("abc", "first\tline\u{1b}[31m")].into_iter(),
            files.iter().map(String::as_str),
        );
        assert_eq!((made.files.len(), made.more_files), (MOST_FILES, 3));
        assert_eq!((made.commits[0].subject.as_str(), made.more_commits), ("first line [31m", 0));
        let long = "é".repeat(LONGEST_LINE + 1);
        assert_eq!(one_line(&long), format!("{}…", "é".repeat(LONGEST_LINE)));
        assert_eq!(one_line(&long[2..]), long[2..]);
    }
}
