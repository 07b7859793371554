//! What the parts of the engine say to one another. None of it is stored or shown.

use orch_model::{
    BudgetChange, CommitId, Event, Hunk, LockName, TaskId, Timestamp,
    event::{AgentIdentity, Delivery, Place},
    outcome::{ExitStatus, Failure, StopReason},
    plan::TaskIndex,
    state::{Attempt, Merged},
    usage::Usage,
};

use crate::resources::Reading;

/// What the scheduler is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The run begins, or is taken up again.
    Begin,
    /// A unit of work has something to report.
    Unit {
        /// Its task.
        task: TaskIndex,
        /// What.
        report: UnitReport,
    },
    /// A lock that a task found taken by somebody else may be free.
    LockReleased {
        /// The task.
        task: TaskIndex,
    },
    /// Start nothing new; with `freeze`, stop running agents too.
    Pause {
        /// Whether running agents are stopped.
        freeze: bool,
    },
    /// Go on after [`Input::Pause`], or at a budget.
    Resume,
    /// Budgets that the run has from now on.
    SetBudgets(Vec<BudgetChange>),
    /// Cancel one task.
    CancelTask(TaskIndex),
    /// Cancel everything.
    Cancel,
    /// End running agents so that the run can be resumed later.
    Interrupt,
    /// A moment that [`Command::WakeAt`] asked for has come.
    Tick,
    /// The results have been brought to the target, or not.
    Delivered(Delivery),
    /// Tell observers something.
    Warning(String),
    /// What the machine has left.
    Resources(Reading),
    /// Whether what two tasks at work have committed so far conflicts was looked at.
    ConflictExpected {
        /// The two.
        tasks: [TaskIndex; 2],
        /// The files; none where nothing conflicts.
        files: Vec<String>,
    },
}

/// What a unit of work reports.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitReport {
    /// A lock is held by somebody outside this run; the unit has ended.
    LockBusy {
        /// The lock.
        lock: LockName,
        /// By whom, for people.
        holder: String,
    },
    /// It holds its locks. Only where the task has any.
    Leased,
    /// Its working directory is there.
    Prepared(Place),
    /// Its agent was started.
    Started(Option<AgentIdentity>),
    /// What its agent used so far.
    Used(Usage),
    /// Whoever its agent asks has answered it.
    Answered,
    /// Whoever its agent asks takes no more requests for now.
    RateLimited {
        /// From when on requests are taken again, where that is known.
        reset: Option<Timestamp>,
        /// What was said.
        message: String,
    },
    /// Its agent ended, well or not.
    AgentEnded {
        /// How.
        exit: ExitStatus,
        /// What it used.
        usage: Option<Usage>,
        /// The model that answered it.
        model: Option<String>,
    },
    /// Its work passed verification. The unit merges only after this has been written.
    Verified {
        /// The tip of its work.
        commit: Option<CommitId>,
    },
    /// The resolver gets the merge of its work.
    Resolving {
        /// How often it was for this attempt.
        round: u32,
        /// The files in conflict.
        files: Vec<String>,
    },
    /// The resolver has ended.
    ResolvingEnded {
        /// Whether what came of it is merged.
        resolved: bool,
        /// What it used.
        usage: Option<Usage>,
    },
    /// What merging these tasks gives is about to be verified.
    CandidateMade {
        /// Which candidate of the run.
        number: u64,
        /// The tasks.
        tasks: Vec<TaskId>,
        /// The topmost merge commit.
        commit: CommitId,
    },
    /// Its verification has ended.
    CandidateVerified {
        /// Which candidate.
        number: u64,
        /// Whether it passed.
        passed: bool,
    },
    /// Its agent is being ended for this reason.
    Stopping(StopReason),
    /// Something that a person should know.
    Warning(String),
    /// The unit has ended. Always the last report, except for `LockBusy`.
    Ended(UnitEnd),
}

/// How a unit of work ended.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitEnd {
    /// Its work is merged, or there was nothing to merge.
    Merged(Merged),
    /// Its work can't be merged.
    Conflicted {
        /// The tip of its work.
        commit: CommitId,
        /// The branch that keeps it.
        branch: String,
        /// The files in conflict.
        files: Vec<String>,
        /// Where in them.
        hunks: Vec<Hunk>,
    },
    /// The attempt failed.
    Failed(Failure),
    /// It was told to stop, and did.
    Stopped(StopReason),
}

/// What the scheduler decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// What happened by that: to be appended to the journal before any command is carried out.
    pub events: Vec<Event>,
    /// What is to be done, in this order.
    pub commands: Vec<Command>,
}

/// What the scheduler wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Start a unit of work.
    Start {
        /// For this task.
        task: TaskIndex,
        /// The attempt.
        attempt: Attempt,
    },
    /// Go on with the unit of work of an attempt that an earlier orchestrator began.
    Adopt {
        /// Of this task.
        task: TaskIndex,
        /// The attempt.
        attempt: Attempt,
    },
    /// End a unit of work.
    Stop {
        /// Of this task.
        task: TaskIndex,
        /// Why.
        reason: StopReason,
    },
    /// Stop the processes of all units, or let them go on.
    Freeze(bool),
    /// Send [`Input::LockReleased`] when the locks of this task may be free.
    AwaitLocks(TaskIndex),
    /// Send [`Input::Tick`] at this moment.
    WakeAt(Timestamp),
    /// All tasks have ended: bring the results to the target, then send [`Input::Delivered`].
    Deliver,
    /// The run is over; nothing will follow.
    End,
}
