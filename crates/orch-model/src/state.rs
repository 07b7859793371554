//! The states of a task and of a run. A state's data lives in its variant.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    budget::BudgetScope,
    conflict::Hunk,
    id::{CommitId, TaskId},
    outcome::{Failure, StopReason},
    time::Timestamp,
};

/// The number of an attempt at a task, from 1.
pub type Attempt = u32;

/// Where a task stands.
///
/// ```text
/// Blocked -> Ready -> Queued -> Leased -> Preparing -> Running -> Verifying -> Merging -> [Merged]
/// Blocked | Ready | Queued | Backoff -> [Skipped]     a dependency failed, or the run stops
/// Leased .. Merging                  -> Backoff -> Queued
/// Leased .. Merging                  -> Stopping -> Backoff | [Failed] | [Cancelled]
/// Merging                            -> [Conflicted] | [Failed]
/// [Conflicted]                       -> Merging       a person resolved it
/// any, truth unknown on recovery     -> [NeedsAttention]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskState {
    /// Waits for other tasks.
    Blocked,
    /// Nothing in the graph holds it back any more.
    Ready,
    /// Waits for a slot and its locks.
    Queued,
    /// Holds a slot and its locks.
    Leased {
        /// The attempt under way.
        attempt: Attempt,
    },
    /// Its worktree is being made.
    Preparing {
        /// The attempt under way.
        attempt: Attempt,
    },
    /// Its agent runs.
    Running {
        /// The attempt under way.
        attempt: Attempt,
    },
    /// Its work is being verified.
    Verifying {
        /// The attempt under way.
        attempt: Attempt,
    },
    /// Its work is being merged.
    Merging {
        /// The attempt under way.
        attempt: Attempt,
        /// The tip of its work; `None` where it left nothing to merge.
        commit: Option<CommitId>,
    },
    /// Its agent is being ended.
    Stopping {
        /// The attempt under way.
        attempt: Attempt,
        /// Why.
        reason: StopReason,
    },
    /// An attempt failed; the next one waits for its time.
    Backoff {
        /// The attempt that failed.
        attempt: Attempt,
        /// When the next one may be queued.
        until: Timestamp,
        /// What went wrong.
        failure: Failure,
    },
    /// Done: its work is in the target, or it left nothing to merge.
    Merged {
        /// The attempt that succeeded.
        attempt: Attempt,
        /// What came of its work.
        result: Merged,
    },
    /// Its last attempt failed.
    Failed {
        /// The last attempt.
        attempt: Attempt,
        /// What went wrong.
        failure: Failure,
    },
    /// Its work could not be merged; the branch is kept.
    Conflicted {
        /// The attempt whose work it is.
        attempt: Attempt,
        /// The tip of its work.
        commit: CommitId,
        /// The branch that keeps it.
        branch: String,
        /// The files in conflict, relative to the repository.
        files: Vec<String>,
        /// Where in them, as far as that is kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hunks: Vec<Hunk>,
    },
    /// Somebody cancelled it.
    Cancelled {
        /// The attempt that was under way; 0 where none was.
        attempt: Attempt,
    },
    /// It was never run.
    Skipped {
        /// Why.
        because: SkipReason,
    },
    /// What became of it can't be known; a person must look.
    NeedsAttention {
        /// The attempt that was under way.
        attempt: Attempt,
        /// What is known.
        known: String,
        /// What to do or type.
        hint: String,
    },
}

impl TaskState {
    /// Whether nothing more will happen to the task, unless a person does something and resumes the
    /// run.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Merged { .. }
                | Self::Failed { .. }
                | Self::Conflicted { .. }
                | Self::Cancelled { .. }
                | Self::Skipped { .. }
                | Self::NeedsAttention { .. }
        )
    }

    /// Why it did not succeed, or has to be tried again; `None` where nothing failed.
    #[must_use]
    pub fn failure(&self) -> Option<Cow<'_, Failure>> {
        match self {
            Self::Backoff { failure, .. } | Self::Failed { failure, .. } => {
                Some(Cow::Borrowed(failure))
            }
            Self::Conflicted { branch, files, hunks, .. } => Some(Cow::Owned(Failure::Conflict {
                branch: branch.clone(),
                files: files.clone(),
                hunks: hunks.clone(),
            })),
            Self::Cancelled { .. } => Some(Cow::Owned(Failure::Cancelled)),
            _ => None,
        }
    }

    /// Whether a unit of work is under way for it: it holds a slot.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(
            self,
            Self::Leased { .. }
                | Self::Preparing { .. }
                | Self::Running { .. }
                | Self::Verifying { .. }
                | Self::Merging { .. }
                | Self::Stopping { .. }
        )
    }

    /// The attempt that the state speaks of; `None` before the first.
    #[must_use]
    pub const fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Blocked | Self::Ready | Self::Queued | Self::Skipped { .. } => None,
            Self::Leased { attempt }
            | Self::Preparing { attempt }
            | Self::Running { attempt }
            | Self::Verifying { attempt }
            | Self::Merging { attempt, .. }
            | Self::Stopping { attempt, .. }
            | Self::Backoff { attempt, .. }
            | Self::Merged { attempt, .. }
            | Self::Failed { attempt, .. }
            | Self::Conflicted { attempt, .. }
            | Self::Cancelled { attempt }
            | Self::NeedsAttention { attempt, .. } => Some(*attempt),
        }
    }

    /// The name of the state, as stored files and outputs write it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Queued => "queued",
            Self::Leased { .. } => "leased",
            Self::Preparing { .. } => "preparing",
            Self::Running { .. } => "running",
            Self::Verifying { .. } => "verifying",
            Self::Merging { .. } => "merging",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Merged { .. } => "merged",
            Self::Failed { .. } => "failed",
            Self::Conflicted { .. } => "conflicted",
            Self::Cancelled { .. } => "cancelled",
            Self::Skipped { .. } => "skipped",
            Self::NeedsAttention { .. } => "needs_attention",
        }
    }
}

/// What came of a task's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "merge", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Merged {
    /// It left nothing to merge.
    Nothing,
    /// It is part of the target.
    Commit {
        /// The tip of its work.
        commit: CommitId,
        /// The commit that brought it into the target.
        merge_commit: CommitId,
    },
    /// It is verified and stays on its branch: the plan says that nothing is merged.
    Kept {
        /// The tip of its work.
        commit: CommitId,
        /// The branch, without `refs/heads/`.
        branch: String,
    },
}

/// Why a task was never run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// A task that it needs did not succeed.
    Dependency {
        /// That task.
        task: TaskId,
    },
    /// A task failed and the plan says `on_failure = "stop"`.
    RunStopped {
        /// The task that failed.
        task: TaskId,
    },
    /// A budget is used up and the plan says `on_budget = "stop"`.
    Budget {
        /// Whose.
        scope: BudgetScope,
    },
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// Tasks are started as they may.
    Running,
    /// No task is started; what runs goes on.
    Paused,
    /// No task is started and running agents are stopped.
    Frozen,
    /// Everything is being cancelled.
    Cancelling,
    /// Running agents are being ended so that the run can be resumed later.
    Interrupting,
    /// Every task was merged.
    Succeeded,
    /// Every task has ended and some did not succeed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It was stopped before its end; `orch resume` continues it.
    Interrupted,
    /// It stopped at a budget; `orch resume --budget` continues it.
    OutOfBudget,
    /// All that is left waits for a person to resolve conflicts; `orch resume` continues it then.
    Conflicted,
}

impl RunStatus {
    /// Whether the run has ended (some may be resumed, see [`RunStatus::may_go_on`]).
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::Failed
                | Self::Cancelled
                | Self::Interrupted
                | Self::OutOfBudget
                | Self::Conflicted
        )
    }

    /// Whether an orchestrator is at work on it, or may take it up again.
    #[must_use]
    pub const fn may_go_on(self) -> bool {
        !self.is_ended() || matches!(self, Self::Interrupted | Self::OutOfBudget | Self::Conflicted)
    }
}
