//! Many schedules of one world.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

use super::{begin, end, kills};
use crate::campaign::Campaign;

/// How many times the usual number of schedules there are.
const MANY: &str = "ORCH_SCHEDULES";
/// One schedule, as a failure prints it.
const ONE: &str = "ORCH_SCHEDULE";

/// The schedules are the same each time, so that what fails once fails again.
const SEED: u64 = 20;
/// How many times a schedule by priorities changes its mind, at most.
const DEPTH: usize = 4;
/// As a real thread may need; most of it is never touched.
const STACK: usize = 1 << 20;
/// A schedule that takes more steps gets nowhere.
const STEPS: usize = 200_000;

/// What was explored.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Exploration {
    /// How many schedules.
    pub schedules: u64,
    /// How many simulated processes were killed in them.
    pub kills: u64,
    /// How long that took.
    pub took: Duration,
}

/// Runs a world by as many schedules as `usual`, or as many as `ORCH_SCHEDULES` times that: half of them random, half
/// by random priorities that change a few times (PCT; Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of
/// Finding Bugs", ASPLOS 2010). A failure prints the schedule; where `ORCH_SCHEDULE` gives it, that one is run, and what
/// happens in it is printed. Where `ORCH_CAMPAIGN_RECORDS` names a folder, what was done is added to the file
/// `shuttle.json` there.
///
/// `world` runs on a thread of its own that is no simulated process: what it does is no step.
///
/// # Panics
/// Where the world does, where all wait for each other, or where a schedule gets nowhere.
pub fn explore(name: &str, usual: u64, world: impl Fn() + Send + Sync + 'static) -> Exploration {
    let (began, before) = (Instant::now(), kills());
    let mut campaign = Campaign::begin("shuttle", command());
    let (world, count) = (Arc::new(world), Arc::new(AtomicU64::new(0)));
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let (world, count) = (Arc::clone(&world), Arc::clone(&count));
        Runner::new(scheduler, config()).run(move || {
            count.fetch_add(1, Ordering::Relaxed);
            begin();
            world();
        })
    };
    let run = |scheduler| {
        let ran = catch_unwind(AssertUnwindSafe(|| run(scheduler)));
        print(&end());
        ran.unwrap_or_else(|panic| resume_unwind(panic))
    };
    match env::var(ONE) {
        Ok(schedule) => {
            // As it was printed: in lines, and between quotes.
            let schedule: String = schedule.chars().filter(char::is_ascii_hexdigit).collect();
            run(Box::new(ReplayScheduler::new_from_encoded(&schedule)));
        }
        Err(_) => {
            let schedules = usual * times();
            let half = usize::try_from(schedules / 2).unwrap_or(usize::MAX);
            run(Box::new(RandomScheduler::new_from_seed(SEED, half)));
            run(Box::new(PctScheduler::new_from_seed(SEED, DEPTH, half)));
        }
    }
    let schedules = count.load(Ordering::Relaxed);
    let exploration = Exploration { schedules, kills: kills() - before, took: began.elapsed() };
    let kills = exploration.kills;
    campaign.did(&format!("schedules of {name}"), schedules);
    campaign.caused(&format!("kills of processes in {name}"), kills);
    campaign.finish_part();
    exploration
}

/// What somebody else runs the same with.
fn command() -> String {
    format!("{MANY}={} cargo test -p orch-state -p orch-worktree interleavings", times())
}

fn times() -> u64 {
    match env::var(MANY) {
        Ok(times) => {
            times.parse().unwrap_or_else(|_| panic!("{MANY} is `{times}`, and not a number"))
        }
        Err(_) => 1,
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    config
}

pub(super) fn is_replay() -> bool {
    env::var_os(ONE).is_some()
}

#[expect(clippy::print_stderr, reason = "it was asked for")]
fn print(trace: &[String]) {
    trace.iter().for_each(|line| eprintln!("{line}"));
}
