//! The four ports behind which everything that touches the world stands, and one for a decision:
//! [`ModelSelector`].
//!
//! Each has a contract that every implementation, also a fake one, must keep; the contract suites
//! in the integration tests run against all of them.

pub mod lock;
pub mod runner;
pub mod selector;
pub mod store;
pub mod worktree;

pub use lock::{
    Acquired, Deadlock, DeadlockStep, HeldLock, Lease, LeaseInfo, LockError, LockHolder,
    LockOverview, LockRequest, ResourceLock, WaiterInfo,
};
pub use runner::{
    AdoptRequest, Adopted, AgentNotice, AgentRequest, AgentRunner, Purpose, RunnerError,
    RunningAgent,
};
pub use selector::{
    BudgetLeft, ModelChoice, ModelOffer, ModelPrice, ModelRecord, ModelRecords, ModelRequest,
    ModelSelector,
};
pub use store::{EventReader, RunJournal, RunSummary, StateStore, StoreError};
pub use worktree::{
    BeginRun, CommitMessage, Findings, GcItem, GcItemKind, GcRequest, MergeOutcome, MergeRequest,
    MergeSide, OpenMerge, Release, Sealed, SealedMerge, Stack, Stacked, Worktree, WorktreeError,
    WorktreeProvider, WorktreeRequest, redirects_git,
};

/// An error of a foreign implementation of a port.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
