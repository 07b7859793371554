//! Every write, sync, rename, spawn, kill and call of git of `orch` stands between two fail points. At each of
//! them the process is killed, the operation fails, or it is late; then the run is taken up again until it has
//! ended. Nothing is lost, nothing is done twice, nothing is left over.
//!
//! The plain tests see to it that each point of the source is reached by a scenario, and take some of them,
//! others each time. All of them:
//!
//! ```text
//! cargo test -p orch-tests --test fail_points -- --ignored --nocapture
//! ```
//!
//! `ORCH_FAULT='journal::sync.before=1*return(kill)'` is that one only (any `FAILPOINTS`), `ORCH_FAULTS=N` is how
//! many the plain tests take, and `ORCH_FAULT_SEED=N` repeats those of an earlier call, whose seed is printed.

#![expect(clippy::print_stderr, reason = "what a campaign did is its result")]

mod order;
mod scenario;
mod sweep;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use orch_tests::{
    Campaign, Plan, TestRepo,
    fail_points::{Deed, Fault, is_of, registered},
    random, setting,
};
use scenario::{SCENARIOS, Scenario};
use world::{By, World};

/// How many faults the plain tests take.
const FAULTS: usize = 8;

/// Where a point is passed.
#[derive(Debug, Clone, Copy)]
struct Reach {
    scenario: &'static Scenario,
    by: By,
}

/// All points that the scenarios pass, each with the first one that does.
fn reached() -> BTreeMap<String, Reach> {
    let mut reached = BTreeMap::new();
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.works()) {
        let began = Instant::now();
        let traced = World::new(scenario).trace();
        let before = reached.len();
        for (by, point) in traced {
            reached.entry(point).or_insert(Reach { scenario, by });
        }
        let new = reached.len() - before;
        eprintln!("{}: {new} new points, {:.1?}", scenario.name, began.elapsed());
    }
    reached
}

/// Asserts that each fail point of the source is reached, and that there are enough of them.
fn assert_none_is_dead(reached: &BTreeMap<String, Reach>) {
    let is_dead = |name: &String| !reached.keys().any(|point| is_of(name, point));
    let registered = registered();
    let dead: BTreeSet<_> = registered.iter().filter(|name| is_dead(name)).collect();
    eprintln!("{} fail points reached, of {} in the source", reached.len(), registered.len());
    let skipped = SCENARIOS.iter().any(|scenario| !scenario.works());
    let is_excused = |name: &str| skipped && name.starts_with("overlay::");
    let dead: Vec<_> = dead.into_iter().filter(|name| !is_excused(name)).collect();
    assert!(dead.is_empty(), "no scenario reaches {dead:#?}");
    assert!(reached.len() >= 60, "{reached:#?}");
}

/// Lives with one fault; what was wrong then.
fn live(fault: &Fault, reach: Reach) -> Result<(), String> {
    let began = Instant::now();
    let world = World::new(reach.scenario);
    let lived = caught(|| world.live(&fault.to_string(), fault.deed, reach.by));
    let verdict = if lived.is_ok() { "ok" } else { "FAILED" };
    eprintln!("{verdict} {fault} ({}, {:.1?})", reach.scenario.name, began.elapsed());
    lived
}

fn caught(act: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

fn faults(reached: &BTreeMap<String, Reach>) -> Vec<(Fault, Reach)> {
    let with = |deed| {
        reached.iter().map(move |(point, reach)| (Fault { point: point.clone(), deed }, *reach))
    };
    // A process that was started is not one that could not be.
    let can_be = |fault: &Fault| fault.deed != Deed::Error || !fault.point.ends_with("spawn.after");
    Deed::ALL.into_iter().flat_map(with).filter(|(fault, _)| can_be(fault)).collect()
}

#[test]
fn what_fails_at_a_point_is_mended() {
    let reached = reached();
    assert_none_is_dead(&reached);
    let mut faults = faults(&reached);
    random("ORCH_FAULT_SEED").shuffle(&mut faults);
    let count = setting("ORCH_FAULTS", FAULTS);
    for (fault, reach) in faults.into_iter().take(count) {
        if let Err(why) = live(&fault, reach) {
            panic!("{fault}, {}:\n{why}", reach.scenario.name);
        }
    }
}

/// The supervisor, which attempts leave their locks to, outlives the orchestrator here because of another agent.
#[test]
fn an_attempt_that_was_cut_off_holds_no_lock() {
    let repo = TestRepo::new();
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    let plan = Plan::new()
        .task("long", |t| {
            t.script(format!("touch {begun}; wait-for {go}")).set("isolation", "none")
        })
        .task("first", |t| t.script(format!("wait-for {begun}; write first.txt 1")))
        .task("locked", |t| t.script("write locked.txt 1").lock("narrow").needs(["first"]));
    // When the tree of `locked` is made.
    let killed = repo.orch_run(&plan).faulty();
    let killed = killed.env("FAILPOINTS", "entry::head.write.before=1*off->1*return(kill)").run();
    assert_eq!(killed.signal, Some(9), "{killed}");
    let mut resumed = repo.orch(["resume", "--json"]).with_report().spawn();
    resumed.wait_for_change("locked", "merged");
    go.raise();
    let outcome = resumed.wait();
    outcome.assert_code(0);
    repo.wait_until_quiet();
    repo.assert_in_order(&outcome);
}

/// That this test can fail: known mistakes are noticed. `planted-bugs` tries all that can be planted.
#[test]
fn planted_bugs_are_noticed() {
    let plain = &SCENARIOS[0];
    for bug in ["no-file-sync", "no-folder-sync", "objects-not-synced"] {
        let noticed = caught(|| drop(World::new(plain).with_bug(bug).trace()));
        assert!(noticed.is_err(), "{bug} goes unnoticed");
    }
    let killed = "git::update-ref.after=6*off->1*return(kill)";
    let live = |world: World| caught(|| world.live(killed, Deed::Kill, By::Orchestrator));
    assert_eq!(live(World::new(plain)), Ok(()));
}

/// Lives through all of them, a few at a time, and names those that failed.
#[track_caller]
fn live_all<T: Sync>(faults: &[T], live: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            failed.extend(live(fault).err().inspect(|why| eprintln!("{why}")));
        }
        failed
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("panics are caught")).collect()
    });
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), faults.len());
}

#[test]
#[ignore = "takes about an hour"]
fn what_fails_at_any_point_is_mended() {
    let only = env::var("ORCH_FAULT").ok();
    let named = env::var("ORCH_FAULT_SCENARIO").ok();
    let reached = reached();
    if only.is_none() {
        assert_none_is_dead(&reached);
    }
    let faults: Vec<_> = faults(&reached)
        .into_iter()
        .filter(|(fault, _)| only.as_ref().is_none_or(|only| fault.to_string().contains(only)))
        .filter(|(_, reach)| named.as_ref().is_none_or(|name| *name == reach.scenario.name))
        .collect();
    let command = "cargo test -p orch-tests --test fail_points -- --ignored --nocapture any_point";
    let mut campaign = Campaign::begin("fail-points", command);
    campaign.did("fail points", reached.len() as u64);
    for (fault, _) in &faults {
        campaign.caused(&format!("{:?} at a point", fault.deed), 1_u32);
    }
    live_all(&faults, |(fault, reach)| {
        live(fault, *reach).map_err(|why| format!("{fault}:\n{why}"))
    });
    if only.is_none() && named.is_none() {
        campaign.finish();
    }
}
