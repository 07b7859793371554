//! `WorktreeProvider`: gives tasks a place to work and merges what they did.

use std::{
    fmt::{self, Debug},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BoxError;
use crate::{
    event::{Delivery, Place, RunBase},
    id::{CommitId, EpicId, RunId, TaskId},
    state::Attempt,
};

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

    /// The reference that keeps the newest work of a task's earlier attempts, by its whole name; `None`
    /// where nothing is kept. The next attempt is told of it.
    ///
    /// # Errors
    /// Where git failed.
    async fn kept(&self, _run: &RunId, _task: &TaskId) -> Result<Option<String>, WorktreeError> {
        Ok(None)
    }

    /// Merges a commit into the results.
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
}

/// What a run begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRun {
    /// The run.
    pub run: RunId,
    /// The target branch; `None`: the branch that is checked out.
    pub target: Option<String>,
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
        /// Its parents are the merge before it, or the results, and the commit.
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
    },
}

/// The message of a commit that the engine makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMessage {
    /// The first line.
    pub subject: String,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

/// Subject, blank line, trailers.
impl fmt::Display for CommitMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(f, "{subject}\n")?;
        writeln!(f, "Orch-Run: {}", self.run)?;
        writeln!(f, "Orch-Task: {}", self.task)?;
        writeln!(f, "Orch-Attempt: {}", self.attempt)
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
    },
}

/// What garbage to look for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcRequest {
    /// Runs that are not to be touched: those that go on or can be resumed.
    pub live: Vec<RunId>,
    /// List only.
    pub dry_run: bool,
    /// Work that is nowhere else is moved to `refs/orch/preserved/`, so that its worktree and its branch
    /// can go; otherwise they are kept.
    pub preserve: bool,
}

/// A piece of garbage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcItem {
    /// What it is.
    pub kind: GcItemKind,
    /// Its path or reference.
    pub name: String,
    /// Why it is kept; `None` where it was (or would be) removed.
    pub kept: Option<String>,
    /// Whether what is only there was (or would be) moved to `refs/orch/preserved/`.
    #[serde(default)]
    pub preserved: bool,
    /// How much space it takes, in bytes, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a piece of garbage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GcItemKind {
    /// A worktree.
    Worktree,
    /// A branch.
    Branch,
    /// An empty folder.
    Folder,
    /// A worktree that is kept for later tasks, and one too many.
    Idle,
}

/// Why a worktree or a merge failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorktreeError {
    /// Git is not installed.
    #[error("can't run git: {source}; install git 2.38 or newer")]
    NoGit {
        /// What the system said.
        source: std::io::Error,
    },
    /// Git is too old.
    #[error("git {found} is too old: orch needs 2.38 or newer for `git merge-tree --write-tree`")]
    GitTooOld {
        /// The version found.
        found: String,
    },
    /// The folder belongs to no repository.
    #[error("{path} is not in a git repository; run `git init` there, or name one with --repo")]
    NotARepository {
        /// The folder.
        path: PathBuf,
    },
    /// The target branch can't be used.
    #[error("{message}")]
    Target {
        /// What is wrong, and the cure.
        message: String,
    },
    /// A git command failed.
    #[error("`git {command}` ended with {status}: {stderr}")]
    Git {
        /// The subcommand and its arguments.
        command: String,
        /// The exit status, for people.
        status: String,
        /// What it printed, shortened.
        stderr: String,
    },
    /// Going on would lose work.
    #[error("{path} is kept: {reason}")]
    WouldLoseWork {
        /// The worktree.
        path: PathBuf,
        /// What would be lost.
        reason: String,
    },
    /// Something was changed that makes git run programs, or leads it elsewhere.
    #[error("{}", crate::outcome::tampered(changes))]
    Tampered {
        /// What, each as a sentence.
        changes: Vec<String>,
    },
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error of a foreign implementation.
    #[error(transparent)]
    Other {
        /// The error.
        source: BoxError,
    },
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
