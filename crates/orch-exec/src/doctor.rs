//! The oracle: looks at a workspace, at rest or with runs under way, and names what does not hold.
//!
//! [`World::check`] is one function for `orch doctor`, for embedders and for the tests, which call
//! it after every fault. It reads journals, git, `/proc` and the folder of worktrees, and changes
//! nothing. [`World::repair`] does what is proven to lose nothing.
//!
//! Two invariants can't be seen from a workspace alone, and need a witness outside of it: that no
//! task that was reported as done is run again ([`Invariant::DoneOnce`] is checked as far as the
//! journal tells), and that a run finishes once faults stop.

mod journals;
mod locks;
mod processes;
mod repair;
mod repository;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use orch_model::{RunId, RunState, TaskId, ports::WorktreeError};
use orch_state::{FileLocks, FileStore};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};
use serde::Serialize;

use crate::{error::EngineError, workspace};

/// What has to hold in a workspace at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Invariant {
    /// A task that was reported as merged does not run again.
    DoneOnce,
    /// The work of every merged task can be read and is part of a reference.
    WorkIsKept,
    /// At most one attempt at a task is alive, and no process belongs to none.
    NoOrphans,
    /// Nobody who is dead holds a lock.
    LocksAreFree,
    /// Worktrees and branches are those that the records name, and the user's checkout is whole.
    PlacesMatch,
    /// Records can be read and agree with one another.
    RecordsAgree,
    /// Neither the number of tasks at a time nor a lock was ever exceeded.
    LimitsHold,
}

/// The invariant in a sentence.
impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DoneOnce => "a merged task is not run again",
            Self::WorkIsKept => "the work of merged tasks is kept",
            Self::NoOrphans => "no process is left of an attempt that is over",
            Self::LocksAreFree => "no lock is held by the dead",
            Self::PlacesMatch => "worktrees and branches match the records",
            Self::RecordsAgree => "records can be read and agree",
            Self::LimitsHold => "limits and locks were respected",
        })
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What should hold.
    pub invariant: Invariant,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// The task that it is about.
    pub task: Option<TaskId>,
    /// What was found.
    pub what: String,
    /// The file, folder, reference or process.
    pub place: String,
    /// What to do or type.
    pub cure: String,
    /// Whether [`World::repair`] puts it right, and loses nothing by that.
    pub is_repairable: bool,
    #[serde(skip)]
    remedy: Option<Remedy>,
}

/// What puts a finding right.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Remedy {
    RebuildState(RunId),
    RemoveLeftovers,
    BreakLocks,
    EndProcesses(RunId),
    SweepLeases,
    Tidy { run: RunId, task: TaskId },
    RemoveEmptyFolder(PathBuf),
    ForgetRun(RunId),
}

impl Finding {
    fn new(invariant: Invariant, place: impl fmt::Display, what: impl Into<String>) -> Self {
        Self {
            invariant,
            run: None,
            task: None,
            what: what.into(),
            place: place.to_string(),
            cure: String::new(),
            is_repairable: false,
            remedy: None,
        }
    }

    fn of(mut self, run: &RunId, task: Option<&TaskId>) -> Self {
        self.run = Some(run.clone());
        self.task = task.cloned();
        self
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = cure.into();
        self
    }

    fn repairable(mut self, remedy: Remedy) -> Self {
        self.cure = "orch doctor --repair".into();
        self.is_repairable = true;
        self.remedy = Some(remedy);
        self
    }
}

/// What became of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Repair {
    /// What was found.
    pub finding: Finding,
    /// Why it could not be put right; `None` where it was.
    pub failed: Option<String>,
}

/// A workspace that is looked at: the repository and what is recorded of its runs.
#[derive(Debug)]
pub struct World {
    top: PathBuf,
    store: FileStore,
    locks: FileLocks,
    git: Result<Option<GitWorktrees>, WorktreeError>,
}

/// What is known of a run whose journal can be read.
#[derive(Debug)]
struct Known {
    state: RunState,
    /// The process at work on it, 0 where it does not say which.
    owner: Option<u32>,
}

impl Known {
    /// Whether agents of it may be alive: somebody is at work on it, or could take it up again.
    fn may_go_on(&self) -> bool {
        let status = self.state.status;
        self.owner.is_some() || status.may_go_on()
    }
}

type Runs = BTreeMap<RunId, Known>;

/// How long a step may take that is between two states of the workspace.
const STEP: Duration = Duration::from_millis(300);

impl World {
    /// Takes a workspace as an orchestrator with the same settings would. `worktree_root` as in
    /// [`EngineConfig`](crate::EngineConfig).
    ///
    /// # Errors
    /// Where what is recorded can't be opened. A repository that can't be used is a finding.
    pub async fn open(
        repository: &Path,
        state_dir: Option<PathBuf>,
        worktree_root: Option<PathBuf>,
    ) -> Result<Self, EngineError> {
        let top = workspace::find(repository);
        let store = FileStore::open(state_dir.unwrap_or_else(|| workspace::state_dir(&top)))?;
        let mut config = GitWorktreesConfig::new(&top);
        config.root = worktree_root;
        let git = match GitWorktrees::open(config).await {
            Ok(git) => Ok(Some(git)),
            Err(WorktreeError::NotARepository { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let locks = FileLocks::open(store.dir().join("locks"))?;
        Ok(Self { top, store, locks, git })
    }

    /// Looks at the locks of another folder than that of the workspace, as in
    /// [`EngineConfig`](crate::EngineConfig).
    #[must_use]
    pub fn with_locks(mut self, locks: FileLocks) -> Self {
        self.locks = locks;
        self
    }

    /// Names all that does not hold, the gravest first. With runs under way, each look at them is
    /// at another moment; what is only between two moments is not named.
    ///
    /// # Errors
    /// Where something can't be looked at, as opposed to being wrong.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn check(&self) -> Result<Vec<Finding>, EngineError> {
        let first = self.look().await?;
        if first.is_empty() {
            return Ok(first);
        }
        // What was caught in the middle of a step of somebody at work is gone at the second look.
        // Nothing tells when such a step is over: a run that begins has its branch before it has
        // its journal.
        tokio::time::sleep(STEP).await;
        let second = self.look().await?;
        Ok(first.into_iter().filter(|finding| second.contains(finding)).collect())
    }

    async fn look(&self) -> Result<Vec<Finding>, EngineError> {
        let mut findings = Vec::new();
        let runs = journals::check(&self.store, &mut findings).await?;
        journals::check_published(&self.store, &runs, &mut findings).await?;
        processes::check_orphans(&self.top, &runs, &mut findings);
        processes::check_groups(&self.store, &runs, &mut findings)?;
        processes::check_locks(&self.store, self.locks.dir(), &mut findings)?;
        locks::check(&self.locks, &self.store, &runs, &mut findings).await?;
        match &self.git {
            Ok(Some(git)) => {
                repository::check(git, &self.store, &runs, &mut findings).await?;
            }
            Ok(None) => {}
            Err(error) => findings.push(repository::unusable(&self.top, error)),
        }
        findings.sort_by_key(|finding| finding.invariant);
        Ok(findings)
    }
}
