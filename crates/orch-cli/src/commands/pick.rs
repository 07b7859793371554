//! Which run is meant where none is named.

use orch_exec::model::ports::{RunSummary, StateStore};
use orch_model::{RunId, RunState};

use crate::error::CliError;

/// The runs that an orchestrator is at work on, the newest first.
pub(super) async fn live(store: &dyn StateStore) -> Result<Vec<RunSummary>, CliError> {
    let runs = store.list().await?;
    Ok(runs.into_iter().filter(|run| run.owner.is_some()).collect())
}

/// The run that goes on: the one that is named, or the only one.
pub(super) async fn the_live_one(
    store: &dyn StateStore,
    named: Option<RunId>,
) -> Result<RunId, CliError> {
    let live = live(store).await?;
    match (named, live.as_slice()) {
        (Some(run), _) => Ok(run),
        (None, [only]) => Ok(only.run.clone()),
        (None, []) => {
            Err(CliError::input("no run goes on here; `orch runs` lists those that have ended"))
        }
        (None, several) => {
            let names: Vec<_> = several.iter().map(|run| run.run.as_str()).collect();
            Err(CliError::input(format!("several runs go on; name one of {}", names.join(", "))))
        }
    }
}

/// The run that is named, or one that goes on, or else the newest.
pub(super) async fn any(
    store: &dyn StateStore,
    named: Option<RunId>,
) -> Result<RunSummary, CliError> {
    let runs = store.list().await?;
    match named {
        None => {
            let live = runs.iter().find(|run| run.owner.is_some());
            live.or(runs.first()).cloned().ok_or_else(|| {
                CliError::input("nothing has been run here yet; see `orch run --help`")
            })
        }
        Some(named) => match runs.into_iter().find(|run| run.run == named) {
            Some(run) => Ok(run),
            // The store says what is wrong with it.
            None => {
                store.state(&named).await?;
                Err(CliError::input(format!("run {named} has not begun")))
            }
        },
    }
}

/// What the journal of a run adds up to.
pub(super) async fn state(store: &dyn StateStore, run: &RunId) -> Result<RunState, CliError> {
    let state = store.state(run).await?;
    state.ok_or_else(|| CliError::input(format!("run {run} has not begun")))
}
