//! See `orch_fuzz::stream`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::stream::run);
