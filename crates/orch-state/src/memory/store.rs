//! `MemoryStore`: journals in memory, which can be told to fail.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use orch_model::{
    event::Event,
    id::RunId,
    ports::{EventReader, RunJournal, RunSummary, StateStore, StoreError},
    run::RunState,
};

use crate::{journal::OutOfTurn, summary};

/// Keeps runs in memory. Clones share their content.
///
/// ```
/// use orch_model::{id::RunId, ports::StateStore};
/// use orch_state::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new().fail_sync_at(2);
/// let journal = store.create(&RunId::new("r1")?).await?;
/// assert!(journal.sync().await.is_ok());
/// assert!(journal.sync().await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: BTreeMap<RunId, Run>,
    /// The run that was created or opened last.
    current: Option<RunId>,
    /// The runs whose journals are open.
    open: HashSet<RunId>,
    appends: u64,
    syncs: u64,
    fail_append_at: Option<u64>,
    fail_sync_at: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Run {
    events: Vec<Event>,
    synced: u64,
    published: Option<RunState>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `n`-th append (from 1, over all runs) fail; its journal takes nothing more then.
    #[must_use]
    pub fn fail_append_at(self, n: u64) -> Self {
        self.lock().fail_append_at = Some(n);
        self
    }

    /// Makes the `n`-th sync (from 1, over all runs) fail; its journal takes nothing more then.
    #[must_use]
    pub fn fail_sync_at(self, n: u64) -> Self {
        self.lock().fail_sync_at = Some(n);
        self
    }

    /// How often something was appended, and how often it was synced.
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.appends, inner.syncs)
    }

    /// The state that was published last.
    #[must_use]
    pub fn published(&self, run: &RunId) -> Option<RunState> {
        self.lock().runs.get(run)?.published.clone()
    }

    /// The store as a power cut at this moment could leave it: with nothing that was not synced.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let mut runs = self.lock().runs.clone();
        for run in runs.values_mut() {
            run.events.retain(|event| event.seq <= run.synced);
            run.published = None;
        }
        Self { inner: Arc::new(Mutex::new(Inner { runs, ..Inner::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self, inner: &mut Inner, run: &RunId) -> Box<dyn RunJournal> {
        inner.open.insert(run.clone());
        inner.current = Some(run.clone());
        let stopped = Mutex::new(None);
        Box::new(MemoryJournal { store: self.clone(), run: run.clone(), stopped })
    }
}

impl Inner {
    fn check_free(&self, run: &RunId) -> Result<(), StoreError> {
        if self.open.contains(run) {
            return Err(StoreError::Busy { pid: std::process::id() });
        }
        Ok(())
    }

    fn run(&self, run: &RunId) -> Result<&Run, StoreError> {
        self.runs.get(run).ok_or_else(|| StoreError::NoSuchRun { run: run.to_string() })
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    fn name(&self) -> &str {
        "memory"
    }

    async fn create(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        let mut inner = self.lock();
        if inner.runs.contains_key(run) {
            return Err(StoreError::Exists { run: run.clone() });
        }
        inner.runs.insert(run.clone(), Run::default());
        Ok(self.journal(&mut inner, run))
    }

    async fn open(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        let mut inner = self.lock();
        inner.run(run)?;
        inner.check_free(run)?;
        Ok(self.journal(&mut inner, run))
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Box<dyn EventReader>, StoreError> {
        self.lock().run(run)?;
        Ok(Box::new(MemoryReader { store: self.clone(), run: run.clone(), next: from.max(1) }))
    }

    async fn current(&self) -> Result<Option<RunId>, StoreError> {
        Ok(self.lock().current.clone())
    }

    async fn list(&self) -> Result<Vec<RunSummary>, StoreError> {
        let inner = self.lock();
        let mut summaries = Vec::new();
        for (id, run) in &inner.runs {
            let owner = inner.open.contains(id).then(std::process::id);
            match RunState::replay(&run.events) {
                Ok(Some(state)) => summaries.push(summary::summary(&state, owner)),
                Ok(None) => {}
                Err(error) => tracing::warn!(run = %id, %error, "a run is left out of the list"),
            }
        }
        summary::newest_first(&mut summaries);
        Ok(summaries)
    }
}

#[derive(Debug)]
struct MemoryReader {
    store: MemoryStore,
    run: RunId,
    next: u64,
}

#[async_trait]
impl EventReader for MemoryReader {
    async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        let inner = self.store.lock();
        let due = inner.run(&self.run)?.events.iter().skip((self.next - 1) as usize);
        let events: Vec<_> = due.take(512).cloned().collect();
        self.next += events.len() as u64;
        Ok(events)
    }
}

#[derive(Debug)]
struct MemoryJournal {
    store: MemoryStore,
    run: RunId,
    stopped: Mutex<Option<String>>,
}

impl MemoryJournal {
    /// Counts a call, and refuses it where an earlier one failed or this one is to fail.
    fn check(
        &self,
        count: u64,
        fail_at: Option<u64>,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &*stopped {
            return Err(StoreError::Stopped(why.clone()));
        }
        if fail_at == Some(count) {
            let error = StoreError::Io {
                path: "memory".into(),
                doing,
                source: io::Error::other("this failure was asked for"),
            };
            *stopped = Some(error.to_string());
            return Err(error);
        }
        Ok(())
    }
}

#[async_trait]
impl RunJournal for MemoryJournal {
    async fn append(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut inner = self.store.lock();
        inner.appends += 1;
        self.check(inner.appends, inner.fail_append_at, "appending")?;
        let run = inner.runs.entry(self.run.clone()).or_default();
        let before = run.events.len() as u64;
        for (due, event) in (before + 1..).zip(events) {
            if event.seq != due {
                let source = OutOfTurn { due, found: event.seq }.into();
                return Err(StoreError::Other { source });
            }
        }
        run.events.extend_from_slice(events);
        Ok(())
    }

    async fn sync(&self) -> Result<u64, StoreError> {
        let mut inner = self.store.lock();
        inner.syncs += 1;
        self.check(inner.syncs, inner.fail_sync_at, "syncing")?;
        let run = inner.runs.entry(self.run.clone()).or_default();
        run.synced = run.events.len() as u64;
        Ok(run.synced)
    }

    async fn publish(&self, state: Arc<RunState>) -> Result<(), StoreError> {
        let mut inner = self.store.lock();
        inner.runs.entry(self.run.clone()).or_default().published = Some((*state).clone());
        Ok(())
    }
}

impl Drop for MemoryJournal {
    fn drop(&mut self) {
        self.store.lock().open.remove(&self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[tokio::test]
    async fn it_fails_when_it_is_told_to() {
        let run = RunId::new("r1").unwrap();
        let events = sample::events("r1");
        let store = MemoryStore::new().fail_append_at(2);
        let journal = store.create(&run).await.unwrap();
        journal.append(&events[..1]).await.unwrap();
        assert!(matches!(journal.append(&events[1..]).await, Err(StoreError::Io { .. })));
        assert!(matches!(journal.append(&events[1..]).await, Err(StoreError::Stopped(_))));
        assert!(matches!(journal.sync().await, Err(StoreError::Stopped(_))));
        assert_eq!(store.calls(), (3, 1));
        drop(journal);
        let journal = store.open(&run).await.unwrap();
        let kept = store.read(&run, 1).await.unwrap().rest().await.unwrap();
        assert_eq!(kept, events[..1], "what failed was not kept");
        journal.append(&events[1..]).await.unwrap();
    }

    #[tokio::test]
    async fn a_power_cut_keeps_what_was_synced() {
        let run = RunId::new("r1").unwrap();
        let events = sample::events("r1");
        let store = MemoryStore::new();
        let journal = store.create(&run).await.unwrap();
        journal.append(&events[..3]).await.unwrap();
        assert_eq!(journal.sync().await.unwrap(), 3);
        journal.append(&events[3..]).await.unwrap();
        let state = RunState::replay(&events).unwrap().unwrap();
        journal.publish(Arc::new(state.clone())).await.unwrap();
        assert_eq!(store.published(&run), Some(state));

        let after = store.after_power_cut();
        let kept = after.read(&run, 1).await.unwrap().rest().await.unwrap();
        assert_eq!(kept, events[..3]);
        assert_eq!(after.published(&run), None);
        let original = store.read(&run, 1).await.unwrap().rest().await.unwrap();
        assert_eq!(original, events, "the original is as it was");
    }
}
