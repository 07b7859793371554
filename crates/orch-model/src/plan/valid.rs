//! A plan that makes sense: what the rest of the code takes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::spec::{
    AgentKind, AgentStdin, CommandLine, EventRule, Expects, Isolation, McpServer, Models, OnBudget,
    OnConflict, OnFailure, Permissions, PlanSpec, Schedule, Strategy,
};
use super::{Assignment, Briefing, MessageTemplate, Pool};
use crate::{
    budget::{Budget, BudgetScope},
    id::{AgentName, EpicId, LockName, TaskId},
    size::ByteSize,
};

/// The position of a task in its plan: an index into [`ValidPlan::tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskIndex(pub u32);

impl TaskIndex {
    /// As an index into a slice.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl From<usize> for TaskIndex {
    fn from(index: usize) -> Self {
        Self(u32::try_from(index).expect("a plan has fewer than 2^32 tasks"))
    }
}

/// The position of an epic in its plan: an index into [`ValidPlan::epics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpicIndex(pub u32);

impl EpicIndex {
    /// As an index into a slice.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl From<usize> for EpicIndex {
    fn from(index: usize) -> Self {
        Self(u32::try_from(index).expect("a plan has fewer than 2^32 epics"))
    }
}

/// A plan whose ids are unique, whose references exist, whose dependencies have no cycle and whose
/// defaults have been applied. Only [`ValidPlan::new`] and [`super::parse`] make one.
#[derive(Debug, Clone)]
pub struct ValidPlan {
    pub(super) spec: Arc<PlanSpec>,
    pub(super) run: RunOptions,
    pub(super) merging: Merging,
    pub(super) agents: BTreeMap<AgentName, Agent>,
    pub(super) epics: Vec<Epic>,
    pub(super) tasks: Vec<Task>,
    pub(super) by_id: std::collections::HashMap<TaskId, TaskIndex>,
}

impl ValidPlan {
    /// The plan as it was written; what a journal stores.
    #[must_use]
    pub const fn spec(&self) -> &Arc<PlanSpec> {
        &self.spec
    }

    /// How the run as a whole behaves.
    #[must_use]
    pub const fn run(&self) -> &RunOptions {
        &self.run
    }

    /// How the work of tasks is brought together.
    #[must_use]
    pub const fn merging(&self) -> &Merging {
        &self.merging
    }

    /// Agents by name.
    #[must_use]
    pub const fn agents(&self) -> &BTreeMap<AgentName, Agent> {
        &self.agents
    }

    /// Epics in plan order.
    #[must_use]
    pub fn epics(&self) -> &[Epic] {
        &self.epics
    }

    /// Tasks in plan order.
    #[must_use]
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task at a position.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn task(&self, index: TaskIndex) -> &Task {
        &self.tasks[index.get()]
    }

    /// The position of the task with this id.
    #[must_use]
    pub fn index_of(&self, id: &TaskId) -> Option<TaskIndex> {
        self.by_id.get(id).copied()
    }

    /// One of the texts that tasks name by [`Prompt::File`] and in [`Task::briefing`].
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.spec.texts.get(name).map(String::as_str)
    }

    /// Every position, in plan order.
    pub fn indices(&self) -> impl ExactSizeIterator<Item = TaskIndex> + use<> {
        (0..self.tasks.len() as u32).map(TaskIndex)
    }
}

/// How the run as a whole behaves. `None` where the plan leaves the choice to the configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunOptions {
    /// The branch that results are merged into; `None`: the branch checked out.
    pub target: Option<String>,
    /// What the target is made from where it doesn't exist; `None`: it has to exist.
    pub base: Option<String>,
    /// How many tasks run at the same time, at most.
    pub max_concurrency: Option<u32>,
    /// When a task may start.
    pub schedule: Option<Schedule>,
    /// How many tasks a wave has, at most.
    pub max_per_wave: Option<u32>,
    /// The pause between two waves.
    pub wave_delay: Option<Duration>,
    /// What a failed task means for the rest.
    pub on_failure: Option<OnFailure>,
    /// How much space must be free on disk for a task to be started.
    pub min_free_disk: Option<ByteSize>,
    /// How much memory must be available for a task to be started.
    pub min_free_memory: Option<ByteSize>,
    /// How much output is kept of all tasks together.
    pub max_total_output: Option<ByteSize>,
    /// What may be used at most, and by whom: all budgets of the plan.
    pub budgets: BTreeMap<BudgetScope, Budget>,
    /// What happens where a budget is reached.
    pub on_budget: Option<OnBudget>,
}

/// How the work of tasks is brought together.
#[derive(Debug, Clone, PartialEq)]
pub struct Merging {
    /// What a task's work becomes in the history of the target.
    pub strategy: Strategy,
    /// The message of the commits that bring it in; `None`: one that names the task.
    pub message: Option<MessageTemplate>,
    /// Commands that must succeed on the merged result before the target moves.
    pub verify: Vec<CommandLine>,
    /// How long one of them may take.
    pub timeout: Duration,
    /// How many tasks are merged and verified together, at most; at least 1.
    pub batch: usize,
    /// The agent that resolves conflicts, one of [`ValidPlan::agents`]; there where a task has
    /// [`OnConflict::Resolver`].
    pub resolver: Option<AgentName>,
}

/// How an agent is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// What kind of agent it is.
    pub kind: AgentKind,
    /// Program and arguments with placeholders. Empty only where the kind has a usual program.
    pub command: Vec<String>,
    /// Arguments with placeholders that come on top of those of its kind.
    pub args: Vec<String>,
    /// Whether it may do what it would ask a person for.
    pub permissions: Permissions,
    /// What it sees of the user's home besides the usual: paths relative to that.
    pub link: Vec<String>,
    /// Servers of tools that it is given, by name.
    pub mcp: BTreeMap<String, McpServer>,
    /// What the lines of its output say; empty where it is text, or of a kind that orch knows.
    pub events: Vec<EventRule>,
    /// What it reads on its standard input.
    pub stdin: AgentStdin,
    /// The model for tasks that name none.
    pub model: Option<String>,
    /// In place of that: models to choose from.
    pub models: Option<Models>,
    /// Variables for its environment.
    pub env: BTreeMap<String, String>,
    /// The name of the account that it asks its service with, where nothing else tells it from others.
    pub account: Option<String>,
}

impl Agent {
    /// An agent that is any program, with this command and its prompt on the standard input.
    #[must_use]
    pub const fn of_command(command: Vec<String>) -> Self {
        Self {
            kind: AgentKind::Command,
            command,
            args: Vec::new(),
            permissions: Permissions::Allow,
            link: Vec::new(),
            mcp: BTreeMap::new(),
            events: Vec::new(),
            stdin: AgentStdin::Prompt,
            model: None,
            models: None,
            env: BTreeMap::new(),
            account: None,
        }
    }
}

/// A group of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Epic {
    /// Its id.
    pub id: EpicId,
    /// What it is about, for people.
    pub title: Option<String>,
    /// Epics that it waits for.
    pub needs: Vec<EpicIndex>,
    /// Its tasks, in plan order.
    pub tasks: Vec<TaskIndex>,
}

/// One piece of work, with all defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// What it is about, for people.
    pub title: Option<String>,
    /// The epic it belongs to.
    pub epic: Option<EpicIndex>,
    /// What is to be done.
    pub work: Work,
    /// What bears on who does it; `None` for a command.
    pub assignment: Option<Box<Assignment>>,
    /// What an agent is told besides its prompt.
    pub briefing: Briefing,
    /// Tasks that must have been merged; sorted, without repeats. Those that come by way of its
    /// epic are not listed: the graph expands them.
    pub needs: Vec<TaskIndex>,
    /// Tasks that must have ended; sorted, without repeats.
    pub after: Vec<TaskIndex>,
    /// From 0, the highest, to 4.
    pub priority: u8,
    /// How long it is expected to take.
    pub estimate: Option<Duration>,
    /// Globs of the files it will write, relative to the repository.
    pub files: Vec<String>,
    /// Locks that it holds while it runs; sorted by name, no name twice.
    pub locks: Vec<LockClaim>,
    /// Variables for its environment.
    pub env: BTreeMap<String, String>,
    /// How long an attempt may run.
    pub timeout: Duration,
    /// How long it may do nothing; `None`: for ever.
    pub silence_timeout: Option<Duration>,
    /// How many further attempts there are after one has failed.
    pub retries: u32,
    /// Commands that must succeed before its work is merged.
    pub verify: Vec<CommandLine>,
    /// Where it runs.
    pub isolation: Isolation,
    /// What it must leave behind.
    pub expects: Expects,
    /// What happens where its work conflicts with what was merged before it.
    pub on_conflict: OnConflict,
    /// How much of an attempt's output is kept.
    pub max_output: ByteSize,
}

impl Task {
    /// The title, or the id where there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.title.as_deref().unwrap_or_else(|| self.id.as_str())
    }
}

/// What a task does.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Work {
    /// Runs a command.
    Command(CommandLine),
    /// Gives a prompt to an agent.
    Prompt {
        /// The agent, one of [`ValidPlan::agents`]: the one that comes first, see [`Task::candidates`].
        agent: AgentName,
        /// What it is told.
        prompt: Prompt,
        /// The model it is told to use.
        model: Option<String>,
    },
}

/// Where a prompt's text stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// In the plan.
    Text(String),
    /// In a file, relative to the repository; where it was read together with the plan,
    /// [`ValidPlan::text`] has it.
    File(String),
}

/// A lock that a task holds while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockClaim {
    /// Its name.
    pub name: LockName,
    /// How it is held.
    pub mode: LockMode,
    /// Where the units are values that are told apart; the mode is counted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
}

impl LockClaim {
    /// A claim to a lock.
    #[must_use]
    pub fn new(name: LockName, mode: LockMode) -> Self {
        Self { name, mode, pool: None }
    }

    /// A claim to `count` values of a pool.
    #[must_use]
    pub fn pooled(name: LockName, count: u32, pool: Pool) -> Self {
        Self { name, mode: LockMode::Counted { count, of: pool.values.len() }, pool: Some(pool) }
    }
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LockMode {
    /// By one holder.
    Exclusive,
    /// By any number of shared holders.
    Shared,
    /// By holders who together take at most `of` units.
    Counted {
        /// Units that this holder takes; at least 1.
        count: u32,
        /// Units that there are; at least `count`.
        of: u32,
    },
}
