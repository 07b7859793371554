//! `orch`: see the crate `orch_cli`, and `orch --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    orch_exec::shim::run_if_requested();
    orch_agents::acp::run_if_requested();
    orch_cli::main()
}
