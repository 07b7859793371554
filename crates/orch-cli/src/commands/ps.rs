//! `orch ps`, `orch kill`: the processes of agents.

use std::time::SystemTime;

use orch_exec::{
    control::Request,
    shim::processes::{self, Health, Process, Processes},
};
use orch_model::{RunId, Timestamp, ports::Purpose};

use super::{abandoned::Abandoned, control};
use crate::{
    app::{KillArgs, Overrides, PsArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, time},
};

pub(super) async fn ps(workspace: &Workspace, args: PsArgs) -> Result<Exit, CliError> {
    let runs = match args.run {
        Some(run) => vec![run],
        // Agents may outlive their orchestrator: a run without one can have some too.
        None => {
            let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
            engine.store().list().await?.into_iter().map(|summary| summary.run).collect()
        }
    };
    let mut found: Vec<(RunId, Processes)> = Vec::new();
    for run in runs {
        let read = processes::read(&workspace.state_dir, &run).map_err(|source| CliError::Io {
            doing: format!("reading the processes of run {run}"),
            source,
        })?;
        found.extend(read.filter(|read| !read.processes.is_empty()).map(|read| (run, read)));
    }
    if args.json {
        let runs: Vec<_> = found
            .iter()
            .map(|(run, processes)| serde_json::json!({ "run": run, "processes": processes }))
            .collect();
        render::print(&format!("{:#}", serde_json::json!({ "version": 1, "runs": runs })))?;
    } else if found.is_empty() {
        render::print("no agent is at work")?;
    } else {
        let heading = ["TASK", "PID", "STATUS", "SINCE", "OUTPUT", "CPU", "MEMORY", "COMMAND"];
        let rows = found.iter().flat_map(|(_, seen)| &seen.processes).map(row);
        render::print(&render::table(heading, rows))?;
    }
    if let (false, Some(abandoned)) = (args.json, Abandoned::newest(workspace).await?) {
        abandoned.tell();
        if let Some(exit) = abandoned.offer(workspace, "Resume it now?").await? {
            return Ok(exit);
        }
    }
    Ok(Exit::Success)
}

fn row(process: &Process) -> [String; 8] {
    let now = now();
    let attempt = match (process.attempt, process.purpose) {
        (1, Purpose::Work) => String::new(),
        (attempt, Purpose::Work) => format!("#{attempt}"),
        (attempt, Purpose::Resolve { .. }) => format!("#{attempt} (resolver)"),
        (attempt, _) => format!("#{attempt} (verification)"),
    };
    let status = match process.status {
        Health::Running => "running",
        Health::Silent => "silent",
        Health::WaitingForInput => "waiting for input?",
        Health::Frozen => "frozen",
        Health::Unresponsive => "unresponsive",
        Health::Gone => "ending",
        _ => "unknown",
    };
    let output = process
        .last_output
        .map_or_else(|| "none".to_owned(), |at| format!("{} ago", time(now.since(at))));
    let command: String = process.command.chars().take(60).collect();
    [
        format!("{}{attempt}", process.task),
        process.identity.as_ref().map_or_else(String::new, |identity| identity.pid.to_string()),
        status.to_owned(),
        time(now.since(process.started)),
        output,
        format!("{:.1}s", process.cpu_ms as f64 / 1000.0),
        format!("{:.1} MiB", process.memory_bytes as f64 / f64::from(1 << 20)),
        render::one_line(&command),
    ]
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) async fn kill(workspace: &Workspace, args: KillArgs) -> Result<Exit, CliError> {
    let run = control::the_live_one(workspace, args.run).await?;
    control::ask(workspace, &run, Request::Kill { task: args.task.clone() }).await?;
    render::print(&format!("the agent of task {} of run {run} is being killed", args.task))?;
    Ok(Exit::Success)
}
