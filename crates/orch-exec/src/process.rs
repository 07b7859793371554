//! Processes: the stock [`AgentRunner`](orch_model::ports::AgentRunner), which runs commands and
//! agents as process groups of this machine. Linux only: it needs `pidfd_open` (5.3) and `/proc`.
//!
//! Agents end with the orchestrator only where it ends them: one that is killed leaves them running
//! until they write to their output, which is a pipe to the orchestrator.

mod command;
mod group;
mod identity;
mod output;
mod runner;

pub use command::Invocation;
pub use runner::CommandRunner;
