//! Who is at work on a run: the one process that has its journal open for writing.
//!
//! The truth is the lock on `owner.lock`, which the kernel frees however its holder ends; what the
//! file says (process and run) is for messages only. The file is never deleted: whoever waits for
//! a deleted file holds a lock that nobody else can see.
//!
//! Looking whether the lock is held means to take it for an instant, shared. So that such a look
//! can't turn a starting orchestrator away, the one that starts tries for [`PATIENCE`].

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use orch_model::{id::RunId, ports::StoreError};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    disk::io_error,
    held::{HeldFile, Mode, open_lock_file},
};

/// How long an orchestrator that starts tries before it says that another one is at work.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(2);

/// What the file says about its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) pid: u32,
    pub(crate) run: RunId,
}

/// The right to write the journal of a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership(HeldFile);

impl Ownership {
    /// Takes the right. Blocks for [`PATIENCE`] at most.
    pub(crate) fn take(path: &Path, run: &RunId) -> Result<Self, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let held = loop {
            let file = open_lock_file(path, OFlags::RDWR).map_err(io_error(path, "opening"))?;
            match HeldFile::try_lock(file, Mode::Exclusive).map_err(io_error(path, "locking"))? {
                Some(held) => break held,
                None if Instant::now() < deadline => thread::sleep(PAUSE),
                None => {
                    let pid = read(path).map_or(0, |note| note.pid);
                    return Err(StoreError::Busy { pid });
                }
            }
        };
        let note = Note { pid: std::process::id(), run: run.clone() };
        let write = |mut file: &File| {
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(&note)?)
        };
        held.with_file(write).map_err(io_error(path, "writing"))?;
        Ok(Self(held))
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        // So that the note of the past can't be taken for that of the next holder.
        if let Err(error) = self.0.with_file(|file| file.set_len(0)) {
            tracing::debug!(%error, "the owner's note stays behind");
        }
    }
}

/// Who is at work now, if anybody is and it is known.
pub(crate) fn current(path: &Path) -> Option<Note> {
    let file = File::open(path).ok()?;
    match HeldFile::try_lock(file, Mode::Shared) {
        Ok(Some(_free)) => None,
        Ok(None) => read(path),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "can't tell who is at work");
            None
        }
    }
}

/// Whether somebody is at work now, be it known who or not.
pub(crate) fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(HeldFile::try_lock(file, Mode::Shared), Ok(None))
}

fn read(path: &Path) -> Option<Note> {
    let mut text = String::new();
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
        assert_eq!(current(&path), Some(Note { pid, run: run.clone() }));
        let Err(StoreError::Busy { pid: busy }) = Ownership::take(&path, &run) else {
            panic!("two owners");
        };
        assert_eq!(busy, pid);
        drop(owner);
        assert_eq!(current(&path), None);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        Ownership::take(&path, &run).unwrap();
    }

    #[test]
    fn looking_does_not_turn_an_orchestrator_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owner.lock");
        let run = RunId::new("r1").unwrap();
        drop(Ownership::take(&path, &run).unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        current(&path);
                        thread::yield_now();
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
        let error = Ownership::take(Path::new("/nonexistent/owner.lock"), &run).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/owner.lock: opening"), "{error}");
    }
}
