//! `orch status`

use std::time::SystemTime;

use orch_exec::{
    control::{Client, Request, Response},
    shim::processes,
};
use orch_model::{Progress, Report, RunId};

use super::{abandoned::Abandoned, conflicts, lock, pick};
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
    let now = SystemTime::now().into();
    let processes = processes::read(&workspace.state_dir, &summary.run).unwrap_or_default();
    let stuck = processes.filter(|processes| processes.is_stuck(now)).map(|p| p.supervisor);
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
            "stuck_supervisor": stuck,
            "report": Report::of(&state),
            "deadlocks": deadlocks,
            "expected_conflicts": conflicts::expected(&state),
        });
        render::print(&format!("{document:#}"))?;
        return Ok(Exit::Success);
    }
    let text = match &progress {
        Some(progress) => render::status::live(&state, progress, args.all),
        None => render::status::at_rest(&state, summary.owner, now, args.all),
    };
    render::print(&text)?;
    if let Some(pid) = stuck {
        render::print(&render::status::stuck(pid))?;
    }
    for conflict in conflicts::expected(&state) {
        render::print(&conflicts::expected_line(conflict))?;
    }
    for deadlock in &deadlocks {
        render::print(&lock::deadlock_line(deadlock, now))?;
    }
    let others = pick::live(store).await?;
    for other in others.iter().filter(|other| other.run != summary.run) {
        render::print(&format!("\nRun {} goes on too: `orch status {}`", other.run, other.run))?;
    }
    if progress.is_none() && summary.owner.is_none() && !state.status.is_ended() {
        let abandoned = Abandoned::new(summary.run, state.pid);
        if let Some(exit) = abandoned.offer(workspace, "Resume it now?").await? {
            return Ok(exit);
        }
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
