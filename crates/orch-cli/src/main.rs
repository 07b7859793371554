//! `orch`: see the crate `orch_cli`, and `orch --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    orch_cli::main()
}
