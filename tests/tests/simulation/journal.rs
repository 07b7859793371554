//! `StateStore`: journals, of which a power cut takes what was not synced.

use std::{collections::BTreeMap, io, sync::Arc};

use async_trait::async_trait;
use orch_exec::model::{
    Event, EventKind, RunId, RunState,
    event::TaskChange,
    ports::{EventReader, RunJournal, RunSummary, StateStore, StoreError},
};

use crate::world::{Inner, Part};

/// All journals.
#[derive(Debug, Default)]
pub(crate) struct Journals {
    runs: BTreeMap<RunId, Journal>,
    current: Option<RunId>,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) events: Vec<Event>,
    synced: usize,
    /// The orchestrator that has it open.
    owner: Option<u32>,
    /// Whether an earlier write of that one failed.
    is_stopped: bool,
    /// The last event that an observer was told of.
    told: u64,
}

impl Journals {
    pub(crate) fn current(&self) -> Option<(&RunId, &Journal)> {
        let run = self.current.as_ref()?;
        Some((run, self.runs.get(run)?))
    }

    fn run(&self, run: &RunId) -> Result<&Journal, StoreError> {
        self.runs.get(run).ok_or_else(|| StoreError::NoSuchRun { run: run.to_string() })
    }
}

impl Inner {
    /// The power fails: what was appended since the last sync may be there or not, from some event on.
    pub(crate) fn cut_journals(&mut self) {
        let mut lost = Vec::new();
        for (run, journal) in &mut self.journals.runs {
            let kept = self.rng.usize(journal.synced..=journal.events.len());
            journal.events.truncate(kept);
            if (kept as u64) < journal.told {
                lost.push(format!("event {} of {run} was told of, and is lost", journal.told));
            }
        }
        self.violations.append(&mut lost);
    }

    /// An observer is told of an event.
    pub(crate) fn told(&mut self, run: &RunId, event: u64) {
        let Some(journal) = self.journals.runs.get_mut(run) else { return };
        journal.told = journal.told.max(event);
        if event > journal.synced as u64 {
            self.violation(format!("event {event} was told of before it was synced"));
        }
    }

    fn open(&mut self, run: &RunId, life: u32) {
        self.journals.current = Some(run.clone());
        let journal = self.journals.runs.entry(run.clone()).or_default();
        journal.owner = Some(life);
        journal.is_stopped = false;
    }
}

fn failed(doing: &'static str) -> StoreError {
    StoreError::Io { path: "journal".into(), doing, source: io::ErrorKind::StorageFull.into() }
}

#[async_trait]
impl StateStore for Part {
    fn name(&self) -> &str {
        "simulated"
    }

    async fn create(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        self.act("create the journal", |world| {
            if world.journals.runs.contains_key(run) {
                return Err(StoreError::Exists { run: run.clone() });
            }
            world.open(run, self.life);
            Ok(())
        })
        .await?;
        Ok(Box::new(OpenJournal { part: self.clone(), run: run.clone() }))
    }

    async fn open(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        self.act("open the journal", |world| {
            // Its owner holds a lock, which is free when it is dead.
            if world.journals.run(run)?.owner == Some(self.life) {
                return Err(StoreError::Busy { pid: self.life });
            }
            world.open(run, self.life);
            Ok(())
        })
        .await?;
        Ok(Box::new(OpenJournal { part: self.clone(), run: run.clone() }))
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Box<dyn EventReader>, StoreError> {
        self.world.lock().journals.run(run)?;
        Ok(Box::new(Reader { part: self.clone(), run: run.clone(), next: from.max(1) as usize }))
    }

    async fn current(&self) -> Result<Option<RunId>, StoreError> {
        Ok(self.world.lock().journals.current.clone())
    }

    async fn list(&self) -> Result<Vec<RunSummary>, StoreError> {
        Ok(Vec::new())
    }
}

#[derive(Debug)]
struct Reader {
    part: Part,
    run: RunId,
    next: usize,
}

#[async_trait]
impl EventReader for Reader {
    async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        let events: Vec<_> = {
            let world = self.part.world.lock();
            let journal = world.journals.run(&self.run)?;
            journal.events.iter().skip(self.next - 1).take(100).cloned().collect()
        };
        self.next += events.len();
        Ok(events)
    }
}

#[derive(Debug)]
struct OpenJournal {
    part: Part,
    run: RunId,
}

impl OpenJournal {
    fn journal<'a>(&self, world: &'a mut Inner) -> &'a mut Journal {
        world.journals.runs.get_mut(&self.run).expect("it is open")
    }

    /// Where an earlier write failed, nothing more is taken.
    fn check(&self, world: &mut Inner) -> Result<(), StoreError> {
        let is_stopped = self.journal(world).is_stopped;
        if is_stopped { Err(StoreError::Stopped("the disk".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl RunJournal for OpenJournal {
    async fn append(&self, events: &[Event]) -> Result<(), StoreError> {
        let what = format!("append {}", events.last().map_or(0, |event| event.seq));
        self.part
            .act(&what, |world| {
                self.check(world)?;
                let due = self.journal(world).events.len() as u64 + 1;
                if events.first().is_some_and(|event| event.seq != due) {
                    world.violation(format!("event {due} is due and not {:?}", events.first()));
                }
                if world.goes_wrong("append fails", 1) {
                    self.journal(world).is_stopped = true;
                    return Err(failed("appending"));
                }
                let torn = world.rng.u8(..) == 0;
                if torn {
                    // The process is killed in the middle of the write.
                    let some = world.rng.usize(0..=events.len());
                    self.journal(world).events.extend_from_slice(&events[..some]);
                    world.count("append is torn");
                    world.is_alive = false;
                    self.part.world.killed.notify_one();
                    return Ok(());
                }
                self.journal(world).events.extend_from_slice(events);
                // A merge follows from such a one, and may be made before the next power cut.
                let is_intent = |event: &Event| {
                    let EventKind::Task { change, .. } = &event.kind else { return false };
                    matches!(change, TaskChange::Verified { .. })
                };
                let chance = if events.iter().any(is_intent) { 24 } else { 1 };
                if world.goes_wrong("kill -9 before a sync", chance) {
                    world.is_alive = false;
                    self.part.world.killed.notify_one();
                }
                Ok(())
            })
            .await
    }

    async fn sync(&self) -> Result<u64, StoreError> {
        // What is appended while it syncs is not covered.
        let appended = self.journal(&mut self.part.world.lock()).events.len();
        self.part
            .act("sync", |world| {
                self.check(world)?;
                if world.goes_wrong("sync fails", 1) {
                    self.journal(world).is_stopped = true;
                    return Err(failed("syncing"));
                }
                let journal = self.journal(world);
                journal.synced = journal.synced.max(appended);
                Ok(appended as u64)
            })
            .await
    }

    async fn publish(&self, _: Arc<RunState>) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Drop for OpenJournal {
    fn drop(&mut self) {
        if self.part.is_alive() {
            self.journal(&mut self.part.world.lock()).owner = None;
        }
    }
}
