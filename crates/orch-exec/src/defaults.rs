//! The stock parts: processes, git worktrees, a journal and locks in files.

use std::{path::Path, sync::Arc};

use orch_model::ports::{AgentRunner, RunnerError, WorktreeError};
use orch_state::{FileLocks, FileStore};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};

use crate::{
    config::EngineConfig,
    error::EngineError,
    orchestrator::Builder,
    process::{CommandRunner, Patterns},
    resources::SystemResources,
    shim, workspace,
};

/// The stock runner, which an engine has that is given none: for those who put another one around it.
/// It keeps output under `<state_dir>/runs/<run>/`, where the engine does too.
///
/// # Errors
/// Where the configuration has a pattern that is none.
pub fn runner(
    config: &EngineConfig,
    state_dir: &Path,
) -> Result<Arc<dyn AgentRunner>, EngineError> {
    let patterns = Patterns::new(&config.redact).map_err(RunnerError::Unsupported)?;
    Ok(if shim::is_ready() {
        let runner =
            shim::SupervisedRunner::new(state_dir).pass_env(&config.pass_env).redact(patterns);
        Arc::new(match config.silence {
            Some(silence) => runner.silence(silence),
            None => runner,
        })
    } else {
        Arc::new(CommandRunner::new(state_dir).pass_env(&config.pass_env).redact(patterns))
    })
}

/// Gives the builder the stock part for each port that has none.
pub(crate) async fn fill(mut builder: Builder) -> Result<Builder, EngineError> {
    builder.workspace = workspace::find(&builder.workspace);
    let state_dir = builder
        .config
        .state_dir
        .clone()
        .unwrap_or_else(|| workspace::state_dir(&builder.workspace));
    if builder.runner.is_none() {
        builder.runner = Some(runner(&builder.config, &state_dir)?);
    }
    if builder.resources.is_none() {
        // As `GitWorktrees` has it.
        let beside = || {
            let mut name = builder.workspace.clone().into_os_string();
            name.push(".worktrees");
            name.into()
        };
        let root = builder.config.worktree_root.as_ref();
        let worktrees = root.map_or_else(beside, |root| builder.workspace.join(root));
        let folders = vec![worktrees, state_dir.clone()];
        builder.resources = Some(Arc::new(SystemResources::new(folders)));
    }
    if builder.store.is_none() {
        builder.store = Some(Arc::new(FileStore::open(&state_dir)?));
    }
    if builder.locks.is_none() {
        let dir = builder.config.lock_dir.clone().unwrap_or_else(|| state_dir.join("locks"));
        builder.locks = Some(Arc::new(FileLocks::open(dir)?));
    }
    if builder.worktrees.is_none() {
        let mut config =
            GitWorktreesConfig::new(&builder.workspace).trees(builder.config.trees.clone());
        if let Some(root) = &builder.config.worktree_root {
            config = config.root(root);
        }
        builder.worktrees = match GitWorktrees::open(config).await {
            Ok(worktrees) => Some(Arc::new(worktrees)),
            // Plans whose tasks all have `isolation = "none"` need no repository.
            Err(WorktreeError::NotARepository { .. }) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(builder)
}
