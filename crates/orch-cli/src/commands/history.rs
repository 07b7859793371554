//! `orch history`

use orch_history::{Figures, History as _, Key, RunEntry, Statistics, TaskFigures};
use orch_model::TaskId;
use orch_state::FileStore;
use serde_json::json;

use crate::{
    app::HistoryArgs,
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    history,
    render::{self, STRONG, events, summary, time},
};

pub(super) async fn history(workspace: &Workspace, args: &HistoryArgs) -> Result<Exit, CliError> {
    let Some(history) = history::open(workspace, args.rebuild).await? else {
        return nothing(args.json, if args.tasks { "tasks" } else { "runs" });
    };
    if args.tasks {
        return tasks(&history.statistics()?, args.json);
    }
    let runs = history.runs(args.limit)?;
    if args.json {
        render::print(&format!("{:#}", json!({ "version": 1, "runs": runs })))?;
        return Ok(Exit::Success);
    }
    let store = FileStore::open(&workspace.state_dir)?;
    let heading = ["RUN", "STATUS", "STARTED", "TOOK", "MERGED", "AGENTS", "TOKENS", "COST"];
    render::print(&render::table(heading, runs.iter().map(|run| row(run, &store))))?;
    Ok(Exit::Success)
}

/// Where nothing has been run.
pub(super) fn nothing(json: bool, list: &str) -> Result<Exit, CliError> {
    if json {
        render::print(&format!("{:#}", json!({ "version": 1, list: [] })))?;
    } else {
        render::print("nothing has been run here yet")?;
    }
    Ok(Exit::Success)
}

/// A moment, to the minute.
pub(super) fn moment(at: orch_model::Timestamp) -> String {
    at.to_string().chars().take(16).collect::<String>().replace('T', " ")
}

fn row(run: &RunEntry, store: &FileStore) -> [String; 8] {
    let is_left = !run.status.is_ended() && store.owner(&run.run).is_none();
    let status = match (run.undone, is_left) {
        (true, _) => "undone".into(),
        (false, true) => "stopped".into(),
        (false, false) => events::status(run.status),
    };
    let usage = &run.usage;
    let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
    [
        run.run.to_string(),
        status,
        moment(run.started_at),
        time(run.updated_at.since(run.started_at)),
        format!("{}/{}", run.merged, run.tasks),
        time(run.agent_time.0),
        tokens.to_string(),
        if tokens == 0 { String::new() } else { summary::cost(usage) },
    ]
}

fn tasks(statistics: &Statistics, json: bool) -> Result<Exit, CliError> {
    if json {
        let document = serde_json::to_value(statistics)
            .map_err(|error| CliError::Io { doing: "writing JSON".into(), source: error.into() })?;
        let (tasks, agents) = (&document["tasks"], &document["figures"]);
        render::print(&format!("{:#}", json!({ "version": 1, "tasks": tasks, "agents": agents })))?;
        return Ok(Exit::Success);
    }
    let heading = ["TASK", "SESSIONS", "SUCCEEDED", "FAILED", "TAKES"];
    let rows = statistics.tasks.iter().map(task_row);
    let tasks = render::table(heading, rows);
    let heading =
        ["AGENT", "MODEL", "DOMAIN", "SESSIONS", "SUCCESS", "TAKES", "9 OF 10", "TOKENS", "COST"];
    let agents = render::table(heading, statistics.figures.iter().map(agent_row));
    render::print(&format!(
        "{STRONG}By task{STRONG:#}\n{tasks}\n\n{STRONG}By agent, model and domain{STRONG:#} (medians)\n{agents}"
    ))?;
    Ok(Exit::Success)
}

fn task_row((id, task): (&TaskId, &TaskFigures)) -> [String; 5] {
    [
        id.to_string(),
        task.sessions.to_string(),
        task.succeeded.to_string(),
        task.failed.to_string(),
        task.duration.map(|duration| time(duration.0)).unwrap_or_default(),
    ]
}

fn agent_row((key, figures): (&Key, &Figures)) -> [String; 9] {
    let millis = |ms| time(std::time::Duration::from_millis(ms));
    let known = |count: u64, text: String| if count > 0 { text } else { String::new() };
    let (took, cost) = (&figures.agent_ms, &figures.cost_micro_usd);
    let usage = orch_model::usage::Usage { cost_micro_usd: cost.median, ..Default::default() };
    [
        key.agent.clone(),
        key.model.clone().unwrap_or_else(|| "any".into()),
        key.domain.as_ref().map_or_else(|| "any".into(), ToString::to_string),
        figures.sessions.to_string(),
        figures.success_percent().map(|percent| format!("{percent}%")).unwrap_or_default(),
        known(took.count, millis(took.median)),
        known(took.count, millis(took.p90)),
        known(figures.tokens.count, figures.tokens.median.to_string()),
        known(cost.count, summary::cost(&usage)),
    ]
}
