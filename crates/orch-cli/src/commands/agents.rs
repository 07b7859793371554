//! `orch agents`, `orch attach`: which agents there are, and how to continue what one began.

use std::{collections::BTreeMap, path::Path};

use orch_agents::{
    adapter::{self, Adapter, Login},
    probe::{Found, Probed, probe, probe_known},
    session::RunFolder,
};
use orch_model::ValidPlan;
use serde_json::json;

use super::pick;
use crate::{
    app::{AgentsArgs, AttachArgs, Overrides},
    compose::{self, Workspace},
    error::CliError,
    exit_code::Exit,
    render,
};

/// An agent that is to be looked at.
struct Asked {
    name: String,
    adapter: &'static dyn Adapter,
    program: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Those of a plan that orch knows how to call.
fn of_plan(plan: &ValidPlan) -> Vec<Asked> {
    let known = plan.agents().iter().filter_map(|(name, agent)| {
        Some(Asked {
            name: name.to_string(),
            adapter: adapter::of(agent.kind)?,
            program: agent.command.clone(),
            env: agent.env.clone(),
        })
    });
    known.collect()
}

/// Looks at all of them at the same time, where `is_anew` also at those that are known already.
async fn look(asked: Vec<Asked>, is_anew: bool) -> Vec<(Asked, Probed)> {
    let user = compose::user();
    let mut looks = tokio::task::JoinSet::new();
    for (at, asked) in asked.into_iter().enumerate() {
        let user = user.with(&asked.env);
        looks.spawn(async move {
            let probed = if is_anew {
                probe(asked.adapter, &asked.program, &user).await
            } else {
                probe_known(asked.adapter, &asked.program, &user).await
            };
            (at, asked, probed)
        });
    }
    let mut found = looks.join_all().await;
    found.sort_by_key(|(at, ..)| *at);
    found.into_iter().map(|(_, asked, probed)| (asked, probed)).collect()
}

pub(super) async fn agents(repo: Option<&Path>, args: AgentsArgs) -> Result<Exit, CliError> {
    let asked = match &args.plan {
        Some(plan) => of_plan(&compose::read_plan(&Workspace::find(repo)?.top, plan)?),
        None => adapter::all()
            .map(|adapter| Asked {
                name: adapter.kind().to_string(),
                adapter,
                program: Vec::new(),
                env: BTreeMap::new(),
            })
            .collect(),
    };
    let found = look(asked, true).await;
    if args.json {
        let agents: Vec<_> = found.iter().map(|(asked, probed)| document(asked, probed)).collect();
        render::print(&format!("{:#}", json!({ "version": 1, "agents": agents })))?;
    } else {
        let heading = ["AGENT", "KIND", "PROGRAM", "VERSION", "KNOWN", "LOGIN", "CAN"];
        let rows = found.iter().map(|(asked, probed)| row(asked, probed));
        render::print(&render::table(heading, rows))?;
        for (asked, probed) in &found {
            if let Some(problem) = probed.problem(asked.adapter) {
                render::tell(&problem);
            }
        }
    }
    Ok(Exit::Success)
}

fn state(found: &Found) -> &'static str {
    match found {
        Found::Missing => "missing",
        Found::Unversioned => "not asked",
        Found::Silent { .. } => "tells no version",
        Found::TooOld(_) => "too old",
        Found::Known(_) => "known",
        Found::Newer(_) => "newer than known",
        _ => "unknown",
    }
}

fn row(asked: &Asked, probed: &Probed) -> [String; 7] {
    let adapter = asked.adapter;
    let version = match &probed.found {
        Found::Known(version) => version.to_string(),
        found => found.version().map_or_else(
            || state(found).to_owned(),
            |version| format!("{version} ({})", state(found)),
        ),
    };
    let login = match &probed.login {
        Login::Found(by) => format!("by {by}"),
        Login::Missing { cure } => format!("none found; `{cure}`"),
        _ => "unknown".into(),
    };
    [
        asked.name.clone(),
        adapter.kind().to_string(),
        probed.program.join(" "),
        version,
        if adapter.tells_version() {
            format!("{} to {}", adapter.oldest(), adapter.tested())
        } else {
            String::new()
        },
        login,
        adapter.abilities().join(", "),
    ]
}

fn document(asked: &Asked, probed: &Probed) -> serde_json::Value {
    let adapter = asked.adapter;
    json!({
        "name": asked.name,
        "kind": adapter.kind(),
        "program": probed.program,
        "state": state(&probed.found).replace(' ', "_"),
        "found": probed.found.version().map(|version| version.to_string()),
        "oldest": adapter.oldest().to_string(),
        "tested": adapter.tested().to_string(),
        "logged_in_by": match &probed.login {
            Login::Found(by) => Some(by),
            _ => None,
        },
        "abilities": adapter.abilities(),
        "problem": probed.problem(adapter),
    })
}

pub(super) async fn attach(workspace: &Workspace, args: AttachArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let run = pick::any(engine.store().as_ref(), args.run).await?.run;
    let task = &args.task;
    let last = RunFolder::new(&workspace.state_dir, &run).last(task).map_err(|source| {
        CliError::Io { doing: format!("reading the sessions of run {run}"), source }
    })?;
    let Some(line) = last.as_ref().and_then(|(_, record)| record.attach()) else {
        let kinds: Vec<_> = adapter::all().map(|adapter| adapter.kind().name()).collect();
        return Err(CliError::input(format!(
            "task {task} of run {run} has no session that could be continued; agents of kind {} have them",
            kinds.join(", ")
        )));
    };
    render::print(&line)?;
    Ok(Exit::Success)
}
