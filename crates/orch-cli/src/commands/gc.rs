//! `orch gc`

use std::time::SystemTime;

use orch_exec::retention::{FileStore, Retention, RunRecords};
use orch_model::{
    RunId, Timestamp,
    ports::{GcItem, GcItemKind, GcRequest, StateStore},
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
    // What can be resumed is not garbage, and neither is what can't be read: it may go on.
    let has_ended = |run: &RunId| {
        let summary = runs.iter().find(|summary| summary.run == *run);
        summary.is_some_and(|run| run.owner.is_none() && !run.status.may_go_on())
    };
    let store = FileStore::open(&workspace.state_dir)?;
    let mut live = Vec::new();
    let now: Timestamp = SystemTime::now().into();
    for run in store.runs()? {
        // A run whose orchestrator was killed before the first event has begun nothing. Whoever
        // begins one owns it before it is listed.
        let has_begun = store.owner(&run).is_some()
            || !matches!(store.state(&run).await, Ok(None))
            || store.check_end(&run, 0).await.is_err();
        let last = runs.iter().find(|summary| summary.run == run).map(|run| run.updated_at);
        let is_young = args.older_than.zip(last).is_some_and(|(age, last)| now.since(last) < age);
        if (has_begun && !has_ended(&run)) || is_young {
            live.push(run);
        }
    }
    let request = GcRequest { live, dry_run: args.dry_run, preserve: args.preserve };
    let items = worktrees.gc(request).await?;
    #[cfg(feature = "history")]
    if args.runs && !args.dry_run {
        // What is removed below is in the history then.
        let _ = crate::history::recorded(workspace).await;
    }
    let records = if args.runs { records(workspace, args, &items).await? } else { Vec::new() };
    if args.json {
        let document = serde_json::json!({
            "version": 1,
            "dry_run": args.dry_run,
            "items": items,
            "runs": records,
        });
        render::print(&format!("{document:#}"))?;
    } else if items.is_empty() && records.is_empty() {
        render::print("there is nothing to remove")?;
    } else {
        for item in &items {
            let kind = match item.kind {
                GcItemKind::Worktree => "worktree",
                GcItemKind::Branch => "branch",
                GcItemKind::Idle => "idle",
                _ => "folder",
            };
            let line = line(kind, &item.name, item.kept.as_deref(), args.dry_run);
            let preserved = match (item.preserved, args.dry_run) {
                (true, true) => ", its work moved to refs/orch/preserved/",
                (true, false) => ", its work is in refs/orch/preserved/",
                (false, _) => "",
            };
            render::print(&format!("{line}{}{preserved}", size(item.bytes)))?;
        }
        for records in &records {
            let (run, kept) = (records.run.as_str(), records.kept.as_deref());
            let line = line("records", run, kept, args.dry_run);
            render::print(&format!("{line}{}", size(Some(records.bytes))))?;
        }
    }
    Ok(Exit::Success)
}

async fn records(
    workspace: &Workspace,
    args: &GcArgs,
    garbage: &[GcItem],
) -> Result<Vec<RunRecords>, CliError> {
    let store = FileStore::open(&workspace.state_dir)?;
    let mut retention = Retention::default();
    retention.keep = args.keep;
    retention.older_than = args.older_than;
    retention.max_size = args.max_size.map(|size| size.0);
    retention.dry_run = args.dry_run;
    Ok(retention.apply(&store, garbage, SystemTime::now().into()).await?)
}

/// A size for a person, in whole units.
fn size(bytes: Option<u64>) -> String {
    const UNITS: [(&str, u64); 4] =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let Some(bytes) = bytes else { return String::new() };
    let (unit, size) = UNITS.into_iter().find(|(_, size)| bytes >= *size).unwrap_or(("B", 1));
    format!("  {DIM}{} {unit}{DIM:#}", bytes / size)
}

fn line(kind: &str, name: &str, kept: Option<&str>, dry_run: bool) -> String {
    let name = one_line(name);
    match kept {
        Some(reason) => format!("kept          {kind:8}  {name}  {DIM}{}{DIM:#}", one_line(reason)),
        None if dry_run => format!("would remove  {kind:8}  {name}"),
        None => format!("removed       {kind:8}  {name}"),
    }
}
