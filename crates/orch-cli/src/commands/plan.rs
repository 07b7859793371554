//! `orch plan`: draws a plan.

use orch_deps::{Graph, render};
use orch_exec::estimates::Past;
use orch_model::ValidPlan;

use crate::{
    app::{Overrides, PlanArgs, PlanFormat},
    compose::{self, Workspace},
    config::Config,
    error::CliError,
    exit_code::Exit,
    render::{print, terminal},
};

pub(super) async fn plan(workspace: &Workspace, args: &PlanArgs) -> Result<Exit, CliError> {
    let config = workspace.config()?;
    let plan = compose::read_plan(&args.plan)?;
    draw(&plan, &config, &args.overrides, args.format)?;
    if args.format == PlanFormat::Text {
        forecast(workspace, &plan).await?;
    }
    Ok(Exit::Success)
}

/// What the plan is expected to take, where earlier runs tell.
pub(super) async fn forecast(workspace: &Workspace, plan: &ValidPlan) -> Result<(), CliError> {
    if !workspace.state_dir.join("runs").is_dir() {
        return Ok(());
    }
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let past = Past::read(engine.store().as_ref()).await?;
    match past.forecast(plan) {
        Some(forecast) => print(&format!("\nEstimate, from earlier runs: {forecast}.")),
        None => Ok(()),
    }
}

pub(super) fn draw(
    plan: &ValidPlan,
    config: &Config,
    overrides: &Overrides,
    format: PlanFormat,
) -> Result<(), CliError> {
    let graph = Graph::new(plan);
    let mut options = render::RenderOptions::of(plan);
    options.concurrency = config.engine(overrides).settings(plan).max_concurrency as usize;
    if let Some((_, columns)) = terminal::size(std::io::stdout()) {
        options.columns = columns;
    }
    let text = match format {
        PlanFormat::Text => render::text(plan, &graph, &options),
        PlanFormat::Mermaid => render::mermaid(plan, &graph),
        PlanFormat::Dot => render::dot(plan, &graph),
        PlanFormat::Json => serde_json::to_string_pretty(&render::json(plan, &graph, &options))
            .map_err(|error| CliError::Io { doing: "drawing".into(), source: error.into() })?,
    };
    print(text.trim_end())
}
