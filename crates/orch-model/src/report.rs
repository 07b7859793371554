//! The final report of a run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    budget::BudgetStop,
    conflict::Conflict,
    event::{Delivery, Undone},
    id::{CommitId, RunId, TaskId},
    plan::AgentChoice,
    run::{RunState, TaskRun},
    state::{Attempt, Merged, RunStatus, SkipReason, TaskState},
    time::Timestamp,
    usage::Usage,
};

/// The version of the report format.
pub const REPORT_VERSION: u32 = 1;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the format.
    pub version: u32,
    /// The run.
    pub run_id: RunId,
    /// How it ended.
    pub status: RunStatus,
    /// From its beginning to its last event, in seconds.
    pub wall_seconds: f64,
    /// How long all agents ran together, also those that failed, in seconds.
    #[serde(default)]
    pub agent_seconds: f64,
    /// Where the results stand.
    pub delivery: Option<Delivery>,
    /// What was taken back of them since, by `orch undo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
    /// What all tasks used together.
    pub usage: Usage,
    /// Where it stopped for a budget's sake, or a part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budget_stops: Vec<BudgetStop>,
    /// Its tasks, in plan order.
    pub tasks: Vec<TaskReport>,
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub id: TaskId,
    /// The name of its state.
    pub status: String,
    /// How many attempts there were.
    pub attempts: Attempt,
    /// The tip of its work.
    pub commit: Option<CommitId>,
    /// The commit that brought it into the target.
    pub merge_commit: Option<CommitId>,
    /// When its first agent was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The class of the failure, [`Failure::class`](crate::outcome::Failure::class).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The end of the output that belongs to the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tail: Option<String>,
    /// Where it conflicts, where it does: files, and both sides of each place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// The worktree that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<PathBuf>,
    /// The branch that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Who was given its last attempt, and why; absent for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AgentChoice>,
    /// What all its attempts used.
    pub usage: Usage,
    /// How long the agents of all its attempts ran, in seconds.
    #[serde(default)]
    pub agent_seconds: f64,
}

impl Report {
    /// The report on a run, as far as it has come.
    #[must_use]
    pub fn of(state: &RunState) -> Self {
        let mut usage = Usage::default();
        for task in &state.tasks {
            usage += task.usage;
        }
        Self {
            version: REPORT_VERSION,
            run_id: state.run().clone(),
            status: state.status,
            wall_seconds: state.updated_at.since(state.started_at).as_secs_f64(),
            agent_seconds: state.tasks.iter().map(|task| task.agent_time.0.as_secs_f64()).sum(),
            delivery: state.delivery.clone(),
            undone: state.undone.clone(),
            usage,
            budget_stops: state.budget_stops.clone(),
            tasks: state.tasks.iter().map(TaskReport::of).collect(),
        }
    }
}

impl TaskReport {
    fn of(task: &TaskRun) -> Self {
        let failure = task.state.failure();
        let hint = failure.as_ref().map(|failure| failure.policy().hint);
        let mut report = Self {
            id: task.id.clone(),
            status: task.state.name().into(),
            attempts: task.attempts,
            commit: None,
            merge_commit: None,
            started_at: task.started_at,
            finished_at: task.state.is_terminal().then_some(task.entered_at),
            error: failure.as_ref().map(ToString::to_string),
            class: failure.as_ref().map(|failure| failure.class().to_owned()),
            hint: hint.filter(|hint| !hint.is_empty()).map(str::to_owned),
            output_tail: None,
            conflict: None,
            worktree: None,
            branch: None,
            by: task.by.as_deref().cloned(),
            usage: task.used(),
            agent_seconds: task.agent_time.0.as_secs_f64(),
        };
        let keeps_place = match &task.state {
            TaskState::Merged { result: Merged::Commit { commit, merge_commit }, .. } => {
                report.commit = Some(commit.clone());
                report.merge_commit = Some(merge_commit.clone());
                false
            }
            TaskState::Merged { result: Merged::Kept { commit, branch }, .. } => {
                report.commit = Some(commit.clone());
                report.branch = Some(branch.clone());
                false
            }
            TaskState::Failed { failure, .. } => {
                let tail = failure.output_tail();
                report.output_tail = (!tail.is_empty()).then(|| tail.to_owned());
                true
            }
            TaskState::Conflicted { commit, files, hunks, .. } => {
                let (files, hunks) = (files.clone(), hunks.clone());
                report.conflict = Some(Conflict { files, hunks });
                report.commit = Some(commit.clone());
                true
            }
            TaskState::Skipped { because: SkipReason::Dependency { task } } => {
                report.error = Some(format!("{task}, which it needs, did not succeed"));
                false
            }
            TaskState::Skipped { because: SkipReason::RunStopped { task } } => {
                report.error = Some(format!("the run stopped because {task} failed"));
                false
            }
            TaskState::NeedsAttention { known, hint, .. } => {
                report.error = Some(format!("{known}; {hint}"));
                true
            }
            TaskState::Cancelled { .. } => true,
            _ => false,
        };
        if let (true, Some(place)) = (keeps_place, &task.place) {
            report.worktree = Some(place.path.clone());
            report.branch = Some(place.branch.clone());
        }
        report
    }
}
