//! Lines on runs.

use std::cmp::Reverse;

use orch_model::{ports::RunSummary, run::RunState, state::TaskState};

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
