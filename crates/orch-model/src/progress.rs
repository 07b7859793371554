//! Where a run stands at a moment: what runs, what waits and why.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    budget::{Amount, BudgetScope, BudgetStop},
    id::{LockName, RunId, TaskId},
    plan::AgentChoice,
    resources::Shortage,
    run::{Breaker, Slowdown},
    state::{Attempt, RunStatus},
    time::Timestamp,
};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// The moment.
    pub at: Timestamp,
    /// The number of the last event that is taken into account.
    pub seq: u64,
    /// When the run began.
    pub started_at: Timestamp,
    /// How many tasks are in which kind of state.
    pub counts: Counts,
    /// How many tasks run at the same time, at most, for now.
    pub max_concurrency: u32,
    /// When and why that is less than the settings say; `None` where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<Slowdown>,
    /// Kinds of agents that are not started for now, or tried again one at a time, by
    /// [`crate::plan::ValidPlan::service`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub breakers: BTreeMap<String, Breaker>,
    /// The first wave that has not ended, from 1; the number of waves when all have.
    pub current_wave: usize,
    /// How many waves there are.
    pub waves: usize,
    /// Where the run, or a part of it, stopped for a budget's sake.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budget_stops: Vec<BudgetStop>,
    /// Tasks under way, those that were started first at the front.
    pub running: Vec<RunningTask>,
    /// Tasks that wait, in plan order.
    pub waiting: Vec<WaitingTask>,
    /// How long the rest is expected to take; `None` where nothing is known of durations.
    pub eta: Option<Duration>,
}

impl Progress {
    /// How much of the plan has ended, from 0 to 100.
    #[must_use]
    pub fn percent_complete(&self) -> f64 {
        if self.counts.total == 0 {
            return 100.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a plan has fewer than 2^52 tasks")]
        let percent = self.counts.ended() as f64 * 100.0 / self.counts.total as f64;
        percent
    }
}

/// How many tasks are in which kind of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub total: usize,
    /// Merged.
    pub merged: usize,
    /// Failed.
    pub failed: usize,
    /// Conflicted.
    pub conflicted: usize,
    /// Skipped.
    pub skipped: usize,
    /// Cancelled.
    pub cancelled: usize,
    /// Of unknown fate.
    pub needs_attention: usize,
    /// Under way: they hold a slot.
    pub active: usize,
    /// The rest.
    pub waiting: usize,
}

impl Counts {
    /// How many have ended.
    #[must_use]
    pub const fn ended(&self) -> usize {
        self.total - self.active - self.waiting
    }
}

/// A task under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningTask {
    /// The task.
    pub task: TaskId,
    /// Its title, or its id.
    pub title: String,
    /// The name of its state.
    pub state: String,
    /// The attempt.
    pub attempt: Attempt,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// Who was given it; `None` for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<AgentChoice>>,
    /// The process of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// A task that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingTask {
    /// The task.
    pub task: TaskId,
    /// Why.
    pub reason: WaitReason,
}

/// Why a task waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "waits_for", rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitReason {
    /// Tasks that have not ended.
    Tasks {
        /// The first few of them.
        tasks: Vec<TaskId>,
        /// How many there are in all.
        total: usize,
    },
    /// All slots are taken.
    Slot,
    /// A task of this run holds a lock.
    Lock {
        /// The lock.
        lock: LockName,
        /// Who holds it.
        holder: TaskId,
    },
    /// Somebody else on this machine holds a lock.
    ForeignLock {
        /// The lock.
        lock: LockName,
        /// Who holds it, for people.
        holder: String,
    },
    /// A running task writes the same files.
    Files {
        /// That task.
        task: TaskId,
    },
    /// A running task uses the worktree of its epic.
    Epic {
        /// That task.
        task: TaskId,
    },
    /// An earlier wave has not ended, or the pause between waves has not.
    Wave {
        /// The wave of the task, from 1.
        wave: usize,
    },
    /// The pause before the next attempt.
    Backoff {
        /// Until when.
        until: Timestamp,
        /// What went wrong.
        failure: String,
    },
    /// Agents of its kind are not started for now.
    Breaker {
        /// The kind.
        key: String,
        /// Until when.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// None of the agents that it may be given to can be started for now.
    Agents {
        /// Each of them, in order, and why.
        agents: Vec<String>,
    },
    /// The machine is short of something; running tasks go on.
    Shortage {
        /// Of what.
        shortage: Shortage,
    },
    /// A budget has no room for it now.
    Budget {
        /// Whose.
        scope: BudgetScope,
        /// The limit.
        limit: Amount,
        /// What is spent or set aside for what is at work.
        taken: Amount,
        /// What it is expected to take; `None`: nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected: Option<Amount>,
    },
    /// Under a budget, the first attempt of its agent shows what one takes.
    FirstCost {
        /// The agent, with its model.
        worker: String,
    },
    /// A budget can't be kept, as nobody knows what an agent under it costs.
    UnknownCost {
        /// Whose.
        scope: BudgetScope,
        /// The agent, with its model.
        worker: String,
    },
    /// The run is paused.
    Paused,
    /// The run is ending.
    Stopping,
}

/// One clause, for people: "waits for ...".
impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tasks { tasks, total } => {
                let names: Vec<&str> = tasks.iter().map(TaskId::as_str).collect();
                f.write_str(&names.join(", "))?;
                if *total > tasks.len() {
                    write!(f, " and {} more", total - tasks.len())?;
                }
                Ok(())
            }
            Self::Slot => f.write_str("a free slot"),
            Self::Lock { lock, holder } => write!(f, "lock {lock}, held by {holder}"),
            Self::ForeignLock { lock, holder } => write!(f, "lock {lock}, held by {holder}"),
            Self::Files { task } => write!(f, "{task}, which writes the same files"),
            Self::Epic { task } => write!(f, "{task}, which uses the epic's worktree"),
            Self::Wave { wave } => write!(f, "wave {wave} to begin"),
            Self::Backoff { until, failure } => {
                write!(f, "the next attempt at {until} ({failure})")
            }
            Self::Breaker { key, until, reason } => write!(f, "{key} until {until} ({reason})"),
            Self::Agents { agents } => write!(f, "one of its agents: {}", agents.join("; ")),
            Self::Shortage { shortage } => shortage.fmt(f),
            Self::Budget { scope, limit, taken, expected } => {
                let scope = scope.name();
                write!(f, "room in the budget of {scope}: {taken} of {limit} is taken")?;
                match expected {
                    Some(expected) => write!(f, ", and it takes about {expected}"),
                    None => Ok(()),
                }
            }
            Self::FirstCost { worker } => {
                write!(f, "the first attempt of {worker} to show what one costs")
            }
            Self::UnknownCost { scope, worker } => {
                let scope = scope.name();
                write!(f, "`orch resume`: the budget of {scope} can't count {worker}")
            }
            Self::Paused => f.write_str("`orch resume`: the run is paused"),
            Self::Stopping => f.write_str("nothing: the run is ending"),
        }
    }
}
