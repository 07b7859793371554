//! `orch` with fail points and planted bugs: see the crate `orch_faults`. Not for use.

use std::process::ExitCode;

fn main() -> ExitCode {
    orch_exec::shim::run_if_requested();
    orch_agents::acp::run_if_requested();
    orch_cli::main()
}
