//! See `orch_fuzz::redact`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::redact::run);
