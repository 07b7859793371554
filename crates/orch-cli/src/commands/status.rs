//! `orch status`

use std::time::SystemTime;

use orch_exec::control::{Client, Request, Response};
use orch_model::{Progress, Report, RunId};

use super::{conflicts, lock, pick};
use crate::{
    app::{Overrides, StatusArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render,
};

pub(super) async fn status(workspace: &Workspace, args: StatusArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let store = engine.store().as_ref();
    let summary = pick::any(store, args.run).await?;
    let progress = ask(workspace, &summary.run).await?;
    let state = pick::state(store, &summary.run).await?;
    let deadlocks = lock::deadlocks_of(workspace, &summary.run).await?;
    if args.json {
        let document = serde_json::json!({
            "version": 1,
            "run": state.run(),
            "status": state.status,
            "live": progress.is_some(),
            "percent_complete": progress.as_ref().map(Progress::percent_complete),
            "progress": progress,
            "concurrency": state.concurrency.unwrap_or(state.header.settings.max_concurrency),
            "slowdown": state.concurrency.and(state.slowdown.as_ref()),
            "breakers": state.breakers,
            "report": Report::of(&state),
            "deadlocks": deadlocks,
            "expected_conflicts": conflicts::expected(&state),
        });
        render::print(&format!("{document:#}"))?;
        return Ok(Exit::Success);
    }
    let text = match &progress {
        Some(progress) => render::status::live(&state, progress, args.all),
        None => render::status::at_rest(&state, summary.owner, SystemTime::now().into(), args.all),
    };
    render::print(&text)?;
    for conflict in conflicts::expected(&state) {
        render::print(&conflicts::expected_line(conflict))?;
    }
    for deadlock in &deadlocks {
        render::print(&lock::deadlock_line(deadlock, SystemTime::now().into()))?;
    }
    let others = pick::live(store).await?;
    for other in others.iter().filter(|other| other.run != summary.run) {
        render::print(&format!("\nRun {} goes on too: `orch status {}`", other.run, other.run))?;
    }
    Ok(Exit::Success)
}

/// What the orchestrator of a run says; `None` where none is at work on it.
async fn ask(workspace: &Workspace, run: &RunId) -> Result<Option<Progress>, CliError> {
    let Some(mut client) = Client::connect(&workspace.state_dir, run).await? else {
        return Ok(None);
    };
    match client.request(&Request::Status).await {
        Ok(Response::Status { progress }) => Ok(Some(*progress)),
        Ok(other) => Err(CliError::input(format!("the orchestrator answered {other:?}"))),
        // It ended while it was asked.
        Err(_) => Ok(None),
    }
}
