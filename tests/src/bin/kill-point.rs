//! `kill-point`, also under the name `git`: see `orch_tests::KillPoints`.

use std::process::ExitCode;

fn main() -> ExitCode {
    orch_tests::strike()
}
