//! The journal of a run between orchestrators: it has one writer at a time, what was taken is there for good, and one
//! that was superseded notices.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex},
};

use orch_faults::interleave::{Fate, explore, fork, note, patience, process};
use orch_model::{
    event::{Event, EventKind},
    id::RunId,
    ports::{RunJournal, StateStore, StoreError},
    time::Timestamp,
};

use super::{any, folder, wait, work};
use crate::FileStore;

/// What the writers know of the run.
#[derive(Debug, Default)]
struct Truth {
    /// Who was told that an event is in the journal, by its number.
    taken: BTreeMap<u64, String>,
    /// Up to where it was said to be synced.
    synced: u64,
    /// Of the one who took the run last.
    epoch: Option<u64>,
    /// Somebody deletes the file that is locked.
    lock_fails: bool,
}

type Watched = Arc<Mutex<Truth>>;

pub(super) fn run() -> RunId {
    RunId::new("r1").unwrap()
}

pub(super) fn event(seq: u64, message: &str) -> Event {
    let kind = EventKind::Warning { task: None, message: message.into() };
    Event { seq, at: Timestamp::from_millis(seq), kind }
}

fn message(event: &Event) -> String {
    match &event.kind {
        EventKind::Warning { message, .. } => message.clone(),
        other => panic!("nobody wrote {other:?}"),
    }
}

/// All events of the run; numbers without gaps are a matter of course for the reader.
pub(super) async fn events(store: &FileStore) -> Result<Vec<Event>, StoreError> {
    let mut reader = store.read(&run(), 1).await?;
    let mut all = Vec::new();
    loop {
        let more = reader.next().await?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

fn epoch(dir: &Path) -> u64 {
    let note = fs::read_to_string(dir.join("runs/r1/owner.lock")).unwrap();
    serde_json::from_str::<serde_json::Value>(&note).unwrap()["epoch"].as_u64().unwrap()
}

/// How a writer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Busy,
    Done,
    Superseded,
}

/// Takes the run over and writes some events, with a sync at the same time as the next event is written.
async fn write(dir: &Path, count: u64, truth: &Watched) -> End {
    let store = FileStore::open(dir).unwrap();
    let journal: Arc<dyn RunJournal> = match store.open(&run()).await {
        Ok(journal) => Arc::from(journal),
        Err(StoreError::Busy { .. }) => return End::Busy,
        // Somebody took it over before it was open, and removed what it had half written.
        Err(StoreError::Superseded { .. }) => return End::Superseded,
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return End::Superseded;
        }
        Err(error) => panic!("{error}"),
    };
    if !truth.lock().unwrap().lock_fails {
        let epoch = epoch(dir);
        let last = truth.lock().unwrap().epoch.replace(epoch);
        assert!(last.is_none_or(|last| last < epoch), "epoch {epoch} comes after {last:?}");
    }
    let known = events(&store).await.unwrap();
    let pid = orch_faults::own_pid().unwrap();
    let mut syncs = Vec::new();
    for seq in (known.len() as u64 + 1..).take(usize::try_from(count).unwrap()) {
        let message = format!("{pid} writes {seq}");
        match journal.append(&[event(seq, &message)]).await {
            Ok(()) => {
                note(|| format!("was told that {seq} is in"));
                let before = truth.lock().unwrap().taken.insert(seq, message);
                assert_eq!(before, None, "event {seq} was taken twice");
            }
            Err(StoreError::Superseded { .. } | StoreError::Stopped(_)) => return End::Superseded,
            Err(error) => panic!("{error}"),
        }
        let (journal, truth) = (Arc::clone(&journal), Arc::clone(truth));
        syncs.push(fork(move || match wait(journal.sync()) {
            Ok(synced) => {
                let mut truth = truth.lock().unwrap();
                assert!(synced >= seq, "{synced} is synced, and {seq} was there before");
                truth.synced = truth.synced.max(synced);
            }
            Err(StoreError::Stopped(_)) => {}
            Err(error) => panic!("{error}"),
        }));
    }
    for sync in syncs {
        sync.join();
    }
    End::Done
}

/// A run that was begun by one who is gone.
fn begin(dir: &Path) {
    let dir = dir.to_owned();
    let made = process(Fate::Lives, move || {
        let store = FileStore::open(dir).unwrap();
        drop(wait(store.create(&run())).unwrap());
    });
    made.join().unwrap();
}

/// What is in the journal at the end, when the last one who comes has looked at it.
fn check(dir: &Path, truth: &Watched) {
    let (dir, truth) = (dir.to_owned(), Arc::clone(truth));
    let (last, seen) = (dir.clone(), Arc::clone(&truth));
    let end = process(Fate::Lives, move || wait(write(&last, 1, &seen))).join();
    assert_eq!(end, Some(End::Done), "whoever comes last can go on");
    let store = move || FileStore::open(dir).unwrap();
    process(Fate::Lives, move || check_events(&store(), &truth)).join().unwrap();
}

fn check_events(store: &FileStore, truth: &Watched) {
    let all = wait(events(store)).unwrap();
    let truth = truth.lock().unwrap();
    for (seq, message) in &truth.taken {
        let found = all.get(usize::try_from(*seq).unwrap() - 1).map(self::message);
        assert_eq!(found.as_ref(), Some(message), "event {seq}: {all:?}");
    }
    // An event of which nobody was told is the last of one that was killed, so that another one follows.
    for event in &all {
        let writer = message(event);
        assert!(writer.ends_with(&format!("writes {}", event.seq)), "{writer}");
    }
    assert!(truth.synced <= all.len() as u64);
}

#[test]
fn a_run_has_one_writer_at_a_time_however_they_end() {
    explore("journal", 400, || {
        let folder = folder();
        let truth = Watched::default();
        begin(folder.path());
        patience(6);
        let fates = [
            Fate::DiesWithin(60),
            Fate::DiesWithin(120),
            any(&[Fate::Lives, Fate::DiesWithin(80)]),
        ];
        let writers: Vec<_> = fates
            .map(|fate| {
                let (dir, truth) = (folder.path().to_owned(), Arc::clone(&truth));
                process(fate, move || {
                    for _ in 0..2 {
                        let end = wait(write(&dir, 3, &truth));
                        assert_ne!(end, End::Superseded, "nobody takes over from one who lives");
                    }
                })
            })
            .into();
        // Whoever looks on sees what was there before, and more.
        let reader = {
            let dir = folder.path().to_owned();
            process(Fate::Lives, move || {
                let store = FileStore::open(dir).unwrap();
                let mut seen: Vec<Event> = Vec::new();
                for _ in 0..4 {
                    let now = wait(events(&store)).unwrap();
                    assert!(now.starts_with(&seen), "{now:?} after {seen:?}");
                    seen = now;
                    work(2);
                }
            })
        };
        for writer in writers {
            writer.join();
        }
        reader.join();
        patience(0);
        check(folder.path(), &truth);
    });
}

#[test]
fn where_the_lock_fails_nothing_is_mixed_and_the_first_one_notices() {
    explore("take-over of journals", 400, || {
        let folder = folder();
        let truth = Arc::new(Mutex::new(Truth { lock_fails: true, ..Truth::default() }));
        begin(folder.path());
        patience(12);
        // Somebody deletes the file that is locked, so that the next one does not see who holds it.
        let intruder = {
            let lock = folder.path().join("runs/r1/owner.lock");
            process(Fate::Lives, move || {
                for _ in 0..2 {
                    work(any(&[1, 5, 20]));
                    let _ = fs::remove_file(&lock);
                }
            })
        };
        let fates = [Fate::Lives, Fate::Lives, Fate::DiesWithin(150)];
        let writers = fates.map(|fate| {
            let (dir, truth) = (folder.path().to_owned(), Arc::clone(&truth));
            process(fate, move || wait(write(&dir, 4, &truth)))
        });
        intruder.join().unwrap();
        for writer in writers {
            writer.join();
        }
        patience(0);
        check(folder.path(), &truth);
    });
}
