//! Who is at work on a run: the one process that has its journal open for writing.
//!
//! The truth is the lock on `owner.lock`, which the kernel frees however its holder ends; what the
//! file says (process and run) is for messages only. The file is never deleted: whoever waits for
//! a deleted file holds a lock that nobody else can see.
//!
//! Each one that takes the right counts an *epoch* up in the file. The holder compares before each
//! write: should the lock ever fail (the file was deleted, or the file system has no locks), the one
//! that was superseded writes nothing more, and the journal has one writer all the same.
//!
//! Looking whether the lock is held means to take it for an instant, shared. So that such a look
//! can't turn a starting orchestrator away, the one that starts tries for [`PATIENCE`].

use std::{
    fs::File,
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use orch_faults::{planted, point, step};
use orch_model::{id::RunId, ports::StoreError};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    disk::io_error,
    held::{HeldFile, Mode, open_lock_file},
    process,
};

/// How long an orchestrator that starts tries before it says that another one is at work.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(2);

/// How long a note is made, in bytes, by spaces at its end: more than the longest one takes, for an id of a run
/// has 64 at most.
const LENGTH: usize = 512;

/// What the file says about its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The process; 0 where there is none any more.
    pub(crate) pid: u32,
    pub(crate) run: RunId,
    /// How often the right has been taken.
    #[serde(default)]
    pub(crate) epoch: u64,
}

/// The right to write the journal of a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership {
    held: HeldFile,
    path: PathBuf,
    note: Note,
    /// The note as it stands in the file.
    text: Vec<u8>,
}

impl Ownership {
    /// Takes the right. Blocks for [`PATIENCE`] at most.
    pub(crate) fn take(path: &Path, run: &RunId) -> Result<Self, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let held = loop {
            let file = open_lock_file(path, OFlags::RDWR).map_err(io_error(path, "opening"))?;
            match HeldFile::try_lock(file, Mode::Exclusive).map_err(io_error(path, "locking"))? {
                Some(held) => break held,
                None if planted("stale-by-age") && orch_faults::is_old(path) => {
                    std::fs::remove_file(path).map_err(io_error(path, "removing"))?;
                }
                None if orch_faults::pause(PAUSE, deadline) => {}
                None => {
                    let pid = read(path).map_or(0, |note| note.pid);
                    return Err(StoreError::Busy { pid });
                }
            }
        };
        let epoch = read(path).map_or(1, |note| note.epoch.saturating_add(1));
        let note = Note { pid: process::own_pid(), run: run.clone(), epoch };
        let text = held.with_file(|file| write(file, &note)).map_err(io_error(path, "writing"))?;
        Ok(Self { held, path: path.into(), note, text })
    }

    /// Makes sure that nobody has taken the right since.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] where somebody has.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let mut text = [0; LENGTH];
        step("owner::check").map_err(io_error(&self.path, "looking at it"))?;
        let (still, read) = self.held.with_file(|file| {
            let still = match (file.metadata(), std::fs::metadata(&self.path)) {
                (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
                // Deleted: the next one makes it anew, and is then seen.
                _ => true,
            };
            (still, file.read_at(&mut text, 0))
        });
        if still && read.map_or(true, |length| text[..length] == self.text) {
            return Ok(());
        }
        Err(StoreError::Superseded { path: self.path.clone() })
    }
}

/// Replaces the note. Always as long, and in one write: when this process is killed, the old one or the new one is there
/// as a whole, and with it the epoch.
fn write(file: &File, note: &Note) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(note)?;
    text.resize(LENGTH - 1, b' ');
    text.push(b'\n');
    if planted("note-emptied-first") {
        file.set_len(0)?;
    }
    point!("owner::write", file.write_all_at(&text, 0))?;
    Ok(text)
}

impl Drop for Ownership {
    fn drop(&mut self) {
        if planted("lock-file-deleted") {
            let _ = std::fs::remove_file(&self.path);
        }
        // So that the note of the past can't be taken for that of the next holder.
        let note = Note { pid: 0, ..self.note.clone() };
        if let Err(error) = self.held.with_file(|file| write(file, &note)) {
            tracing::debug!(%error, "the owner's note stays behind");
        }
    }
}

/// Who is at work now, if anybody is and it is known.
pub(crate) fn current(path: &Path) -> Option<Note> {
    let file = File::open(path).ok()?;
    match HeldFile::try_lock(file, Mode::Shared) {
        Ok(Some(_free)) => None,
        Ok(None) => read(path).filter(|note| note.pid != 0),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "can't tell who is at work");
            None
        }
    }
}

/// Who was at work and ended without a word, where nobody is now.
pub(crate) fn left_by(path: &Path) -> Option<u32> {
    let note = read(path).filter(|note| note.pid != 0)?;
    (!is_held(path)).then_some(note.pid)
}

/// Whether somebody is at work now, be it known who or not.
pub(crate) fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(HeldFile::try_lock(file, Mode::Shared), Ok(None))
}

fn read(path: &Path) -> Option<Note> {
    let mut text = String::new();
    step("owner::read").ok()?;
    File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_it_is_known_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let run = RunId::new("r1").unwrap();
        assert_eq!(current(&path), None);
        let owner = Ownership::take(&path, &run).unwrap();
        let pid = std::process::id();
        assert_eq!(current(&path), Some(Note { pid, run: run.clone(), epoch: 1 }));
        let Err(StoreError::Busy { pid: busy }) = Ownership::take(&path, &run) else {
            panic!("two owners");
        };
        assert_eq!(busy, pid);
        assert_eq!(left_by(&path), None);
        drop(owner);
        assert_eq!(current(&path), None);
        assert_eq!(left_by(&path), None);
        let owner = Ownership::take(&path, &run).unwrap();
        assert_eq!(current(&path).unwrap().epoch, 2);
        owner.check().unwrap();
        drop(owner);
        // One that was killed leaves its note.
        let note = Note { pid: 7, run, epoch: 2 };
        std::fs::write(&path, serde_json::to_vec(&note).unwrap()).unwrap();
        assert_eq!(left_by(&path), Some(7));
    }

    #[test]
    fn who_has_been_at_work_for_a_day_is_not_turned_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let run = RunId::new("r1").unwrap();
        let owner = Ownership::take(&path, &run).unwrap();
        let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
        File::options().write(true).open(&path).unwrap().set_modified(yesterday).unwrap();
        assert!(matches!(Ownership::take(&path, &run), Err(StoreError::Busy { .. })));
        owner.check().unwrap();
    }

    #[test]
    fn one_that_was_superseded_notices() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let run = RunId::new("r1").unwrap();
        let first = Ownership::take(&path, &run).unwrap();
        std::fs::remove_file(&path).unwrap();
        first.check().unwrap();
        // Both are of this process and of epoch 1, but the file is another one.
        let second = Ownership::take(&path, &run).unwrap();
        second.check().unwrap();
        let is_superseded = |owner: &Ownership| matches!(owner.check(), Err(StoreError::Superseded { path: named }) if named == path);
        assert!(is_superseded(&first));
        // Where a file system has no locks the file is the same one.
        std::fs::write(&path, r#"{"pid":1,"run":"r1","epoch":2}"#).unwrap();
        assert!(is_superseded(&second));
    }

    #[test]
    fn a_note_of_an_earlier_version_or_no_note_at_all_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let run = RunId::new("r1").unwrap();
        for (text, epoch) in [("", 1), (r#"{"pid":7,"run":"r1"}"#, 1), ("\0\0{", 1)] {
            std::fs::write(&path, text).unwrap();
            let owner = Ownership::take(&path, &run).unwrap();
            assert_eq!(owner.note.epoch, epoch, "{text}");
        }
    }

    #[test]
    fn looking_does_not_turn_an_orchestrator_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let run = RunId::new("r1").unwrap();
        drop(Ownership::take(&path, &run).unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        current(&path);
                        std::thread::yield_now();
                    }
                });
            }
            let taken: Vec<_> =
                (0..50).map(|_| Ownership::take(&path, &run).map(drop).is_ok()).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(taken, [true; 50]);
        });
    }

    #[test]
    fn a_place_that_can_t_be_written_is_an_error() {
        let run = RunId::new("r1").unwrap();
        let error = Ownership::take(Path::new("/proc/nonexistent/owner.lock"), &run).unwrap_err();
        assert!(error.to_string().starts_with("/proc/nonexistent/owner.lock: opening"), "{error}");
    }
}
