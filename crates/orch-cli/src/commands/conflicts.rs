//! `orch conflicts` and `orch resolve`: what could not be merged, and how a person resolves it.

use std::fmt::Write;

use orch_model::{
    RunId, RunState, TaskId, TaskState, ValidPlan,
    plan::spec::OnConflict,
    run::{ExpectedConflict, TaskRun},
};

use super::pick;
use crate::{
    app::{ConflictsArgs, Overrides, ResolveArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, BAD, DIM, STRONG, WARN, clean, one_line},
};

/// A task whose work could not be merged.
struct Conflicted<'a> {
    task: &'a TaskRun,
    /// Whether its run waits for a person to resolve it.
    waits: bool,
}

pub(super) async fn conflicts(
    workspace: &Workspace,
    args: ConflictsArgs,
) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let store = engine.store().as_ref();
    let run = pick::any(store, args.run).await?.run;
    let state = pick::state(store, &run).await?;
    let found = conflicted(&state);
    let expected = expected(&state);
    if args.json {
        let conflicts: Vec<_> = found.iter().map(json).collect();
        let document = serde_json::json!({
            "version": 1,
            "run": run,
            "conflicts": conflicts,
            "expected": expected,
        });
        render::print(&format!("{document:#}"))?;
        return Ok(Exit::Success);
    }
    let mut out = String::new();
    for conflict in &found {
        text(&mut out, conflict, &run);
    }
    for conflict in expected {
        let _ = writeln!(out, "{}\n", expected_line(conflict));
    }
    if out.is_empty() {
        let _ = write!(out, "run {run}: no conflicts");
    } else if found.iter().any(|conflict| conflict.waits) {
        let _ = write!(out, "When they are resolved: {STRONG}orch resume{STRONG:#}");
    }
    render::print(out.trim_end())?;
    Ok(Exit::Success)
}

fn conflicted(state: &RunState) -> Vec<Conflicted<'_>> {
    let plan = ValidPlan::new((*state.header.plan).clone()).ok();
    let is_manual = |task: &TaskId| {
        let plan = plan.as_ref()?;
        Some(plan.task(plan.index_of(task)?).on_conflict == OnConflict::Manual)
    };
    let tasks = state.tasks.iter();
    let tasks = tasks.filter(|task| matches!(task.state, TaskState::Conflicted { .. }));
    tasks
        .map(|task| Conflicted {
            task,
            waits: is_manual(&task.id) == Some(true) && state.status.may_go_on(),
        })
        .collect()
}

/// Conflicts between tasks that are at work still.
pub(super) fn expected(state: &RunState) -> Vec<&ExpectedConflict> {
    let is_at_work = |task: &TaskId| {
        state.index_of(task).is_some_and(|index| state.task(index).state.is_active())
    };
    let known = state.expected_conflicts.iter();
    known.filter(|conflict| conflict.tasks.iter().all(is_at_work)).collect()
}

/// What is said of a conflict between tasks at work.
pub(super) fn expected_line(conflict: &ExpectedConflict) -> String {
    let [one, other] = &conflict.tasks;
    let files = one_line(&conflict.files.join(", "));
    format!(
        "{WARN}{one} and {other}{WARN:#} will conflict in {files}, as far as they have committed"
    )
}

fn json(conflict: &Conflicted<'_>) -> serde_json::Value {
    let TaskState::Conflicted { attempt, commit, branch, files, hunks } = &conflict.task.state
    else {
        return serde_json::Value::Null;
    };
    serde_json::json!({
        "task": conflict.task.id,
        "attempt": attempt,
        "branch": branch,
        "commit": commit,
        "worktree": conflict.task.place.as_ref().map(|place| &place.path),
        "files": files,
        "hunks": hunks,
        "waits": conflict.waits,
    })
}

fn text(out: &mut String, conflict: &Conflicted<'_>, run: &RunId) {
    let TaskState::Conflicted { branch, files, hunks, .. } = &conflict.task.state else { return };
    let task = &conflict.task.id;
    let branch = one_line(branch);
    // Writing to a string can't fail.
    let _ = writeln!(out, "{STRONG}{task}{STRONG:#}  {BAD}conflicts{BAD:#} in {}", {
        one_line(&files.join(", "))
    });
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {DIM}{name:<8}{DIM:#}  {value}");
    };
    line("branch", &branch);
    if conflict.waits {
        line("resolve", &format!("orch resolve {task}"));
    } else {
        line("merge", &format!("git merge {branch}"));
    }
    line("output", &format!("orch logs {task} --run {run}"));
    for hunk in hunks {
        let file = one_line(&hunk.file);
        let _ = match hunk.line {
            Some(line) => writeln!(out, "  {file}, line {line}"),
            None => writeln!(out, "  {file}"),
        };
        for line in clean(&hunk.text).lines() {
            let _ = writeln!(out, "    {DIM}|{DIM:#} {line}");
        }
    }
    out.push('\n');
}

pub(super) async fn resolve(workspace: &Workspace, args: ResolveArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let store = engine.store().as_ref();
    let run = pick::any(store, args.run).await?.run;
    let task = &args.task;
    if args.done {
        let commit = engine.conclude_conflict(&run, task).await?;
        render::print(&format!(
            "task {task} is resolved by {}; `orch resume` merges it and goes on",
            commit.short()
        ))?;
    } else if args.abort {
        let text = match engine.abandon_conflict(&run, task).await? {
            Some(kept) => format!("the folder is gone; what you did in it is kept at {kept}"),
            None => "there is nothing to give up".into(),
        };
        render::print(&text)?;
    } else {
        let open = engine.open_conflict(&run, task).await?;
        let left = match open.unresolved.as_slice() {
            [] => "Nothing is left to resolve there: look at it.".to_owned(),
            files => format!("To resolve: {}", one_line(&files.join(", "))),
        };
        render::tell(&format!(
            "The merge of task {task} is in progress in this folder. {left}\n\
             Then commit it there, or type `orch resolve {task} --done`; `orch resume` goes on."
        ));
        // Alone on the standard output: `cd "$(orch resolve TASK)"`.
        render::print(&open.path.display().to_string())?;
    }
    Ok(Exit::Success)
}
