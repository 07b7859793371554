//! Why `orch` could not do what it was told.

use std::path::PathBuf;

use orch_exec::EngineError;
use orch_model::ports::{LockError, StoreError, WorktreeError};

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
    Engine(EngineError),
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The orchestrator of a run was stopped.
    #[error(
        "the orchestrator (process {pid}) does not answer, and does what it was asked when it goes on; {}",
        crate::render::status::let_go_on(*.pid)
    )]
    Mute { pid: u32 },
    /// A lock was not free in time.
    #[error("{0}")]
    Busy(String),
    #[cfg(feature = "history")]
    #[error(transparent)]
    History(#[from] orch_history::HistoryError),
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
            Self::Lock(LockError::Deadlock { .. }) => Exit::Deadlock,
            Self::Busy(_) => Exit::Busy,
            #[cfg(feature = "history")]
            Self::History(_) => Exit::Engine,
            Self::Io { .. } | Self::Mute { .. } | Self::Lock(_) => Exit::Engine,
        }
    }
}

fn exit_of(error: &EngineError) -> Exit {
    match error {
        EngineError::NoRepository { .. }
        | EngineError::MissingAgents { .. }
        | EngineError::CantResume { .. }
        | EngineError::CantResolve { .. }
        | EngineError::NoSuchTask(_)
        | EngineError::NoSuchBudget(_)
        | EngineError::NoPrompt(_)
        | EngineError::Worktree(
            WorktreeError::NoGit { .. }
            | WorktreeError::GitTooOld { .. }
            | WorktreeError::NotARepository { .. }
            | WorktreeError::Target { .. }
            | WorktreeError::Refused { .. },
        ) => Exit::Input,
        EngineError::Shared(error) => exit_of(error),
        _ => Exit::Engine,
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            error => Self::Engine(error),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match error {
            // Nothing has failed: something else was meant, or has to be waited for.
            StoreError::NoSuchRun { .. } | StoreError::Busy { .. } => {
                Self::input(error.to_string())
            }
            error => Self::Engine(error.into()),
        }
    }
}

impl From<WorktreeError> for CliError {
    fn from(error: WorktreeError) -> Self {
        Self::Engine(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use orch_model::TaskId;

    use super::*;

    #[test]
    fn the_exit_code_tells_wrong_input_from_a_failed_engine() {
        let target = || WorktreeError::Target { message: "there is no branch x".into() };
        let failed = || std::io::Error::other("disk full");
        let io = || EngineError::Io { doing: "writing".into(), source: failed() };
        let no_task = EngineError::NoSuchTask(TaskId::new("a").unwrap());
        let table: [(CliError, Exit); 9] = [
            (CliError::input("x"), Exit::Input),
            (CliError::Report("x".into()), Exit::Input),
            (no_task.into(), Exit::Input),
            (target().into(), Exit::Input),
            (EngineError::Shared(Arc::new(target().into())).into(), Exit::Input),
            (EngineError::from(StoreError::NoSuchRun { run: "r".into() }).into(), Exit::Input),
            (StoreError::Busy { pid: 7 }.into(), Exit::Input),
            (StoreError::Stopped("x".into()).into(), Exit::Engine),
            (io().into(), Exit::Engine),
        ];
        for (error, code) in table {
            assert_eq!(error.exit(), code, "{error}");
        }
        assert_eq!(CliError::reading("f", failed()).exit(), Exit::Engine);
    }
}
