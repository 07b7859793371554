//! The orchestrator is killed at each of its calls of git, before and after it, and in the middle of
//! setup, verification and the verification of merged results; then the run is taken up again. At the
//! end each task was merged once, nothing is lost and nothing is left over.
//!
//! The plain tests take a few of these moments, others each time. All of them, for each kind of
//! worktree, also with recoveries that are killed in turn:
//!
//! ```text
//! cargo test -p orch-tests --test kill_points -- --ignored --nocapture
//! ```
//!
//! `ORCH_KILL_MOMENTS=N` is how many moments the plain tests take of each case, and `ORCH_KILL_SEED=N` repeats
//! those of an earlier call, whose seed is printed.

use std::{collections::BTreeSet, fmt};

use orch_tests::{Checkout, KillPoints, Moment, Outcome, Plan, TestRepo, Witness, random, setting};

/// How many moments the plain tests take of each case.
const MOMENTS: u64 = 4;
/// The tasks, and what each one writes.
const TASKS: [&str; 4] = ["alone", "again", "late", "last"];

/// What a run is like that is killed.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// The setting `worktree_kind`.
    kind: &'static str,
    /// Whether merged results are verified.
    is_queued: bool,
    /// Whether the user has the target checked out.
    is_checked_out: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merges = if self.is_queued { "verified merges" } else { "plain merges" };
        let target = if self.is_checked_out { "checked out" } else { "elsewhere" };
        write!(f, "{}, {merges}, target {target}", self.kind)
    }
}

struct World {
    case: Case,
    repo: TestRepo,
    points: KillPoints,
    plan: Plan,
    witness: Witness,
    checkout: Checkout,
    began: String,
}

impl World {
    fn new(case: Case) -> Self {
        let repo = TestRepo::new();
        repo.configure(&format!(
            "grace = \"500ms\"\nbackoff = \"20ms\"\nworktree_kind = \"{}\"\n\
             worktree_setup = \"kill-point\"\n",
            case.kind
        ));
        if !case.is_checked_out {
            repo.git(["checkout", "--quiet", "-b", "mine"]);
            repo.make_dirty();
        }
        let record = repo.signal("record");
        let begin = format!("record {record}");
        let mut plan = Plan::new()
            .set("max_concurrency", 2)
            .set("target", "main")
            .default_value("retries", 3)
            .task("alone", |t| {
                t.script(format!("{begin}; write work/alone.txt alone; commit alone"))
                    .verify(["kill-point"])
            })
            // What its first attempt did is kept.
            .task("again", |t| {
                let half = "write work/again.txt half; commit half; write rest.txt 1";
                t.script(format!("{begin}; {half}; fail-times 1; write work/again.txt again"))
            })
            .task("late", |t| {
                t.script(format!("{begin}; cat work/alone.txt; write work/late.txt late"))
                    .needs(["alone"])
            })
            .task("last", |t| {
                t.script(format!("{begin}; write work/last.txt last; commit last"))
                    .needs(["alone", "again"])
            });
        if case.is_queued {
            plan = plan.verify_merged("kill-point").merge_value("batch", 2);
        }
        let points = KillPoints::new(&repo);
        let (checkout, began) = (repo.checkout(), repo.tip("main"));
        Self { case, points, plan, witness: Witness::new(record), checkout, began, repo }
    }

    /// Lives through a whole run whose orchestrators are killed at these moments, one after another.
    fn live(mut self, moments: &[Moment]) {
        let mut left = moments.iter();
        // One more for each, and one where nothing had begun.
        for _ in 0..=2 * moments.len() {
            let moment = left.next().copied();
            let outcome = self.go_on(moment);
            // After each other one the run is taken up while its agents, and its git, are at work.
            if moment.is_none_or(|moment| moment.number() % 2 == 0) || !self.repo.has_run() {
                self.repo.wait_until_quiet();
            }
            self.check(&outcome);
            if self.has_ended() {
                self.repo.wait_until_quiet();
                self.check_the_end();
                return;
            }
        }
        panic!("the run does not end");
    }

    fn go_on(&self, moment: Option<Moment>) -> Outcome {
        self.points.arm(moment);
        let orch = if self.repo.has_run() {
            self.repo.orch(["resume", "--json"])
        } else {
            let plan = self.repo.plan_file(&self.plan.to_string());
            self.repo.orch(["run", "--json"]).arg(plan)
        };
        let orch = orch.env("PATH", self.points.path()).spawn();
        self.points.watch(&orch);
        let outcome = orch.wait();
        if outcome.signal.is_none() {
            outcome.assert_code(0);
        }
        outcome
    }

    fn has_ended(&self) -> bool {
        self.repo.run_status().is_some_and(|status| status == "succeeded")
    }

    /// What holds after each death of an orchestrator.
    fn check(&mut self, outcome: &Outcome) {
        let repo = &self.repo;
        self.witness.see(outcome);
        let disturbed = BTreeSet::from([("again".to_owned(), 1)]);
        self.witness.assert_started_once(&disturbed);
        repo.assert_in_order(outcome);
        if !self.case.is_checked_out || repo.tip("main") == self.began {
            assert_eq!(repo.checkout(), self.checkout, "{outcome}");
        }
    }

    fn check_the_end(&self) {
        let repo = &self.repo;
        let branches: &[&str] =
            if self.case.is_checked_out { &["main"] } else { &["main", "mine"] };
        repo.assert_tidy(branches);
        for task in TASKS {
            let file = format!("work/{task}.txt");
            assert_eq!(repo.show("main", &file), format!("{task}\n"));
            if self.case.is_checked_out {
                assert_eq!(repo.read(&file), format!("{task}\n"));
            }
        }
        if self.case.is_checked_out {
            assert_eq!(repo.git(["status", "--porcelain"]), "");
        }
        let merges = repo.git([
            "log",
            "--merges",
            "--format=%(trailers:key=Orch-Task,valueonly,separator=%x20)",
            "main",
        ]);
        let mut merged: Vec<&str> = merges.lines().collect();
        merged.sort_unstable();
        let mut expected = TASKS;
        expected.sort_unstable();
        assert_eq!(merged, expected, "each task was merged once");
        let kept = repo.git(["for-each-ref", "--format=%(refname)", "refs/orch/preserved"]);
        let is_kept = |name: &str| repo.files_of(name).iter().any(|file| file == "rest.txt");
        // Where the first attempt was cut off before its agent was started, none has failed.
        let has_failed = self.witness.starts()["again"] > 1;
        assert!(!has_failed || kept.lines().any(is_kept), "the failed attempt is lost: {kept:?}");
        repo.orch(["gc"]).run().assert_code(0);
        assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
    }
}

/// How many moments a run has that is left alone.
fn moments_of(case: Case) -> usize {
    let mut world = World::new(case);
    let outcome = world.go_on(None);
    outcome.assert_code(0);
    world.repo.wait_until_quiet();
    let calls = world.points.calls();
    world.check(&outcome);
    world.check_the_end();
    let kill_points = calls.iter().filter(|call| call.starts_with("kill-point")).count();
    assert!(kill_points >= 6 && calls.len() > 30, "{calls:#?}");
    calls.len()
}

#[expect(clippy::print_stderr, reason = "they are what a failure is repeated with")]
fn kill(case: Case, moments: &[Moment]) {
    eprintln!("{case}: killed {moments:?}");
    World::new(case).live(moments);
}

/// Some moments, spread over the run.
fn sample(case: Case) {
    let moments = setting("ORCH_KILL_MOMENTS", MOMENTS).max(1);
    let mut random = random("ORCH_KILL_SEED");
    let all = moments_of(case) as u64;
    for part in 0..moments {
        let within =
            part * all / moments..((part + 1) * all / moments).max(part * all / moments + 1);
        let number = 1 + usize::try_from(random.u64(within)).expect("a number of a call");
        let moment = if random.bool() { Moment::Before(number) } else { Moment::After(number) };
        // The recovery of every other one is killed too.
        let again = Moment::After(random.usize(1..12));
        let both = [moment, again];
        kill(case, if part % 2 == 0 { &both[..1] } else { &both });
    }
}

/// Whether trees of this kind work here.
fn works(kind: &str) -> bool {
    let repo = TestRepo::new();
    repo.configure(&format!("worktree_kind = \"{kind}\"\n"));
    let found = repo.orch(["doctor", "--json"]).run().json();
    found["worktrees"]["kind"] == kind
}

#[test]
fn worktrees_and_plain_merges() {
    sample(Case { kind: "worktree", is_queued: false, is_checked_out: true });
}

#[test]
fn worktrees_and_verified_merges() {
    sample(Case { kind: "worktree", is_queued: true, is_checked_out: false });
}

#[test]
fn a_pool_and_verified_merges() {
    sample(Case { kind: "pool", is_queued: true, is_checked_out: true });
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that shows nothing must say so")]
fn layers_and_plain_merges() {
    if works("overlay") {
        sample(Case { kind: "overlay", is_queued: false, is_checked_out: false });
    } else {
        eprintln!("no overlays here");
    }
}

/// Kills `orch undo` at some of its calls of git, each `step`-th, and lets the next one finish it.
fn kill_undo(is_checked_out: bool, step: usize) {
    let repo = TestRepo::new();
    if !is_checked_out {
        repo.git(["checkout", "--quiet", "-b", "mine"]);
    }
    let began = repo.tip("main");
    let plan = Plan::new()
        .set("target", "main")
        .task("a", |t| t.script("write a.txt 1; rm README.md; commit a"));
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    let kept = format!("refs/orch/{}/undone/1/target", outcome.report().run_id());
    let delivered = repo.tip("main");
    let points = KillPoints::new(&repo);
    let mut is_killed = true;
    let mut number = 1;
    while is_killed {
        for moment in [Moment::Before(number), Moment::After(number)] {
            points.arm(Some(moment));
            let undo = repo.orch(["undo", "--yes"]).env("PATH", points.path()).spawn();
            points.watch(&undo);
            let outcome = undo.wait();
            is_killed = outcome.signal.is_some();
            repo.wait_until_quiet();
            assert!([&began, &delivered].contains(&&repo.tip("main")), "{moment}\n{outcome}");
            assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new(), "{moment}\n{outcome}");

            let again = repo.orch(["undo", "--yes"]).run();
            again.assert_code(0).assert_stdout(&["undone"]);
            assert_eq!((repo.tip("main"), repo.tip(&kept)), (began.clone(), delivered.clone()));
            assert_eq!(repo.git(["status", "--porcelain"]), "", "{moment}\n{outcome}{again}");
            repo.orch(["status"]).run().assert_stdout(&["The run was undone"]);
            assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new(), "{moment}\n{again}");
            if is_checked_out {
                repo.git(["merge", "--quiet", "--ff-only", &kept]);
            } else {
                repo.git(["update-ref", "refs/heads/main", &kept]);
            }
        }
        number += step;
    }
    assert!(number > 20, "it was killed at {number} calls only");
}

#[test]
fn an_undo_that_is_killed_is_finished_by_the_next() {
    kill_undo(false, 13);
    kill_undo(true, 13);
}

#[test]
#[ignore = "takes some minutes"]
fn an_undo_that_is_killed_anywhere_is_finished_by_the_next() {
    kill_undo(false, 1);
    kill_undo(true, 1);
}

/// Every moment of a run, with plain merges into a target that is checked out, and with verified ones.
#[expect(clippy::print_stderr, reason = "a test that shows nothing must say so")]
fn every_moment(kind: &'static str) {
    if !works(kind) {
        eprintln!("no trees of the kind {kind} here");
        return;
    }
    for is_queued in [false, true] {
        let case = Case { kind, is_queued, is_checked_out: !is_queued };
        for number in 1..=moments_of(case) {
            kill(case, &[Moment::Before(number)]);
            // And its recovery, at another moment each time.
            kill(case, &[Moment::After(number), Moment::After(1 + number % 11)]);
        }
    }
}

#[test]
#[ignore = "takes about 10 minutes"]
fn every_moment_with_worktrees() {
    every_moment("worktree");
}

#[test]
#[ignore = "takes about 10 minutes"]
fn every_moment_with_a_pool() {
    every_moment("pool");
}

#[test]
#[ignore = "takes about 10 minutes"]
fn every_moment_with_layers() {
    every_moment("overlay");
}
