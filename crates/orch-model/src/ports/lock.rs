//! `ResourceLock`: named locks between tasks of all orchestrators on a machine.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    path::PathBuf,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BoxError;
use crate::{
    event::AgentIdentity,
    id::{LockName, RunId, TaskId},
    plan::LockClaim,
    state::Attempt,
    time::Timestamp,
};

/// Named locks: exclusive, shared, counted, or values of a pool.
///
/// # Contract
/// - A request is granted as a whole or not at all.
/// - What a lease holds is free again when it is released, when it is dropped, and when all of the
///   processes that it depends on are dead, however they died; never while one of them lives.
/// - Nobody is in the way of himself: what a holder has, he may ask for again. Units and values add
///   up.
/// - A request stands in line for as long as [`ResourceLock::released`] is waited for, and some
///   seconds longer. Those who hold nothing are served in the order in which they came, as far as
///   they want the same locks.
/// - Requests that wait for one another in a circle are found when the circle closes; the one of
///   the lowest priority, among these the youngest, gets [`LockError::Deadlock`].
/// - Fencing tokens of one implementation grow from grant to grant.
#[async_trait]
pub trait ResourceLock: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// Takes all of the locks at once if they are free, and does not wait.
    ///
    /// # Errors
    /// Where the locks can't be looked at, and where the request was refused to break a deadlock; a
    /// lock that is held is an outcome.
    ///
    /// # Cancel safety
    /// A dropped call holds nothing.
    async fn try_acquire(&self, request: LockRequest) -> Result<Acquired, LockError>;

    /// Waits in line until a request that was refused may be worth another try. May return early.
    ///
    /// # Errors
    /// Where that can't be watched, and where the request was refused to break a deadlock.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    async fn released(&self, request: &LockRequest) -> Result<(), LockError>;

    /// Takes all of the locks, and waits for them.
    ///
    /// # Errors
    /// As [`ResourceLock::try_acquire`].
    ///
    /// # Cancel safety
    /// A dropped call holds nothing.
    async fn acquire(&self, request: LockRequest) -> Result<Box<dyn Lease>, LockError> {
        loop {
            match self.try_acquire(request.clone()).await? {
                Acquired::Granted(lease) => return Ok(lease),
                Acquired::Busy { .. } => self.released(&request).await?,
            }
        }
    }

    /// Frees what a holder left with [`Lease::keep`]: the leases that hold `lock`, or all of them.
    /// Gives how many these were; none where leases can't be kept.
    ///
    /// # Errors
    /// Where they can't be freed.
    async fn release_kept(
        &self,
        holder: &LockHolder,
        lock: Option<&LockName>,
    ) -> Result<usize, LockError> {
        let _ = (holder, lock);
        Ok(0)
    }

    /// Who holds what, who waits, and which deadlocks were broken lately; nothing where that isn't
    /// known.
    ///
    /// # Errors
    /// Where the locks can't be looked at.
    async fn overview(&self) -> Result<LockOverview, LockError> {
        Ok(LockOverview::default())
    }

    /// Waits until a deadlock has been broken whose number is greater than `after`; for ever where
    /// none is looked for.
    ///
    /// # Errors
    /// Where that can't be watched.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    async fn next_deadlock(&self, after: u64) -> Result<Deadlock, LockError> {
        let _ = after;
        std::future::pending().await
    }
}

/// Locks that are held, for as long as the process that asked for them lives. Dropping it frees
/// them too.
#[async_trait]
pub trait Lease: Debug + Send + Sync {
    /// A number that grows from grant to grant: who has a smaller one has been superseded.
    fn fence(&self) -> u64;

    /// What the claims with a variable were given, by the variable's name: the values of a pool.
    /// One value is given as `NAME`; of several the first as `NAME`, and all as `NAME_1` and so on.
    fn env(&self) -> &BTreeMap<String, String>;

    /// Has the lease last for as long as this process lives, too: the agent's, so that its locks
    /// outlive an orchestrator that dies before it.
    ///
    /// # Errors
    /// Where that can't be noted.
    async fn bind(&self, process: &AgentIdentity) -> Result<(), LockError>;

    /// Leaves the locks held for as long as one of these processes lives, or until
    /// [`ResourceLock::release_kept`]. This process may end.
    ///
    /// # Errors
    /// Where that can't be noted; the locks are freed then.
    async fn keep(self: Box<Self>, processes: Vec<AgentIdentity>) -> Result<(), LockError>;

    /// Frees the locks.
    ///
    /// # Errors
    /// Where they can't be freed.
    async fn release(self: Box<Self>) -> Result<(), LockError>;
}

/// Who wants which locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// Who.
    pub holder: LockHolder,
    /// Which; sorted by name, no name twice.
    pub claims: Vec<LockClaim>,
    /// From 0, the highest, to 4: who is refused where requests wait for one another.
    pub priority: u8,
    /// Takes over what the holder was granted before for an equal request, with a new token and the
    /// same values: an orchestrator asks so for an attempt that its predecessor began.
    pub takes_over: bool,
}

impl LockRequest {
    /// A request of the middle priority, 2.
    #[must_use]
    pub fn new(holder: LockHolder, claims: Vec<LockClaim>) -> Self {
        Self { holder, claims, priority: 2, takes_over: false }
    }
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum LockHolder {
    /// An attempt at a task, whichever processes work on it.
    Attempt {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// A process outside of any run.
    Process {
        /// Its id.
        pid: u32,
    },
}

impl LockHolder {
    /// Whether this is an attempt of the run.
    #[must_use]
    pub fn is_of(&self, of: &RunId) -> bool {
        matches!(self, Self::Attempt { run, .. } if run == of)
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt { run, task, .. } => write!(f, "task {task} of run {run}"),
            Self::Process { pid } => write!(f, "process {pid}"),
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Acquired {
    /// All of the locks are held now.
    Granted(Box<dyn Lease>),
    /// None is held, because one of them is taken, or somebody who came earlier waits for it.
    Busy {
        /// Which.
        lock: LockName,
        /// By whom, where that is known.
        holder: Option<LockHolder>,
    },
}

/// Who holds what, and who waits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LockOverview {
    /// The leases, oldest first.
    pub leases: Vec<LeaseInfo>,
    /// The requests that wait, in the order in which they came.
    pub waiters: Vec<WaiterInfo>,
    /// The last deadlocks that were broken, oldest first.
    pub deadlocks: Vec<Deadlock>,
}

/// A lease, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Its fencing token.
    pub fence: u64,
    /// Who.
    pub holder: LockHolder,
    /// What.
    pub locks: Vec<HeldLock>,
    /// It lasts for as long as one of these processes lives.
    pub pids: Vec<u32>,
    /// Since when.
    pub since: Timestamp,
}

/// One lock of a lease or of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// What was asked for.
    #[serde(flatten)]
    pub claim: LockClaim,
    /// The values that a pool gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// A request that waits, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterInfo {
    /// Who.
    pub holder: LockHolder,
    /// For what.
    pub claims: Vec<LockClaim>,
    /// From 0, the highest, to 4.
    pub priority: u8,
    /// Since when.
    pub since: Timestamp,
}

/// A deadlock that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlock {
    /// Its number; they grow.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Each waits for the next one, the last for the first.
    pub cycle: Vec<DeadlockStep>,
    /// Whose request was refused.
    pub victim: LockHolder,
}

impl Deadlock {
    /// Whether an attempt of the run had a part in it.
    #[must_use]
    pub fn concerns(&self, run: &RunId) -> bool {
        self.cycle.iter().any(|step| step.holder.is_of(run))
    }
}

/// One of those who wait for one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlockStep {
    /// Who.
    pub holder: LockHolder,
    /// The lock that it waits for, which the next one holds.
    pub wants: LockName,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.cycle.iter().enumerate() {
            let next = &self.cycle[(at + 1) % self.cycle.len()].holder;
            let begin = if at == 0 { "" } else { ", while " };
            write!(f, "{begin}{} waits for `{}`, held by {next}", step.holder, step.wants)?;
        }
        Ok(())
    }
}

/// Why locks could not be taken, watched or freed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The request was refused because it was one of several that wait for one another.
    #[error(
        "deadlock: {deadlock}; this request was refused, so release what you hold, wait a moment \
         and ask again"
    )]
    Deadlock {
        /// Who waits for whom.
        deadlock: Deadlock,
    },
    /// The record of who holds what can't be read.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A system call failed.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
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
