//! The power is cut at random moments, again and again in the same run, until the run is done.
//!
//! Repository, worktrees and the state of orch are on a file system of their own (ext4 in a file, mounted with
//! `noauto_da_alloc`), which is stopped in the middle of everything (`EXT4_IOC_SHUTDOWN`, nothing is written out before): what
//! was not synced is lost, and files are empty that were renamed before they were synced. What agents have started is recorded elsewhere.
//!
//! This needs root, loop devices and python3; where one of them is missing it is skipped, and says so. In its short form it is
//! part of the tests. The long form:
//!
//! ```text
//! ORCH_POWER_CUTS=300 cargo test --release -p orch-tests --test power_cuts -- --nocapture
//! ```
//!
//! `ORCH_POWER_SEED=N` repeats the moments of an earlier call, whose seed it prints first.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use orch_tests::{
    Campaign, Checkout, FragileDisk, Outcome, Plan, RunningOrch, TestRepo, Witness,
    in_own_namespace, random, setting,
};
use serde_json::Value;

const TASKS: usize = 24;
const COMMAND: &str =
    "ORCH_POWER_CUTS=300 cargo test --release -p orch-tests --test power_cuts -- --nocapture";
/// How often the power is cut in one run at most.
const CUTS_PER_RUN: u32 = 8;
/// How long there is power at most.
const LONGEST: Duration = Duration::from_millis(1200);
/// How exactly the moment is met.
const TICK: Duration = Duration::from_millis(1);
/// How large the disk is: sparse, and a journal of ext4 is in it.
const DISK: u64 = 192 << 20;

#[test]
#[expect(clippy::print_stderr, reason = "what a campaign did is its result")]
fn a_run_whose_power_is_cut_again_and_again_loses_nothing() {
    let cuts: u32 = setting("ORCH_POWER_CUTS", 4);
    let name = "a_run_whose_power_is_cut_again_and_again_loses_nothing";
    let programs = ["unshare", "mount", "umount", "mkfs.ext4", "e2fsck", "python3"];
    if !in_own_namespace(name, &programs, &format!("{cuts} power cuts")) {
        return;
    }
    let mut random = random("ORCH_POWER_SEED");
    let mut campaign = Campaign::begin("power-cuts", COMMAND);
    let (mut done, mut runs) = (0, 0_u32);
    while done < cuts && campaign.has_time() {
        let mut world = World::new(runs);
        done += world.run_to_the_end(&mut random, CUTS_PER_RUN.min(cuts - done));
        runs += 1;
        eprintln!("run {runs}: {done} cuts, {:?}", world.seen);
        campaign.caused("power cut", world.seen.cuts);
        campaign.caused("power cut in a recovery", world.seen.in_recovery);
        campaign.did("acknowledged merges looked at after a cut", world.seen.acknowledged);
        campaign.did("merges told while the power was cut, and lost", world.seen.told_too_late);
        campaign.did("objects that a cut had emptied", world.seen.emptied);
    }
    campaign.did("runs", runs);
    campaign.finish();
}

/// What came of the cuts.
#[derive(Debug, Default)]
struct Seen {
    cuts: u32,
    /// Cuts before an orchestrator that took a run up had told of anything.
    in_recovery: u32,
    /// Tasks that had been told to be merged at each cut.
    acknowledged: u64,
    /// Merges that were told while the power was cut, and never written down.
    told_too_late: u32,
    /// Objects of git that were empty after a cut: none of what was told.
    emptied: u64,
}

/// A run whose power is cut.
struct World {
    /// Dropped before the disk that it is on.
    repo: TestRepo,
    disk: FragileDisk,
    plan: Plan,
    witness: Witness,
    /// The commits that tasks were told to be merged as.
    merged: BTreeMap<String, String>,
    checkout: Checkout,
    /// What a person was told that may explain what is found.
    warnings: Vec<String>,
    /// Where those of agents are, if there are any.
    control_groups: Option<PathBuf>,
    seen: Seen,
}

impl World {
    fn new(number: u32) -> Self {
        let disk = FragileDisk::new(DISK);
        let repo = TestRepo::builder().on(disk.path()).build();
        // One in four runs has worktrees that are used again.
        let kind = if number % 4 == 3 { "pool" } else { "worktree" };
        repo.configure(&format!(
            "grace = \"300ms\"\nbackoff = \"20ms\"\nmin_free_disk = \"0B\"\nworktree_kind = \"{kind}\"\n"
        ));
        if number.is_multiple_of(2) {
            repo.git(["checkout", "--quiet", "-b", "mine"]);
        }
        repo.make_dirty();
        let checkout = repo.checkout();
        disk.sync();
        let record = repo.signal("record");
        let mut plan = Plan::new().set("max_concurrency", 6).set("target", "main");
        plan = plan.default_value("retries", 3);
        for number in 0..TASKS {
            let nap = if number % 5 == 0 { 300 } else { 5 + number % 7 * 10 };
            let id = name(number);
            let work = format!("record {record}; sleep 0.{nap:03}; write work/{id}.txt {id}");
            plan = plan.task(&id, |task| {
                let task = match number % 3 {
                    // What is not committed is committed by the engine.
                    0 => task.script(work),
                    1 => task.script(format!("{work}; commit {id}")).verify(["test -d work"]),
                    _ => task.script(format!("{work}; commit {id}")).lock("narrow"),
                };
                match number {
                    0..12 => task,
                    _ => task.needs([&*name(number - 12), &*name(number - 7)]),
                }
            });
        }
        if number % 3 == 2 {
            plan = plan.verify_merged("true").merge_value("batch", 2);
        }
        let (witness, merged, seen) = (Witness::new(record), BTreeMap::new(), Seen::default());
        let control_groups = repo.control_groups();
        let warnings = Vec::new();
        Self { repo, disk, plan, witness, merged, checkout, warnings, control_groups, seen }
    }

    /// Gives how often the power was cut.
    fn run_to_the_end(&mut self, random: &mut fastrand::Rng, cuts: u32) -> u32 {
        while !self.has_ended() {
            // Half of the cuts hit the beginning, which is the recovery of a run.
            let longest = if random.bool() { LONGEST / 6 } else { LONGEST };
            let life = random.u64(0..longest.as_millis() as u64);
            let life = (self.seen.cuts < cuts).then(|| Duration::from_millis(life));
            let is_resumed = self.repo.has_run();
            let (outcome, is_cut) = self.go_on(is_resumed, life);
            self.take_in(&outcome);
            if is_cut {
                let has_told = outcome.events.iter().any(|e| e["event"] != "run_reopened");
                self.seen.in_recovery += u32::from(is_resumed && !has_told);
                self.check_after_a_cut(&outcome);
            } else {
                outcome.assert_code(0);
            }
        }
        self.repo.wait_until_quiet();
        self.check_the_end();
        self.seen.cuts
    }

    /// Gives also whether the power was cut.
    fn go_on(&mut self, is_resumed: bool, life: Option<Duration>) -> (Outcome, bool) {
        let mut orch = if is_resumed {
            self.repo.orch(["resume", "--json"]).spawn()
        } else {
            // Also where the power was cut before anything was recorded of the run.
            assert_eq!(self.merged.len(), 0, "the run is gone");
            let plan = self.repo.plan_file(&self.plan.to_string());
            self.repo.orch(["run", "--json"]).arg(plan).spawn()
        };
        if !lives_for(&mut orch, life) {
            return (orch.wait(), false);
        }
        let told = orch.events_until_now().count();
        self.disk.cut();
        self.seen.cuts += 1;
        // Whoever ends now can't write it down.
        self.repo.kill_everything();
        let mut outcome = orch.wait();
        // A sync that waits while the file system is shut down may be told that all is well, which nobody
        // would hear of whose power is gone.
        let late = outcome.events.split_off(told.min(outcome.events.len()));
        self.repo.wait_until_quiet();
        self.disk.power_up();
        self.forget_control_groups();
        self.take_in_late(&late);
        let has_begun = self.repo.has_run();
        if !has_begun {
            // Nothing was recorded yet of what it had begun to make.
            self.repo.orch(["gc"]).run().assert_code(0);
        }
        if !has_begun || self.has_ended() {
            // Nobody takes it up any more; what was removed last may be there again.
            let _ = self.repo.orch(["doctor", "--repair"]).run();
        }
        (outcome, true)
    }

    /// The next boot has none of them.
    fn forget_control_groups(&self) {
        let Some(folder) = &self.control_groups else { return };
        let runs = fs::read_dir(self.repo.path().join(".orch/runs")).into_iter().flatten();
        for run in runs.flatten() {
            let group = folder.join(format!("orch-{}", run.file_name().to_string_lossy()));
            for part in fs::read_dir(&group).into_iter().flatten().flatten() {
                // Those are folders, and what is no folder goes with the one that it is in.
                let _ = fs::remove_dir(part.path());
            }
            let _ = fs::remove_dir(group);
        }
    }

    fn has_ended(&self) -> bool {
        self.repo.run_status().is_some_and(|status| status == "succeeded")
    }

    /// Of what was told while the power was cut, what was written down counts as well.
    fn take_in_late(&mut self, events: &[Value]) {
        let runs = fs::read_dir(self.repo.path().join(".orch/runs")).into_iter().flatten();
        let journals = runs.flatten().map(|run| fs::read(run.path().join("journal")));
        let journals: Vec<u8> = journals.flat_map(Result::unwrap_or_default).collect();
        let journals = String::from_utf8_lossy(&journals);
        for event in events.iter().filter(|event| event["change"] == "merged") {
            if journals.contains(&format!("\"seq\":{},", event["seq"])) {
                self.note_merged(event);
            } else {
                self.seen.told_too_late += 1;
            }
        }
    }

    fn note_merged(&mut self, event: &Value) {
        let commit = event["result"]["merge_commit"].as_str();
        let commit = commit.unwrap_or_else(|| panic!("{event} names no commit"));
        let task = event["task"].as_str().expect("a task").to_owned();
        self.merged.insert(task, commit.to_owned());
    }

    fn take_in(&mut self, outcome: &Outcome) {
        self.witness.see(outcome);
        let warnings = outcome.events.iter().filter(|event| event["event"] == "warning");
        self.warnings.extend(warnings.map(ToString::to_string));
        for event in outcome.events.iter().filter(|event| event["change"] == "merged") {
            self.note_merged(event);
        }
    }

    /// What was told is there, can be read, and is reachable; the checkout is as it was.
    #[track_caller]
    fn check_after_a_cut(&mut self, outcome: &Outcome) {
        self.seen.acknowledged += self.merged.len() as u64;
        self.seen.emptied += empty_files(&self.repo.path().join(".git/objects"));
        assert_eq!(self.repo.checkout(), self.checkout, "{outcome}");
        if self.merged.is_empty() {
            return;
        }
        assert!(self.repo.has_run(), "the run is gone\n{outcome}");
        let results = self.results();
        for (task, commit) in &self.merged {
            let file = format!("{commit}:work/{task}.txt");
            assert_eq!(self.repo.git(["show", &*file]), *task, "{outcome}");
            let is_in = self.repo.git(["rev-list", "--merges", &*results]).contains(&**commit);
            let references =
                || self.repo.git(["for-each-ref", "--format=%(refname) %(objectname)"]);
            assert!(is_in, "{task} is not in {results} as {commit}\n{}\n{outcome}", references());
        }
        self.assert_can_be_read(&results);
    }

    /// All of its commits, and all that it contains.
    #[track_caller]
    fn assert_can_be_read(&self, results: &str) {
        self.repo.git(["rev-list", "--objects", "--quiet", results]);
        self.repo.git(["archive", "--output", "/dev/null", "--format", "tar", results]);
    }

    /// The branch that tasks are merged into.
    fn results(&self) -> String {
        if self.repo.git(["symbolic-ref", "--short", "HEAD"]) == "mine" {
            return "main".into();
        }
        let run = self.repo.orch(["runs", "--json"]).run().json()["runs"][0]["run"].clone();
        format!("orch/{}/target", run.as_str().expect("a run"))
    }

    /// Every task was merged exactly once, and nothing is left.
    fn check_the_end(&self) {
        let repo = &self.repo;
        let mut findings = repo.doctor();
        // Whoever locks first in a boot removes the table of the boot before, and a run that had
        // nothing left to do but to end has locked nothing.
        findings.retain(|finding| {
            let place = finding["place"].as_str().unwrap_or_default();
            !(place.contains("/@leases.") && finding["is_repairable"] == true)
        });
        assert!(findings.is_empty(), "{findings:#?}\n{:#?}", self.warnings);
        assert_eq!(repo.checkout(), self.checkout);
        let results = self.results();
        let mut branches = vec!["main", if results == "main" { "mine" } else { &*results }];
        branches.sort_unstable();
        repo.assert_tidy(&branches);
        let expected: Vec<String> = (0..TASKS).map(name).collect();
        let files = repo.git(["grep", "--no-color", "-h", "", &results, "--", "work"]);
        let mut lines: Vec<&str> = files.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected, "each task has written one line");
        let trailer = "--format=%(trailers:key=Orch-Task,valueonly,separator=%x20)";
        let merges = repo.git(["log", "--merges", trailer, &*results]);
        let mut merged: Vec<&str> = merges.lines().collect();
        merged.sort_unstable();
        assert_eq!(merged, expected, "each task was merged once");
        self.assert_can_be_read(&results);
        self.disk.check();
    }
}

/// Whether it lived as long as it was to live.
fn lives_for(orch: &mut RunningOrch<'_>, life: Option<Duration>) -> bool {
    let end = life.map(|life| Instant::now() + life);
    while !orch.has_ended() {
        if end.is_some_and(|end| end <= Instant::now()) {
            return true;
        }
        // The moment of the cut is what is random here, not something that is waited for.
        thread::sleep(TICK);
    }
    false
}

fn empty_files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |path: &Path| match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => empty_files(path),
        Ok(metadata) => u64::from(metadata.len() == 0),
        Err(_) => 0,
    };
    entries.map(|entry| count(&entry.path())).sum()
}

fn name(number: usize) -> String {
    format!("t{number:02}")
}
