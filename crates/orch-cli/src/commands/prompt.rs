//! `orch prompt`: prints what the agent of a task gets.

use std::{fs, io::Write, sync::Arc};

use orch_exec::{logs, process::CommandRunner, review::Review};
use orch_model::{RunId, ports::AgentRequest};

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
    let prompt = match &args.plan {
        Some(plan) => {
            let plan = compose::read_plan(&workspace.top, plan)?;
            let request = review.request_of_plan(&plan, &args.task).await?;
            let prompt = composed(workspace, &review, &request)?.into_bytes();
            render::tell("nothing has been started: `run` stands for the id of the run");
            prompt
        }
        None => {
            let run = pick::any(review.store(), args.run.clone()).await?.run;
            let request = review.request(&run, &args.task).await?;
            match args.attempt {
                Some(attempt) => recorded(&review, &run, AgentRequest { attempt, ..request })?,
                None => composed(workspace, &review, &request)?.into_bytes(),
            }
        }
    };
    // To the byte, whatever is in it.
    let mut out = std::io::stdout().lock();
    // Whoever reads it may stop early.
    let _ = out.write_all(&prompt).and_then(|()| out.flush());
    Ok(Exit::Success)
}

/// What an agent would get.
fn composed(
    workspace: &Workspace,
    review: &Review,
    request: &AgentRequest,
) -> Result<String, CliError> {
    let state_dir = review.store().dir();
    // Nothing is started.
    let config = workspace.config()?;
    let agents = Workspace::agents(&config, Arc::new(CommandRunner::new(state_dir)), state_dir);
    agents.prompt(request).map_err(|error| CliError::input(error.to_string()))
}

/// What an agent got.
fn recorded(review: &Review, run: &RunId, request: AgentRequest) -> Result<Vec<u8>, CliError> {
    let file = logs::prompt_path(review.store().dir(), &request);
    fs::read(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => CliError::input(format!(
            "attempt {} of task {} of run {run} was told nothing; `orch show {}` lists those that began",
            request.attempt, request.task, request.task
        )),
        _ => CliError::reading(&file, error),
    })
}
