//! What a journal adds up to.

use std::{cmp::Reverse, path::Path};

use orch_model::{
    ports::{RunSummary, StoreError},
    run::RunState,
    state::TaskState,
};

use crate::{
    format::Fault,
    store::{fault, scan},
};

/// The state that the content of a journal file adds up to; `None` where it holds no event yet.
pub(crate) fn replay(path: &Path, bytes: &[u8]) -> Result<Option<RunState>, StoreError> {
    let mut state: Option<RunState> = None;
    for record in scan(path, bytes)?.records {
        let event = record.event().map_err(fault(path))?;
        let applied = match &mut state {
            Some(state) => state.apply(&event),
            none => RunState::begin(&event).map(|state| *none = Some(state)),
        };
        applied.map_err(|error| {
            fault(path)(Fault::Damaged { offset: record.offset, detail: error.to_string() })
        })?;
    }
    Ok(state)
}

/// The line on a run.
pub(crate) fn summary(state: &RunState, owner: Option<u32>) -> RunSummary {
    let ended = |merged| {
        move |task: &&orch_model::run::TaskRun| {
            task.state.is_terminal() && matches!(task.state, TaskState::Merged { .. }) == merged
        }
    };
    RunSummary {
        run: state.run().clone(),
        status: state.status,
        started_at: state.started_at,
        updated_at: state.updated_at,
        tasks: state.tasks.len(),
        merged: state.tasks.iter().filter(ended(true)).count(),
        unsuccessful: state.tasks.iter().filter(ended(false)).count(),
        owner,
    }
}

/// Sorts runs by when they began; by name where that is the same.
pub(crate) fn newest_first(summaries: &mut [RunSummary]) {
    summaries.sort_by(|a, b| (Reverse(a.started_at), &a.run).cmp(&(Reverse(b.started_at), &b.run)));
}
