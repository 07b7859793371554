//! `orch keep`

use super::pick;
use crate::{
    app::KeepArgs,
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, DIM, GOOD, STRONG, one_line},
};

pub(super) async fn keep(workspace: &Workspace, args: KeepArgs) -> Result<Exit, CliError> {
    let review = workspace.review().await?;
    let run = pick::any(review.store(), args.run).await?.run;
    let kept = review.keep(&run, &args.task).await?;
    let what = if kept.is_new { "kept" } else { "kept already" };
    let (reference, commit) = (&kept.reference, kept.commit.short());
    render::print(&format!(
        "{GOOD}{what}{GOOD:#}: the work of task {} of run {run}, commit {commit}\n  \
         {STRONG}{reference}{STRONG:#}",
        args.task
    ))?;
    if let Some(worktree) = &kept.worktree {
        let path = one_line(&worktree.display().to_string());
        render::print(&format!("  {DIM}worktree{DIM:#}  {path}"))?;
    }
    if let Some(branch) = &kept.branch {
        render::print(&format!("  {DIM}branch{DIM:#}    {}", one_line(branch)))?;
    }
    render::print(&format!(
        "`orch gc` leaves all that alone. A branch of it: git switch -c NAME {commit}\n\
         To let it go: git update-ref -d {reference}"
    ))?;
    Ok(Exit::Success)
}
