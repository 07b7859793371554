//! Processes: the stock [`AgentRunner`](orch_model::ports::AgentRunner), which runs commands and
//! agents as process groups of this machine. Linux only: it needs `pidfd_open` (5.3) and `/proc`.
//!
//! Agents are children of the orchestrator here, and what one that was killed left running is ended by
//! the next one. Where they are to outlive it, `crate::shim` puts a supervisor between.

mod activity;
mod age;
pub(crate) mod budget;
pub(crate) mod cgroup;
pub(crate) mod child;
mod command;
pub(crate) mod environment;
mod group;
pub(crate) mod identity;
pub(crate) mod launch;
pub(crate) mod leftovers;
mod oom;
pub(crate) mod orphans;
mod output;
mod patterns;
pub(crate) mod redact;
mod runner;

pub use cgroup::containment;
pub use command::Invocation;
pub use patterns::Patterns;
#[cfg(feature = "fuzz")]
pub use redact::fuzz;
pub use runner::CommandRunner;
