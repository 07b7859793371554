//! What became of the tasks that were under way when an earlier orchestrator stopped.

use orch_model::{
    Event, EventKind, RunState, TaskState, ValidPlan,
    event::TaskChange,
    outcome::{Failure, StopReason},
    plan::{TaskIndex, spec::Isolation},
    ports::{CommitMessage, MergeOutcome, MergeRequest, Release, WorktreeError, WorktreeRequest},
    state::Merged,
};

use crate::{error::EngineError, orchestrator::Ports, unit::merge_subject};

/// Finds out what became of each task under way and brings the state up to date. Gives the events
/// that say so, for the journal; the first is `run_reopened`.
///
/// - Before its agent was started: nothing has happened, it is queued again.
/// - With an agent: where that still runs, the task needs attention, since its end can't be
///   observed; where it is gone, what it left is preserved and the task is run again, uncharged,
///   unless it was being cancelled.
/// - In the middle of its merge: the merge is repeated, which finds out whether it had been done.
///
/// # Errors
/// Where the world can't be asked.
pub(crate) async fn reconcile(
    state: &mut RunState,
    plan: &ValidPlan,
    ports: &Ports,
) -> Result<Vec<Event>, EngineError> {
    let mut journal = Vec::new();
    let mut record = |state: &mut RunState, kind| {
        let at = ports.clock.now().max(state.updated_at);
        let event = Event { seq: state.seq + 1, at, kind };
        state
            .apply(&event)
            .map_err(|error| EngineError::Internal(format!("reconciliation: {error}")))?;
        journal.push(event);
        Ok::<_, EngineError>(())
    };
    record(state, EventKind::RunReopened { pid: std::process::id() })?;
    for index in plan.indices() {
        if !state.task(index).state.is_active() {
            continue;
        }
        let change = fate(state, plan, index, ports).await?;
        let task = state.task(index).id.clone();
        let is_merged = matches!(change, TaskChange::Merged { .. });
        record(state, EventKind::Task { task: task.clone(), change })?;
        if is_merged && let Err(error) = tidy(state, plan, index, ports).await {
            let message = error.to_string();
            record(state, EventKind::Warning { task: Some(task), message })?;
        }
    }
    Ok(journal)
}

/// Takes away the worktree of a task whose merge outlived its orchestrator.
async fn tidy(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<(), WorktreeError> {
    let task = plan.task(index);
    let (Some(worktrees), Some(attempt)) = (&ports.worktrees, state.task(index).state.attempt())
    else {
        return Ok(());
    };
    let shared_by = match task.isolation {
        Isolation::None => return Ok(()),
        Isolation::Epic => task.epic.map(|epic| plan.epics()[epic.get()].id.clone()),
        _ => None,
    };
    let (run, id) = (state.run().clone(), task.id.clone());
    let release = if task.verify.is_empty() { Release::Done } else { Release::Verified };
    worktrees.tidy(WorktreeRequest { run, task: id, attempt, shared_by }, release).await
}

async fn fate(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<TaskChange, EngineError> {
    let task = state.task(index);
    let again = |message: &str| TaskChange::Retry {
        failure: Failure::Interrupted { message: message.into() },
        until: state.updated_at,
    };
    Ok(match &task.state {
        TaskState::Merging { commit: None, .. } => TaskChange::Merged { result: Merged::Nothing },
        TaskState::Merging { commit: Some(commit), attempt } => {
            let Some(place) = &task.place else {
                return Ok(again("the place of its work is not recorded"));
            };
            let request = MergeRequest {
                commit: commit.clone(),
                branch: place.branch.clone(),
                message: CommitMessage {
                    subject: merge_subject(plan.task(index)),
                    run: state.run().clone(),
                    task: task.id.clone(),
                    attempt: *attempt,
                },
            };
            match ports.worktrees()?.merge(request).await? {
                MergeOutcome::Merged { merge_commit } => TaskChange::Merged {
                    result: Merged::Commit { commit: commit.clone(), merge_commit },
                },
                MergeOutcome::Conflicted { files } => TaskChange::Conflicted {
                    commit: commit.clone(),
                    branch: place.branch.clone(),
                    files,
                },
                _ => again("the merge ended in an unknown way"),
            }
        }
        TaskState::Leased { .. } | TaskState::Preparing { .. } => {
            again("the orchestrator ended before the agent was started")
        }
        _ => match &task.agent {
            Some(agent) if ports.runner.is_alive(agent).await? => TaskChange::Lost {
                known: format!("its agent (process {}) outlived the orchestrator", agent.pid),
                hint: format!(
                    "wait for it or end it with `kill -- -{}`, then look at {}",
                    agent.pid,
                    task.place.as_ref().map_or_else(
                        || "the repository".into(),
                        |place| place.path.display().to_string()
                    ),
                ),
            },
            _ if matches!(
                task.state,
                TaskState::Stopping { reason: StopReason::Cancelled, .. }
            ) =>
            {
                TaskChange::Cancelled
            }
            _ => again("the orchestrator ended while the agent ran"),
        },
    })
}
