//! `orch sessions`

use orch_history::{History as _, Part, Session, SessionQuery};
use serde::Serialize;
use serde_json::json;

use super::history::{moment, nothing};
use crate::{
    app::SessionsArgs,
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    history,
    render::{self, summary, time},
};

#[derive(Serialize)]
struct Numbered<'a> {
    number: u64,
    #[serde(flatten)]
    session: &'a Session,
}

pub(super) async fn sessions(workspace: &Workspace, args: SessionsArgs) -> Result<Exit, CliError> {
    let Some(history) = history::open(workspace, false).await? else {
        return nothing(args.json, "sessions");
    };
    let SessionsArgs { run, task, agent, limit, json } = args;
    let found = history.sessions(&SessionQuery { run, task, agent, limit })?;
    if json {
        let sessions: Vec<_> =
            found.iter().map(|(number, session)| Numbered { number: *number, session }).collect();
        render::print(&format!("{:#}", json!({ "version": 1, "sessions": sessions })))?;
    } else if found.is_empty() {
        render::print("there is no such session")?;
    } else {
        let heading = [
            "NO", "RUN", "TASK", "BEGAN", "AGENT", "MODEL", "STATUS", "TOOK", "MESSAGES", "TOOLS",
            "TOKENS", "COST",
        ];
        render::print(&render::table(heading, found.iter().map(row)))?;
    }
    Ok(Exit::Success)
}

fn row((number, session): &(u64, Session)) -> [String; 12] {
    let part = match session.part {
        Part::Work => String::new(),
        other => format!(" {other}"),
    };
    let status = match &session.class {
        Some(class) => format!("{} ({class})", session.status.name()),
        None => session.status.name().into(),
    };
    let usage = session.usage.unwrap_or_default();
    let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
    let shown = |text: String| if session.usage.is_some() { text } else { String::new() };
    [
        number.to_string(),
        session.run.to_string(),
        format!("{}.{}{part}", session.task, session.attempt),
        moment(session.began_at),
        session.who().to_owned(),
        session.model.clone().unwrap_or_default(),
        status,
        session.agent_time.map(|length| time(length.0)).unwrap_or_default(),
        session.messages.to_string(),
        session.tool_calls.to_string(),
        shown(tokens.to_string()),
        shown(summary::cost(&usage)),
    ]
}
