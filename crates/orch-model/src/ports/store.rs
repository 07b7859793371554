//! `StateStore`: keeps what happened in a run, so that it survives the orchestrator.

use std::{fmt::Debug, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BoxError;
use crate::{
    event::Event,
    id::RunId,
    run::{ApplyError, RunState},
    state::RunStatus,
    time::Timestamp,
};

/// Keeps the events of runs.
///
/// # Contract
/// - Events that [`RunJournal::append`] took are there again after this process was killed; those
///   that a later [`RunJournal::sync`] covered are there after a power cut too.
/// - [`StateStore::read`] gives a prefix of what was appended, without gaps, however a writer ended.
/// - The first sync after [`StateStore::open`] covers all that the journal had then, also what an earlier
///   writer had not synced, or had failed to.
/// - At most one [`RunJournal`] is open at a time per run, of all processes; a second is refused with
///   [`StoreError::Busy`]. Journals of different runs may be open side by side.
#[async_trait]
pub trait StateStore: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// Opens the journal of a new run.
    ///
    /// # Errors
    /// Where the run exists, or the medium fails.
    async fn create(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError>;

    /// Opens the journal of an existing run to continue it.
    ///
    /// # Errors
    /// Where the run does not exist, another orchestrator is at work on it, or its journal is damaged.
    async fn open(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError>;

    /// Begins to read the events of a run from number `from` on, also while it is being written.
    ///
    /// # Errors
    /// Where the run does not exist.
    async fn read(&self, run: &RunId, from: u64) -> Result<Box<dyn EventReader>, StoreError>;

    /// The run that was created or opened last; `None` where there is none.
    ///
    /// # Errors
    /// Where the medium fails.
    async fn current(&self) -> Result<Option<RunId>, StoreError>;

    /// Lists the runs, the newest first.
    ///
    /// # Errors
    /// Where the medium fails.
    async fn list(&self) -> Result<Vec<RunSummary>, StoreError>;

    /// What the journal of a run adds up to; `None` where it holds no event yet.
    ///
    /// # Errors
    /// Where the run does not exist or its journal is damaged.
    async fn state(&self, run: &RunId) -> Result<Option<RunState>, StoreError> {
        let mut reader = self.read(run, 1).await?;
        let mut state = None;
        loop {
            let events = reader.next().await?;
            if events.is_empty() {
                return Ok(state);
            }
            for event in &events {
                RunState::follow(&mut state, event)
                    .map_err(|source| StoreError::Inconsistent { run: run.clone(), source })?;
            }
        }
    }
}

/// Reads the journal of one run from its beginning on.
#[async_trait]
pub trait EventReader: Debug + Send {
    /// The next events, some hundreds at a time; none where there are no more yet. May be called
    /// again later then.
    ///
    /// # Errors
    /// Where the journal is damaged or the medium fails.
    ///
    /// # Cancel safety
    /// A dropped call loses no event.
    async fn next(&mut self) -> Result<Vec<Event>, StoreError>;

    /// All the rest, as it is now. For short journals: a long one may not fit into memory.
    ///
    /// # Errors
    /// As [`EventReader::next`].
    async fn rest(&mut self) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        loop {
            let more = self.next().await?;
            if more.is_empty() {
                return Ok(events);
            }
            events.extend(more);
        }
    }
}

/// The journal of one run, open for writing. Dropping it lets another orchestrator open it.
#[async_trait]
pub trait RunJournal: Debug + Send + Sync {
    /// Appends events: when it returns they survive the death of this process.
    ///
    /// # Errors
    /// Where the medium fails; the journal takes nothing more then.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped call may have written a part.
    async fn append(&self, events: &[Event]) -> Result<(), StoreError>;

    /// Makes everything appended so far survive a power cut, and gives the number of the last
    /// event that does. May run while further events are appended.
    ///
    /// # Errors
    /// Where the medium fails. It is never tried again: after a failed fsync the pages may be
    /// marked clean without having been written.
    async fn sync(&self) -> Result<u64, StoreError>;

    /// Writes the state for people, editors and scripts, where this is the run that was created or
    /// opened last. It can be rebuilt from the journal.
    ///
    /// # Errors
    /// Where the medium fails.
    async fn publish(&self, state: Arc<RunState>) -> Result<(), StoreError>;
}

/// One line on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Where it stands, as far as its journal tells.
    pub status: RunStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When its last event happened.
    pub updated_at: Timestamp,
    /// How many tasks it has.
    pub tasks: usize,
    /// How many of them were merged.
    pub merged: usize,
    /// How many of them ended otherwise.
    pub unsuccessful: usize,
    /// The process that runs it; `None` where none does.
    pub owner: Option<u32>,
}

/// Why a store could not do its job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such run.
    #[error("there is no run {run}; `orch runs` lists them")]
    NoSuchRun {
        /// The run.
        run: String,
    },
    /// There is a run of that name already.
    #[error("there is a run {run} already")]
    Exists {
        /// The run.
        run: RunId,
    },
    /// Another orchestrator is at work on the run.
    #[error("another orch (process {pid}) is at work on this run; see `orch status`")]
    Busy {
        /// Its process id; 0 where it is not known.
        pid: u32,
    },
    /// A stored file is damaged.
    #[error("{path} is damaged at byte {offset}: {detail}; it has been left as it is")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How.
        detail: String,
    },
    /// The events of a run contradict one another.
    #[error("the journal of run {run} does not add up: {source}")]
    Inconsistent {
        /// The run.
        run: RunId,
        /// How.
        source: ApplyError,
    },
    /// A stored file was written by a newer version.
    #[error(
        "{path} has format {found}, and this orch knows formats up to {known}; use a newer orch"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// Another orchestrator has taken the run over, although this one had it.
    #[error("{path}: another orch has taken this run over; this one writes nothing more")]
    Superseded {
        /// The file that says so.
        path: PathBuf,
    },
    /// An earlier write failed, and the journal takes nothing more.
    #[error("the journal stopped after an earlier failure: {0}")]
    Stopped(String),
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
