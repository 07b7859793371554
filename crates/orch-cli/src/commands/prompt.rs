//! `orch prompt`: prints what the agent of a task gets.

use std::{io::Write, sync::Arc};

use orch_exec::process::CommandRunner;

use super::pick;
use crate::{
    app::PromptArgs,
    compose::{self, Workspace},
    error::CliError,
    exit_code::Exit,
    render,
};

pub(super) async fn prompt(workspace: &Workspace, args: PromptArgs) -> Result<Exit, CliError> {
    let review = workspace.review().await?;
    let request = match &args.plan {
        Some(plan) => {
            let plan = compose::read_plan(&workspace.top, plan)?;
            let request = review.request_of_plan(&plan, &args.task).await?;
            render::tell("nothing has been started: `run` stands for the id of the run");
            request
        }
        None => {
            let run = pick::any(review.store(), args.run).await?.run;
            review.request(&run, &args.task).await?
        }
    };
    let state_dir = review.store().dir();
    // Nothing is started.
    let agents = workspace.agents(Arc::new(CommandRunner::new(state_dir)), state_dir);
    let prompt = agents.prompt(&request).map_err(|error| CliError::input(error.to_string()))?;
    // To the byte, whatever is in it.
    let mut out = std::io::stdout().lock();
    // Whoever reads it may stop early.
    let _ = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
    Ok(Exit::Success)
}
