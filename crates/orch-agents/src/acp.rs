//! Agents that speak the Agent Client Protocol: a process between the supervisor and the agent that is
//! its client. It is this same executable, entered by a hidden argument.
//!
//! It reads the prompt, begins a session, has the agent carry the prompt out, answers what it asks
//! permission for, and prints what the agent says, line by line, so that its output is read, kept and taken up
//! again like that of any other agent. Asked to end by SIGTERM, it cancels the session first.
//!
//! ```no_run
//! // First in `main`, beside `orch_exec::shim::run_if_requested`.
//! orch_agents::acp::run_if_requested();
//! ```

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use orch_model::plan::spec::{McpServer, Permissions};
use serde::{Deserialize, Serialize};

mod client;
mod program;

/// The hidden argument.
const ARGUMENT: &str = "__orch-acp";

/// Whether this program can be its own client of agents.
static READY: AtomicBool = AtomicBool::new(false);

/// What the client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Whether the agent is allowed what it asks for.
    pub(crate) permissions: Permissions,
    /// The servers of tools that it is given, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) mcp: BTreeMap<String, McpServer>,
}

/// Becomes the client of an agent where this process was started for that, and then does not return.
/// Call it first in `main`, before threads are started and arguments are read.
pub fn run_if_requested() {
    let mut args = std::env::args().skip(1);
    if args.next().is_some_and(|argument| argument == ARGUMENT) {
        let order = args.next().unwrap_or_default();
        std::process::exit(client::main(&order, args.collect()));
    }
    READY.store(true, Ordering::Relaxed);
}

/// Whether [`run_if_requested`] was called.
pub(crate) fn is_ready() -> bool {
    READY.load(Ordering::Relaxed)
}

/// What stands in front of the agent's program.
pub(crate) fn through(order: &Order) -> Vec<String> {
    let order = serde_json::to_string(order).unwrap_or_default();
    vec!["/proc/self/exe".into(), ARGUMENT.into(), order]
}
