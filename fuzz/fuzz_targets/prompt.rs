//! See `orch_fuzz::prompt`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::prompt::run);
