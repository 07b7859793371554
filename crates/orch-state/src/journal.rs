//! The journal of one run, open for writing.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use orch_faults::{lock, planted, point};
use orch_model::{
    event::Event,
    ports::{RunJournal, StoreError},
    run::RunState,
};

use crate::{
    alone::Alone,
    disk::{self, io_error},
    format::{self, Position},
    owner::Ownership,
    published::Outlet,
};

/// How many bytes are gathered before they are written.
const CHUNK: usize = 1 << 18;

/// An event came out of turn: a mistake of the caller.
#[derive(Debug, thiserror::Error)]
#[error("event {found} was to be appended where {due} is due")]
pub(crate) struct OutOfTurn {
    pub(crate) due: u64,
    pub(crate) found: u64,
}

/// The journal of a run in a file.
#[derive(Debug)]
pub(crate) struct FileJournal(Arc<Shared>);

/// What the journal shares with the work that it has given to other threads. The right to write
/// ends with the last of them, so that nothing of this process comes after another one's writing.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: File,
    tail: Mutex<Tail>,
    outlet: Outlet,
    /// The number of the last event in the published state.
    published: Mutex<u64>,
    owner: Ownership,
}

/// Where the journal ends.
#[derive(Debug)]
struct Tail {
    buffer: Vec<u8>,
    chain: u32,
    seq: u64,
    /// How long the file is; `None` where it is no regular file.
    length: Option<u64>,
    /// The last event that survives a power cut.
    synced: u64,
    /// Why nothing more is taken.
    stopped: Option<String>,
}

impl FileJournal {
    /// Takes the open file to go on at `end`, where it was seen to end.
    pub(crate) fn new(
        path: PathBuf,
        file: File,
        outlet: Outlet,
        end: Position,
        owner: Ownership,
    ) -> Result<Self, StoreError> {
        // Last, so that a run that can't be written does not become the current one.
        outlet.claim()?;
        let metadata = file.metadata().map_err(io_error(&path, "looking at it"))?;
        let length = metadata.is_file().then_some(end.offset);
        let (chain, seq) = (end.chain, end.seq - 1);
        let tail = Tail { buffer: Vec::new(), chain, seq, length, synced: 0, stopped: None };
        Ok(Self(Arc::new(Shared {
            path,
            file,
            tail: Mutex::new(tail),
            outlet,
            published: Mutex::new(0),
            owner,
        })))
    }
}

#[async_trait]
impl RunJournal for FileJournal {
    // One short write into the page cache: moving it to another thread would cost more than it.
    async fn append(&self, events: &[Event]) -> Result<(), StoreError> {
        self.0.append(events)
    }

    async fn sync(&self) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.0);
        blocking(move || shared.sync()).await
    }

    async fn publish(&self, state: Arc<RunState>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.0);
        blocking(move || shared.publish(&state)).await
    }
}

impl Shared {
    fn append(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut tail = lock(&self.tail);
        tail.check()?;
        let _alone = self.alone(&mut tail)?;
        tail.buffer.clear();
        let (mut chain, mut seq) = (tail.chain, tail.seq);
        for (due, event) in (seq + 1..).zip(events) {
            if event.seq != due {
                let error = OutOfTurn { due, found: event.seq };
                return Err(StoreError::Other { source: error.into() });
            }
        }
        for event in events {
            if tail.buffer.len() > CHUNK {
                self.write(&mut tail)?;
            }
            chain = format::encode(&mut tail.buffer, chain, event)
                .map_err(|error| self.stop(&mut tail, "appending", io::Error::other(error)))?;
            seq += 1;
        }
        self.write(&mut tail)?;
        (tail.chain, tail.seq) = (chain, seq);
        // The event that holds the plan may be large, and no later one is.
        tail.buffer.shrink_to(2 * CHUNK);
        Ok(())
    }

    /// Makes sure that this is still the only writer, and that it stays so until it has written: nobody has taken
    /// the run over, and the file ends where this one left it.
    fn alone(&self, tail: &mut Tail) -> Result<Alone<'_>, StoreError> {
        let alone = Alone::with(&self.file, &self.path)
            .inspect_err(|error| tail.stopped = Some(error.to_string()))?;
        if planted("second-writer-unnoticed") {
            return Ok(alone);
        }
        let mut checked = self.owner.check();
        if let Some(length) = tail.length {
            let found = self.file.metadata().map_err(io_error(&self.path, "looking at it"))?.len();
            if checked.is_ok() && found != length {
                checked = Err(StoreError::Superseded { path: self.path.clone() });
            }
        }
        checked.inspect_err(|error| tail.stopped = Some(error.to_string()))?;
        Ok(alone)
    }

    fn write(&self, tail: &mut Tail) -> Result<(), StoreError> {
        let written = orch_faults::write_all("journal::append", &mut &self.file, &tail.buffer);
        let length = tail.buffer.len() as u64;
        tail.length = tail.length.map(|before| before + length);
        tail.buffer.clear();
        written.map_err(|source| self.stop(tail, "appending", source))
    }

    fn sync(&self) -> Result<u64, StoreError> {
        let seq = {
            let tail = lock(&self.tail);
            tail.check()?;
            if tail.synced == tail.seq {
                return Ok(tail.seq);
            }
            tail.seq
        };
        // Without the mutex: further events are appended meanwhile.
        let outcome = point!("journal::sync", self.file.sync_data());
        let mut tail = lock(&self.tail);
        match outcome {
            Ok(()) => {
                tail.check()?;
                tail.synced = tail.synced.max(seq);
                Ok(seq)
            }
            Err(source) if planted("goes-on-after-failed-sync") => {
                Err(io_error(&self.path, "syncing")(source))
            }
            Err(source) => Err(self.stop(&mut tail, "syncing", source)),
        }
    }

    fn publish(&self, state: &RunState) -> Result<(), StoreError> {
        let mut published = lock(&self.published);
        // Of two that were under way at once, the older one may come last.
        if *published <= state.seq || planted("older-state-last") {
            // So that the state never tells more than the journal, also after a power cut: where it
            // does, the journal was damaged.
            if !planted("state-before-journal") {
                self.sync()?;
            }
            self.outlet.write(state)?;
            *published = state.seq;
        }
        Ok(())
    }

    fn stop(&self, tail: &mut Tail, doing: &'static str, source: io::Error) -> StoreError {
        let error = io_error(&self.path, doing)(source);
        tail.stopped.get_or_insert_with(|| error.to_string());
        error
    }
}

impl Tail {
    fn check(&self) -> Result<(), StoreError> {
        match &self.stopped {
            None => Ok(()),
            Some(why) => Err(StoreError::Stopped(why.clone())),
        }
    }
}

/// Opens a journal to add to it.
pub(crate) fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().append(true).open(path).map_err(io_error(path, "opening"))
}

/// Cuts a torn tail off, after it was copied to `journal.torn-1`, `-2`, ... beside the journal.
pub(crate) fn cut_torn_tail(path: &Path, torn: &[u8], end: u64) -> Result<(), StoreError> {
    let mut aside = path.to_path_buf();
    for number in 1.. {
        aside.set_file_name(format!("journal.torn-{number}"));
        if disk::create(&aside, path.parent().unwrap_or(path), torn)? {
            break;
        }
    }
    tracing::warn!(
        path = %path.display(),
        bytes = torn.len(),
        copy = %aside.display(),
        "cut off the incomplete record that a writer left behind when it was killed"
    );
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        point!("journal::cut", file.set_len(end))?;
        point!("journal::cut.sync", file.sync_all())
    };
    cut().map_err(io_error(path, "cutting off a torn tail"))
}

/// Has the next sync of a journal write all of it to disk, also what its last writer had failed to sync: the
/// kernel then takes the pages for clean, though they are not on the disk, and another sync would do nothing.
/// So they are written again, as they are. See "Can Applications Recover from fsync Failures?" (Rebello et al.,
/// USENIX ATC 2020).
pub(crate) fn write_again(path: &Path) -> Result<(), StoreError> {
    let write = || {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let (mut chunk, mut at) = (vec![0; CHUNK], 0);
        loop {
            let read = file.read_at(&mut chunk, at)?;
            if read == 0 {
                return Ok(());
            }
            point!("journal::write_again", file.write_all_at(&chunk[..read], at))?;
            at += read as u64;
        }
    };
    write().map_err(io_error(path, "writing it again"))
}

/// Runs something that blocks on a thread made for that.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if orch_faults::is_interleaved() {
        return act();
    }
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Other { source: error.into() }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use orch_model::{event::EventKind, id::RunId, time::Timestamp};

    use super::*;

    fn warning(seq: u64) -> Event {
        Event {
            seq,
            at: Timestamp::from_millis(seq),
            kind: EventKind::Warning { task: None, message: "x".into() },
        }
    }

    fn journal_on(path: &str, dir: &Path) -> FileJournal {
        let run = RunId::new("r1").unwrap();
        let owner = Ownership::take(&dir.join("owner.lock"), &run).unwrap();
        let outlet = Outlet {
            path: dir.join("state.json"),
            current: dir.join("current"),
            run_dir: dir.to_owned(),
            run,
        };
        let end = Position { offset: 0, seq: 1, chain: 0 };
        FileJournal::new(path.into(), open(Path::new(path)).unwrap(), outlet, end, owner).unwrap()
    }

    #[tokio::test]
    async fn after_a_failed_write_nothing_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal_on("/dev/full", dir.path());
        let error = journal.append(&[warning(1)]).await.unwrap_err();
        assert!(matches!(error, StoreError::Io { doing: "appending", .. }), "{error}");
        for error in
            [journal.append(&[warning(1)]).await.unwrap_err(), journal.sync().await.unwrap_err()]
        {
            let StoreError::Stopped(why) = &error else { panic!("{error}") };
            assert!(why.starts_with("/dev/full: appending"), "{why}");
        }
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        // Writes succeed there, and fdatasync is refused.
        let journal = journal_on("/dev/null", dir.path());
        journal.append(&[warning(1)]).await.unwrap();
        let error = journal.sync().await.unwrap_err();
        assert!(matches!(error, StoreError::Io { doing: "syncing", .. }), "{error}");
        assert!(matches!(journal.append(&[warning(2)]).await, Err(StoreError::Stopped(_))));
        assert!(matches!(journal.sync().await, Err(StoreError::Stopped(_))));
    }

    #[tokio::test]
    async fn the_state_is_not_published_before_the_journal_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        // Writes succeed there, and fdatasync is refused.
        let journal = journal_on("/dev/null", dir.path());
        journal.append(&[warning(1)]).await.unwrap();
        let state = RunState::begin(&crate::sample::events_at("r1", 1)[0]).unwrap();
        assert!(journal.publish(Arc::new(state)).await.is_err());
        assert!(!dir.path().join("state.json").exists());
    }

    #[tokio::test]
    async fn one_that_is_not_the_only_writer_stops() {
        type Deed = fn(&Path);
        let deeds: [(Deed, &str); 2] = [
            (|dir| fs::write(dir.join("journal"), "somebody else's\n").unwrap(), "journal"),
            (
                |dir| {
                    fs::write(dir.join("owner.lock"), r#"{"pid":1,"run":"r1","epoch":9}"#).unwrap()
                },
                "owner.lock",
            ),
        ];
        for (deed, name) in deeds {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            fs::write(&path, "").unwrap();
            let journal = journal_on(path.to_str().unwrap(), dir.path());
            journal.append(&[warning(1)]).await.unwrap();
            deed(dir.path());
            let before = fs::read(&path).unwrap();
            let error = journal.append(&[warning(2)]).await.unwrap_err();
            let StoreError::Superseded { path: found } = &error else { panic!("{error}") };
            assert!(found.ends_with(name), "{error}");
            assert!(matches!(journal.append(&[warning(2)]).await, Err(StoreError::Stopped(_))));
            assert!(matches!(journal.sync().await, Err(StoreError::Stopped(_))));
            assert_eq!(fs::read(&path).unwrap(), before, "nothing was written");
        }
    }

    #[tokio::test]
    async fn a_large_batch_is_written_in_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal_on("/dev/null", dir.path());
        let batch: Vec<_> = (1..20_000).map(warning).collect();
        journal.append(&batch).await.unwrap();
        assert!(lock(&journal.0.tail).buffer.capacity() <= 2 * CHUNK);
        journal.append(&[]).await.unwrap();
        assert_eq!(lock(&journal.0.tail).seq, 19_999);
    }

    #[tokio::test]
    async fn a_panic_on_the_other_thread_is_an_error() {
        let error = blocking(|| -> Result<(), StoreError> { panic!("planned") }).await.unwrap_err();
        assert!(matches!(error, StoreError::Other { .. }), "{error}");
    }
}
