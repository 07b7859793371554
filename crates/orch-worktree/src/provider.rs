//! [`GitWorktrees`]: the port on git.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use orch_model::{
    CommitId, RunId, TaskId,
    event::{Place, RunBase},
    ports::{
        BeginRun, GcItem, GcRequest, MergeOutcome, MergeRequest, MergeSide, OpenMerge, Release,
        SealedMerge, Stack, Worktree, WorktreeError, WorktreeProvider, WorktreeRequest,
    },
    prompt::Made,
    state::Attempt,
};

use crate::{
    changes::{Changes, DiffFormat},
    choose::TreeChoice,
    config::GitWorktreesConfig,
    error::to_the_end,
    inspect::Inspection,
    keep::Kept,
    names,
    repo::Repo,
    undo::{Undo, UndoRequest},
    work::{Work, WorkQuery},
};

/// Worktrees and merges on a git repository.
///
/// Every call runs in a task of its own, to its end, also if its future is dropped: git is never
/// stopped half way. It needs a tokio runtime with the IO driver.
#[derive(Debug, Clone)]
pub struct GitWorktrees {
    repo: Arc<Repo>,
}

impl GitWorktrees {
    /// Finds the repository and checks that git is fit for the work. Begins to delete what an
    /// earlier process took away and had no time to delete.
    ///
    /// # Errors
    /// Where git is missing or older than 2.38, or the folder is in no repository, or in a bare
    /// one.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn open(config: GitWorktreesConfig) -> Result<Self, WorktreeError> {
        Ok(Self { repo: Arc::new(Repo::open(config).await?) })
    }

    pub(crate) fn repo(&self) -> Arc<Repo> {
        Arc::clone(&self.repo)
    }

    /// Where worktrees are made, as `<root>/<run>/<task>`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.repo.root
    }

    /// How worktrees are made here, and why in this way. May mount something below
    /// [`GitWorktrees::root`] for a moment, to see whether that works.
    #[must_use]
    pub fn tree_choice(&self) -> &TreeChoice {
        self.repo.choice()
    }

    /// Looks at what the repository holds of runs, and whether these commits can be read and are
    /// part of a reference.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn inspect(&self, commits: &[CommitId]) -> Result<Inspection, WorktreeError> {
        self.repo.inspect(commits).await
    }

    /// Filters that are set up in git's configuration and that the engine does not run, as they are not
    /// among [`TreeConfig::trusted_filters`](crate::TreeConfig::trusted_filters), although tracked files
    /// ask for them.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn idle_filters(&self) -> Result<Vec<String>, WorktreeError> {
        self.repo.needed_filters().await
    }

    /// Removes lock files of git that stand in the engine's way and whose maker is proven to be
    /// gone, see [`GitLock`](crate::GitLock); gives their paths.
    ///
    /// # Errors
    /// Where one can't be removed.
    pub async fn break_abandoned_locks(&self) -> Result<Vec<PathBuf>, WorktreeError> {
        let repo = Arc::clone(&self.repo);
        to_the_end(async move { repo.break_abandoned_locks().await }).await
    }

    /// The folder and the branch that a task gets when it is given a worktree. Nothing is made.
    #[must_use]
    pub fn place_of(&self, request: &WorktreeRequest) -> (PathBuf, String) {
        let folder = self.repo.root.join(request.run.as_str()).join(names::folder(request));
        (folder, names::task_branch(&request.run, &request.task))
    }

    /// Where the results of a run stand, on their own branch until they have been delivered; `None` where
    /// there are none.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn results_of(&self, run: &RunId) -> Result<Option<CommitId>, WorktreeError> {
        self.repo.commit_at(&names::head(&names::results_branch(run))).await
    }

    /// Finds the work of a task: in its worktree, on its branch, in the results, or where it was kept.
    /// `None` where nothing is left of it.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn work(&self, query: &WorkQuery) -> Result<Option<Work>, WorktreeError> {
        self.repo.work(query).await
    }

    /// The references that hold work of a task, by their whole names, with their commits: its branch, what
    /// was kept of it, and work of attempts that were repeated.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn references_of(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Vec<(String, CommitId)>, WorktreeError> {
        self.repo.references_of(run, task).await
    }

    /// The commits and files of a task's work, also what it has not committed yet. Neither its index
    /// nor the repository is written to.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn changes(&self, work: &Work) -> Result<Changes, WorktreeError> {
        self.repo.changes(work).await
    }

    /// Hands a task's work on as a patch, piece by piece. No program runs that a configuration or an
    /// attribute names for showing differences.
    ///
    /// # Errors
    /// Where git failed, or the sink did.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn diff(
        &self,
        work: &Work,
        format: DiffFormat,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<(), WorktreeError> {
        self.repo.diff(work, format, sink).await
    }

    /// Keeps the work of a task under a reference of its own, which nothing here ever deletes, and with
    /// it its worktree and its branch, where they are there still. What is not committed is part of it.
    ///
    /// # Errors
    /// [`WorktreeError::Refused`] where nothing is left of it; otherwise where git failed.
    pub async fn keep(&self, query: &WorkQuery) -> Result<Kept, WorktreeError> {
        let (repo, query) = (Arc::clone(&self.repo), query.clone());
        to_the_end(async move { repo.keep_work(&query).await }).await
    }

    /// Brings the target back to where a run began, if nobody but that run has moved it since. What is
    /// taken from it is kept below `refs/orch/<run>/undone/` before. May be repeated.
    ///
    /// # Errors
    /// [`WorktreeError::Refused`] where it would touch the work of others: nothing was changed then.
    /// Otherwise where git failed.
    pub async fn undo(&self, request: UndoRequest) -> Result<Undo, WorktreeError> {
        let repo = Arc::clone(&self.repo);
        to_the_end(async move { repo.undo(&request).await }).await
    }
}

#[async_trait]
impl WorktreeProvider for GitWorktrees {
    fn name(&self) -> &str {
        "git"
    }

    fn repository(&self) -> &Path {
        &self.repo.top
    }

    async fn begin(&self, request: BeginRun) -> Result<RunBase, WorktreeError> {
        let repo = Arc::clone(&self.repo);
        to_the_end(async move { repo.begin(request).await }).await
    }

    async fn acquire(&self, request: WorktreeRequest) -> Result<Box<dyn Worktree>, WorktreeError> {
        to_the_end(Arc::clone(&self.repo).acquire(request)).await
    }

    async fn reopen(
        &self,
        request: WorktreeRequest,
        place: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        let place = place.clone();
        to_the_end(Arc::clone(&self.repo).reopen(request, place)).await
    }

    async fn proceed(
        &self,
        request: WorktreeRequest,
        before: Attempt,
        place: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        let place = place.clone();
        to_the_end(Arc::clone(&self.repo).proceed(request, before, place)).await
    }

    async fn kept(&self, run: &RunId, task: &TaskId) -> Result<Option<String>, WorktreeError> {
        self.repo.newest_kept(run, task).await
    }

    async fn lacks(
        &self,
        tip: &CommitId,
        commits: &[CommitId],
    ) -> Result<Option<CommitId>, WorktreeError> {
        self.repo.lacks(tip, commits).await
    }

    async fn subjects(
        &self,
        base: &CommitId,
        tip: &CommitId,
    ) -> Result<Vec<String>, WorktreeError> {
        self.repo.subjects(base, tip).await
    }

    async fn made(
        &self,
        run: &RunId,
        tip: &str,
        merge: Option<&CommitId>,
    ) -> Result<Made, WorktreeError> {
        self.repo.made(run, tip, merge).await
    }

    async fn merge(&self, request: MergeRequest) -> Result<MergeOutcome, WorktreeError> {
        let repo = Arc::clone(&self.repo);
        to_the_end(async move { repo.merge(request).await }).await
    }

    async fn stack(&self, run: &RunId, requests: &[MergeRequest]) -> Result<Stack, WorktreeError> {
        let (repo, run, requests) = (Arc::clone(&self.repo), run.clone(), requests.to_vec());
        to_the_end(async move { repo.stack(&run, &requests).await }).await
    }

    async fn checkout(&self, run: &RunId, commit: &CommitId) -> Result<PathBuf, WorktreeError> {
        let (repo, run, commit) = (Arc::clone(&self.repo), run.clone(), commit.clone());
        to_the_end(async move { repo.checkout(&run, &commit).await }).await
    }

    async fn advance(
        &self,
        run: &RunId,
        base: &CommitId,
        commit: &CommitId,
    ) -> Result<bool, WorktreeError> {
        let (repo, run) = (Arc::clone(&self.repo), run.clone());
        let (base, commit) = (base.clone(), commit.clone());
        to_the_end(async move { repo.advance_to(&run, &base, &commit).await }).await
    }

    async fn open_merge(
        &self,
        request: MergeRequest,
        reuse: bool,
    ) -> Result<Option<OpenMerge>, WorktreeError> {
        let repo = Arc::clone(&self.repo);
        to_the_end(async move { repo.open_merge(request, reuse).await }).await
    }

    async fn seal_merge(
        &self,
        request: &MergeRequest,
        commit: bool,
    ) -> Result<SealedMerge, WorktreeError> {
        let (repo, request) = (Arc::clone(&self.repo), request.clone());
        to_the_end(async move { repo.seal_merge(&request, commit).await }).await
    }

    async fn accept_merge(
        &self,
        request: &MergeRequest,
        commit: &CommitId,
    ) -> Result<(), WorktreeError> {
        let (repo, request, commit) = (Arc::clone(&self.repo), request.clone(), commit.clone());
        to_the_end(async move { repo.accept_merge(&request, &commit).await }).await
    }

    async fn close_merge(&self, request: &MergeRequest) -> Result<Option<String>, WorktreeError> {
        let (repo, request) = (Arc::clone(&self.repo), request.clone());
        to_the_end(async move { repo.close_merge(&request).await }).await
    }

    async fn tips(&self, branches: &[String]) -> Result<Vec<MergeSide>, WorktreeError> {
        self.repo.sides(branches).await
    }

    async fn clash(&self, one: &CommitId, other: &CommitId) -> Result<Vec<String>, WorktreeError> {
        self.repo.clash(one, other).await
    }

    async fn traces(&self, run: &RunId) -> Result<BTreeSet<TaskId>, WorktreeError> {
        self.repo.traces(run).await
    }

    async fn tidy(&self, request: WorktreeRequest, release: Release) -> Result<(), WorktreeError> {
        to_the_end(Arc::clone(&self.repo).tidy(request, release)).await
    }

    async fn finish(&self, run: &RunId) -> Result<orch_model::event::Delivery, WorktreeError> {
        let (repo, run) = (Arc::clone(&self.repo), run.clone());
        to_the_end(async move { repo.finish(&run).await }).await
    }

    async fn gc(&self, request: GcRequest) -> Result<Vec<GcItem>, WorktreeError> {
        let repo = Arc::clone(&self.repo);
        to_the_end(async move { repo.gc(&request).await }).await
    }
}
