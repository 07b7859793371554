//! See `orch_fuzz::strip`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::strip::run);
