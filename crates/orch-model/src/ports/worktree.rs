//! `WorktreeProvider`: gives tasks a place to work and merges what they did.

mod error;
mod gc;

use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use crate::{
    conflict::Hunk,
    event::{Delivery, Place, RunBase},
    id::{CommitId, EpicId, RunId, TaskId},
    plan::spec::Strategy,
    prompt::Made,
    state::Attempt,
    trailers,
};

pub use error::WorktreeError;
pub use gc::{GcItem, GcItemKind, GcRequest};

/// Gives tasks isolated places to work and brings their results together.
///
/// # Contract
/// - Nothing here changes a file of the user's checkout or its index before
///   [`WorktreeProvider::finish`], and `finish` only fast-forwards a checkout without changes.
/// - No commit that a task made becomes unreachable: before a branch is deleted, its tip is proven
///   reachable from the results, or kept under `refs/orch/preserved/`.
/// - Every call may be repeated after it was interrupted.
#[async_trait]
pub trait WorktreeProvider: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// The top folder of the repository.
    fn repository(&self) -> &Path;

    /// Prepares for a run: finds the target branch and where it stands. For a run that is
    /// resumed it finds what is there and changes nothing.
    ///
    /// # Errors
    /// Where the repository or the branch can't be used.
    async fn begin(&self, request: BeginRun) -> Result<RunBase, WorktreeError>;

    /// Makes a worktree at the present tip of the results.
    ///
    /// # Errors
    /// Where it can't be made; nothing of it is left then.
    ///
    /// # Cancel safety
    /// A dropped call may leave a half-made worktree, which a repetition replaces.
    async fn acquire(&self, request: WorktreeRequest) -> Result<Box<dyn Worktree>, WorktreeError>;

    /// Takes up a worktree again that an earlier orchestrator made for the same attempt, and changes
    /// nothing in it. `None` where it is not there any more, or belongs to another attempt.
    ///
    /// # Errors
    /// Where git failed.
    async fn reopen(
        &self,
        request: WorktreeRequest,
        place: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError>;

    /// Takes up the worktree of an earlier attempt, `before`, for one that goes on in it, and changes nothing in
    /// it. `None` where it is not there any more.
    ///
    /// # Errors
    /// Where git failed.
    async fn proceed(
        &self,
        _request: WorktreeRequest,
        _before: Attempt,
        _place: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        Ok(None)
    }

    /// The reference that keeps the newest work of a task's earlier attempts, by its whole name; `None`
    /// where nothing is kept. The next attempt is told of it.
    ///
    /// # Errors
    /// Where git failed.
    async fn kept(&self, _run: &RunId, _task: &TaskId) -> Result<Option<String>, WorktreeError> {
        Ok(None)
    }

    /// Whether these commits are part of a commit's history: what a task needs is in what it begins
    /// with. The first that is not.
    ///
    /// # Errors
    /// Where git failed.
    async fn lacks(
        &self,
        _tip: &CommitId,
        _commits: &[CommitId],
    ) -> Result<Option<CommitId>, WorktreeError> {
        Ok(None)
    }

    /// The first lines of the commits that were made between a base and a tip, the oldest first;
    /// merges aside.
    ///
    /// # Errors
    /// Where git failed.
    async fn subjects(
        &self,
        _base: &CommitId,
        _tip: &CommitId,
    ) -> Result<Vec<String>, WorktreeError> {
        Ok(Vec::new())
    }

    /// What a task of a run made: the commits and files of its work, which ends at `tip` (a commit, or a
    /// reference by its whole name), as far as a prompt can hold them. `merge` brought it in, where it
    /// was merged.
    ///
    /// # Errors
    /// Where git failed.
    async fn made(
        &self,
        _run: &RunId,
        _tip: &str,
        _merge: Option<&CommitId>,
    ) -> Result<Made, WorktreeError> {
        Ok(Made::default())
    }

    /// Brings a commit into the results, under the strategy of the request.
    ///
    /// # Errors
    /// Where git failed; a conflict is an outcome.
    ///
    /// # Cancel safety
    /// A dropped call has either moved the results or not; a repetition finds out which.
    async fn merge(&self, request: MergeRequest) -> Result<MergeOutcome, WorktreeError>;

    /// Finds out what merging these commits into the results, one after another, would give, and moves
    /// nothing. One that conflicts is left out of what follows it. Each request names the same run.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// A dropped call has moved nothing.
    async fn stack(&self, run: &RunId, requests: &[MergeRequest]) -> Result<Stack, WorktreeError>;

    /// Gives a folder with the files of a commit of a [`Stack`], for commands that verify it: one for
    /// the whole run, in which what git ignores stays from one commit to the next. What is changed
    /// in it is nobody's work and is lost.
    ///
    /// # Errors
    /// Where it can't be made.
    ///
    /// # Cancel safety
    /// A dropped call may leave the folder half-made; a repetition replaces it.
    async fn checkout(&self, run: &RunId, commit: &CommitId) -> Result<PathBuf, WorktreeError>;

    /// Moves the results to a commit of a [`Stack`]. `false` where they have grown since that was made,
    /// so that it says nothing any more; a commit that they contain is `true`.
    ///
    /// # Errors
    /// Where git failed.
    ///
    /// # Cancel safety
    /// A dropped call has either moved the results or not; a repetition finds out which.
    async fn advance(
        &self,
        run: &RunId,
        base: &CommitId,
        commit: &CommitId,
    ) -> Result<bool, WorktreeError>;

    /// Gives a folder in which the merge of a task's work into the results is in progress, as
    /// [`WorktreeProvider::merge`] found it in conflict: the results are checked out, git knows that
    /// the work is being merged, and files in conflict have markers. What was recorded with `git
    /// rerere` is applied. `None` where nothing is in conflict any more.
    ///
    /// With `reuse` a folder that is there already is given again as it is; without it, it is replaced
    /// after what is in it was kept.
    ///
    /// # Errors
    /// Where it can't be made.
    ///
    /// # Cancel safety
    /// A dropped call may leave the folder half-made; a repetition without `reuse` replaces it.
    async fn open_merge(
        &self,
        request: MergeRequest,
        reuse: bool,
    ) -> Result<Option<OpenMerge>, WorktreeError> {
        let _ = (request, reuse);
        Err(WorktreeError::unsupported("hold a merge open"))
    }

    /// Finds out what became of an open merge, and with `commit` concludes it: what is not committed
    /// becomes the merge commit, where no conflict is left. Nothing is resolved by this: a file with
    /// markers, and one that git calls unmerged and that is as git left it, are in conflict.
    ///
    /// # Errors
    /// Where git failed.
    async fn seal_merge(
        &self,
        request: &MergeRequest,
        commit: bool,
    ) -> Result<SealedMerge, WorktreeError> {
        let _ = (request, commit);
        Ok(SealedMerge::None)
    }

    /// Records the resolution of a conflict, which [`WorktreeProvider::merge`] and
    /// [`WorktreeProvider::stack`] take in place of the work from then on, and removes the folder.
    ///
    /// # Errors
    /// Where git failed.
    async fn accept_merge(
        &self,
        request: &MergeRequest,
        commit: &CommitId,
    ) -> Result<(), WorktreeError> {
        let _ = (request, commit);
        Err(WorktreeError::unsupported("record how a conflict was resolved"))
    }

    /// Removes the folder of an open merge, after what is in it was kept; the reference that keeps it.
    /// Where there is none it does nothing.
    ///
    /// # Errors
    /// Where git failed.
    async fn close_merge(&self, request: &MergeRequest) -> Result<Option<String>, WorktreeError> {
        let _ = request;
        Ok(None)
    }

    /// Where branches stand; one that is gone is left out. No file of a work tree is looked at.
    ///
    /// # Errors
    /// Where git failed.
    async fn tips(&self, branches: &[String]) -> Result<Vec<MergeSide>, WorktreeError> {
        let _ = branches;
        Ok(Vec::new())
    }

    /// The files that two commits would conflict in if they were merged; none where they can be.
    ///
    /// # Errors
    /// Where git failed.
    async fn clash(&self, one: &CommitId, other: &CommitId) -> Result<Vec<String>, WorktreeError> {
        let _ = (one, other);
        Ok(Vec::new())
    }

    /// The tasks of a run of which a place of their own or a branch is there. That may be more than was left: what was
    /// removed right before a power cut comes back.
    ///
    /// # Errors
    /// Where git failed.
    async fn traces(&self, _run: &RunId) -> Result<BTreeSet<TaskId>, WorktreeError> {
        Ok(BTreeSet::new())
    }

    /// Takes away what is left of a task's worktree and branch after its work was merged, for an
    /// orchestrator that was killed before it could: as [`Worktree::release`] does, from the names
    /// alone. Where nothing is left it does nothing.
    ///
    /// # Errors
    /// Where it can't be removed, or where removing it would lose work.
    async fn tidy(&self, request: WorktreeRequest, release: Release) -> Result<(), WorktreeError> {
        let _ = (request, release);
        Ok(())
    }

    /// Brings the results to the target branch at the end of a run, as far as that is possible
    /// without touching anybody's work.
    ///
    /// # Errors
    /// Where git failed; the results are safe on their branch then.
    async fn finish(&self, run: &RunId) -> Result<Delivery, WorktreeError>;

    /// Lists, and unless `dry_run` removes, what ended runs left behind and what is proven to be
    /// safe elsewhere.
    ///
    /// # Errors
    /// Where git failed.
    async fn gc(&self, request: GcRequest) -> Result<Vec<GcItem>, WorktreeError>;
}

/// A place where a task works.
#[async_trait]
pub trait Worktree: Debug + Send + Sync {
    /// The folder.
    fn path(&self) -> &Path;

    /// The branch that the task's commits go to, without `refs/heads/`.
    fn branch(&self) -> &str;

    /// The commit that it was made from.
    fn base(&self) -> &CommitId;

    /// Under which name what the repository's settings were when it was made is found again, by this
    /// or a later process.
    fn settings(&self) -> Option<&str> {
        None
    }

    /// Looks whether something was changed since the place was made that makes the version control run
    /// programs or leads it elsewhere. Nothing of that is run by the look, nor by any other call.
    ///
    /// # Errors
    /// Where it can't look.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    async fn examine(&self) -> Result<Findings, WorktreeError> {
        Ok(Findings::default())
    }

    /// Commits what the task left uncommitted and finds the tip of its work, which survives a power
    /// cut from then on. What git ignores is not committed. May be called again, after further
    /// changes too.
    ///
    /// # Errors
    /// Where git failed.
    async fn seal(&self, message: &CommitMessage) -> Result<Sealed, WorktreeError>;

    /// Gives the place back.
    ///
    /// # Errors
    /// Where it can't be removed, or where removing it would lose work.
    async fn release(self: Box<Self>, release: Release) -> Result<(), WorktreeError>;
}

/// What a look at a place gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What was changed that must not be, each as a sentence. Where all places share it, it may be the
    /// work of any task that ran meanwhile. Empty: nothing.
    pub tampering: Vec<String>,
    /// What a person should know besides, each as a sentence.
    pub notices: Vec<String>,
}

/// What becomes of a worktree that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// Its work has been merged, or there is none: it is removed, with its branch. What is there
    /// and not committed keeps it from being removed.
    Done,
    /// Like `Done`, after commands ran in it that verified the sealed work: what is not committed is
    /// a by-product of theirs and goes with it.
    Verified,
    /// The attempt failed and another follows: commits and uncommitted changes are kept under
    /// `refs/orch/preserved/`, then it is removed.
    Retry,
    /// A person will look at it: folder and branch stay.
    Keep,
    /// The work is done and is not to be merged: the folder is removed, the branch stays.
    Shelve {
        /// Whether commands ran in it that verified the sealed work, as for `Verified`.
        verified: bool,
    },
}

/// What a run begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRun {
    /// The run.
    pub run: RunId,
    /// The target: a branch, or that of a remote such as `origin/main`, which is fetched first;
    /// `None`: the branch that is checked out.
    pub target: Option<String>,
    /// What the target is made from where it doesn't exist; `None`: it has to exist.
    pub base: Option<String>,
}

/// What a worktree is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorktreeRequest {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The epic whose tasks share the folder, one at a time; `None`: a folder of its own.
    pub shared_by: Option<EpicId>,
}

/// What is to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRequest {
    /// The tip of the task's work.
    pub commit: CommitId,
    /// The branch that holds it.
    pub branch: String,
    /// The message of the merge commit; it names run, task and attempt.
    pub message: CommitMessage,
    /// What it becomes in the history of the results.
    pub strategy: Strategy,
}

/// What merging some commits into the results, one after another, would give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Where the results stand.
    pub base: CommitId,
    /// What became of each request.
    pub merges: Vec<Stacked>,
}

/// What merging a commit on top of those before it would give.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stacked {
    /// This merge commit.
    Merged {
        /// Its first parent is the merge before it, or the results; the second, where the strategy is
        /// to merge, the commit.
        merge_commit: CommitId,
    },
    /// Nothing: it is part of the results already, by this merge commit.
    Contained {
        /// The merge commit.
        merge_commit: CommitId,
    },
    /// A conflict.
    Conflicted {
        /// The files.
        files: Vec<String>,
        /// Where in them, as far as that is kept.
        hunks: Vec<Hunk>,
    },
}

/// The message of a commit that the engine makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMessage {
    /// The first line.
    pub subject: String,
    /// What follows after an empty line; may be empty, and may end in trailers of its own.
    pub body: String,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

impl CommitMessage {
    /// A message of one line.
    #[must_use]
    pub fn new(subject: impl Into<String>, run: RunId, task: TaskId, attempt: Attempt) -> Self {
        Self { subject: subject.into(), body: String::new(), run, task, attempt }
    }

    /// What names run, task and attempt at its end.
    #[must_use]
    pub fn trailers(&self) -> [(&'static str, String); 3] {
        [
            ("Orch-Run", self.run.to_string()),
            ("Orch-Task", self.task.to_string()),
            ("Orch-Attempt", self.attempt.to_string()),
        ]
    }
}

/// Subject, blank line, body, trailers; see [`trailers::append`].
impl fmt::Display for CommitMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.split_whitespace().collect::<Vec<_>>().join(" ");
        let trailers = self.trailers();
        let trailers = trailers.each_ref().map(|(key, value)| (*key, value.as_str()));
        f.write_str(&trailers::append(&format!("{subject}\n\n{}", self.body), &trailers))
    }
}

/// What a task left in its worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The tip of its work; `None` where nothing has changed since the base.
    pub tip: Option<CommitId>,
    /// Whether the engine had to commit something.
    pub committed: bool,
}

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeOutcome {
    /// The commit is part of the results.
    Merged {
        /// The commit that brought it in; the commit itself where the results could be
        /// fast-forwarded to it.
        merge_commit: CommitId,
    },
    /// It can't be merged; nothing has changed.
    Conflicted {
        /// The files in conflict, relative to the repository.
        files: Vec<String>,
        /// Where in them, as far as that is kept.
        hunks: Vec<Hunk>,
    },
}

/// A merge in progress, in a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMerge {
    /// The folder.
    pub path: PathBuf,
    /// The results, which are checked out there.
    pub ours: CommitId,
    /// What is merged into them: the task's work, or an earlier resolution that has it.
    pub theirs: CommitId,
    /// All files in conflict, relative to the repository.
    pub files: Vec<String>,
    /// Where in them, as far as that is kept.
    pub hunks: Vec<Hunk>,
    /// Those of the files that are still to be resolved; `git rerere` may have resolved others.
    pub unresolved: Vec<String>,
}

/// What became of an open merge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealedMerge {
    /// There is none.
    None,
    /// It is not finished.
    Open {
        /// Its folder.
        path: PathBuf,
        /// What is left to do, for people.
        reason: String,
    },
    /// All conflicts are resolved.
    Resolved {
        /// A commit that contains both sides; it survives a power cut.
        commit: CommitId,
    },
}

/// A branch and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeSide {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its tip.
    pub commit: CommitId,
}

/// Whether an environment variable leads git to another repository or gives it other settings there:
/// what `git rev-parse --local-env-vars` lists, and the numbered settings of `GIT_CONFIG_COUNT`
/// (git 2.47). Neither an engine nor its agents may inherit them.
///
/// ```
/// use orch_model::ports::redirects_git;
///
/// assert!(redirects_git("GIT_DIR"));
/// assert!(redirects_git("GIT_CONFIG_KEY_0"));
/// assert!(!redirects_git("GIT_AUTHOR_NAME"));
/// ```
#[must_use]
pub fn redirects_git(variable: &str) -> bool {
    const LOCAL: &[&str] = &[
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_CONFIG",
        "GIT_CONFIG_PARAMETERS",
        "GIT_CONFIG_COUNT",
        "GIT_OBJECT_DIRECTORY",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_GRAFT_FILE",
        "GIT_INDEX_FILE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_REPLACE_REF_BASE",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_COMMON_DIR",
    ];
    LOCAL.contains(&variable)
        || variable.starts_with("GIT_CONFIG_KEY_")
        || variable.starts_with("GIT_CONFIG_VALUE_")
}
