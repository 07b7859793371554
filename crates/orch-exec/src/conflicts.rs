//! Conflicts that wait for a person: a folder to resolve them in, and what is taken from it.

use orch_model::{
    CommitId, RunId, RunState, TaskId, TaskState, ValidPlan,
    event::Place,
    plan::{TaskIndex, spec::OnConflict},
    ports::{MergeRequest, OpenMerge, SealedMerge, Stacked, WorktreeError, WorktreeProvider},
};

use crate::{
    error::EngineError,
    message::{self, Attempted},
    orchestrator::{ParallelOrchestrator, Ports},
};

impl ParallelOrchestrator {
    /// Gives a folder in which the merge of a task that waits in `Conflicted` is in progress, for a
    /// person. One that is there already is given as it is.
    ///
    /// # Errors
    /// Where the task does not wait for a person, where nothing is in conflict any more, or where the
    /// folder can't be made.
    pub async fn open_conflict(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<OpenMerge, EngineError> {
        let request = self.conflicted(run, task).await?;
        let open = self.ports().worktrees()?.open_merge(request, true).await?;
        let reason = || "nothing is in conflict any more; `orch resume` merges it".into();
        open.ok_or_else(|| EngineError::CantResolve { task: task.clone(), reason: reason() })
    }

    /// Takes what a person made of [`ParallelOrchestrator::open_conflict`]: what is not committed there
    /// is committed, the folder is removed, and the run merges the result when it is resumed.
    ///
    /// # Errors
    /// Where the task does not wait for a person, or where something in the folder is in conflict
    /// still.
    pub async fn conclude_conflict(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<CommitId, EngineError> {
        let request = self.conflicted(run, task).await?;
        let worktrees = self.ports().worktrees()?;
        let reason = match worktrees.seal_merge(&request, true).await? {
            SealedMerge::Resolved { commit } => {
                worktrees.accept_merge(&request, &commit).await?;
                return Ok(commit);
            }
            SealedMerge::Open { path, reason } => format!("{reason} ({})", path.display()),
            _ => format!("no merge is in progress; begin one with `orch resolve {task}`"),
        };
        Err(EngineError::CantResolve { task: task.clone(), reason })
    }

    /// Removes the folder of [`ParallelOrchestrator::open_conflict`] after what is in it was kept; the
    /// reference that keeps it. The task waits as before.
    ///
    /// # Errors
    /// Where the task does not wait for a person, or where the folder can't be removed.
    pub async fn abandon_conflict(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<String>, EngineError> {
        let request = self.conflicted(run, task).await?;
        Ok(self.ports().worktrees()?.close_merge(&request).await?)
    }

    /// The merge that a task which waits for a person could not have.
    async fn conflicted(&self, run: &RunId, task: &TaskId) -> Result<MergeRequest, EngineError> {
        let cant = |reason: String| EngineError::CantResolve { task: task.clone(), reason };
        let state = self.store().state(run).await?;
        let state = state.ok_or_else(|| cant(format!("run {run} has not begun")))?;
        let index = state.index_of(task).ok_or_else(|| EngineError::NoSuchTask(task.clone()))?;
        let found = &state.task(index).state;
        let TaskState::Conflicted { branch, .. } = found else {
            return Err(cant(format!("it is {}, not conflicted", found.name())));
        };
        if !state.status.may_go_on() {
            return Err(cant(format!("run {run} is over; merge it with `git merge {branch}`")));
        }
        let plan = ValidPlan::new((*state.header.plan).clone())
            .map_err(|problems| cant(format!("its plan is not valid any more: {problems}")))?;
        match plan.task(index).on_conflict {
            OnConflict::Manual => {}
            _ => {
                let why = "its `on_conflict` is not `manual`, so the run does not wait for it";
                return Err(cant(format!("{why}; merge it with `git merge {branch}`")));
            }
        }
        let request = request(&state, &plan, index, self.ports()).await?;
        request.ok_or_else(|| cant("it has no work to merge".into()))
    }
}

/// The merge of a task that conflicted.
async fn request(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<Option<MergeRequest>, WorktreeError> {
    let task = state.task(index);
    let (TaskState::Conflicted { attempt, commit, .. }, Some(place)) = (&task.state, &task.place)
    else {
        return Ok(None);
    };
    let from = (place.branch.as_str(), &place.base);
    let attempt = Attempted { run: state.run(), attempt: *attempt, by: task.by.as_deref() };
    message::merge_request((plan, index), ports, attempt, from, commit).await.map(Some)
}

/// What became of a conflict that waited for a person.
#[derive(Debug)]
pub(crate) enum Waited {
    /// Its merge can be made now.
    Resolved {
        /// Where its work was made.
        place: Place,
    },
    /// It waits still.
    Unresolved {
        /// Why.
        reason: String,
    },
}

/// Finds out whether a person has resolved the conflicts of a task; `None` where it does not wait for
/// one. A merge that was committed in its folder is taken; one that was not may be half done.
///
/// # Errors
/// Where that can't be found out.
pub(crate) async fn waited(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<Option<Waited>, EngineError> {
    if plan.task(index).on_conflict != OnConflict::Manual {
        return Ok(None);
    }
    let Some(request) = request(state, plan, index, ports).await? else { return Ok(None) };
    let Some(place) = state.task(index).place.clone() else { return Ok(None) };
    let worktrees: &dyn WorktreeProvider = ports.worktrees()?;
    let task = &request.message.task;
    match worktrees.seal_merge(&request, false).await? {
        SealedMerge::Resolved { commit } => worktrees.accept_merge(&request, &commit).await?,
        SealedMerge::Open { path, reason } => {
            let reason =
                format!("{reason} ({}); then `orch resolve {task} --done`", path.display());
            return Ok(Some(Waited::Unresolved { reason }));
        }
        _ => {}
    }
    let reason = format!("see `orch conflicts`, then `orch resolve {task}`");
    let stack = worktrees.stack(state.run(), &[request]).await?;
    Ok(Some(match stack.merges.first() {
        Some(Stacked::Merged { .. } | Stacked::Contained { .. }) => {
            Waited::Resolved { place: *place }
        }
        _ => Waited::Unresolved { reason },
    }))
}
