//! `orch run`, and the rest of `orch resume`: shows a run to its end.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use orch_agents::{Prices, Unknown, uncounted};
use orch_exec::{Run, control::Server};
use orch_model::{Event, Report, ValidPlan, event::EVENT_VERSION};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{abandoned::Abandoned, plan};
use crate::{
    app::{Output, Overrides, PlanFormat, RunArgs},
    compose::{self, Workspace},
    config::{Config, Live},
    error::CliError,
    exit_code::Exit,
    render::{
        self, WARN,
        events::Lines,
        live::{Screen, TICK, View},
        summary,
    },
    signals::{self, Signals},
};

pub(super) async fn run(workspace: &Workspace, args: RunArgs) -> Result<Exit, CliError> {
    let config = workspace.config()?;
    let valid = compose::read_plan(&workspace.top, &args.plan)?;
    if args.dry_run {
        return dry_run(workspace, &config, &valid, &args.overrides).await;
    }
    check_report(args.output.report.as_deref())?;
    if let Some(abandoned) = Abandoned::newest(workspace).await? {
        abandoned.tell();
        let question = "Resume it now, instead of starting a new run?";
        if !args.output.json
            && let Some(exit) = abandoned.offer(workspace, question).await?
        {
            return Ok(exit);
        }
    }
    let settings = config.engine(&args.overrides).settings(&valid);
    if settings.budgets.values().any(|budget| budget.usd.is_some()) {
        warn_of_uncounted(&valid, &workspace.prices(&config)?);
    }
    if !args.output.json {
        plan::forecast(workspace, &valid).await?;
    }
    // Before anything runs, so that no signal finds the run unguarded.
    let signals = Signals::new()?;
    let engine = workspace.experienced_engine(&config, &args.overrides, Some(valid.spec())).await?;
    let run = engine.start(valid).await?;
    watch(workspace, &config, run, signals, &args.output).await
}

/// Tells of agents whose work a budget of money can't count.
fn warn_of_uncounted(plan: &ValidPlan, prices: &Prices) {
    for (worker, unknown) in uncounted(plan, prices) {
        let why = match unknown {
            Unknown::Usage => "it does not tell what it uses (see `output = \"jsonl\"`)",
            Unknown::Price => {
                "nobody knows the price of this model (name it in the file of the setting `prices`)"
            }
        };
        render::tell(&format!(
            "{WARN}warning{WARN:#}: a budget of money can't count {}: {why}; the run stops when it has worked",
            render::one_line(&worker.to_string())
        ));
    }
}

async fn dry_run(
    workspace: &Workspace,
    config: &Config,
    plan: &ValidPlan,
    overrides: &Overrides,
) -> Result<Exit, CliError> {
    plan::draw(plan, config, overrides, PlanFormat::Text)?;
    plan::forecast(workspace, plan).await?;
    let settings = super::config::table(&config.clone().with(Some(plan), overrides));
    render::print(&format!("\nSettings\n{settings}\n\nNothing was started."))?;
    Ok(Exit::Success)
}

/// A report that can't be written is found out before the run, not after it.
pub(super) fn check_report(path: Option<&Path>) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(CliError::input(format!(
        "--report {}: its folder does not exist, or it is one",
        path.display()
    )))
}

/// Shows a run to its end.
pub(super) async fn watch(
    workspace: &Workspace,
    config: &Config,
    run: Run,
    signals: Signals,
    output: &Output,
) -> Result<Exit, CliError> {
    // From here on agents are at work: whatever fails, the run is waited for.
    let _server = Server::bind(&workspace.state_dir, run.clone()).inspect_err(|error| {
        tracing::warn!("`orch status`, `pause` and `cancel` can't reach this run: {error}");
    });
    let mut lines = Lines::new(run.plan());
    let mut screen = screen(config, output, &lines);
    let (said, says) = mpsc::unbounded_channel();
    let passing = tokio::spawn(signals::pass_on(signals, run.clone(), said));
    if let Err(error) = show(&run, &mut screen, &mut lines, says, output.json).await {
        tracing::warn!("what happens can't be shown any more: {error}");
    }
    let report = run.wait().await;
    passing.abort();
    screen.close();
    let report = report?;
    let summary = summary::of(&report);
    if output.json {
        render::tell(&summary);
    } else {
        screen.line(&format!("\n{summary}"));
    }
    if let Some(path) = &output.report {
        write_report(path, &report)?;
    }
    Ok(Exit::of_run(report.status))
}

/// Shows what happens until the run has ended.
async fn show(
    run: &Run,
    screen: &mut Screen,
    lines: &mut Lines,
    mut says: mpsc::UnboundedReceiver<&'static str>,
    json: bool,
) -> Result<(), CliError> {
    // What happened before this process took the run up is not told again.
    let mut events = run.events_from(run.first_event());
    let mut progress = run.progress_changes();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_read = true;
    screen.progress(&run.progress());
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event? else { return Ok(()) };
                if json && is_read {
                    is_read = print_json(run, &event);
                }
                if let Some(line) = lines.of(&event) {
                    screen.line(&line);
                }
            }
            Ok(()) = progress.changed() => {
                let latest = Arc::clone(&progress.borrow_and_update());
                screen.progress(&latest);
            }
            Some(text) = says.recv() => screen.notice(text),
            _ = ticks.tick(), if screen.moves() => screen.tick(),
        }
    }
}

fn screen(config: &Config, output: &Output, lines: &Lines) -> Screen {
    let live = match config.live() {
        // The view is drawn there, also where the standard output goes elsewhere.
        Live::Always => std::io::stderr().is_terminal(),
        Live::Never => false,
        Live::Auto => render::is_interactive(),
    };
    if output.json {
        Screen::Silent
    } else if live {
        Screen::Live(Box::new(View::new(lines.width())))
    } else {
        Screen::Plain
    }
}

#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    run: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// Prints an event as a line of JSON. Whether somebody still reads them.
fn print_json(run: &Run, event: &Event) -> bool {
    let line = Line { v: EVENT_VERSION, run: run.id().as_str(), event };
    // In one piece: a line is one write.
    let Ok(mut text) = serde_json::to_vec(&line) else { return false };
    text.push(b'\n');
    std::io::stdout().write_all(&text).is_ok()
}

fn write_report(path: &Path, report: &Report) -> Result<(), CliError> {
    let failed = |source| CliError::Io { doing: format!("writing {}", path.display()), source };
    let mut text = serde_json::to_vec_pretty(report).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(failed)
}
