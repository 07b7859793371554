//! Two orchestrators at once: one is frozen, or both begin at the same moment.
//!
//! In its short form this is part of the tests. The long form:
//!
//! ```text
//! ORCH_RIVALS=500 cargo test --release -p orch-tests --test rivals -- --nocapture
//! ```
//!
//! `ORCH_RIVALS_SEED=N` repeats the moments of an earlier call, whose seed it prints first.

use std::{collections::BTreeSet, thread, time::Duration};

use orch_tests::{Campaign, Outcome, Plan, RunningOrch, TestRepo, Witness, random, setting, until};
use rustix::process::Signal;

const TASKS: usize = 24;
const COMMAND: &str =
    "ORCH_RIVALS=500 cargo test --release -p orch-tests --test rivals -- --nocapture";
/// How often there are two in one run at most.
const RIVALS_PER_RUN: u32 = 6;
/// How long one is alone at most.
const ALONE: Duration = Duration::from_millis(400);
/// How long one is frozen at most.
const FROZEN: Duration = Duration::from_millis(300);

#[test]
fn an_orchestrator_that_is_stopped_is_named_and_goes_on() {
    let repo = TestRepo::new();
    let [record, go] = ["record", "go"].map(|name| repo.signal(name));
    let plan = Plan::new()
        .task("a", |t| t.script(format!("record {record}; wait-for {go}; write a.txt 1")));
    let mut run = repo.start(&plan);
    run.wait_for_change("a", "started");
    let pid = run.pid();
    run.signal(Signal::STOP);
    until("the freeze", || orch_tests::process_is_stopped(pid).then_some(()));
    let cure = format!("kill -CONT {pid}");
    let calls = ["resume", "pause", "status"].map(|command| repo.orch([command]).spawn());
    let [resume, pause, status] = calls.map(RunningOrch::wait);
    for outcome in [&resume, &pause] {
        outcome.assert_code(3).assert_stderr(&["does not answer", &cure]);
    }
    status.assert_code(0).assert_stdout(&["does not answer", &cure]);
    run.signal(Signal::CONT);
    // It does what it was asked meanwhile.
    run.next_event(|event| event["event"] == "run_paused");
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    let outcome = run.wait();
    outcome.assert_code(0);
    assert_eq!(outcome.report().task("a")["attempts"], 1, "{outcome}");
}

/// How often which pair was there.
#[derive(Debug, Default)]
struct Pairs {
    frozen: u32,
    killed: u32,
    together: u32,
    took_over: u32,
}

#[test]
#[expect(clippy::print_stderr, reason = "what a campaign did is its result")]
fn of_two_orchestrators_one_works() {
    let pairs: u32 = setting("ORCH_RIVALS", 6);
    let mut random = random("ORCH_RIVALS_SEED");
    let mut campaign = Campaign::begin("rivals", COMMAND);
    let mut done = 0;
    while done < pairs && campaign.has_time() {
        let mut world = World::new();
        done += world.run_to_the_end(&mut random, RIVALS_PER_RUN.min(pairs - done));
        let Pairs { frozen, killed, together, took_over } = world.pairs;
        eprintln!("{done} pairs, {:?}", world.pairs);
        campaign.did("runs", 1_u32);
        campaign.caused("second orchestrator beside a frozen one that went on", frozen);
        campaign.caused("second orchestrator beside a frozen one that was killed", killed);
        campaign.caused("two orchestrators that took a run up together", together);
        campaign.did("runs taken over by the second one", took_over);
    }
    campaign.finish();
}

/// A run that two are after.
struct World {
    repo: TestRepo,
    plan: Plan,
    witness: Witness,
    pairs: Pairs,
}

impl World {
    fn new() -> Self {
        let repo = TestRepo::new();
        repo.git(["checkout", "--quiet", "-b", "mine"]);
        let record = repo.signal("record");
        let mut plan = Plan::new().set("max_concurrency", 4).set("target", "main");
        for number in 0..TASKS {
            let id = name(number);
            let work = format!(
                "record {record}; sleep 0.{:03}; write work/{id}.txt {id}",
                50 + number * 7
            );
            plan = plan.task(&id, |task| match number % 2 {
                0 => task.script(work),
                _ => task.script(format!("{work}; commit {id}")).lock("narrow"),
            });
        }
        Self { repo, plan, witness: Witness::new(record), pairs: Pairs::default() }
    }

    /// Gives how often there were two.
    fn run_to_the_end(&mut self, random: &mut fastrand::Rng, pairs: u32) -> u32 {
        let mut done = 0;
        while !self.has_ended() {
            let outcomes = if done == pairs {
                vec![begin(&self.repo, &self.plan).wait()]
            } else {
                done += 1;
                self.pair(random)
            };
            for outcome in &outcomes {
                assert_is_told(outcome);
            }
            self.repo.wait_until_quiet();
            for outcome in &outcomes {
                self.witness.see(outcome);
            }
            // Nobody and nothing was killed but an orchestrator.
            self.witness.assert_started_once(&BTreeSet::new());
            let killed = outcomes.iter().find(|outcome| outcome.signal.is_some());
            self.repo.assert_in_order(killed.unwrap_or(&outcomes[0]));
        }
        self.check_the_end();
        done
    }

    /// What came of two of them.
    fn pair(&mut self, random: &mut fastrand::Rng) -> Vec<Outcome> {
        let repo = &self.repo;
        let mut first = begin(repo, &self.plan);
        if random.u8(0..4) == 0 && repo.has_run() {
            let second = repo.orch(["resume", "--json"]).spawn();
            self.pairs.together += 1;
            pause(ALONE, random);
            kill(&mut first);
            let first = first.wait();
            let second = second.wait_or_kill(ALONE);
            self.pairs.took_over += u32::from(!second.events.is_empty());
            return vec![first, second];
        }
        pause(ALONE, random);
        if first.has_ended() || !repo.has_run() {
            kill(&mut first);
            return vec![first.wait()];
        }
        first.signal(Signal::STOP);
        let second = repo.orch(["resume", "--json"]).spawn();
        pause(FROZEN, random);
        if random.bool() {
            self.pairs.frozen += 1;
            first.signal(Signal::CONT);
            let second = second.wait();
            pause(ALONE, random);
            kill(&mut first);
            let first = first.wait();
            // The first may have been frozen before it had taken the run up.
            let are_two = !first.events.is_empty() && !second.events.is_empty();
            assert!(!are_two, "both have worked\n{first}\n{second}");
            return vec![first, second];
        }
        self.pairs.killed += 1;
        kill(&mut first);
        let first = first.wait();
        let second = second.wait_or_kill(ALONE);
        self.pairs.took_over += u32::from(!second.events.is_empty());
        vec![first, second]
    }

    fn has_ended(&self) -> bool {
        self.repo.run_status().is_some_and(|status| status == "succeeded")
    }

    fn check_the_end(&self) {
        let repo = &self.repo;
        assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
        repo.assert_tidy(&["main", "mine"]);
        let trailer = "--format=%(trailers:key=Orch-Task,valueonly,separator=%x20)";
        let merges = repo.git(["log", "--merges", trailer, "main"]);
        let mut merged: Vec<&str> = merges.lines().collect();
        merged.sort_unstable();
        assert_eq!(merged, (0..TASKS).map(name).collect::<Vec<_>>(), "each was merged once");
        assert_eq!(self.witness.starts().len(), TASKS);
    }
}

/// Begins the run or takes it up.
fn begin<'r>(repo: &'r TestRepo, plan: &Plan) -> RunningOrch<'r> {
    if repo.has_run() {
        return repo.orch(["resume", "--json"]).spawn();
    }
    let plan = repo.plan_file(&plan.to_string());
    repo.orch(["run", "--json"]).arg(plan).spawn()
}

/// It may have ended already.
fn kill(orch: &mut RunningOrch<'_>) {
    if !orch.has_ended() {
        orch.kill();
    }
}

/// Whoever does not work on the run says who does, or that there is nothing to do.
#[track_caller]
fn assert_is_told(outcome: &Outcome) {
    match outcome.code {
        None | Some(0) => {}
        Some(2) => {
            let says = |part: &str| outcome.stderr.contains(part);
            assert!(
                says("is at work on this run") || says("there is no run to resume"),
                "{outcome}"
            );
        }
        Some(code) => panic!("exit code {code}\n{outcome}"),
    }
}

/// The moment is what is random here, not something that is waited for.
fn pause(most: Duration, random: &mut fastrand::Rng) {
    thread::sleep(most.mul_f64(random.f64()));
}

fn name(number: usize) -> String {
    format!("t{number:02}")
}
