//! The port: what is kept across runs.

use std::{collections::BTreeMap, fmt::Debug};

use orch_model::{RunId, RunStatus, Span, TaskId, Timestamp, usage::Usage};
use serde::{Deserialize, Serialize};

use crate::{error::HistoryError, session::Session, statistics::Statistics};

/// Sessions that statistics are made of: older ones say little of today's agents.
const RECENT: usize = 20_000;

/// What is kept across runs. Derived from the journals: it may be lost and made again.
///
/// Calls block; none takes long. What every implementation keeps is a suite of tests, the module
/// `contract` (feature `contract`):
///
/// - A run and its sessions are recorded as a whole or not at all, and put in the place of what was
///   recorded of the run before. Recording twice is recording once.
/// - What was taken from a shorter journal never replaces what was taken from a longer one.
/// - A session keeps its number, and no number is given twice.
pub trait History: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// Records a run with all its sessions. `false`: what is there was taken from more of the journal.
    ///
    /// # Errors
    /// Where the medium fails, or a newer version wrote it.
    fn record(&self, run: &RunEntry, sessions: &[Session]) -> Result<bool, HistoryError>;

    /// How much of the journal of each run was taken in, in bytes.
    ///
    /// # Errors
    /// Where the medium fails.
    fn taken_in(&self) -> Result<BTreeMap<RunId, u64>, HistoryError>;

    /// The runs, the newest first.
    ///
    /// # Errors
    /// Where the medium fails.
    fn runs(&self, limit: usize) -> Result<Vec<RunEntry>, HistoryError>;

    /// Sessions with their numbers, the newest first.
    ///
    /// # Errors
    /// Where the medium fails.
    fn sessions(&self, query: &SessionQuery) -> Result<Vec<(u64, Session)>, HistoryError>;

    /// What the recent sessions add up to.
    ///
    /// # Errors
    /// Where the medium fails.
    fn statistics(&self) -> Result<Statistics, HistoryError> {
        let recent = SessionQuery { limit: RECENT, ..SessionQuery::default() };
        Ok(Statistics::of(self.sessions(&recent)?.iter().map(|(_, session)| session)))
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEntry {
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether it was taken back from its target.
    pub undone: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When something last happened in it.
    pub updated_at: Timestamp,
    /// How many tasks its plan has.
    pub tasks: u64,
    /// How many were merged.
    pub merged: u64,
    /// How many ended otherwise.
    pub unsuccessful: u64,
    /// How long its agents ran, added up.
    pub agent_time: Span,
    /// What its agents used.
    pub usage: Usage,
    /// How much of its journal this was taken from, in bytes.
    pub journal_bytes: u64,
}

/// Which sessions are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only those of this run.
    pub run: Option<RunId>,
    /// Only those of tasks with this id.
    pub task: Option<TaskId>,
    /// Only those of this agent: its name in the plan, or its kind.
    pub agent: Option<String>,
    /// How many, at most.
    pub limit: usize,
}

impl Default for SessionQuery {
    fn default() -> Self {
        Self { run: None, task: None, agent: None, limit: usize::MAX }
    }
}

impl SessionQuery {
    /// Whether a session is one of those.
    #[must_use]
    pub fn is_met_by(&self, session: &Session) -> bool {
        let agent = |agent: &String| {
            session.kind == *agent || session.agent.as_ref().is_some_and(|name| name == agent)
        };
        self.run.as_ref().is_none_or(|run| session.run == *run)
            && self.task.as_ref().is_none_or(|task| session.task == *task)
            && self.agent.as_ref().is_none_or(agent)
    }
}
