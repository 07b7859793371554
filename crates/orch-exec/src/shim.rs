//! Agents that outlive their orchestrator: a supervisor process per run starts them, takes their
//! output and writes down how they ended. It is this same executable, entered by a hidden argument.
//!
//! ```no_run
//! // First in `main`; the orchestrators that are built after it have agents that survive them.
//! orch_exec::shim::run_if_requested();
//! ```
//!
//! A program that does not call [`run_if_requested`] gets the direct mode: agents are its children
//! ([`crate::process::CommandRunner`]) and end with it, or are ended when the run is taken up again.
//!
//! **What survives what.** When the orchestrator is killed, agents and supervisor go on; the next
//! orchestrator of the run connects and takes the agents up under their old pids, with their output
//! complete. When the supervisor is killed, the orchestrator ends its agents and repeats their
//! attempts, which are not charged. When both are killed, results that had been written down are
//! taken, and what still runs is found by its environment and ended.

mod agent;
mod client;
mod connection;
mod heartbeat;
pub mod processes;
mod protocol;
mod record;
mod supervisor;

use std::sync::atomic::{AtomicBool, Ordering};

pub use client::SupervisedRunner;
#[cfg(feature = "fuzz")]
pub use record::fuzz;

/// What a supervisor is called in lists of processes.
const NAME_OF_SUPERVISOR: &str = "orch-supervisor";

/// The hidden argument.
const ARGUMENT: &str = "__orch-supervisor";

/// Whether this program can be its own supervisor.
static READY: AtomicBool = AtomicBool::new(false);

/// Becomes the supervisor of a run where this process was started for that, and then does not
/// return. Call it first in `main`, before threads are started and arguments are read.
pub fn run_if_requested() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|argument| argument == ARGUMENT) {
        let code = supervisor::main(args.next().unwrap_or_default().as_ref());
        std::process::exit(code);
    }
    READY.store(true, Ordering::Relaxed);
}

/// Whether a run has a supervisor that lives.
#[cfg(feature = "defaults")]
pub(crate) fn is_supervised(run_dir: &std::path::Path) -> bool {
    // Who begins at this very moment tries again.
    let lock = std::fs::File::open(run_dir.join("supervisor.lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Whether [`run_if_requested`] was called, so that agents can outlive this program.
#[must_use]
pub fn is_ready() -> bool {
    READY.load(Ordering::Relaxed)
}
