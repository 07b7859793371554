//! What runs took and cost, and what was learned from them, across runs.
//!
//! The journals of runs are the truth. A [`History`] holds what they add up to, a row per run and a row
//! per [`Session`] (one attempt of an agent or a command), so that questions over many runs need not
//! read them all. It is filled by [`ingest`], which takes in each journal as a whole and puts the new in
//! the place of the old: a run that was killed and resumed, or taken in twice, counts once.
//!
//! ```
//! use orch_history::{History, MemoryHistory, SessionQuery, Statistics};
//!
//! let history = MemoryHistory::default();
//! let sessions = history.sessions(&SessionQuery::default())?;
//! assert!(Statistics::of(sessions.iter().map(|(_, session)| session)).tasks.is_empty());
//! # Ok::<_, orch_history::HistoryError>(())
//! ```
//!
//! What the attempts teach is kept by domain in files of the repository, see [`expertise`].
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod domain;
mod error;
pub mod expertise;
mod history;
mod ingest;
mod learner;
mod memory;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statistics;
mod stream;

pub use domain::{detect_domain, domain_of};
pub use error::HistoryError;
pub use history::{History, RunEntry, SessionQuery};
pub use ingest::{Ingested, ingest, rebuild};
pub use learner::{Keep, Learner};
pub use memory::MemoryHistory;
pub use session::{Part, Session, SessionStatus};
#[cfg(feature = "sqlite")]
pub use sqlite::{SCHEMA_VERSION, SqliteHistory};
pub use statistics::{Figures, Key, Spread, Statistics, TaskFigures};
