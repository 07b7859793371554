//! `orch pause`, `orch resume`, `orch cancel`: they reach the orchestrator that is at work.

use orch_exec::control::{Client, Request, Response};
use orch_model::{RunId, RunStatus, ports::StateStore};

use super::{pick, run};
use crate::{
    app::{CancelArgs, Overrides, PauseArgs, ResumeArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render,
    signals::Signals,
};

pub(super) async fn pause(workspace: &Workspace, args: PauseArgs) -> Result<Exit, CliError> {
    let run = the_live_one(workspace, args.run).await?;
    ask(workspace, &run, Request::Pause { freeze: args.freeze }).await?;
    let what = if args.freeze { "frozen" } else { "paused; running agents finish" };
    render::print(&format!("run {run} is {what}"))?;
    Ok(Exit::Success)
}

pub(super) async fn cancel(workspace: &Workspace, args: CancelArgs) -> Result<Exit, CliError> {
    let run = the_live_one(workspace, args.run).await?;
    let what = match &args.task {
        Some(task) => format!("task {task} of run {run}"),
        None => format!("run {run}"),
    };
    ask(workspace, &run, Request::Cancel { task: args.task }).await?;
    render::print(&format!("{what} is being cancelled"))?;
    Ok(Exit::Success)
}

/// Goes on with a paused run, or takes a stopped one up in this process.
pub(super) async fn resume(workspace: &Workspace, args: ResumeArgs) -> Result<Exit, CliError> {
    let config = workspace.config()?;
    let engine = workspace.experienced_engine(&config, &Overrides::default(), None).await?;
    let store = engine.store().as_ref();
    let live = pick::live(store).await?;
    let meant = live.iter().find(|live| args.run.as_ref().is_none_or(|run| *run == live.run));
    // Where nobody listens, its orchestrator was killed while it started a process that shares the
    // lock for a moment, or it begins right now; to take the run up tells which.
    if let Some(live) = meant
        && let Some(mut client) = Client::connect(&workspace.state_dir, &live.run).await?
    {
        let is_paused = matches!(live.status, RunStatus::Paused | RunStatus::Frozen);
        let has_budget = !args.budget.is_empty();
        let request = match args.budget {
            budgets if has_budget => Request::ResumeWith { budgets },
            _ => Request::Resume,
        };
        order(&mut client, request).await?;
        let what = match (is_paused, has_budget) {
            (true, _) => "goes on",
            (false, true) => "has its new budget",
            (false, false) => "is not paused",
        };
        render::print(&format!("run {} {what}", live.run))?;
        return Ok(Exit::Success);
    }
    let stopped = match args.run.or_else(|| meant.map(|live| live.run.clone())) {
        Some(run) => run,
        None => newest_stopped(store).await?,
    };
    run::check_report(args.output.report.as_deref())?;
    if args.budget.is_empty() {
        has_budget(store, &stopped).await?;
    }
    let signals = Signals::new()?;
    let resumed = engine.resume_with(&stopped, args.budget).await?;
    run::watch(workspace, &config, resumed, signals, &args.output).await
}

/// A run that has used up its budget would stop again where it stands.
async fn has_budget(store: &dyn StateStore, run: &RunId) -> Result<(), CliError> {
    let Some(state) = store.state(run).await? else { return Ok(()) };
    // Who resumes a run whose budget can't be kept does without it.
    let used_up = state.budget_stops.iter().find(|stop| stop.unknown.is_none());
    match used_up.filter(|_| state.status == RunStatus::OutOfBudget) {
        Some(stop) => Err(CliError::input(format!(
            "run {run} stopped because {stop}; give it more: `orch resume {}`",
            stop.cure()
        ))),
        None => Ok(()),
    }
}

async fn newest_stopped(store: &dyn StateStore) -> Result<RunId, CliError> {
    let runs = store.list().await?;
    let stopped = runs.iter().find(|run| run.status.may_go_on());
    stopped.map(|run| run.run.clone()).ok_or_else(|| {
        CliError::input("there is no run to resume; `orch runs` lists those that have ended")
    })
}

pub(super) async fn the_live_one(
    workspace: &Workspace,
    named: Option<RunId>,
) -> Result<RunId, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    pick::the_live_one(engine.store().as_ref(), named).await
}

pub(super) async fn ask(
    workspace: &Workspace,
    run: &RunId,
    request: Request,
) -> Result<(), CliError> {
    let Some(mut client) = Client::connect(&workspace.state_dir, run).await? else {
        return Err(CliError::input(format!("no orchestrator is at work on run {run}")));
    };
    order(&mut client, request).await
}

async fn order(client: &mut Client, request: Request) -> Result<(), CliError> {
    match client.request(&request).await? {
        Response::Refused { message } => Err(CliError::input(message)),
        _ => Ok(()),
    }
}
