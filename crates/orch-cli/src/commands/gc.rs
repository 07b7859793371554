//! `orch gc`

use orch_model::{
    RunStatus,
    ports::{GcItem, GcItemKind, GcRequest},
};

use crate::{
    app::{GcArgs, Overrides},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, DIM, one_line},
};

pub(super) async fn gc(workspace: &Workspace, args: &GcArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let Some(worktrees) = engine.worktrees() else {
        return Err(CliError::input(format!(
            "{} is in no git repository",
            workspace.top.display()
        )));
    };
    let runs = engine.store().list().await?;
    // What can be resumed is not garbage.
    let live = runs
        .into_iter()
        .filter(|run| {
            run.owner.is_some() || !run.status.is_ended() || run.status == RunStatus::Interrupted
        })
        .map(|run| run.run)
        .collect();
    let items = worktrees.gc(GcRequest { live, dry_run: args.dry_run }).await?;
    if args.json {
        let document = serde_json::json!({ "version": 1, "dry_run": args.dry_run, "items": items });
        render::print(&format!("{document:#}"))?;
    } else if items.is_empty() {
        render::print("there is nothing to remove")?;
    } else {
        for item in &items {
            render::print(&line(item, args.dry_run))?;
        }
    }
    Ok(Exit::Success)
}

fn line(item: &GcItem, dry_run: bool) -> String {
    let kind = match item.kind {
        GcItemKind::Worktree => "worktree",
        GcItemKind::Branch => "branch",
        _ => "folder",
    };
    let name = one_line(&item.name);
    match &item.kept {
        Some(reason) => format!("kept          {kind:8}  {name}  {DIM}{}{DIM:#}", one_line(reason)),
        None if dry_run => format!("would remove  {kind:8}  {name}"),
        None => format!("removed       {kind:8}  {name}"),
    }
}
