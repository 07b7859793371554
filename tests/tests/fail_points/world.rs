//! A repository with a run in which something goes wrong.

use std::{collections::BTreeSet, time::Duration};

use orch_tests::{
    Chaos, Checkout, Orch, Outcome, Plan, TestRepo, Witness,
    fail_points::{Deed, PointLog},
    is_run,
};

use crate::scenario::{Before, Scenario};
use crate::{caught, order};

/// More orchestrators than any fault needs.
const MOST_LIVES: usize = 6;

/// How long an orchestrator may live for which nothing works.
const PATIENCE: Duration = Duration::from_secs(15);

/// Removes the records of earlier runs.
const REMOVAL: [&str; 4] = ["gc", "--runs", "--keep", "0"];

/// Who passes a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Orchestrator,
    Supervisor,
    /// A command after the run.
    Afterwards,
}

pub(crate) struct World {
    scenario: &'static Scenario,
    repo: TestRepo,
    plan: Plan,
    witness: Witness,
    checkout: Checkout,
    began: String,
    /// The bug that is planted.
    bug: Option<&'static str>,
    /// Whether operations fail in it.
    is_broken: bool,
    /// Whether anything is recorded of it.
    begun: bool,
    /// Attempts that may have been followed by another one; `None`: any.
    disturbed: Option<BTreeSet<(String, u32)>>,
}

/// Whether nothing was delivered because it could not be: the results are on a branch of their own.
fn is_undelivered(outcome: &Outcome) -> bool {
    let delivered = outcome.events.iter().find(|event| is_run(event, "delivered"));
    delivered.is_some_and(|event| event["delivery"]["result"] == "failed")
}

impl World {
    pub(crate) fn new(scenario: &'static Scenario) -> Self {
        let repo = scenario.repo();
        let record = repo.signal("record");
        let plan = scenario.plan(&repo, &record.to_string());
        let (checkout, began) = (repo.checkout(), repo.tip("main"));
        let witness = Witness::new(record);
        Self {
            scenario,
            plan,
            witness,
            checkout,
            began,
            repo,
            bug: None,
            is_broken: false,
            begun: false,
            disturbed: None,
        }
    }

    /// The same with a bug.
    pub(crate) fn with_bug(self, bug: &'static str) -> Self {
        Self { bug: Some(bug), ..self }
    }

    /// The points that are passed where nothing else goes wrong, and by whom.
    pub(crate) fn trace(mut self) -> Vec<(By, String)> {
        self.prepare();
        let log = PointLog::new(&self.repo);
        let orch = log.of(self.next()).spawn();
        let pid = orch.pid();
        let outcome = orch.wait();
        outcome.assert_code(0);
        self.repo.wait_until_quiet();
        self.check(&outcome);
        self.check_the_end();
        let by = |by| if by == pid { By::Orchestrator } else { By::Supervisor };
        let passed = log.passed();
        // A recovery meets work that was synced before.
        let is_whole = matches!(self.scenario.before, Before::Nothing | Before::EarlierRun);
        order::assert_durable(&passed, if is_whole { self.scenario.tasks.len() } else { 0 });
        let mut passed: Vec<_> =
            passed.into_iter().map(|passed| (by(passed.pid), passed.point)).collect();
        if self.scenario.before == Before::EarlierRun {
            let log = PointLog::new(&self.repo);
            log.of(self.repo.orch(REMOVAL).faulty()).run().assert_code(0);
            passed.extend(log.passed().into_iter().map(|passed| (By::Afterwards, passed.point)));
        }
        passed
    }

    /// Lives through a run with a fault, until it has ended.
    pub(crate) fn live(mut self, faults: &str, deed: Deed, by: By) {
        if by == By::Afterwards {
            return self.live_on(faults);
        }
        self.is_broken = deed == Deed::Error;
        if deed != Deed::Error
            && by == By::Orchestrator
            && self.scenario.before != Before::BrokenRun
        {
            let failing =
                [("again", 1), ("bare", 1), ("hangs", 1)].map(|(task, n)| (task.to_owned(), n));
            let sides = ["left", "right"].into_iter();
            let conflicting = sides.flat_map(|side| (1..=6).map(move |n| (side.to_owned(), n)));
            self.disturbed = Some(failing.into_iter().chain(conflicting).collect());
        }
        // Each attempt starts a supervisor of its own, in which a fault would happen once again.
        let faults = match by {
            By::Supervisor => faults.replace("1*return(E", "1*return(once E"),
            _ => faults.to_owned(),
        };
        self.live_through(&faults, 1, false);
    }

    /// Lives through a run with faults in the first `lives`, until it has ended. Where nothing works for long it
    /// `may_fail`.
    pub(crate) fn live_through(mut self, faults: &str, lives: usize, may_fail: bool) {
        self.is_broken |= !faults.contains("kill");
        self.prepare();
        // Half of the runs are taken up while their agents, and their git, are at work.
        let waits = faults.len().is_multiple_of(2);
        for life in 0..lives + MOST_LIVES {
            let orch = self.next();
            let outcome = match life < lives {
                // Whoever sees that nothing works ends it.
                true => self.with(faults, orch).spawn().wait_or_kill(PATIENCE),
                false => orch.run(),
            };
            // Its supervisor outlives it, and is to do its work.
            let _ = std::fs::remove_file(self.repo.signal("faults").path());
            self.begun = self.has_begun();
            // Where its supervisor is dead too, nobody ends its agents before the next orchestrator does.
            if (waits && self.scenario.before != Before::BrokenRun) || !self.begun {
                self.repo.wait_until_quiet();
            }
            self.check(&outcome);
            match self.repo.run_status().as_deref() {
                Some("succeeded") => {
                    self.repo.wait_until_quiet();
                    if may_fail && is_undelivered(&outcome) {
                        return assert!(self.repo.branches().len() > 1, "{outcome}");
                    }
                    let ended = caught(|| self.check_the_end());
                    ended.unwrap_or_else(|why| panic!("{why}\n{outcome}"));
                    return assert_eq!(self.repo.doctor(), Vec::<serde_json::Value>::new());
                }
                Some("failed") if may_fail => return self.repo.wait_until_quiet(),
                Some("failed" | "conflicted") => panic!("the run failed for one fault\n{outcome}"),
                _ => assert_ne!(outcome.code, Some(0), "it ended well and did not end\n{outcome}"),
            }
        }
        panic!("the run does not end");
    }

    /// Lives through what is done after a run, with a fault.
    fn live_on(mut self, faults: &str) {
        self.prepare();
        let outcome = self.next().run();
        self.check(&outcome);
        self.repo.wait_until_quiet();
        self.check_the_end();
        let outcome = self.with(faults, self.repo.orch(REMOVAL).faulty()).run();
        assert!(matches!(outcome.code, None | Some(0..=3)), "{outcome}");
        self.repo.orch(REMOVAL).faulty().run().assert_code(0);
        let runs = self.repo.orch(["runs", "--json"]).run().json();
        assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs:#}");
        self.check_the_end();
    }

    fn prepare(&mut self) {
        match self.scenario.before {
            Before::Nothing => {}
            Before::EarlierRun => {
                let plan = Plan::new().task("earlier", |t| t.shell("true"));
                self.repo.run(&plan).assert_code(0);
                self.repo.wait_until_quiet();
            }
            Before::BrokenRun => self.break_off(),
            Before::TornRun => {
                let torn = "journal::append.before=8*off->1*return(torn)";
                let outcome = self.with(torn, self.next()).run();
                assert!(outcome.signal.is_some(), "it was to be killed\n{outcome}");
                self.begun = true;
                self.repo.wait_until_quiet();
            }
        }
    }

    /// Its orchestrator dies in the middle of a write, its supervisor dies, a writer and a git die.
    fn break_off(&mut self) {
        for after in (10..).step_by(2) {
            let torn = format!("journal::append.before={after}*off->1*return(torn)");
            let outcome = self.with(&torn, self.next()).run();
            assert!(outcome.signal.is_some(), "it was to be killed\n{outcome}");
            // There has to be an agent at work that is in no control group, which takes longer on some machines.
            let has_begun = self.witness.starts().contains_key("bare");
            if has_begun && Chaos::new(1).kill_supervisor(&self.repo, &self.witness) {
                self.begun = true;
                self.check(&outcome);
                break;
            }
            let Self { scenario, bug, is_broken, .. } = *self;
            *self = Self { bug, is_broken, ..Self::new(scenario) };
        }
        let run = self.repo.read(".orch/current");
        self.repo.write(&format!(".orch/runs/{run}/.orch-tmp-left"), "half");
        self.repo.write(&format!(".git/refs/heads/orch/{run}/alone.lock"), "");
    }

    /// Whether anything is recorded of the run.
    fn has_begun(&self) -> bool {
        let runs = self.repo.orch(["runs", "--json"]).run().json();
        let runs = runs["runs"].as_array().map_or(0, Vec::len);
        runs > usize::from(self.scenario.before == Before::EarlierRun)
    }

    /// The next life of the orchestrator.
    fn next(&self) -> Orch<'_> {
        let orch = if self.begun {
            self.repo.orch(["resume", "--json"])
        } else {
            let plan = self.repo.plan_file(&self.plan.to_string());
            self.repo.orch(["run", "--json"]).arg(plan)
        };
        match self.bug {
            Some(bug) => orch.faulty().env("ORCH_PLANTED_BUG", bug),
            None => orch.faulty(),
        }
    }

    /// The same with faults. They end with the first kill, or with this life.
    fn with<'r>(&'r self, faults: &str, orch: Orch<'r>) -> Orch<'r> {
        let signal = self.repo.signal("faults");
        signal.raise();
        orch.env("FAILPOINTS", faults).env("ORCH_FAULTS_WHILE", signal.path())
    }

    /// What holds after each life.
    fn check(&mut self, outcome: &Outcome) {
        let repo = &self.repo;
        // Killed, done, failed in a task, refused, or the engine could not do its job.
        assert!(matches!(outcome.code, None | Some(0..=3)), "{outcome}");
        assert!(outcome.signal.is_none_or(|signal| signal == 9), "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        self.witness.see(outcome);
        if let Some(disturbed) = &self.disturbed {
            self.witness.assert_started_once(disturbed);
        }
        if self.is_broken {
            repo.assert_mendable(outcome);
        } else {
            repo.assert_in_order(outcome);
        }
        if !self.scenario.is_checked_out || repo.tip("main") == self.began {
            assert_eq!(repo.checkout(), self.checkout, "{outcome}");
        }
    }

    fn check_the_end(&self) {
        let repo = &self.repo;
        let branches: &[&str] =
            if self.scenario.is_checked_out { &["main"] } else { &["main", "mine"] };
        repo.assert_tidy(branches);
        for task in self.scenario.tasks {
            assert_eq!(repo.show("main", &format!("work/{task}.txt")), format!("{task}\n"));
        }
        if self.scenario.tasks.contains(&"left") {
            let both = repo.show("main", "work/both.txt");
            let mut both: Vec<&str> = both.lines().collect();
            both.sort_unstable();
            assert_eq!(both, ["left", "right"]);
        }
        if self.scenario.is_checked_out {
            assert_eq!(repo.git(["status", "--porcelain"]), "");
        }
        let kept = repo.git(["for-each-ref", "--format=%(refname)", "refs/orch/preserved"]);
        let is_kept = |name: &str| repo.files_of(name).iter().any(|file| file == "rest.txt");
        // Where the first attempt was cut off before it had done that, there is nothing to keep.
        let has_failed =
            self.witness.starts().get("again").is_some_and(|n| *n > 1) && self.disturbed.is_some();
        assert!(!has_failed || kept.lines().any(is_kept), "a failed attempt is lost: {kept:?}");
        let merges = repo.git([
            "log",
            "--merges",
            "--format=%(trailers:key=Orch-Task,valueonly,separator=%x20)",
            "main",
        ]);
        let mut merged: Vec<&str> = merges.lines().collect();
        merged.sort_unstable();
        assert_eq!(merged, self.scenario.tasks, "each task was merged once");
        repo.orch(["gc"]).run().assert_code(0);
    }
}
