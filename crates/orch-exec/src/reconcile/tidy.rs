//! What is to be gone, and is not.

use std::collections::BTreeSet;

use orch_model::{
    EventKind, TaskId, TaskState,
    plan::{TaskIndex, spec::Isolation},
    ports::{WorktreeError, WorktreeRequest},
    run::TaskRun,
    state::Merged,
};

use super::Recovery;
use crate::{
    error::EngineError,
    unit::{release_of, shared_by},
};

impl Recovery<'_> {
    /// The merged tasks of which something is there that is to be gone: a power cut can bring back what was removed
    /// before it. That of the others is wanted.
    pub(super) async fn traces(&self) -> Result<BTreeSet<TaskId>, EngineError> {
        let is_merged = |task: &&TaskRun| {
            matches!(
                task.state,
                TaskState::Merged { result: Merged::Commit { .. } | Merged::Nothing, .. }
            )
        };
        let merged: BTreeSet<&TaskId> =
            self.state.tasks.iter().filter(is_merged).map(|t| &t.id).collect();
        let Some(worktrees) = self.ports.worktrees.as_ref().filter(|_| !merged.is_empty()) else {
            return Ok(BTreeSet::new());
        };
        let mut traces = worktrees.traces(self.state.run()).await?;
        traces.retain(|task| merged.contains(task));
        Ok(traces)
    }

    pub(super) async fn tidy_or_tell(&mut self, index: TaskIndex) -> Result<(), EngineError> {
        if let Err(error) = self.tidy(index).await {
            let task = self.state.task(index).id.clone();
            let kind = EventKind::Warning { task: Some(task), message: error.to_string() };
            self.record(kind)?;
        }
        Ok(())
    }

    /// Takes away the worktree of a task whose merge outlived its orchestrator.
    async fn tidy(&self, index: TaskIndex) -> Result<(), WorktreeError> {
        let task = self.plan.task(index);
        let TaskState::Merged { attempt, result } = &self.state.task(index).state else {
            return Ok(());
        };
        let Some(worktrees) = &self.ports.worktrees else { return Ok(()) };
        if task.isolation == Isolation::None {
            return Ok(());
        }
        let shared_by = shared_by(self.plan, index);
        let (run, id) = (self.state.run().clone(), task.id.clone());
        let request = WorktreeRequest { run, task: id, attempt: *attempt, shared_by };
        worktrees.tidy(request, release_of(result, task)).await
    }
}
