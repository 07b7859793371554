//! A moment alone with a journal: whoever adds to it looks whether he may and writes in one go.
//!
//! Who may write is decided by [`owner`](crate::owner). Where that lock fails (its file was deleted), two
//! processes may take themselves for the owner. Each of them finds out when it looks at the end of the
//! journal; were another one to write between this look and its own writing, it would find out too late. The journal
//! itself is a file that is never replaced, so that this lock can't be missed.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::{Duration, Instant},
};

use orch_faults::{pause, planted, step};
use orch_model::ports::StoreError;

use crate::disk::io_error;

/// How long another writer is waited for: longer than a write takes.
const PATIENCE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_micros(200);

/// The lock on a journal, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alone<'file>(&'file File);

impl<'file> Alone<'file> {
    /// Waits until nobody else is at it.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] where somebody is for more than a moment.
    pub(crate) fn with(file: &'file File, path: &Path) -> Result<Self, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            step("journal::lock").map_err(io_error(path, "locking"))?;
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(_) if planted("check-then-write") => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if pause(PAUSE, deadline) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Superseded { path: path.into() });
                }
                Err(TryLockError::Error(error)) => return Err(io_error(path, "locking")(error)),
            }
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Not only by closing the file: a process that is being started may have it open for a moment.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a journal can't be unlocked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_waits_for_ever() {
        let journal = tempfile::NamedTempFile::new().unwrap();
        let (one, other) = (journal.reopen().unwrap(), journal.reopen().unwrap());
        let alone = Alone::with(&one, journal.path()).unwrap();
        let late = Alone::with(&other, journal.path()).unwrap_err();
        assert!(matches!(late, StoreError::Superseded { .. }), "{late}");
        drop(alone);
        Alone::with(&other, journal.path()).unwrap();
    }
}
