//! See `orch_fuzz::leases`.
#![cfg_attr(fuzzing, no_main)]

orch_fuzz::target!(orch_fuzz::leases::run);
