//! The plan as it is written: one serde model for TOML, YAML and JSON.
//!
//! A spec says nothing of whether the plan makes sense; [`PlanSpec::validate`] turns it into a
//! [`super::ValidPlan`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Problems, ValidPlan};
use crate::{
    budget::Budget,
    id::{AgentName, DomainName, EpicId, TaskId},
    size::ByteSize,
    time::Span,
};

mod agent;
mod command_line;
mod lock;
mod mcp;
mod models;

pub use agent::{
    AgentKind, AgentOutput, AgentSpec, AgentStdin, EventKind, EventRule, Permissions, Scalar,
};
pub use command_line::CommandLine;
pub use lock::{LockSpec, PoolSpec};
pub use mcp::McpServer;
pub use models::{Models, Tier};

/// A plan of dependent tasks, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// The version of the format: 1.
    pub version: u32,
    /// How the run as a whole behaves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub run: RunSpec,
    /// Values for tasks that don't give their own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub defaults: DefaultsSpec,
    /// How the work of tasks is brought together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub merge: MergeSpec,
    /// Command templates of agents, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<AgentName, AgentSpec>,
    /// Which words in its title or prompt a task is given to an agent for, where nothing names one. What
    /// stands here for an agent takes the place of what orch knows of one with that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detect: BTreeMap<AgentName, Vec<String>>,
    /// Texts by name, for `skills`, `template` and `prompt_file`. What these name and is not here is
    /// read from the repository together with the plan, and is here from then on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<String, String>,
    /// Groups of tasks that depend on one another as a whole.
    #[serde(default, rename = "epic", skip_serializing_if = "Vec::is_empty")]
    pub epics: Vec<EpicSpec>,
    /// The tasks.
    #[serde(default, rename = "task", skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskSpec>,
}

impl Default for PlanSpec {
    fn default() -> Self {
        Self {
            version: super::VERSION,
            run: RunSpec::default(),
            defaults: DefaultsSpec::default(),
            merge: MergeSpec::default(),
            agents: BTreeMap::new(),
            detect: BTreeMap::new(),
            texts: BTreeMap::new(),
            epics: Vec::new(),
            tasks: Vec::new(),
        }
    }
}

impl PlanSpec {
    /// An empty plan of the current version.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task.
    #[must_use]
    pub fn task(mut self, task: TaskSpec) -> Self {
        self.tasks.push(task);
        self
    }

    /// Checks the plan and applies its defaults; see [`ValidPlan::new`].
    ///
    /// # Errors
    /// Every problem of the plan, each with a cure.
    pub fn validate(self) -> Result<ValidPlan, Problems> {
        ValidPlan::new(self)
    }
}

/// `[run]`: how the run as a whole behaves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The branch that results are merged into, or that of a remote, such as `origin/main`, which is
    /// fetched before the run and pushed to after it. Default: the branch checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A branch, tag or commit that `target` is made from where it doesn't exist yet. Default: it has
    /// to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// How many tasks run at the same time, at most. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// When a task may start. Default: `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// With `schedule = "waves"`: how many tasks a wave has, at most. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_wave: Option<u32>,
    /// With `schedule = "waves"`: the pause between two waves. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_delay: Option<Span>,
    /// What a failed task means for the rest. Default: `continue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// How much space must be free on disk for a task to be started. Default: `1GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free_disk: Option<ByteSize>,
    /// How much memory must be available for a task to be started. Default: `256MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_free_memory: Option<ByteSize>,
    /// How much output is kept of all tasks together; beyond it little is kept of each. Default: `10GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_output: Option<ByteSize>,
    /// What may be used at most by all tasks together: `{ usd = "1.00", tokens = 2000000, attempts = 20 }`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What happens where a budget is reached. Default: `pause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_budget: Option<OnBudget>,
}

/// What happens where a budget is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnBudget {
    /// What it concerns waits; when nothing else is left to do the run stops and can be resumed with more.
    #[default]
    Pause,
    /// What it concerns fails or is skipped.
    Stop,
}

/// When a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Schedule {
    /// The moment its last dependency has been merged.
    #[default]
    Ready,
    /// In batches: a wave starts when every task of the wave before has ended.
    Waves,
}

/// What a failed task means for the tasks that don't depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnFailure {
    /// They go on.
    #[default]
    Continue,
    /// Nothing new is started; what runs finishes.
    Stop,
}

/// `[defaults]`: values for tasks that don't give their own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DefaultsSpec {
    /// See [`TaskSpec::timeout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// See [`TaskSpec::silence_timeout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_timeout: Option<Span>,
    /// See [`TaskSpec::retries`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// See [`TaskSpec::verify`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<CommandLine>>,
    /// See [`TaskSpec::agent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// See [`TaskSpec::fallback_agents`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_agents: Option<Vec<AgentName>>,
    /// See [`TaskSpec::model`]; the model of a task's agent, where it has one, comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// See [`TaskSpec::template`]; that of a task's epic, where it has one, comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// See [`TaskSpec::env`]; a task's own variables are added to these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// See [`TaskSpec::isolation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// See [`TaskSpec::expects`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Expects>,
    /// See [`TaskSpec::max_output`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<ByteSize>,
}

/// `[merge]`: how the work of tasks is brought together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MergeSpec {
    /// What a task's work becomes in the history of the target. Default: `merge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// The message of the commits that bring work in: `{task}`, `{title}`, `{epic}`, `{run}`,
    /// `{attempt}`, `{agent}` and `{commits}` are replaced. Default: `Merge {task}: {title}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Commands that must succeed on the merged result before the target moves: two tasks may each
    /// pass their own verification and fail together. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<CommandLine>,
    /// How long one of these commands may take. Default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How many tasks are merged and verified together, at most, where several wait for it; which of
    /// them breaks it is found by halving. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// What happens where the work of a task conflicts with what was merged before it. Default: `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnConflict>,
    /// The agent that resolves conflicts; for `on_conflict = "resolver"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<AgentName>,
}

/// What happens where the work of a task conflicts with what was merged before it. No side is ever
/// picked silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnConflict {
    /// The task has failed; its branch is kept.
    #[default]
    Fail,
    /// The task is run again on what was merged, and told of the conflict and of its earlier work.
    RebaseRetry,
    /// `resolver` gets a folder with the merge in progress; then the task's verification decides.
    Resolver,
    /// The task, and what needs it, waits for a person: `orch conflicts`, `orch resolve TASK`, then
    /// `orch resume`.
    Manual,
}

/// What a task's work becomes in the history of the target. Its files are the same in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// Its commits, and one that merges them.
    #[default]
    Merge,
    /// One commit.
    Squash,
    /// A copy of each of its commits on top of the target, without a merge.
    Rebase,
    /// Nothing: verified work stays on the branch of its task.
    None,
}

impl Strategy {
    /// Whether the target gets other commits than those that the task made, so that its history does
    /// not tell what has been merged.
    #[must_use]
    pub const fn rewrites(self) -> bool {
        matches!(self, Self::Squash | Self::Rebase)
    }
}

/// `[[epic]]`: a group of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EpicSpec {
    /// Its id.
    pub id: EpicId,
    /// What it is about, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Epics all of whose tasks must have been merged before a task of this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<EpicId>,
    /// What may be used at most by its tasks together: `{ usd = "1.00", tokens = 2000000, attempts = 20 }`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// See [`TaskSpec::template`]; for its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// See [`TaskSpec::agent`]; for its tasks that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// See [`TaskSpec::fallback_agents`]; for its tasks that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_agents: Option<Vec<AgentName>>,
    /// See [`TaskSpec::model`]; for its tasks that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl EpicSpec {
    /// An epic with nothing but its id.
    #[must_use]
    pub const fn new(id: EpicId) -> Self {
        Self {
            id,
            title: None,
            needs: Vec::new(),
            budget: None,
            template: None,
            agent: None,
            fallback_agents: None,
            model: None,
        }
    }
}

/// `[[task]]`: one piece of work for one agent or command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Its id: `[a-z0-9._-]{1,64}`, without a leading dash or dot.
    pub id: TaskId,
    /// What it is about, for people and for commit messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The epic it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epic: Option<EpicId>,
    /// The command: a shell line, or a list of arguments that no shell sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<CommandLine>,
    /// The prompt for an agent, in place of `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A file with the prompt, relative to the repository. It may begin with front matter: keys of
    /// the task in YAML between lines of `---`; those that the plan gives too are the plan's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_file: Option<String>,
    /// Which of `[agents]` gets the prompt. Default: that of its epic, of `[defaults]`, the one for which the
    /// words of its title and prompt speak (`[detect]`), or the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Agents that are given the prompt, in this order, where that one can't: it is missing, not logged in,
    /// takes no more requests for now. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_agents: Option<Vec<AgentName>>,
    /// The model that the agent is told to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether too small a model must not spoil it; for agents with `models`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub critical: bool,
    /// Texts that its prompt begins with, in this order: names of `[texts]` or of skills of the
    /// repository (`.agents/skills/NAME/SKILL.md`), or files, relative to the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<String>,
    /// The field of knowledge that it is about, such as `database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// What its prompt is put into: `default`, `none` (the agent gets the prompt and nothing else), a
    /// name of `[texts]`, or a file, relative to the repository. Default: `default` for a coding agent
    /// of a kind that orch knows, `none` for any other program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Tasks that must have been merged before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<TaskId>,
    /// Tasks that must have ended, whatever their outcome, before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<TaskId>,
    /// From 0, the highest, to 4. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 4)))]
    pub priority: Option<u8>,
    /// How long it is expected to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Span>,
    /// Globs of the files it will write; tasks with overlapping claims don't run together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Locks that it holds while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockSpec>,
    /// Variables for its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long an attempt may run before it is ended. Default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How long it may do nothing (no output, no processor time, no process that starts or ends) before
    /// it is ended. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_timeout: Option<Span>,
    /// How many further attempts there are after one has failed. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Commands that must succeed in its worktree before its work is merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<CommandLine>>,
    /// Where it runs. Default: `worktree`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What it must leave behind. Default: `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Expects>,
    /// What happens where its work conflicts with what was merged before it. Default: that of
    /// `[merge]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnConflict>,
    /// How much of an attempt's output is kept; beyond it the middle is cut. Default: `64MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<ByteSize>,
    /// What may be used at most by all attempts together: `{ usd = "1.00", tokens = 2000000, attempts = 20 }`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

impl TaskSpec {
    /// A task with nothing but its id; give it `run`, or `prompt` and `agent`.
    #[must_use]
    pub fn new(id: TaskId) -> Self {
        Self {
            id,
            title: None,
            epic: None,
            run: None,
            prompt: None,
            prompt_file: None,
            agent: None,
            fallback_agents: None,
            model: None,
            critical: false,
            skills: Vec::new(),
            domain: None,
            template: None,
            needs: Vec::new(),
            after: Vec::new(),
            priority: None,
            estimate: None,
            files: Vec::new(),
            locks: Vec::new(),
            env: BTreeMap::new(),
            timeout: None,
            silence_timeout: None,
            retries: None,
            verify: None,
            isolation: None,
            expects: None,
            on_conflict: None,
            max_output: None,
            budget: None,
        }
    }

    /// Sets the shell line.
    #[must_use]
    pub fn run(mut self, line: impl Into<String>) -> Self {
        self.run = Some(CommandLine::Shell(line.into()));
        self
    }

    /// Adds a hard dependency.
    #[must_use]
    pub fn needs(mut self, task: TaskId) -> Self {
        self.needs.push(task);
        self
    }
}

/// Where a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Isolation {
    /// In a git worktree of its own.
    #[default]
    Worktree,
    /// In a worktree that the tasks of its epic share, one at a time.
    Epic,
    /// In the repository itself; only for tasks that write nothing.
    None,
}

/// What a task must leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Expects {
    /// Anything, also nothing.
    #[default]
    Any,
    /// A commit or a change; a task that leaves neither has failed.
    Changes,
    /// A commit or a change, or the agent's word that there is nothing to change, and why.
    Explained,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
