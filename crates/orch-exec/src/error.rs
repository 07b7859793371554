//! Why the engine could not do its job.

use orch_model::ports::{LockError, RunnerError, StoreError, WorktreeError};

/// Why the engine could not do its job. A task that fails is an outcome and not among these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The journal failed. What ran was ended, and nothing was told that is not written.
    #[error("the run's journal failed: {0}")]
    Store(#[from] StoreError),
    /// The repository or the target branch can't be used.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
    /// Locks can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Agents can't be looked after.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The builder was given no implementation of a port, and there is no stock one.
    #[error("no {port} was given, and the feature `defaults` is off")]
    MissingPort {
        /// The port.
        port: &'static str,
    },
    /// The plan has tasks that work in git, and the workspace is in no repository.
    #[error(
        "task {task} works in a git worktree, and {workspace} is in no git repository; \
         run `git init` and commit something, or give the task `isolation = \"none\"`"
    )]
    NoRepository {
        /// The first such task.
        task: orch_model::TaskId,
        /// The workspace.
        workspace: String,
    },
    /// The plan has tasks whose agents are not there, and nobody stands in for them.
    #[error("{problems}")]
    MissingAgents {
        /// A line for each, with the cure.
        problems: String,
    },
    /// The run can't be resumed.
    #[error("run {run} can't be resumed: {reason}")]
    CantResume {
        /// The run.
        run: orch_model::RunId,
        /// Why.
        reason: String,
    },
    /// The conflicts of a task can't be resolved by a person now.
    #[error("task {task}: {reason}")]
    CantResolve {
        /// The task.
        task: orch_model::TaskId,
        /// Why, and what to do.
        reason: String,
    },
    /// A request came after the run had ended.
    #[error("the run has ended")]
    Ended,
    /// The orchestrator that is at work on the run was asked something, and said nothing.
    #[error("the orchestrator does not answer")]
    NoAnswer,
    /// A task is not part of the plan.
    #[error("there is no task {0} in this run")]
    NoSuchTask(orch_model::TaskId),
    /// A budget was given to something that is not part of the plan.
    #[error("--budget {0}: there is no such {kind} in the plan", kind = .0.kind())]
    NoSuchBudget(orch_model::BudgetScope),
    /// A task runs a command.
    #[error("task {0} runs a command: it has no prompt")]
    NoPrompt(orch_model::TaskId),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// What everybody hears who waits for a run that ended like this.
    #[error(transparent)]
    Shared(std::sync::Arc<EngineError>),
    /// A part of the engine died. A mistake in the engine.
    #[error("the engine stopped unexpectedly: {0}")]
    Internal(String),
}
