//! See `orch_fuzz::supervisor`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::supervisor::run);
