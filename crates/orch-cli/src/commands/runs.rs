//! `orch runs`

use orch_model::ports::RunSummary;

use crate::{
    app::{Overrides, RunsArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, events, time},
};

pub(super) async fn runs(workspace: &Workspace, args: &RunsArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let runs = engine.store().list().await?;
    if args.json {
        render::print(&format!("{:#}", serde_json::json!({ "version": 1, "runs": runs })))?;
    } else if runs.is_empty() {
        render::print("nothing has been run here yet")?;
    } else {
        let heading = ["RUN", "STATUS", "STARTED", "TOOK", "MERGED"];
        render::print(&render::table(heading, runs.iter().map(row)))?;
    }
    Ok(Exit::Success)
}

fn row(run: &RunSummary) -> [String; 5] {
    let resumable = run.owner.is_none() && !run.status.is_ended();
    let status = events::status(run.status);
    let started: String = run.started_at.to_string().chars().take(19).collect();
    [
        run.run.to_string(),
        if resumable { "stopped; `orch resume`".into() } else { status },
        format!("{} UTC", started.replace('T', " ")),
        time(run.updated_at.since(run.started_at)),
        format!("{}/{}", run.merged, run.tasks),
    ]
}
