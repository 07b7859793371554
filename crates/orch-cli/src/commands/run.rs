//! `orch run`, and the rest of `orch resume`: shows a run to its end.

use std::{io::Write, path::Path, sync::Arc};

use orch_exec::{Run, control::Server};
use orch_model::{Event, Report, ValidPlan, event::EVENT_VERSION};
use serde::Serialize;
use tokio::sync::mpsc;

use super::plan;
use crate::{
    app::{Output, Overrides, PlanFormat, RunArgs},
    compose::{self, Workspace},
    config::{Config, Live},
    error::CliError,
    exit_code::Exit,
    render::{
        self,
        events::Lines,
        live::{Screen, View},
        summary,
    },
    signals::{self, Signals},
};

pub(super) async fn run(workspace: &Workspace, args: RunArgs) -> Result<Exit, CliError> {
    let config = workspace.config()?;
    let valid = compose::read_plan(&args.plan)?;
    if args.dry_run {
        return dry_run(&config, &valid, &args.overrides);
    }
    check_report(args.output.report.as_deref())?;
    // Before anything runs, so that no signal finds the run unguarded.
    let signals = Signals::new()?;
    let engine = workspace.engine(&config, &args.overrides).await?;
    let run = engine.start(valid).await?;
    watch(workspace, &config, run, signals, &args.output).await
}

fn dry_run(config: &Config, plan: &ValidPlan, overrides: &Overrides) -> Result<Exit, CliError> {
    plan::print(plan, config, overrides, PlanFormat::Text)?;
    println!("\nSettings");
    println!("{}", super::config::table(&config.clone().with(Some(plan), overrides)));
    println!("\nNothing was started.");
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
    let server = Server::bind(&workspace.state_dir, run.clone())?;
    let (said, mut says) = mpsc::unbounded_channel();
    let passing = tokio::spawn(signals::pass_on(signals, Arc::new(run.clone()), said));
    let mut lines = Lines::new(run.plan());
    let mut screen = screen(config, output, lines.width());
    let mut events = run.events_from(run.first_event());
    let mut progress = run.progress_changes();
    let mut listening = true;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                None => break,
                Some(event) => {
                    if output.json && listening {
                        listening = print_json(&run, &event);
                    }
                    if let Some(line) = lines.of(&event) {
                        screen.line(&line);
                    }
                }
            },
            Ok(()) = progress.changed() => {
                let latest = Arc::clone(&progress.borrow_and_update());
                screen.progress(&latest);
            }
            Some(text) = says.recv() => {
                screen.note(text);
            }
        }
    }
    let report = run.wait().await;
    screen.close();
    passing.abort();
    drop(server);
    let report = report?;
    if let Some(path) = &output.report {
        write_report(path, &report)?;
    }
    if output.json {
        anstream::eprintln!("{}", summary::of(&report));
    } else {
        screen.line(&format!("\n{}", summary::of(&report)));
    }
    Ok(Exit::of_run(report.status))
}

fn screen(config: &Config, output: &Output, width: usize) -> Screen {
    let live = match config.live() {
        Live::Always => true,
        Live::Never => false,
        Live::Auto => render::is_interactive(),
    };
    if output.json {
        Screen::Silent
    } else if live {
        Screen::Live(View::new(width))
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

/// Whether somebody still listens.
fn print_json(run: &Run, event: &Event) -> bool {
    let line = Line { v: EVENT_VERSION, run: run.id().as_str(), event };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &line).is_ok() && out.write_all(b"\n").is_ok()
}

fn write_report(path: &Path, report: &Report) -> Result<(), CliError> {
    let failed = |source| CliError::Io { doing: format!("writing {}", path.display()), source };
    let mut text = serde_json::to_vec_pretty(report).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(failed)
}
