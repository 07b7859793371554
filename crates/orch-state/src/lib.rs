//! What outlives an orchestrator, and what several of them share: the journal of runs
//! ([`FileStore`]) and locks between processes ([`FileLocks`]).
//!
//! [`MemoryStore`] and [`MemoryLocks`] do the same without files. All of them pass the suites of the
//! module `contract` (feature `contract`), which other implementations can run too.
//!
//! ```
//! use std::sync::Arc;
//!
//! use orch_model::{
//!     event::{EVENT_VERSION, Event, EventKind, RunHeader, RunSettings},
//!     id::{LockName, RunId, TaskId},
//!     plan::{LockClaim, LockMode, spec::{PlanSpec, TaskSpec}},
//!     ports::{Acquired, LockHolder, LockRequest, ResourceLock, StateStore},
//!     run::RunState,
//!     time::Timestamp,
//! };
//! use orch_state::{FileLocks, FileStore};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let repository = tempfile::tempdir()?;
//! let store = FileStore::open(repository.path().join(".orch"))?;
//! let (run, task) = (RunId::new("r1")?, TaskId::new("hello")?);
//!
//! // What happens is appended, and is safe from a power cut after a sync.
//! let journal = store.create(&run).await?;
//! let header = RunHeader {
//!     run: run.clone(),
//!     version: EVENT_VERSION,
//!     plan: PlanSpec::new().task(TaskSpec::new(task.clone()).run("echo hello")).into(),
//!     settings: RunSettings::default(),
//!     repository: repository.path().into(),
//!     base: None,
//!     pid: std::process::id(),
//! };
//! let kind = EventKind::RunStarted { header: Box::new(header) };
//! let started = Event { seq: 1, at: Timestamp::from_millis(0), kind };
//! journal.append(std::slice::from_ref(&started)).await?;
//! assert_eq!(journal.sync().await?, 1);
//!
//! // The state for people and editors, in `.orch/parallel-state.json`.
//! journal.publish(Arc::new(RunState::begin(&started)?)).await?;
//! drop(journal);
//!
//! // Another orchestrator continues the run.
//! let _journal = store.open(&run).await?;
//! assert_eq!(store.read(&run, 1).await?.next().await?, [started]);
//!
//! // Its tasks hold locks against those of other orchestrators.
//! let locks = FileLocks::open(store.dir().join("locks"))?;
//! let claims = vec![LockClaim::new(LockName::new("db")?, LockMode::Exclusive)];
//! let attempt = |attempt| LockHolder::Attempt { run: run.clone(), task: task.clone(), attempt };
//! let request = LockRequest::new(attempt(1), claims.clone());
//! let Acquired::Granted(lease) = locks.try_acquire(request).await? else { panic!() };
//! let request = LockRequest::new(attempt(2), claims);
//! let Acquired::Busy { holder, .. } = locks.try_acquire(request).await? else { panic!() };
//! assert_eq!(holder.unwrap().to_string(), "task hello of run r1");
//! lease.release().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod alone;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod disk;
mod format;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod held;
#[cfg(test)]
mod interleavings;
mod journal;
mod locks;
mod memory;
mod owner;
mod process;
mod published;
mod reader;
#[cfg(test)]
mod sample;
mod store;
mod summary;
mod upkeep;

pub use format::JOURNAL_VERSION;
pub use locks::{FileLocks, LockInspection};
pub use memory::{MemoryLocks, MemoryStore};
pub use published::{PublishedState, PublishedTask, STATE_VERSION};
pub use store::FileStore;
