//! See `orch_fuzz::state`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::state::run);
