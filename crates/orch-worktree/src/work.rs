//! Finds the work of a task, wherever it is by now.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use orch_model::{CommitId, RunId, TaskId, event::Place, ports::WorktreeError};

use crate::{names, repo::Repo};

/// Whose work is looked for, and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkQuery {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Where its last attempt worked.
    pub place: Option<Place>,
    /// The tip of its work.
    pub commit: Option<CommitId>,
    /// The commit that brought it into the target.
    pub merge_commit: Option<CommitId>,
    /// Where the run began.
    pub begin: Option<CommitId>,
}

impl WorkQuery {
    /// The work of a task of which nothing is recorded.
    #[must_use]
    pub const fn new(run: RunId, task: TaskId) -> Self {
        Self { run, task, place: None, commit: None, merge_commit: None, begin: None }
    }
}

/// The work of a task that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Where it parts from what the task began with.
    pub base: CommitId,
    /// The last commit of it.
    pub tip: CommitId,
    /// Where it was found.
    pub source: WorkSource,
}

/// Where the work of a task was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkSource {
    /// In its worktree, with what is not committed there.
    Worktree {
        /// The folder.
        path: PathBuf,
        /// Its git folder.
        admin: PathBuf,
    },
    /// On a reference, given by its whole name.
    Reference(String),
    /// At the recorded commit.
    Commit,
    /// In the commit that brought it into the target: its own commits are gone.
    Merge,
}

impl WorkSource {
    /// The worktree that it is.
    #[must_use]
    pub fn worktree(&self) -> Option<&Path> {
        match self {
            Self::Worktree { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// For a person: `the worktree /path`, `refs/heads/orch/r/t`.
impl fmt::Display for WorkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worktree { path, .. } => write!(f, "the worktree {}", path.display()),
            Self::Reference(name) => f.write_str(name),
            Self::Commit => f.write_str("the recorded commit"),
            Self::Merge => f.write_str("the merge commit"),
        }
    }
}

impl Repo {
    pub(crate) async fn work(&self, query: &WorkQuery) -> Result<Option<Work>, WorktreeError> {
        if let (Some(place), None) = (&query.place, &query.merge_commit)
            && let Some(work) = self.work_in(place, query).await?
        {
            return Ok(Some(work));
        }
        let found = self.candidates(query).await?;
        let commits: Vec<CommitId> = found.iter().map(|(commit, _)| commit.clone()).collect();
        let unreadable = self.unreadable(&commits).await?;
        for (tip, source) in found {
            if !unreadable.contains(&tip)
                && let Some(base) = self.fork(query, &tip).await?
            {
                return Ok(Some(Work { base, tip, source }));
            }
        }
        let Some(tip) = query.merge_commit.clone() else { return Ok(None) };
        let base = self.commit_at(&format!("{tip}^1")).await?;
        Ok(base.map(|base| Work { base, tip, source: WorkSource::Merge }))
    }

    /// What a worktree of the task holds.
    async fn work_in(
        &self,
        place: &Place,
        query: &WorkQuery,
    ) -> Result<Option<Work>, WorktreeError> {
        self.revive(&place.path).await?;
        let Some(admin) = self.checkouts.admin_of(&place.path) else { return Ok(None) };
        // Those of an epic are another task's by turns.
        let locked = fs::read_to_string(admin.join("locked")).unwrap_or_default();
        let is_its = names::is_locked_for(&locked, &query.run, &query.task);
        if !is_its || !is_checked_out(&place.path, &admin) {
            return Ok(None);
        }
        let git = self.git.on_repository(&admin);
        let head = git.call(["rev-parse", "--verify", "-q", "HEAD^{commit}"]).answer().await?;
        let Ok(head) = head.success() else { return Ok(None) };
        let tip = CommitId::new(String::from_utf8_lossy(&head).trim_end());
        let source = WorkSource::Worktree { path: place.path.clone(), admin };
        let base = self.fork(query, &tip).await?;
        Ok(base.map(|base| Work { base, tip, source }))
    }

    /// Where its last commit may be, the best first.
    async fn candidates(
        &self,
        query: &WorkQuery,
    ) -> Result<Vec<(CommitId, WorkSource)>, WorktreeError> {
        let recorded = query.commit.iter().map(|commit| (commit.clone(), WorkSource::Commit));
        let mut found = Vec::new();
        if query.merge_commit.is_some() {
            return Ok(recorded.collect());
        }
        let branch = names::head(&names::task_branch(&query.run, &query.task));
        let (kept, preserved) = (
            names::all_kept(&query.run, &query.task),
            names::all_preserved(&query.run, &query.task),
        );
        let mut refs = self.refs(&[&branch, &kept, &preserved]).await?;
        let of = |name: String, commit| (commit, WorkSource::Reference(name));
        if let Some(reference) = refs.remove(&branch) {
            found.push(of(branch, reference.commit));
        }
        found.extend(recorded);
        let (mut kept, mut rest): (Vec<_>, Vec<_>) =
            refs.into_values().partition(|r| names::number_below(&kept, &r.name).is_some());
        kept.sort_by_key(|r| names::preserved_order(&r.name));
        rest.sort_by_key(|r| names::preserved_order(&r.name));
        let newest = [rest.pop(), kept.pop()].into_iter().flatten();
        found.extend(newest.map(|reference| of(reference.name, reference.commit)));
        Ok(found)
    }

    /// The references that hold work of a task, by their whole names.
    pub(crate) async fn references_of(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Vec<(String, CommitId)>, WorktreeError> {
        let undone = names::all_undone(run);
        let branch = names::head(&names::task_branch(run, task));
        let all =
            [branch, names::all_kept(run, task), names::all_preserved(run, task), undone.clone()];
        let refs = self.refs(&all).await?.into_values();
        let is_its = |name: &str| !name.starts_with(&undone) || name.ends_with(&format!("/{task}"));
        Ok(refs.filter(|r| is_its(&r.name)).map(|r| (r.name, r.commit)).collect())
    }

    /// Where a commit of the task parts from what it was made from, as far as that can be known.
    pub(crate) async fn fork(
        &self,
        query: &WorkQuery,
        tip: &CommitId,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let from = [
            query.place.as_ref().map(|place| place.base.to_string()),
            query.merge_commit.as_ref().map(|merge| format!("{merge}^1")),
            Some(names::head(&names::results_branch(&query.run))),
            Some(names::run_ref(&query.run, "delivered")),
            query.begin.as_ref().map(ToString::to_string),
        ];
        for from in from.into_iter().flatten() {
            let answer = self.git.call(["merge-base", &from, tip.as_str()]).answer().await?;
            if answer.code == Some(0) {
                let base = String::from_utf8_lossy(&answer.stdout);
                return Ok(base.lines().next().map(CommitId::new));
            }
        }
        Ok(None)
    }

    /// The commit that a name means; `None` where there is none, or where it can't be read.
    pub(crate) async fn commit_at(&self, name: &str) -> Result<Option<CommitId>, WorktreeError> {
        let name = format!("{name}^{{commit}}");
        let arguments = ["rev-parse", "--verify", "-q", "--end-of-options", &name];
        let answer = self.git.call(arguments).answer().await?;
        let found = answer.success().ok();
        Ok(found.map(|out| CommitId::new(String::from_utf8_lossy(&out).trim_end())))
    }
}

/// Whether a worktree was made whole: without an index nobody has been given it yet.
fn is_checked_out(path: &Path, admin: &Path) -> bool {
    path.is_dir() && admin.join("index").exists()
}
