//! See `orch_fuzz::journal`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::journal::run);
