//! Claims as locked files. Everything here is done behind the gate, except freeing.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use orch_model::{
    id::LockName,
    plan::{LockClaim, LockMode},
    ports::{LockError, LockHolder},
};
use rustix::fs::OFlags;

use super::io_error;
use crate::held::{HeldFile, Mode, open_lock_file};

/// A locked file that is kept.
///
/// It was opened twice. The lock is on a copy that is open for reading, since those who try and
/// fail open the file too, and closing a file that was open for writing is what wakes waiters: they
/// would wake each other without end. The copy that is open for writing is closed after the
/// unlocking, and wakes them.
#[derive(Debug)]
pub(super) struct Held {
    // The order counts: a drop frees in this order.
    lock: HeldFile,
    wake: File,
}

impl Held {
    pub(super) fn free(self) {
        let Self { lock, wake } = self;
        drop(lock);
        drop(wake);
    }
}

/// A locked file, just taken.
#[derive(Debug)]
pub(super) struct Fresh {
    path: PathBuf,
    mode: Mode,
    lock: HeldFile,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Taken {
    /// All files are locked.
    All(Vec<Fresh>),
    /// None is, because this one was held by somebody else.
    Busy { lock: LockName, file: PathBuf },
}

/// Locks the files of all claims, or none.
pub(super) fn take(dir: &Path, claims: &[LockClaim]) -> Result<Taken, LockError> {
    let mut held = Vec::new();
    for claim in claims {
        let main = dir.join(format!("{}.lock", claim.name));
        let (mode, count, of) = match claim.mode {
            LockMode::Shared => (Mode::Shared, 0, 0),
            LockMode::Counted { count, of } => (Mode::Shared, count, of),
            // Also a mode that a later version knows: nobody else, to be safe.
            _ => (Mode::Exclusive, 0, 0),
        };
        match try_lock(&main, mode)? {
            Some(fresh) => held.push(fresh),
            None => return Ok(Taken::Busy { lock: claim.name.clone(), file: main }),
        }
        let (mut missing, mut taken) = (count, None);
        for unit in 0..of {
            if missing == 0 {
                break;
            }
            let file = dir.join(format!("{}@{unit}.lock", claim.name));
            match try_lock(&file, Mode::Exclusive)? {
                Some(fresh) => {
                    held.push(fresh);
                    missing -= 1;
                }
                None => taken = taken.or(Some(file)),
            }
        }
        if missing > 0 {
            let file = taken.unwrap_or(main);
            return Ok(Taken::Busy { lock: claim.name.clone(), file });
        }
    }
    Ok(Taken::All(held))
}

/// Prepares the wake-up for the time when the files are freed, and says who holds them.
pub(super) fn keep(fresh: Vec<Fresh>, holder: &LockHolder) -> Result<Vec<Held>, LockError> {
    fresh
        .into_iter()
        .map(|Fresh { path, mode, lock }| {
            let wake = OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(io_error(&path, "opening for writing"))?;
            if let Err(error) = note(&wake, mode, holder) {
                tracing::debug!(path = %path.display(), %error, "can't say who holds a lock");
            }
            Ok(Held { lock, wake })
        })
        .collect()
}

/// Who holds a file for itself, as far as it says so.
pub(super) fn holder(path: &Path) -> Option<LockHolder> {
    let mut text = String::new();
    File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes who holds the file; where several may, removes what an earlier holder wrote.
fn note(mut file: &File, mode: Mode, holder: &LockHolder) -> std::io::Result<()> {
    match mode {
        Mode::Exclusive => {
            let text = serde_json::to_vec(holder)?;
            file.set_len(0)?;
            file.write_all(&text)
        }
        Mode::Shared if file.metadata()?.len() > 0 => file.set_len(0),
        Mode::Shared => Ok(()),
    }
}

fn try_lock(path: &Path, mode: Mode) -> Result<Option<Fresh>, LockError> {
    let file = open_lock_file(path, OFlags::RDONLY).map_err(io_error(path, "opening"))?;
    let lock = HeldFile::try_lock(file, mode).map_err(io_error(path, "locking"))?;
    Ok(lock.map(|lock| Fresh { path: path.into(), mode, lock }))
}
