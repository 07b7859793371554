//! `orch diff`

use std::io::{self, IsTerminal, Write};

use orch_worktree::{DiffFormat, WorkSource};

use super::pick;
use crate::{
    app::DiffArgs,
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, patch::Patch, terminal},
};

/// How wide a line of `--stat` is where no terminal says.
const COLUMNS: usize = 80;

pub(super) async fn diff(workspace: &Workspace, args: DiffArgs) -> Result<Exit, CliError> {
    let review = workspace.review().await?;
    let run = pick::any(review.store(), args.run).await?.run;
    let Some(work) = review.work(&run, &args.task).await? else {
        render::tell(&format!("task {} of run {run} has left no changes", args.task));
        return Ok(Exit::Success);
    };
    let format = if args.stat {
        DiffFormat::Stat { columns: terminal::size(io::stdout()).map_or(COLUMNS, |(_, c)| c) }
    } else {
        DiffFormat::Patch
    };
    let (mut is_read, mut is_empty) = (true, true);
    let mut patch = io::stdout().is_terminal().then(|| Patch::new(!args.stat));
    let mut sink = |bytes: &[u8]| {
        is_empty = false;
        let written = match &mut patch {
            // For a program the bytes are what they are.
            None => io::stdout().lock().write_all(bytes),
            Some(patch) => anstream::stdout().lock().write_all(patch.of(bytes).as_bytes()),
        };
        is_read = written.is_ok();
        written
    };
    let shown = review.diff(&work, format, &mut sink).await;
    if is_read {
        shown?;
        if let Some(rest) = patch.map(Patch::end) {
            // Nothing can be done where nobody reads it.
            let _ = anstream::stdout().lock().write_all(rest.as_bytes());
        }
    }
    if is_empty {
        let place = match &work.source {
            WorkSource::Worktree { .. } => " yet",
            _ => "",
        };
        render::tell(&format!("task {} of run {run} has changed nothing{place}", args.task));
    }
    Ok(Exit::Success)
}
