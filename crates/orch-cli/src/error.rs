//! Why `orch` could not do what it was told.

use std::path::PathBuf;

use orch_exec::EngineError;
use orch_model::ports::{StoreError, WorktreeError};

use crate::exit_code::Exit;

/// Why `orch` could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// One clear sentence with a cure.
    #[error("{0}")]
    Input(String),
    /// Problems with excerpts of the file; printed as they are.
    #[error("{0}")]
    Report(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
}

impl CliError {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    pub(crate) fn reading(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { doing: format!("reading {}", path.into().display()), source }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Input(_) | Self::Report(_) => Exit::Input,
            Self::Engine(error) => exit_of(error),
            Self::Io { .. } => Exit::Engine,
        }
    }
}

fn exit_of(error: &EngineError) -> Exit {
    match error {
        EngineError::NoRepository { .. }
        | EngineError::CantResume { .. }
        | EngineError::NoSuchTask(_)
        | EngineError::Worktree(
            WorktreeError::NoGit { .. }
            | WorktreeError::GitTooOld { .. }
            | WorktreeError::NotARepository { .. }
            | WorktreeError::Target { .. },
        )
        | EngineError::Store(StoreError::NoSuchRun { .. }) => Exit::Input,
        EngineError::Shared(error) => exit_of(error),
        _ => Exit::Engine,
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<WorktreeError> for CliError {
    fn from(error: WorktreeError) -> Self {
        Self::Engine(error.into())
    }
}
