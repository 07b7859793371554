//! A history in memory: for tests, and for who keeps none.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use orch_model::{RunId, TaskId, state::Attempt};

use crate::{
    error::HistoryError,
    history::{History, RunEntry, SessionQuery},
    session::{Part, Session},
};

/// A history that ends with its process.
#[derive(Debug, Default)]
pub struct MemoryHistory(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    runs: BTreeMap<RunId, RunEntry>,
    sessions: BTreeMap<Name, (u64, Session)>,
    last: u64,
}

type Name = (RunId, TaskId, Attempt, Part);

fn name(session: &Session) -> Name {
    (session.run.clone(), session.task.clone(), session.attempt, session.part)
}

impl MemoryHistory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for MemoryHistory {
    fn name(&self) -> &str {
        "memory"
    }

    fn record(&self, run: &RunEntry, sessions: &[Session]) -> Result<bool, HistoryError> {
        let mut kept = self.kept();
        if kept.runs.get(&run.run).is_some_and(|known| known.journal_bytes > run.journal_bytes) {
            return Ok(false);
        }
        let mut old: BTreeMap<Name, u64> = BTreeMap::new();
        kept.sessions.retain(|name, (number, _)| {
            let is_other = name.0 != run.run;
            if !is_other {
                old.insert(name.clone(), *number);
            }
            is_other
        });
        for session in sessions {
            let name = name(session);
            let number = old.get(&name).copied().unwrap_or_else(|| {
                kept.last += 1;
                kept.last
            });
            kept.sessions.insert(name, (number, session.clone()));
        }
        kept.runs.insert(run.run.clone(), run.clone());
        Ok(true)
    }

    fn taken_in(&self) -> Result<BTreeMap<RunId, u64>, HistoryError> {
        let kept = self.kept();
        Ok(kept.runs.values().map(|run| (run.run.clone(), run.journal_bytes)).collect())
    }

    fn runs(&self, limit: usize) -> Result<Vec<RunEntry>, HistoryError> {
        let mut runs: Vec<RunEntry> = self.kept().runs.values().cloned().collect();
        runs.sort_by_key(|run| (Reverse(run.started_at), run.run.clone()));
        runs.truncate(limit);
        Ok(runs)
    }

    fn sessions(&self, query: &SessionQuery) -> Result<Vec<(u64, Session)>, HistoryError> {
        let mut found: Vec<(u64, Session)> = self
            .kept()
            .sessions
            .values()
            .filter(|(_, session)| query.is_met_by(session))
            .cloned()
            .collect();
        found.sort_by_key(|(number, session)| Reverse((session.began_at, *number)));
        found.truncate(query.limit);
        Ok(found)
    }
}
