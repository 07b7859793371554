//! `orch undo`

use std::io::{self, BufRead, IsTerminal};

use orch_exec::review::UndoneRun;
use orch_model::{
    RunId, RunStatus,
    ports::{RunSummary, StateStore as _},
};

use crate::{
    app::UndoArgs,
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, GOOD, STRONG, one_line},
};

pub(super) async fn undo(workspace: &Workspace, args: UndoArgs) -> Result<Exit, CliError> {
    let review = workspace.review().await?;
    let run = match args.run {
        Some(run) => run,
        None => ended_last(&review.store().list().await?)?,
    };
    // All that can be refused is refused before anybody is asked.
    let planned = review.undo(&run, true).await?;
    if args.dry_run || !planned.is_moved && planned.from.is_none() {
        return tell(&planned, args.dry_run, args.json);
    }
    let is_asked = planned.is_moved && !args.yes && !args.json && io::stdin().is_terminal();
    if is_asked && !confirm(&planned)? {
        render::tell("nothing was changed");
        return Ok(Exit::Unsuccessful);
    }
    tell(&review.undo(&run, false).await?, false, args.json)
}

/// The newest run that has ended for good.
fn ended_last(runs: &[RunSummary]) -> Result<RunId, CliError> {
    let is_over = |run: &&RunSummary| {
        run.owner.is_none()
            && run.status.is_ended()
            && !matches!(run.status, RunStatus::Interrupted | RunStatus::OutOfBudget)
    };
    let run = runs.iter().find(is_over).map(|run| run.run.clone());
    run.ok_or_else(|| CliError::input("no run has ended here; `orch runs` lists what there is"))
}

fn confirm(planned: &UndoneRun) -> Result<bool, CliError> {
    render::tell(&format!("{}. Go on? [y/N]", plan(planned)));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| CliError::Io { doing: "reading the answer".into(), source })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn plan(planned: &UndoneRun) -> String {
    let (run, target) = (&planned.run, one_line(&planned.target));
    let from = planned.from.as_ref().map_or("", |from| from.short());
    let checkout = planned.checkout.as_ref().map_or_else(String::new, |path| {
        format!(", with its checkout {}", one_line(&path.display().to_string()))
    });
    format!(
        "run {run} is undone: {target} goes from {from} back to {}{checkout}",
        planned.to.short()
    )
}

fn tell(undone: &UndoneRun, dry_run: bool, json: bool) -> Result<Exit, CliError> {
    if json {
        let mut document = serde_json::json!({ "version": 1, "dry_run": dry_run });
        document["undo"] = serde_json::to_value(undone)
            .map_err(|error| CliError::Io { doing: "writing JSON".into(), source: error.into() })?;
        render::print(&format!("{document:#}"))?;
        return Ok(Exit::Success);
    }
    let (run, target, to) = (&undone.run, one_line(&undone.target), undone.to.short());
    let text = match (&undone.kept, undone.is_moved) {
        (None, _) => {
            format!("{target} stands at {to}, where run {run} began: nothing is to be undone")
        }
        (Some(_), true) if dry_run => format!("would be done: {}", plan(undone)),
        (Some(kept), is_moved) => {
            let already = if is_moved { "" } else { " already" };
            let back = match (&undone.checkout, is_moved) {
                (Some(_), _) => format!(" To bring it back: git merge --ff-only {kept}"),
                (None, true) => format!(" To bring it back: git fetch . {kept}:{target}"),
                (None, false) => String::new(),
            };
            format!(
                "{GOOD}undone{already}{GOOD:#}: {target} is at {to}, where run {run} began.\n\
                 What the run did is kept as {STRONG}{kept}{STRONG:#}.{back}"
            )
        }
    };
    render::print(&text)?;
    Ok(Exit::Success)
}
