//! What happens in a run, as it is journalled and as observers are told: one vocabulary for both.
//!
//! An event is told only after it is durable, so an observer that fell behind or starts late can
//! read the journal from any sequence number and misses nothing.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    budget::{Budget, BudgetChange, BudgetScope, BudgetStop},
    conflict::Hunk,
    id::{CommitId, RunId, TaskId},
    outcome::{ExitStatus, Failure, StopReason},
    plan::{AgentChoice, PlanSpec},
    resources::{Contended, Shortage},
    size::ByteSize,
    state::{Attempt, Merged, RunStatus, SkipReason},
    time::Timestamp,
    usage::Usage,
};

/// The version of the event format; part of every stored file and stream that holds events.
pub const EVENT_VERSION: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in the run: 1, 2, 3, without gaps.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run began. Always the first event.
    RunStarted {
        /// What the run was started with.
        header: Box<RunHeader>,
    },
    /// Another orchestrator took the run up again.
    RunReopened {
        /// The process that continues it.
        pid: u32,
    },
    /// Something happened to a task.
    Task {
        /// Which.
        task: TaskId,
        /// What.
        #[serde(flatten)]
        change: TaskChange,
    },
    /// No task is started until `RunResumed`.
    RunPaused {
        /// Whether running agents are stopped too.
        frozen: bool,
    },
    /// Tasks are started again.
    RunResumed,
    /// The whole run is being cancelled.
    RunCancelling,
    /// The run is being stopped so that it can be resumed later.
    RunInterrupting,
    /// What became of the target branch at the end of the run.
    Delivered {
        /// Where the results stand.
        delivery: Delivery,
    },
    /// Something that a person should know and that changes no state.
    Warning {
        /// The task that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
        /// One sentence.
        message: String,
    },
    /// No more agents of a kind are started for now.
    BreakerOpened {
        /// The kind, [`crate::plan::ValidPlan::service`].
        key: String,
        /// Until when.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// Agents of a kind are started again.
    BreakerClosed {
        /// The kind.
        key: String,
    },
    /// More or fewer tasks may run at a time from now on.
    ConcurrencyChanged {
        /// How many.
        limit: u32,
        /// Why.
        reason: String,
    },
    /// What merging these tasks, one after another, gives is about to be verified; the target has not
    /// moved.
    CandidateMade {
        /// Which candidate of the run, from 1.
        number: u64,
        /// The tasks, in the order in which they are merged. The last one's attempt runs the
        /// verification.
        tasks: Vec<TaskId>,
        /// The merge commit of the last one.
        commit: CommitId,
    },
    /// Its verification has ended.
    CandidateVerified {
        /// Which candidate.
        number: u64,
        /// Whether it may become the results.
        passed: bool,
    },
    /// What two tasks at work have committed so far conflicts: one of them will not be merged as it
    /// is. Told once for each pair and list of files.
    ConflictExpected {
        /// The two.
        tasks: [TaskId; 2],
        /// The files in conflict; none: they were, and are not any more.
        files: Vec<String>,
    },
    /// Nothing new is started until `StartsResumed`: the machine is short of something.
    StartsHeld {
        /// Of what.
        shortage: Shortage,
    },
    /// There is enough again, and tasks are started.
    StartsResumed,
    /// A budget is used up, has no room for what is next, or can't be kept: nothing more of its scope is
    /// started.
    BudgetReached {
        /// Where it stopped.
        #[serde(flatten)]
        stop: BudgetStop,
    },
    /// Somebody gave the run another budget.
    BudgetChanged {
        /// Which.
        #[serde(flatten)]
        change: BudgetChange,
    },
    /// The run has ended (or stopped, if `Interrupted`, or waits for a person, if `Conflicted`).
    RunEnded {
        /// How.
        status: RunStatus,
    },
    /// After the end of the run: the target was brought back to where the run began.
    Undone {
        /// What was taken back, and where it is kept.
        undone: Undone,
    },
}

/// Something that happened to a task; the input of [`crate::transition::next`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskChange {
    /// Its last dependency has ended well.
    Unblocked,
    /// It waits for a slot.
    Queued,
    /// It got a slot and its locks.
    Leased {
        /// The attempt that begins.
        attempt: Attempt,
        /// Who is given it; `None` for a command, and in journals of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Box<AgentChoice>>,
    },
    /// Its working directory is about to be made.
    Preparing,
    /// Its working directory is there.
    Prepared {
        /// Where it is and what it was made from.
        place: Place,
    },
    /// Its agent was started.
    Started {
        /// Which process it is, where the runner has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentIdentity>,
    },
    /// What its agent used so far in this attempt. What follows from [`TaskChange::AgentEnded`] takes its
    /// place.
    AgentUsed {
        /// All of it, as far as it is known.
        usage: Usage,
    },
    /// Its agent ended. Where that was without success, or while it was being ended, the end of the attempt
    /// follows.
    AgentEnded {
        /// How.
        exit: ExitStatus,
        /// What it used, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// The model that answered it, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// Its work passed verification and is about to be merged.
    Verified {
        /// The tip of its work; `None` where it left nothing to merge.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<CommitId>,
    },
    /// Its work is in the target.
    Merged {
        /// What came of it.
        result: Merged,
    },
    /// Its work could not be merged.
    Conflicted {
        /// The tip of its work.
        commit: CommitId,
        /// The branch that keeps it.
        branch: String,
        /// The files in conflict.
        files: Vec<String>,
        /// Where in them, as far as that is kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hunks: Vec<Hunk>,
    },
    /// The resolver of the plan is given the merge of its work, in a folder.
    Resolving {
        /// How often it was for this attempt, from 1.
        round: u32,
        /// The files in conflict.
        files: Vec<String>,
    },
    /// The resolver has ended.
    ResolvingEnded {
        /// Whether all conflicts are resolved and what came of it passed the task's verification.
        resolved: bool,
        /// What it used, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    /// A person resolved its conflicts; its work is merged again.
    Resolved,
    /// Its agent is being ended.
    Stopping {
        /// Why.
        reason: StopReason,
    },
    /// The attempt failed and there will be another.
    Retry {
        /// What went wrong.
        failure: Failure,
        /// When the next attempt may be queued.
        until: Timestamp,
    },
    /// The attempt failed and there won't be another.
    Failed {
        /// What went wrong.
        failure: Failure,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// It will not be run.
    Skipped {
        /// Why.
        because: SkipReason,
    },
    /// What became of it can't be known.
    Lost {
        /// What is known.
        known: String,
        /// What to do or type.
        hint: String,
    },
}

/// What a run was started with: everything that is needed to continue it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// The run.
    pub run: RunId,
    /// The version of the event format.
    pub version: u32,
    /// The plan as it was written.
    pub plan: Arc<PlanSpec>,
    /// The settings in force.
    pub settings: RunSettings,
    /// The repository's top folder.
    pub repository: PathBuf,
    /// The target branch and where it stood; `None` where no task touches git.
    pub base: Option<RunBase>,
    /// The process that started it.
    pub pid: u32,
}

/// The settings of a run after the configuration and the plan have been put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// How many tasks run at the same time, at most.
    pub max_concurrency: u32,
    /// When a task may start.
    pub schedule: crate::plan::spec::Schedule,
    /// How many tasks a wave has, at most; `None`: no limit.
    pub max_per_wave: Option<u32>,
    /// The pause between two waves.
    pub wave_delay: crate::time::Span,
    /// What a failed task means for the rest.
    pub on_failure: crate::plan::spec::OnFailure,
    /// How long an agent that is asked to end may take before it is killed.
    pub grace: crate::time::Span,
    /// The pause before the first retry; doubled for each further one.
    pub backoff: crate::time::Span,
    /// The longest pause before a retry.
    pub backoff_max: crate::time::Span,
    /// Where the jitter of pauses comes from.
    pub seed: u64,
    /// How much space must be free on the file systems that the run writes to for a task to be
    /// started; 0: it is not looked at.
    #[serde(default = "min_free_disk")]
    pub min_free_disk: ByteSize,
    /// How much memory must be available for a task to be started; 0: it is not looked at.
    #[serde(default = "min_free_memory")]
    pub min_free_memory: ByteSize,
    /// How much output is kept of all tasks together; beyond it little is kept of each.
    #[serde(default = "max_total_output")]
    pub max_total_output: ByteSize,
    /// What fewer tasks run at a time for when processes have to wait for it.
    #[serde(default = "pressure")]
    pub pressure: Vec<Contended>,
    /// What may be used at most, and by whom.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<BudgetScope, Budget>,
    /// What happens where a budget is reached.
    #[serde(default)]
    pub on_budget: crate::plan::spec::OnBudget,
}

/// Enough for git to write a merge and for agents at work to go on for some time.
const fn min_free_disk() -> ByteSize {
    ByteSize(1 << 30)
}

/// About what an agent takes when it begins.
const fn min_free_memory() -> ByteSize {
    ByteSize(256 << 20)
}

/// That of 160 tasks which each reach their own limit.
const fn max_total_output() -> ByteSize {
    ByteSize(10 << 30)
}

/// A build that uses all processors is as it should be.
fn pressure() -> Vec<Contended> {
    vec![Contended::Memory, Contended::Io]
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            max_concurrency: 3,
            schedule: crate::plan::spec::Schedule::Ready,
            max_per_wave: None,
            wave_delay: crate::time::Span::default(),
            on_failure: crate::plan::spec::OnFailure::Continue,
            grace: crate::time::Span::from_secs(10),
            backoff: crate::time::Span::from_secs(1),
            backoff_max: crate::time::Span::from_secs(300),
            seed: 0,
            min_free_disk: min_free_disk(),
            min_free_memory: min_free_memory(),
            max_total_output: max_total_output(),
            pressure: pressure(),
            budgets: BTreeMap::new(),
            on_budget: crate::plan::spec::OnBudget::Pause,
        }
    }
}

/// The target branch of a run and where it stood when the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunBase {
    /// The branch, without `refs/heads/`.
    pub target: String,
    /// Its tip.
    pub commit: CommitId,
}

/// Where a task works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The folder.
    pub path: PathBuf,
    /// The branch that its commits go to.
    pub branch: String,
    /// The commit that it was made from.
    pub base: CommitId,
    /// Under which name the provider finds what the repository's settings were at that moment, see
    /// [`Worktree::examine`](crate::ports::Worktree::examine).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

/// Which process an agent is. The pid alone names nothing: it is reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentIdentity {
    /// The process id, also that of its process group.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// Which boot the ticks count from (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

/// The results of a run that were taken back from the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The branch.
    pub target: String,
    /// Where it stood.
    pub from: CommitId,
    /// Where it was brought back to.
    pub to: CommitId,
    /// The reference that keeps where it stood, by its whole name.
    pub kept: String,
}

/// Where the results of a run stand at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Delivery {
    /// Nothing was merged.
    Nothing,
    /// In the target branch.
    Target {
        /// The branch.
        target: String,
        /// Its tip.
        commit: CommitId,
    },
    /// On a branch of their own, because the target can't be moved without touching someone's work.
    Waiting {
        /// The branch that was asked for.
        target: String,
        /// The branch that holds the results.
        branch: String,
        /// Its tip.
        commit: CommitId,
        /// Why.
        reason: String,
        /// What to type.
        hint: String,
    },
    /// On a branch of their own, because bringing them to the target failed.
    Failed {
        /// The branch that was asked for.
        target: String,
        /// The branch that holds the results.
        branch: String,
        /// What went wrong.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_a_journal_does_not_know_have_their_defaults() {
        let mut written = serde_json::to_value(RunSettings::default()).unwrap();
        let table = written.as_object_mut().unwrap();
        for key in ["min_free_disk", "min_free_memory", "max_total_output", "pressure", "on_budget"]
        {
            assert!(table.remove(key).is_some(), "{key}");
        }
        let read: RunSettings = serde_json::from_value(written).unwrap();
        assert_eq!(read, RunSettings::default());
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            seq: 7,
            at: Timestamp::from_millis(0),
            kind: EventKind::Task {
                task: TaskId::new("login").unwrap(),
                change: TaskChange::Retry {
                    failure: Failure::Timeout { after: "2s".parse().unwrap() },
                    until: Timestamp::from_millis(1000),
                },
            },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            r#"{"seq":7,"at":"1970-01-01T00:00:00.000Z","event":"task","task":"login","change":"retry","failure":{"class":"timeout","after":"2s"},"until":"1970-01-01T00:00:01.000Z"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
