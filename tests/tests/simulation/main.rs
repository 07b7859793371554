//! The engine in a simulated world: clock, journal, processes, git and locks are simulated, the rest is
//! what ships. From a seed follow a plan, what its agents do, and what goes wrong: the orchestrator is
//! killed between any two steps, power cuts take what was not synced, supervisors die, disks and git
//! fail, people interfere. However often it is taken up again, the rules in `oracle.rs` hold.
//!
//! A seed that fails replays step by step:
//!
//!     ORCH_SIMULATION=<seed> cargo test -p orch-tests --test simulation -- --nocapture one_seed
//!
//! `ORCH_SIMULATION_FAILURES=N` goes on until so many seeds have failed on each core.
//!
//! The long form:
//!
//!     ORCH_SIMULATION_SEEDS=1000000 cargo test --profile campaign -p orch-tests --test simulation -- --nocapture whatever

#![expect(clippy::print_stdout, reason = "what a campaign did is its result")]

mod case;
mod journal;
mod life;
mod locks;
mod oracle;
mod processes;
mod repository;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use life::{Outcome, simulate, simulate_week};
use orch_tests::Campaign;

const COMMAND: &str = "ORCH_SIMULATION_SEEDS=1000000 cargo test --profile campaign -p orch-tests --test simulation -- --nocapture whatever";

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {value}")))
}

/// What a campaign adds up to.
#[derive(Debug, Default)]
struct Sum {
    faults: BTreeMap<&'static str, u64>,
    lives: u64,
    steps: u64,
    failed: Vec<(u64, Vec<String>)>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Result<Outcome, String>) {
        match outcome {
            Ok(outcome) => {
                for (fault, count) in outcome.faults {
                    *self.faults.entry(fault).or_default() += count;
                }
                self.lives += u64::from(outcome.lives);
                self.steps += outcome.steps;
                if !outcome.violations.is_empty() {
                    self.failed.push((seed, outcome.violations));
                }
            }
            Err(panic) => self.failed.push((seed, vec![panic])),
        }
    }

    fn merge(&mut self, other: Self) {
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.lives += other.lives;
        self.steps += other.steps;
        self.failed.extend(other.failed);
    }
}

fn caught(seed: u64) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| simulate(seed, false))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// Simulates all these seeds on all cores.
fn campaign(first: u64, seeds: u64) -> Sum {
    let next = AtomicU64::new(first);
    let enough = number("ORCH_SIMULATION_FAILURES").map_or(5, |most| most as usize);
    let work = || {
        let mut sum = Sum::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || sum.failed.len() >= enough {
                return sum;
            }
            sum.add(seed, caught(seed));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut sum = Sum::default();
        for thread in threads {
            sum.merge(thread.join().expect("panics are caught"));
        }
        sum
    })
}

#[test]
fn whatever_goes_wrong_the_rules_hold() {
    let seeds = number("ORCH_SIMULATION_SEEDS").unwrap_or(200);
    let first = number("ORCH_SIMULATION_FIRST").unwrap_or(0);
    let mut record = Campaign::begin("simulation", COMMAND);
    let sum = campaign(first, seeds);
    record.did("seeds", seeds);
    record.did("lives of an orchestrator", sum.lives);
    record.did("steps", sum.steps);
    for (fault, count) in &sum.faults {
        record.caused(fault, *count);
    }
    for (seed, violations) in &sum.failed {
        println!("seed {seed}:");
        for violation in violations {
            println!("    {violation}");
        }
    }
    assert!(
        sum.failed.is_empty(),
        "from {first}; replay with ORCH_SIMULATION=<seed>, test one_seed"
    );
    // A fault that never happens would prove nothing.
    if seeds >= 1_000 {
        for fault in world::FAULTS {
            assert!(sum.faults.contains_key(fault), "no `{fault}` in {seeds} seeds");
        }
    }
    record.finish();
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in 0..20 {
        let (one, two) = (simulate(seed, false), simulate(seed, false));
        assert_eq!((one.trace, one.steps), (two.trace, two.steps), "seed {seed}");
    }
}

/// A run that takes a week, taken up again and again: it comes to its end, and nothing adds up on the way.
#[test]
#[ignore = "takes a minute without optimisation"]
fn a_week_leaves_nothing_behind() {
    let seed = number("ORCH_SIMULATION").unwrap_or(1);
    let command = "cargo test --profile campaign -p orch-tests --test simulation -- --ignored --nocapture week";
    let mut record = Campaign::begin("simulated week", command);
    let outcome = simulate_week(seed);
    assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
    let days = outcome.took.as_secs() / 86_400;
    assert!(days >= 7, "{days} days");
    // What the engine has going on follows from what is at work, and not from what was.
    let (early, late) = outcome.going_on.split_at(outcome.going_on.len() / 2);
    let most = |of: &[usize]| of.iter().max().copied().unwrap_or_default();
    assert!(early.len() >= 7 && most(late) <= most(early) + 4, "{:?}", outcome.going_on);
    record.did("simulated days", days);
    record.did("lives of an orchestrator", outcome.lives);
    record.did("steps", outcome.steps);
    record.did("most asynchronous tasks alive in the first half", most(early) as u64);
    record.did("most asynchronous tasks alive in the second half", most(late) as u64);
    for (fault, count) in outcome.faults {
        record.caused(fault, count);
    }
    record.finish();
}

/// Tells step by step what happens in the world of one seed.
#[test]
fn one_seed() {
    let Some(seed) = number("ORCH_SIMULATION") else { return };
    let outcome = simulate(seed, true);
    println!("trace {:016x}, {} lives, {} steps", outcome.trace, outcome.lives, outcome.steps);
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
}
