//! Takes a run back from its target, and writes that into its journal.
//!
//! The order is: hold the journal, keep what is taken from the target, move the target, record it. A
//! call that was killed in between is finished by the next one.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use orch_model::{
    CommitId, Event, EventKind, RunId, RunState, RunStatus, TaskState, Timestamp,
    event::{Delivery, Undone},
    ports::{StateStore as _, WorktreeError},
    state::Merged,
};
use orch_worktree::{Undo, UndoRequest};
use serde::Serialize;

use super::Review;
use crate::error::EngineError;

/// What became of taking a run back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UndoneRun {
    /// The run.
    pub run: RunId,
    /// Its target.
    pub target: String,
    /// Where the run began: where the target is now, or would be.
    pub to: CommitId,
    /// Where the target stood; `None` where the run never moved it.
    pub from: Option<CommitId>,
    /// The reference that keeps that, by its whole name.
    pub kept: Option<String>,
    /// The checkout that was moved along.
    pub checkout: Option<PathBuf>,
    /// Whether the target was moved by this call, or would be.
    pub is_moved: bool,
}

impl Review {
    /// Brings the target back to where the run began, if nobody but the run moved it since. All that the
    /// run did stays reachable below `refs/orch/<run>/`. It may be repeated, also after it was killed.
    ///
    /// # Errors
    /// [`WorktreeError::Refused`] where the run goes on or can be resumed, where another one goes on, or
    /// where the work of others would be touched: nothing was changed then. Otherwise where git or the
    /// journal failed.
    ///
    /// # Cancel safety
    /// Not cancel safe: a repetition finishes what a dropped call began.
    pub async fn undo(&self, run: &RunId, dry_run: bool) -> Result<UndoneRun, EngineError> {
        let refuse = |message: String| EngineError::from(WorktreeError::Refused { message });
        let runs = self.store.list().await?;
        if let Some(live) = runs.iter().find(|other| other.owner.is_some()) {
            let live = &live.run;
            return Err(refuse(format!(
                "run {live} goes on; undo when it has ended, or end it with `orch cancel --run {live}`"
            )));
        }
        // Once it is open nobody else writes to it.
        let journal = if dry_run { None } else { Some(self.store.open(run).await?) };
        let mut state = self.state(run).await?;
        if !state.status.is_ended()
            || matches!(state.status, RunStatus::Interrupted | RunStatus::OutOfBudget)
        {
            return Err(refuse(format!(
                "run {run} was stopped and can be resumed, which would deliver its results again; `orch resume {run}` ends it, also with `orch cancel --run {run}` beside it"
            )));
        }
        let Some(base) = state.header.base.clone() else {
            return Err(refuse(format!("no task of run {run} worked in git: it has no target")));
        };
        let request = request(&state, base.clone(), dry_run);
        let undo = self.git.undo(request).await?;
        let (from, kept, checkout, is_moved) = match undo {
            Undo::Moved { from, kept, checkout } => (Some(from), Some(kept), checkout, true),
            Undo::Done { from, kept } => (Some(from), Some(kept), None, false),
            _ => (None, None, None, false),
        };
        if let (Some(journal), Some(from), Some(kept)) = (journal, &from, &kept) {
            let undone = Undone {
                target: base.target.clone(),
                from: from.clone(),
                to: base.commit.clone(),
                kept: kept.clone(),
            };
            if is_moved || state.undone.as_ref() != Some(&undone) {
                let at = Timestamp::from(SystemTime::now()).max(state.updated_at);
                let kind = EventKind::Undone { undone };
                let event = Event { seq: state.seq + 1, at, kind };
                state
                    .apply(&event)
                    .map_err(|error| EngineError::Internal(format!("undo: {error}")))?;
                journal.append(&[event]).await?;
                journal.sync().await?;
                journal.publish(Arc::new(state)).await?;
            }
        }
        let (target, to) = (base.target, base.commit);
        Ok(UndoneRun { run: run.clone(), target, to, from, kept, checkout, is_moved })
    }
}

fn request(state: &RunState, base: orch_model::event::RunBase, dry_run: bool) -> UndoRequest {
    let mut request = UndoRequest::new(state.run().clone(), base);
    request.dry_run = dry_run;
    if let Some(Delivery::Target { commit, .. }) = &state.delivery {
        request.delivered = Some(commit.clone());
    }
    for task in &state.tasks {
        if let TaskState::Merged { result: Merged::Commit { commit, merge_commit }, .. } =
            &task.state
        {
            request.merged.push((task.id.clone(), commit.clone(), merge_commit.clone()));
        }
    }
    request
}
