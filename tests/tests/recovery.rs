//! A recovery that is interrupted any number of times ends in the same state as one that is not.
//!
//! `ORCH_RECOVERY_KILLS=N` is how often it is interrupted (6 times in the plain tests), and
//! `ORCH_RECOVERY_SEED=N` repeats the moments of an earlier call, whose seed it prints first.

use std::{collections::BTreeSet, fs, time::Duration};

use orch_tests::{
    Chaos, Checkout, EndState, Plan, Signal, TestRepo, Witness, binary, is_run, process_is_alive,
    random, setting, until,
};

/// How long a recovery lives at most before it is killed.
const LONGEST: Duration = Duration::from_millis(400);

/// A run whose orchestrator was killed when there was something of everything to recover.
struct Killed {
    repo: TestRepo,
    witness: Witness,
    /// Lets the agents end that outlive the recoveries.
    go: Signal,
    checkout: Checkout,
}

impl Killed {
    /// `with_supervisor`: the supervisor was killed as well, so that nothing can be adopted.
    fn new(with_supervisor: bool) -> Self {
        let repo = TestRepo::new();
        let [record, early, late, verifying, go] =
            ["record", "early", "late", "verifying", "go"].map(|name| repo.signal(name));
        let begin = format!("record {record}");
        let agent = binary::fake_agent().display();
        let verify = format!("{agent} 'touch {verifying}; wait-for {go}'");
        let mut plan = Plan::new().set("max_concurrency", 32).set("target", "main");
        plan = plan.task("early", |t| {
            t.script(format!("{begin}; wait-for {early}; write shared.txt early; commit early"))
        });
        for n in 0..3 {
            let wait = format!("{begin}; wait-for {late}; write {n}.txt {n}");
            plan = plan
                .task(format!("ended{n}"), |t| t.script(format!("{wait}; commit ended")))
                .task(format!("failed{n}"), |t| t.script(format!("{wait}; commit half; exit 1")))
                .task(format!("skipped{n}"), |t| t.script(&begin).needs([&*format!("failed{n}")]))
                .task(format!("conflict{n}"), |t| {
                    t.script(format!("{begin}; wait-for {late}; write shared.txt {n}; commit {n}"))
                })
                .task(format!("running{n}"), |t| {
                    t.script(format!("{begin}; wait-for {go}; write running{n}.txt 1"))
                })
                .task(format!("next{n}"), |t| {
                    let script = format!("{begin}; cat {n}.txt; write next{n}.txt 1; commit next");
                    t.script(script).needs([&*format!("ended{n}")])
                })
                .task(format!("last{n}"), |t| {
                    let script = format!("{begin}; cat running{n}.txt; append last{n}.txt 1");
                    t.script(script).needs([&*format!("running{n}"), &*format!("next{n}")])
                });
        }
        plan = plan.task("verified", |t| {
            t.script(format!("{begin}; write verified.txt 1")).verify([&*verify])
        });
        repo.make_dirty();
        let checkout = repo.checkout();
        let mut run = repo.start(&plan);
        until("all agents", || (text(&record).lines().count() == 14).then_some(()));
        early.raise();
        run.wait_for_change("early", "merged");
        run.wait_for(&verifying);
        run.kill();
        let mut witness = Witness::new(record.clone());
        witness.see(&run.wait());
        late.raise();
        for line in text(&record).lines() {
            let [task, _, pid] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            if !task.starts_with("running") {
                let pid = pid.parse().expect("a pid");
                until("the end of an agent", || (!process_is_alive(pid)).then_some(()));
            }
        }
        let killed = Self { repo, witness, go, checkout };
        until("the record of the ends", || {
            let runs = fs::read_dir(killed.repo.path().join(".orch/runs")).ok()?;
            let run = runs.flatten().next()?.path();
            let ends = fs::read_to_string(run.join("supervisor.jsonl")).ok()?;
            (ends.matches("\"ended\":{").count() == 11).then_some(())
        });
        if with_supervisor {
            assert!(Chaos::new(1).kill_supervisor(&killed.repo, &killed.witness));
        }
        killed
    }

    /// Takes the run up again, and kills the orchestrator after some time.
    fn recover_in_part(&mut self, life: Duration, random: &mut fastrand::Rng) {
        let mut orch = self.repo.orch(["resume", "--json"]).spawn();
        let mut chaos = Chaos::new(0);
        chaos.accompany(&mut orch, (&self.repo, &self.witness), Some(life), random);
        let outcome = orch.wait();
        assert!(outcome.signal.is_some(), "it can't end while agents wait\n{outcome}");
        self.witness.see(&outcome);
        assert_eq!(self.repo.checkout(), self.checkout);
    }

    /// Takes the run up for the last time.
    fn recover(mut self, disturbed: &BTreeSet<(String, u32)>) -> EndState {
        self.go.raise();
        let outcome = self.repo.orch(["resume", "--json"]).with_report().run();
        outcome.assert_code(1);
        self.witness.see(&outcome);
        self.witness.assert_started_once(disturbed);
        self.repo.wait_until_quiet();
        assert_eq!(self.repo.checkout(), self.checkout);
        let report = outcome.report();
        for (task, status) in report.statuses() {
            let expected = match task.trim_end_matches(char::is_numeric) {
                "failed" => "failed",
                "skipped" => "skipped",
                "conflict" => "conflicted",
                _ => "merged",
            };
            assert_eq!(status, expected, "{task}\n{outcome}");
        }
        let results = format!("orch/{}/target", report.run_id());
        let end = EndState::of(&self.repo, &report, &results);
        assert_eq!(self.repo.doctor(), Vec::<serde_json::Value>::new());
        // Nothing of a merge is left that was taken back or made twice.
        assert_eq!(self.repo.git(["fsck", "--connectivity-only", "--no-dangling"]), "");
        end
    }

    /// Attempts that may be repeated where the supervisor was killed too: those that ran.
    fn running(&self) -> BTreeSet<(String, u32)> {
        let undone = self.witness.undone().into_iter();
        undone.filter(|(task, _)| task.starts_with("running")).collect()
    }
}

fn text(record: &Signal) -> String {
    fs::read_to_string(record.path()).unwrap_or_default()
}

fn check(with_supervisor: bool) {
    let kills = setting("ORCH_RECOVERY_KILLS", 6);
    let mut random = random("ORCH_RECOVERY_SEED");
    let repeated =
        |killed: &Killed| if with_supervisor { killed.running() } else { BTreeSet::new() };

    let whole = Killed::new(with_supervisor);
    let disturbed = repeated(&whole);
    let expected = whole.recover(&disturbed);

    let mut interrupted = Killed::new(with_supervisor);
    let disturbed = repeated(&interrupted);
    for _ in 0..kills {
        // Half of them do not come far.
        let longest = if random.bool() { LONGEST } else { LONGEST / 8 };
        interrupted.recover_in_part(longest.mul_f64(random.f64()), &mut random);
    }
    assert_eq!(interrupted.recover(&disturbed), expected);
}

#[test]
fn an_interrupted_recovery_ends_in_the_same_state() {
    check(false);
}

#[test]
fn an_interrupted_recovery_without_a_supervisor_ends_in_the_same_state() {
    check(true);
}

/// A removal that was not on the disk yet when the power was cut is undone by that.
#[test]
fn what_comes_back_of_a_merged_task_is_taken_away_again() {
    let repo = TestRepo::new();
    let go = repo.signal("go");
    let plan = Plan::new()
        .task("a", |t| t.script("write a.txt 1; commit a"))
        .task("b", |t| t.script(format!("wait-for {go}; write b.txt 1")).needs(["a"]));
    let mut run = repo.start(&plan);
    let id = run.wait_for_change("b", "started")["run"].as_str().expect("a run").to_owned();
    run.kill();
    let _ = run.wait();
    let folder = repo.beside("repo.worktrees").join(&id).join("a");
    let (folder, branch) = (folder.to_string_lossy(), format!("orch/{id}/a"));
    repo.git(["worktree", "add", "--quiet", "-b", &branch, &folder, &format!("orch/{id}/target")]);
    go.raise();
    let outcome = repo.orch(["resume"]).run();
    outcome.assert_code(0);
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new(), "{outcome}");
    assert!(!repo.has_branch(&branch), "{outcome}");
}

#[test]
fn an_agent_whose_work_will_be_verified_is_left_at_work() {
    let repo = TestRepo::new();
    let (record, go) = (repo.signal("record"), repo.signal("go"));
    let plan = Plan::new().task("a", |t| {
        t.script(format!("record {record}; wait-for {go}; write a.txt 1")).verify(["test -f a.txt"])
    });
    let mut run = repo.start(&plan);
    run.wait_for_change("a", "started");
    let first = run.text_of(&record);
    run.kill();
    let _ = run.wait();
    let mut resumed = repo.orch(["resume", "--json"]).spawn();
    resumed.next_event(|event| is_run(event, "run_reopened"));
    go.raise();
    let outcome = resumed.wait();
    outcome.assert_code(0);
    assert_eq!(record.text(), first, "it was started again\n{outcome}");
}
