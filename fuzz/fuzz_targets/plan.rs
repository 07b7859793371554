//! See `orch_fuzz::plan`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::plan::run);
