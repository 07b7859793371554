//! `orch show`

use super::pick;
use crate::{app::ShowArgs, compose::Workspace, error::CliError, exit_code::Exit, render};

pub(super) async fn show(workspace: &Workspace, args: ShowArgs) -> Result<Exit, CliError> {
    let review = workspace.review().await?;
    let summary = pick::any(review.store(), args.run).await?;
    let found = review.task(&summary.run, &args.task).await?;
    let text = if args.json {
        let mut document = serde_json::to_value(&found)
            .map_err(|error| CliError::Io { doing: "writing JSON".into(), source: error.into() })?;
        document["version"] = 1.into();
        format!("{document:#}")
    } else {
        render::show::task(&found)
    };
    render::print(&text)?;
    Ok(Exit::Success)
}
