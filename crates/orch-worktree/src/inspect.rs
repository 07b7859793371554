//! Looks at what a repository holds of runs, and changes nothing.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
};

use orch_model::{CommitId, RunId, ports::WorktreeError, state::Attempt};

use crate::{
    checkouts::in_progress,
    locks::{self, GitLock},
    names::{self, HEADS, OURS},
    preserve::Site,
    repo::Repo,
};

/// What a repository holds of runs.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// Those of the commits asked for that can't be read, with their trees.
    pub unreadable: HashSet<CommitId>,
    /// Those that can be read and are part of no reference.
    pub unreachable: HashSet<CommitId>,
    /// Whether the repository is marked as one without a checkout, although it has one.
    pub is_bare: bool,
    /// What was begun in the checkout and not finished, for a person: `a merge`.
    pub in_progress: Option<&'static str>,
    /// Worktrees below the root, also those of which only the folder or only git's entry is left.
    pub worktrees: Vec<FoundWorktree>,
    /// Branches `orch/<run>/<task>` and `orch/<run>/target`.
    pub branches: Vec<FoundBranch>,
    /// Lock files of git.
    pub locks: Vec<GitLock>,
    /// What git could not read, for one because an object of a reference is missing; what should
    /// have been found there is left out.
    pub troubles: Vec<WorktreeError>,
}

/// A worktree below the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundWorktree {
    /// The run that its place belongs to.
    pub run: RunId,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Whether the folder is there.
    pub has_folder: bool,
    /// Whether git knows of it.
    pub is_known: bool,
    /// The attempt that it was made for, where that is noted.
    pub attempt: Option<Attempt>,
}

impl FoundWorktree {
    /// Whether merged results are verified in it: it is no task's.
    #[must_use]
    pub fn is_of_merge_queue(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == names::MERGE_QUEUE)
    }
}

/// A branch of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBranch {
    /// The run.
    pub run: RunId,
    /// The task, or `target`.
    pub last: String,
    /// Its tip.
    pub commit: CommitId,
}

impl Repo {
    pub(crate) async fn inspect(&self, commits: &[CommitId]) -> Result<Inspection, WorktreeError> {
        let unreadable = self.unreadable(commits).await?;
        let readable: Vec<_> = commits.iter().filter(|c| !unreadable.contains(c)).collect();
        let mut troubles = Vec::new();
        let unreachable = self.unreachable(&readable).await;
        let unreachable = unreachable.map_err(|error| troubles.push(error)).unwrap_or_default();
        let bare = self.git.plain();
        let bare = bare.call(["config", "--type=bool", "core.bare"]).answer().await?;
        let is_bare = self.top_admin == *self.checkouts.common()
            && bare.code == Some(0)
            && bare.stdout.starts_with(b"true");
        let branches = self.refs(&[OURS.trim_end_matches('/')]).await;
        let branches = branches.map_err(|error| troubles.push(error)).unwrap_or_default();
        let branches = branches.into_values().filter_map(|reference| {
            let (run, last) = names::split_ours(&reference.name)?;
            Some(FoundBranch { run, last: last.to_owned(), commit: reference.commit })
        });
        Ok(Inspection {
            unreadable,
            unreachable,
            is_bare,
            in_progress: in_progress(&self.top_admin),
            worktrees: self.found_worktrees(),
            branches: branches.collect(),
            locks: locks::find(self.checkouts.common(), &[&self.top, &self.root]),
            troubles,
        })
    }

    /// Asks for each commit and its tree.
    pub(crate) async fn unreadable(
        &self,
        commits: &[CommitId],
    ) -> Result<HashSet<CommitId>, WorktreeError> {
        if commits.is_empty() {
            return Ok(HashSet::new());
        }
        let input: String =
            commits.iter().map(|c| format!("{c}^{{commit}}\n{c}^{{tree}}\n")).collect();
        let call = self.git.call(["cat-file", "--batch-check"]).input(input);
        let out = call.answer().await?.success()?;
        let answers: Vec<bool> =
            String::from_utf8_lossy(&out).lines().map(|line| !line.ends_with("missing")).collect();
        let is_there = |pair: Option<&[bool]>| pair.is_some_and(|pair| pair == [true, true]);
        let mut pairs = answers.chunks(2);
        Ok(commits.iter().filter(|_| !is_there(pairs.next())).cloned().collect())
    }

    async fn unreachable(&self, commits: &[&CommitId]) -> Result<HashSet<CommitId>, WorktreeError> {
        if commits.is_empty() {
            return Ok(HashSet::new());
        }
        let input: String = commits.iter().map(|commit| format!("{commit}\n")).collect();
        let call = self.git.call(["rev-list", "--stdin", "--not", "--all"]).input(input);
        let out = call.answer().await?.success()?;
        let beyond: HashSet<CommitId> =
            String::from_utf8_lossy(&out).lines().map(CommitId::new).collect();
        Ok(commits.iter().filter(|c| beyond.contains(**c)).map(|c| (**c).clone()).collect())
    }

    fn found_worktrees(&self) -> Vec<FoundWorktree> {
        let mut found: BTreeSet<FoundWorktree> = BTreeSet::new();
        let run_of = |path: &Path| {
            let name = path.parent()?.strip_prefix(&self.root).ok()?.to_str()?;
            RunId::new(name).ok()
        };
        let mut known = HashSet::new();
        for (path, admin) in self.checkouts.linked() {
            let Some(run) = run_of(&path) else { continue };
            let site = Site { path: path.clone(), admin: Some(admin) };
            let (has_folder, attempt) = (path.is_dir(), site.attempt());
            known.insert(path.clone());
            found.insert(FoundWorktree { run, path, has_folder, is_known: true, attempt });
        }
        let folders = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        for path in folders(&self.root).iter().flat_map(|run| folders(run)) {
            let Some(run) = run_of(&path).filter(|_| !known.contains(&path)) else { continue };
            let site =
                FoundWorktree { run, path, has_folder: true, is_known: false, attempt: None };
            found.insert(site);
        }
        found.into_iter().collect()
    }
}

/// The name of the branch that a [`FoundBranch`] stands for, without `refs/heads/`.
impl std::fmt::Display for FoundBranch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ours = OURS.strip_prefix(HEADS).unwrap_or(OURS);
        write!(f, "{ours}{}/{}", self.run, self.last)
    }
}
