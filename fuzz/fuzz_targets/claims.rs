//! See `orch_fuzz::claims`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::claims::run);
