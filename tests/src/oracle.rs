//! What has to hold after every fault: what `orch doctor` finds, and what can only be seen from
//! outside of the workspace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal as Kill, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::{Outcome, Signal, TestRepo, until};

impl TestRepo {
    /// What `orch doctor` finds.
    ///
    /// # Panics
    /// Where it can't look.
    #[track_caller]
    #[must_use]
    pub fn doctor(&self) -> Vec<Value> {
        let outcome = self.orch(["doctor", "--json"]).run();
        let findings = outcome.json()["findings"].as_array().cloned().unwrap_or_default();
        outcome.assert_code(i32::from(!findings.is_empty()));
        findings
    }

    /// Checks that nothing is left of runs but these branches: no process, and no worktree but those of a pool,
    /// which wait there for the next task.
    ///
    /// # Panics
    /// Where anything is.
    #[track_caller]
    pub fn assert_tidy(&self, branches: &[&str]) {
        let is_of_pool = |path: &Path| path.components().any(|part| part.as_os_str() == ".pool");
        let left = self.worktrees().into_iter().filter(|path| !is_of_pool(path.as_ref()));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());
        assert_eq!(self.processes(), Vec::<u32>::new());
        assert_eq!(self.branches(), branches);
    }

    /// Whether anything is recorded of a run.
    ///
    /// # Panics
    /// Where `orch runs` fails.
    #[track_caller]
    #[must_use]
    pub fn has_run(&self) -> bool {
        let runs = self.orch(["runs", "--json"]).run().json();
        runs["runs"].as_array().is_some_and(|runs| !runs.is_empty())
    }

    /// The status of the last run, where nobody is at work on it.
    ///
    /// # Panics
    /// Where `orch runs` fails.
    #[track_caller]
    #[must_use]
    pub fn run_status(&self) -> Option<String> {
        let runs = self.orch(["runs", "--json"]).run().json();
        let run = &runs["runs"][0];
        run["owner"].is_null().then(|| run["status"].as_str().map(str::to_owned)).flatten()
    }

    /// What holds whenever an orchestrator has ended, however that was: `orch doctor` finds nothing.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub fn assert_in_order(&self, outcome: &Outcome) {
        let was_cut_off = outcome.code != Some(0);
        let has_begun = self.has_run();
        if was_cut_off && !has_begun {
            // It was killed between the making of its branch, which its git finishes all the same,
            // and the first record.
            self.wait_until_quiet();
            self.orch(["gc"]).run().assert_code(0);
        }
        if was_cut_off && (!has_begun || self.run_status().is_some_and(|s| s == "succeeded")) {
            // It was killed before the first record, or before the last file for people.
            let _ = self.orch(["doctor", "--repair"]).run();
        }
        let findings = self.doctor();
        assert!(findings.is_empty(), "{findings:#?}\n{outcome}");
    }

    /// What holds where something failed that tidies up: `orch doctor` finds nothing but what it can repair.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub fn assert_mendable(&self, outcome: &Outcome) {
        let findings = if self.has_run() { self.doctor() } else { Vec::new() };
        if !findings.is_empty() {
            let may_mend = findings.iter().all(|finding| finding["is_repairable"] == true);
            assert!(may_mend, "{findings:#?}\n{outcome}");
            let _ = self.orch(["doctor", "--repair"]).run();
        }
        self.assert_in_order(outcome);
    }

    /// The control group that those of agents are made in; says so where there can be none.
    ///
    /// # Panics
    /// Where `orch doctor` can't be asked.
    #[track_caller]
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a test that can't test anything says so")]
    pub fn control_groups(&self) -> Option<PathBuf> {
        let document = self.orch(["doctor", "--json"]).run().json();
        let groups = &document["control_groups"];
        if let Some(why) = groups["why_not"].as_str() {
            eprintln!("SKIPPED: no control groups here: {why}");
        }
        groups["folder"].as_str().map(Into::into)
    }

    /// Processes that run in the environment of this test: its `orch`, its agents, its git.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let home = format!("HOME={}", self.beside("home").display());
        let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let is_ours = |path: PathBuf| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|pair| pair == home.as_bytes())
        };
        entries
            .filter(|entry| is_ours(entry.path()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Kills all that runs in the environment of this test, again and again until nothing does.
    ///
    /// # Panics
    /// After [`crate::DEADLINE`].
    #[track_caller]
    pub fn kill_everything(&self) {
        let mut was_quiet = false;
        until("the end of all that was killed", || {
            let processes = self.processes();
            let before = std::mem::replace(&mut was_quiet, processes.is_empty());
            for pid in processes {
                kill(pid);
            }
            (before && was_quiet).then_some(())
        });
    }

    /// Waits until nothing runs any more in the environment of this test.
    ///
    /// # Panics
    /// After [`crate::DEADLINE`].
    #[track_caller]
    pub fn wait_until_quiet(&self) {
        // One that is just becoming another program has no environment for a moment.
        let mut was_quiet = false;
        until("the end of all processes of the test", || {
            let before = std::mem::replace(&mut was_quiet, self.processes().is_empty());
            (before && was_quiet).then_some(())
        });
    }
}

/// It may have ended already.
fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) {
        let _ = pidfd_send_signal(handle, Kill::KILL);
    }
}

/// Watches from outside that no task which was told to be merged runs again: agents write down
/// each start with `record`, durably, and `orch --json` tells what is done.
#[derive(Debug)]
pub struct Witness {
    record: Signal,
    /// How often a task had been started when it was told to be merged.
    done: BTreeMap<String, usize>,
}

impl Witness {
    /// A witness of what agents `record` in a file.
    #[must_use]
    pub fn new(record: Signal) -> Self {
        Self { record, done: BTreeMap::new() }
    }

    /// How often each task was started.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for (task, _) in self.attempts() {
            *starts.entry(task).or_default() += 1;
        }
        starts
    }

    /// The attempts that were started, in the order of their starts.
    fn attempts(&self) -> Vec<(String, u32)> {
        let text = fs::read_to_string(self.record.to_string()).unwrap_or_default();
        let attempt = |line: &str| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        text.lines().filter_map(attempt).collect()
    }

    /// The last attempts at tasks that were not told to be merged.
    #[must_use]
    pub fn undone(&self) -> BTreeMap<String, u32> {
        let mut last: BTreeMap<String, u32> = self.attempts().into_iter().collect();
        last.retain(|task, _| !self.done.contains_key(task));
        last
    }

    /// Asserts that every attempt was started once, and that none was followed by another but
    /// those that were `disturbed`.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub fn assert_started_once(&self, disturbed: &BTreeSet<(String, u32)>) {
        let mut last: BTreeMap<String, u32> = BTreeMap::new();
        for (task, attempt) in self.attempts() {
            let Some(before) = last.insert(task.clone(), attempt) else { continue };
            assert!(before < attempt, "attempt {attempt} at {task} came after attempt {before}");
            assert!(
                disturbed.contains(&(task.clone(), before)),
                "attempt {before} at {task} was left alone, and attempt {attempt} was started"
            );
        }
    }

    /// Takes in what an `orch` told before it ended. To be called when nothing runs any more.
    ///
    /// # Panics
    /// Where a task was started after it had been told to be merged.
    #[track_caller]
    pub fn see(&mut self, outcome: &Outcome) {
        let starts = self.starts();
        for (task, before) in &self.done {
            assert_eq!(
                starts.get(task),
                Some(before),
                "{task} ran again after its merge\n{outcome}"
            );
        }
        let merged = outcome.events.iter().filter(|event| event["change"] == "merged");
        for task in merged.filter_map(|event| event["task"].as_str()) {
            let count = starts.get(task).copied().unwrap_or_default();
            self.done.insert(task.to_owned(), count);
        }
    }

    /// The tasks that were told to be merged.
    #[must_use]
    pub fn done(&self) -> BTreeSet<&str> {
        self.done.keys().map(String::as_str).collect()
    }
}
