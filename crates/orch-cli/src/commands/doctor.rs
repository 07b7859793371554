//! `orch doctor`

use std::path::PathBuf;

use orch_exec::doctor::{Finding, Repair, World};

use orch_worktree::{GitWorktrees, GitWorktreesConfig, TreeConfig};

use crate::{
    app::{DoctorArgs, Overrides},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, BAD, DIM, GOOD, count, one_line},
};

pub(super) async fn doctor(workspace: &Workspace, args: &DoctorArgs) -> Result<Exit, CliError> {
    let config = workspace.config()?.engine(&Overrides::default());
    let root = config.worktree_root.map(|root| workspace.top.join(root));
    let (trees, filters) = match provider(workspace, config.trees, root.clone()).await {
        Some(provider) => {
            let filters = provider.idle_filters().await.unwrap_or_default();
            (Some(provider.tree_choice().clone()), filters)
        }
        None => (None, Vec::new()),
    };
    let world = World::open(&workspace.top, Some(workspace.state_dir.clone()), root).await?;
    let world = world.with_locks(workspace.locks()?);
    let mut findings = world.check().await?;
    let mut repairs = Vec::new();
    if args.repair {
        repairs = world.repair(&findings).await;
        findings = world.check().await?;
    }
    let groups = orch_exec::process::containment();
    if args.json {
        let document = serde_json::json!({
            "version": 1,
            "findings": findings,
            "repairs": repairs,
            "idle_filters": filters,
            "worktrees": trees.as_ref().map(|trees| {
                serde_json::json!({ "kind": trees.kind.name(), "why": trees.why })
            }),
            "control_groups": match &groups {
                Ok(folder) => serde_json::json!({ "folder": folder }),
                Err(why) => serde_json::json!({ "why_not": why }),
            },
        });
        render::print(&format!("{document:#}"))?;
    } else {
        for repair in &repairs {
            render::print(&repaired(repair))?;
        }
        for finding in &findings {
            render::print(&found(finding))?;
        }
        if let Some(trees) = &trees {
            let (kind, why) = (trees.kind, one_line(&trees.why));
            render::print(&format!("{DIM}worktrees{DIM:#} {kind}: {why}"))?;
        }
        let groups = match &groups {
            Ok(folder) => format!("agents with worktrees get theirs in {}", folder.display()),
            Err(why) => format!("not used: {why}"),
        };
        render::print(&format!("{DIM}control groups{DIM:#} {}", one_line(&groups)))?;
        for name in &filters {
            let what = "not run by orch, so files that ask for it stay as they are stored";
            let cure = format!("trust it with trusted_filters = [\"{}\"]", one_line(name));
            render::print(&format!("{DIM}filter{DIM:#}    {}: {what}; {cure}", one_line(name)))?;
        }
        render::print(&last_line(&findings))?;
    }
    Ok(if findings.is_empty() { Exit::Success } else { Exit::Unsuccessful })
}

/// What makes worktrees, where there is a repository that can be used.
async fn provider(
    workspace: &Workspace,
    trees: TreeConfig,
    root: Option<PathBuf>,
) -> Option<GitWorktrees> {
    let mut config = GitWorktreesConfig::new(&workspace.top).trees(trees);
    config.root = root;
    GitWorktrees::open(config).await.ok()
}

fn repaired(repair: &Repair) -> String {
    let (place, what) = (one_line(&repair.finding.place), one_line(&repair.finding.what));
    match &repair.failed {
        None => format!("{GOOD}repaired{GOOD:#}  {place}\n          {DIM}{what}{DIM:#}"),
        Some(why) => format!("{BAD}failed{BAD:#}    {place}\n          {}", one_line(why)),
    }
}

fn found(finding: &Finding) -> String {
    let mut whose = String::new();
    if let Some(run) = &finding.run {
        whose = format!("  {DIM}run {run}{DIM:#}");
    }
    if let Some(task) = &finding.task {
        whose.push_str(&format!("{DIM}, task {task}{DIM:#}"));
    }
    format!(
        "{BAD}found{BAD:#}     {}{whose}\n          {}\n          {DIM}expected:{DIM:#} {}\n          {DIM}do:{DIM:#} {}",
        one_line(&finding.place),
        one_line(&finding.what),
        finding.invariant,
        one_line(&finding.cure),
    )
}

fn last_line(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("{GOOD}all is well{GOOD:#}");
    }
    let repairable = findings.iter().filter(|finding| finding.is_repairable).count();
    let safe = match repairable {
        0 => "none of them can be repaired without you".to_owned(),
        n => format!("`orch doctor --repair` puts {n} of them right and loses nothing by it"),
    };
    format!("{}; {safe}", count(findings.len(), "finding"))
}
