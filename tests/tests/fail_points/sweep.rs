//! The n-th operation fails, whichever it is: each write, sync, rename, spawn, kill and call of git of a small run
//! and of its recovery, counted through. Once, or from then on for good.
//!
//! ```text
//! cargo test -p orch-tests --test fail_points -- --ignored --nocapture sweep
//! ```
//!
//! `ORCH_SWEEP_STEP=N` takes every N-th operation only.

use orch_tests::{Campaign, random, setting};

use crate::{
    caught, live_all,
    scenario::{SMALL, Scenario},
    world::{By, World},
};

/// On which side of an operation what happens.
const DEEDS: [(&str, &str); 6] = [
    ("before", "EIO"),
    ("before", "ENOSPC"),
    ("before", "kill"),
    ("after", "kill"),
    ("before", "short"),
    ("before", "torn"),
];

/// How many lives something is broken for good: then somebody mends it.
const BROKEN: usize = 3;

/// What happens at the n-th operation.
struct Fault {
    scenario: &'static Scenario,
    number: usize,
    deed: (&'static str, &'static str),
    is_for_good: bool,
}

impl Fault {
    fn live(&self) -> Result<(), String> {
        let Self { scenario, number, deed: (side, action), is_for_good } = *self;
        let count = if is_for_good { "" } else { "1*" };
        let faults = format!("any.{side}={number}*off->{count}return({action})");
        let lives = if is_for_good { BROKEN } else { 1 };
        let kills = matches!(action, "kill" | "torn");
        let may_fail = is_for_good && !kills;
        let lived = caught(|| World::new(scenario).live_through(&faults, lives, may_fail));
        let verdict = if lived.is_ok() { "ok" } else { "FAILED" };
        eprintln!("{verdict} {faults} ({}, {lives} lives)", scenario.name);
        lived.map_err(|why| format!("{faults}, {}, {lives} lives:\n{why}", scenario.name))
    }
}

/// How many operations the orchestrator does.
fn operations(scenario: &'static Scenario) -> usize {
    let traced = World::new(scenario).trace();
    traced
        .iter()
        .filter(|(by, point)| *by == By::Orchestrator && point.ends_with(".before"))
        .count()
}

fn faults(step: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    for scenario in &SMALL {
        let operations = operations(scenario);
        eprintln!("{}: {operations} operations", scenario.name);
        assert!(operations > 50, "{}: {operations} operations only", scenario.name);
        for number in (0..operations).step_by(step) {
            for deed in DEEDS {
                let fault = |is_for_good| Fault { scenario, number, deed, is_for_good };
                faults.extend([fault(false), fault(true)]);
            }
        }
    }
    faults
}

#[test]
fn some_operation_fails_and_the_run_goes_on() {
    let mut faults = faults(1);
    random("ORCH_FAULT_SEED").shuffle(&mut faults);
    for fault in faults.iter().take(4) {
        if let Err(why) = fault.live() {
            panic!("{why}");
        }
    }
}

#[test]
#[ignore = "takes hours"]
fn sweep() {
    let step = setting("ORCH_SWEEP_STEP", 1);
    let faults = faults(step);
    let command = "cargo test -p orch-tests --test fail_points -- --ignored --nocapture sweep";
    let mut campaign = Campaign::begin("n-th operation", command);
    campaign.did("every how many operations", step as u64);
    for Fault { scenario, deed: (side, action), is_for_good, .. } in &faults {
        let how_often = if *is_for_good { "for good" } else { "once" };
        campaign.caused(&format!("{action} {side} it, {how_often}"), 1_u32);
        campaign.did(&format!("faults in {}", scenario.name), 1_u32);
    }
    live_all(&faults, Fault::live);
    campaign.finish();
}
