//! `ResourceLock`: named locks between tasks of all orchestrators on a machine.

use std::{
    fmt::{self, Debug},
    path::PathBuf,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BoxError;
use crate::{
    id::{LockName, RunId, TaskId},
    plan::LockClaim,
    state::Attempt,
};

/// Named locks: exclusive, shared or counted.
///
/// # Contract
/// - A request is granted as a whole or not at all.
/// - What a lease holds is free again when it is released, when it is dropped, and when its
///   process dies, however it dies.
/// - Fencing tokens of one implementation grow from grant to grant.
#[async_trait]
pub trait ResourceLock: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// Takes all of the locks at once if they are free, and does not wait.
    ///
    /// # Errors
    /// Where the locks can't be looked at; a lock that is held is an outcome.
    ///
    /// # Cancel safety
    /// A dropped call holds nothing.
    async fn try_acquire(&self, request: LockRequest) -> Result<Acquired, LockError>;

    /// Waits until a request that was refused may be worth another try. May return early.
    ///
    /// # Errors
    /// Where that can't be watched.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    async fn released(&self, claims: &[LockClaim]) -> Result<(), LockError>;
}

/// Locks that are held. Dropping it frees them too.
#[async_trait]
pub trait Lease: Debug + Send + Sync {
    /// A number that grows from grant to grant: who has a smaller one has been superseded.
    fn fence(&self) -> u64;

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
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The process of the orchestrator.
    pub pid: u32,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} of run {} (process {})", self.task, self.run, self.pid)
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Acquired {
    /// All of the locks are held now.
    Granted(Box<dyn Lease>),
    /// None is held, because one of them is taken.
    Busy {
        /// Which.
        lock: LockName,
        /// By whom, where that is known.
        holder: Option<LockHolder>,
    },
}

/// Why locks could not be taken, watched or freed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
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
