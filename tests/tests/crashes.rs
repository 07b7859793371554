//! The orchestrator is killed at random moments and taken up again, until its run is done. Beside
//! it, its supervisor and its agents are killed and stopped.
//!
//! In its short form this is part of the tests. The long form:
//!
//! ```text
//! ORCH_CRASH_CYCLES=5000 cargo test --release -p orch-tests --test crashes -- --nocapture
//! ```
//!
//! `ORCH_CRASH_SEED=N` repeats the moments of an earlier call, whose seed it prints first.
//! `ORCH_CRASH_JOBS=N` has so many runs at a time, which wait for most of theirs.
//! `ORCH_CRASH_FAULTS=N` is how many faults there are in a run beside the kills of its orchestrator.
//! `ORCH_CRASH_ADOPT=0` and `=1` are one half of the cycles only: runs are taken up when
//! nothing of the killed orchestrator is alive any more, or while its agents are.

use std::{env, sync::Mutex, thread, time::Duration};

use orch_tests::{Campaign, Chaos, Outcome, Plan, TestRepo, Witness, random, setting};

const TASKS: usize = 40;
/// How many are at work at a time.
const AGENTS: u32 = 20;
const COMMAND: &str =
    "ORCH_CRASH_CYCLES=5000 cargo test --release -p orch-tests --test crashes -- --nocapture";
/// How often one run is killed at most.
const KILLS_PER_RUN: u32 = 12;
/// How many other faults there are in a run at most.
const FAULTS_PER_RUN: u32 = 24;
/// How long an orchestrator lives at most before it is killed.
const LONGEST: Duration = Duration::from_millis(500);

#[test]
#[expect(clippy::print_stderr, reason = "what a campaign did is its result")]
fn a_run_that_is_killed_again_and_again_loses_nothing() {
    let cycles: u32 = setting("ORCH_CRASH_CYCLES", 10);
    let faults = setting("ORCH_CRASH_FAULTS", FAULTS_PER_RUN);
    let adopt: Option<u32> =
        env::var("ORCH_CRASH_ADOPT").ok().map(|_| setting("ORCH_CRASH_ADOPT", 1));
    let (random, campaign) = (random("ORCH_CRASH_SEED"), Campaign::begin("kills", COMMAND));
    let tally = Mutex::new(Tally { campaign, random, cycles, runs: 0 });
    let counted = || tally.lock().expect("who counts does not panic");
    thread::scope(|scope| {
        for _ in 0..setting("ORCH_CRASH_JOBS", 1) {
            scope.spawn(|| {
                // The lock is not held while a run goes on.
                let next = || counted().next();
                while let Some((run, most, mut random)) = next() {
                    let mut world = World::new(run, faults);
                    world.adopts = adopt.map_or(run.is_multiple_of(2), |adopt| adopt != 0);
                    let kills = world.run_to_the_end(&mut random, most);
                    eprintln!("run {run}: {:?}", world.chaos.faults);
                    let mut tally = counted();
                    tally.cycles += most - kills;
                    world.chaos.faults.tell(&mut tally.campaign);
                }
            });
        }
    });
    let Tally { mut campaign, runs, .. } = tally.into_inner().expect("who counts does not panic");
    campaign.did("runs", runs);
    campaign.finish();
}

/// What is left to do, and what was done.
struct Tally {
    campaign: Campaign,
    /// Each run has its own from this one, so that its moments don't depend on which others go on beside it.
    random: fastrand::Rng,
    /// How many kills are left to do.
    cycles: u32,
    runs: u32,
}

impl Tally {
    /// The number of the next run, how often it is killed at most, and what its moments come from.
    fn next(&mut self) -> Option<(u32, u32, fastrand::Rng)> {
        let kills = KILLS_PER_RUN.min(self.cycles);
        (kills > 0 && self.campaign.has_time()).then(|| {
            self.cycles -= kills;
            self.runs += 1;
            (self.runs - 1, kills, self.random.fork())
        })
    }
}

/// A run whose orchestrator is killed.
struct World {
    repo: TestRepo,
    plan: Plan,
    witness: Witness,
    chaos: Chaos,
    /// Whether runs are taken up while agents of the killed orchestrator are alive.
    adopts: bool,
    /// Whether the user has the target branch checked out.
    is_target_checked_out: bool,
}

impl World {
    fn new(number: u32, faults: u32) -> Self {
        let repo = TestRepo::new();
        let is_target_checked_out = number % 4 < 2;
        if !is_target_checked_out {
            repo.git(["checkout", "--quiet", "-b", "mine"]);
        }
        repo.make_dirty();
        let record = repo.signal("record");
        let mut plan = Plan::new().set("max_concurrency", AGENTS).set("target", "main");
        // An agent that is killed is charged for that.
        plan = plan.default_value("retries", 20);
        for number in 0..TASKS {
            // Most are short, and some outlive an orchestrator or two.
            let nap = if number % 5 == 0 { 400 } else { 10 + number % 7 * 10 };
            let id = name(number);
            let work = format!("record {record}; sleep 0.{nap:03}; write work/{id}.txt {id}");
            plan = plan.task(&id, |task| {
                let task = match number % 4 {
                    // What is not committed is committed by the engine.
                    0 => task.script(work),
                    1 => task.script(format!("{work}; commit {id}")).verify(["test -d work"]),
                    2 => task.script(format!("{work}; commit {id}")).lock("narrow"),
                    _ => task.script(format!("{work}; commit {id}")),
                };
                match number {
                    0..20 => task,
                    _ => task.needs([&*name(number - 20), &*name(number - 13)]),
                }
            });
        }
        let (witness, chaos) = (Witness::new(record), Chaos::new(faults));
        Self { repo, plan, witness, chaos, adopts: false, is_target_checked_out }
    }

    /// Gives how often the orchestrator was killed.
    fn run_to_the_end(&mut self, random: &mut fastrand::Rng, kills: u32) -> u32 {
        let checkout = self.repo.checkout();
        let mut killed = 0;
        while !self.has_ended() {
            // Half of the kills hit the beginning, which is the recovery of a run.
            let longest = if random.bool() { LONGEST / 8 } else { LONGEST };
            let life = (killed < kills).then(|| random.u64(0..longest.as_millis() as u64));
            let outcome = self.go_on(life.map(Duration::from_millis), random);
            match outcome.signal {
                Some(_) => killed += 1,
                None => {
                    outcome.assert_code(0);
                }
            }
            if !self.adopts {
                self.chaos.thaw_all();
                self.repo.wait_until_quiet();
            }
            self.check(&outcome, killed);
            assert_eq!(self.repo.checkout(), checkout, "kill {killed}\n{outcome}");
        }
        self.chaos.thaw_all();
        self.repo.wait_until_quiet();
        self.check_the_end();
        killed
    }

    /// Begins the run or takes it up again, and kills the orchestrator at the end of its life.
    fn go_on(&mut self, life: Option<Duration>, random: &mut fastrand::Rng) -> Outcome {
        let mut orch = if self.repo.has_run() {
            self.repo.orch(["resume", "--json"]).spawn()
        } else {
            // Also where it was killed before anything was recorded of the run.
            assert_eq!(self.witness.starts().len(), 0);
            let plan = self.repo.plan_file(&self.plan.to_string());
            self.repo.orch(["run", "--json"]).arg(plan).spawn()
        };
        self.chaos.accompany(&mut orch, (&self.repo, &self.witness), life, random);
        orch.wait()
    }

    fn has_ended(&self) -> bool {
        self.repo.run_status().is_some_and(|status| status == "succeeded")
    }

    #[track_caller]
    fn check(&mut self, outcome: &Outcome, killed: u32) {
        self.witness.see(outcome);
        self.witness.assert_started_once(self.chaos.disturbed());
        if outcome.signal.is_some() && !self.repo.has_run() {
            self.chaos.thaw_all();
        }
        self.repo.assert_in_order(outcome);
        assert!(!self.has_lost_sight(), "a task needs attention after kill {killed}\n{outcome}");
    }

    fn has_lost_sight(&self) -> bool {
        self.repo.has_run()
            && self
                .repo
                .orch(["status", "--json", "--all"])
                .run()
                .stdout
                .contains("needs_attention")
    }

    /// Every task was merged exactly once, and nothing is left.
    fn check_the_end(&self) {
        let repo = &self.repo;
        assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
        assert_eq!(repo.worktrees(), Vec::<std::path::PathBuf>::new());
        assert_eq!(repo.processes(), Vec::<u32>::new());
        let run = repo.orch(["runs", "--json"]).run().json()["runs"][0]["run"].clone();
        let target = format!("orch/{}/target", run.as_str().expect("a run"));
        let results = if self.is_target_checked_out { &*target } else { "main" };
        let mut branches = vec!["main"];
        branches.push(if self.is_target_checked_out { &*target } else { "mine" });
        branches.sort_unstable();
        assert_eq!(repo.branches(), branches);

        let expected: Vec<String> = (0..TASKS).map(name).collect();
        let files = repo.git(["grep", "--no-color", "-h", "", results, "--", "work"]);
        let mut lines: Vec<&str> = files.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected, "each task has written one line");
        let merges = repo.git([
            "log",
            "--merges",
            "--format=%(trailers:key=Orch-Task,valueonly,separator=%x20)",
            results,
        ]);
        let mut merged: Vec<&str> = merges.lines().collect();
        merged.sort_unstable();
        assert_eq!(merged, expected, "each task was merged once");
    }
}

fn name(number: usize) -> String {
    format!("t{number:02}")
}
