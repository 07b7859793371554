//! What a run has come to, without what may differ between two runs of the same plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Report, TestRepo};

/// What a run has come to: outcomes, content and what is left, but no times, no order of merges, no
/// ids. Two of them are compared with `assert_eq!`, which prints where they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndState {
    status: String,
    /// The status of each task.
    tasks: BTreeMap<String, String>,
    /// The hash of the tree that came of it all.
    results: String,
    /// What the work of each task changed, and how often it was merged.
    merges: BTreeMap<String, BTreeSet<String>>,
    merge_count: usize,
    branches: BTreeMap<String, String>,
    worktrees: BTreeSet<String>,
}

impl EndState {
    /// Looks at what came of the run of a report; `results` is the branch with the merges.
    ///
    /// # Panics
    /// Where git fails.
    #[track_caller]
    #[must_use]
    pub fn of(repo: &TestRepo, report: &Report, results: &str) -> Self {
        let run = report.run_id();
        let nameless = |text: &str| text.replace(&run, "RUN");
        let tree = |commit: &str| repo.git(["rev-parse", &format!("{commit}^{{tree}}")]);
        let log = repo.git([
            "log",
            "--merges",
            "--format=%H %(trailers:key=Orch-Task,valueonly,separator=%x20)",
            results,
        ]);
        let merged: Vec<(&str, &str)> = log.lines().filter_map(|l| l.split_once(' ')).collect();
        let mut merges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (merge, task) in &merged {
            let work = repo.git(["diff", &format!("{merge}^1"), merge]);
            merges.entry((*task).to_owned()).or_default().insert(work);
        }
        let branches = repo.branches();
        let worktrees = repo.worktrees();
        Self {
            status: report.status(),
            tasks: report.statuses().into_iter().collect(),
            results: tree(results),
            merge_count: merged.len(),
            merges,
            branches: branches.iter().map(|name| (nameless(name), tree(name))).collect(),
            worktrees: worktrees
                .iter()
                .filter_map(|path| path.file_name()?.to_str().map(nameless))
                .collect(),
        }
    }
}
