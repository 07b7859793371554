//! `orch pause`, `orch resume`, `orch cancel`: they reach the orchestrator that is at work.

use orch_exec::{
    EngineError,
    control::{Client, Request, Response},
};
use orch_model::{
    BudgetChange, RunId, RunStatus,
    ports::{RunSummary, StateStore},
};
use orch_state::FileStore;

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
    if let Some(live) = meant
        && let Some(what) = goes_on(workspace, live, &args.budget).await?
    {
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

/// Has the orchestrator that is at work on a run go on, and says what became of the run. `None` where
/// nobody listens, or nobody any more: its orchestrator was killed (perhaps while it started a process that shares the lock
/// for a moment), or it begins right now. To take the run up tells which.
async fn goes_on(
    workspace: &Workspace,
    live: &RunSummary,
    budgets: &[BudgetChange],
) -> Result<Option<&'static str>, CliError> {
    let request = match budgets {
        [] => Request::Resume,
        budgets => Request::ResumeWith { budgets: budgets.to_vec() },
    };
    let is_paused = matches!(live.status, RunStatus::Paused | RunStatus::Frozen);
    match order(workspace, &live.run, request).await? {
        Asked::Nobody => Ok(None),
        Asked::Done if is_paused => Ok(Some("goes on")),
        Asked::Done if !budgets.is_empty() => Ok(Some("has its new budget")),
        Asked::Done => Ok(Some("is not paused")),
    }
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
    match order(workspace, run, request).await? {
        Asked::Done => Ok(()),
        Asked::Nobody => Err(CliError::input(format!("no orchestrator is at work on run {run}"))),
    }
}

/// What came of a request.
enum Asked {
    Done,
    /// Nobody listens, or whoever did ended.
    Nobody,
}

async fn order(workspace: &Workspace, run: &RunId, request: Request) -> Result<Asked, CliError> {
    let Some(mut client) = Client::connect(&workspace.state_dir, run).await? else {
        return Ok(Asked::Nobody);
    };
    match client.request(&request).await {
        Ok(Response::Refused { message }) => Err(CliError::input(message)),
        Ok(_) => Ok(Asked::Done),
        Err(EngineError::Ended) => Ok(Asked::Nobody),
        Err(EngineError::NoAnswer) => {
            let store = FileStore::open(&workspace.state_dir)?;
            let live = pick::live(&store).await?;
            let owner = live.iter().find(|live| live.run == *run).and_then(|live| live.owner);
            Err(owner.map_or(EngineError::NoAnswer.into(), |pid| CliError::Mute { pid }))
        }
        Err(error) => Err(error.into()),
    }
}
