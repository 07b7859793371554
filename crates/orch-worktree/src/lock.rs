//! The lock that serialises `git worktree add` and the removal of worktrees, within the process
//! and between processes: git itself fails when two of them run at once in one repository. And a
//! lock per worktree, within the process.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use orch_model::ports::WorktreeError;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{error::io_error, locks};

/// One lock per repository. The file lies in the common git folder and is never deleted: a lock
/// on a deleted file locks nothing.
#[derive(Debug)]
pub(crate) struct RepositoryLock {
    file: PathBuf,
    here: Arc<Mutex<()>>,
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
    _here: OwnedMutexGuard<()>,
}

impl Held {
    /// The open file, for a child process: while it has it open, the lock is held, also if this
    /// process is killed. To read from it gives nothing.
    pub(crate) fn share(&self) -> Result<File, WorktreeError> {
        self.file.try_clone().map_err(io_error("sharing the repository's lock file"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if orch_faults::planted("unlock-by-close") {
            return;
        }
        // To close the file is not enough: a process that was being started meanwhile may still
        // have it open for a moment.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "can't unlock the repository's lock file");
        }
    }
}

impl RepositoryLock {
    pub(crate) fn new(common: &Path) -> Self {
        Self::at(common.join(locks::OWN))
    }

    /// One in a file of its own, for something else.
    pub(crate) fn at(file: PathBuf) -> Self {
        Self { file, here: Arc::default() }
    }

    /// Waits for the lock, first within the process, then for other processes.
    pub(crate) async fn hold(&self) -> Result<Held, WorktreeError> {
        let here = Arc::clone(&self.here).lock_owned().await;
        let doing = format!("locking {}", self.file.display());
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&self.file)
            .map_err(io_error(doing.clone()))?;
        while orch_faults::is_interleaved() {
            // On a thread of its own it would wait for one who waits for that.
            orch_faults::step("lock::hold").map_err(io_error(doing.clone()))?;
            match file.try_lock() {
                Ok(()) => return Ok(Held { file, _here: here }),
                Err(_) => _ = orch_faults::pause(Duration::ZERO, Instant::now()),
            }
        }
        let file = match file.try_lock() {
            Ok(()) => file,
            Err(TryLockError::WouldBlock) => wait(file, &doing).await?,
            Err(TryLockError::Error(source)) => return Err(io_error(doing)(source)),
        };
        Ok(Held { file, _here: here })
    }
}

async fn wait(file: File, doing: &str) -> Result<File, WorktreeError> {
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    match locked {
        Ok(result) => result.map_err(io_error(doing)),
        Err(stopped) => Err(WorktreeError::Other { source: stopped.into() }),
    }
}

/// One lock per worktree: a call whose caller lost interest goes on to its end, and must not meet
/// its repetition.
#[derive(Debug, Default)]
pub(crate) struct PlaceLocks {
    places: std::sync::Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
}

impl PlaceLocks {
    /// Waits until nobody else in this process makes or removes the worktree.
    pub(crate) async fn hold(&self, path: &Path) -> OwnedMutexGuard<()> {
        let lock = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(places.entry(path.into()).or_default())
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_holders_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        // Two locks on one file stand for two processes.
        let (a, b) = (RepositoryLock::new(folder.path()), RepositoryLock::new(folder.path()));
        let held = a.hold().await.unwrap();
        let mut second = Box::pin(b.hold());
        let pending = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())
        });
        assert!(pending.await);
        drop(held);
        let held = second.await.unwrap();
        drop(held);
        a.hold().await.unwrap();
    }

    #[tokio::test]
    async fn it_is_free_at_once_though_a_process_that_is_being_started_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (RepositoryLock::new(folder.path()), RepositoryLock::new(folder.path()));
        let held = a.hold().await.unwrap();
        let inherited = held.share().unwrap();
        drop(held);
        let again = tokio::time::timeout(std::time::Duration::from_secs(20), b.hold()).await;
        assert!(again.is_ok_and(|held| held.is_ok()), "it is still held");
        drop(inherited);
    }

    #[tokio::test]
    async fn a_missing_folder_is_named() {
        let lock = RepositoryLock::new(Path::new("/proc/nonexistent/folder"));
        let error = lock.hold().await.unwrap_err().to_string();
        assert!(error.contains("/proc/nonexistent/folder/orch-worktree.lock"), "{error}");
    }

    #[tokio::test]
    async fn places_are_locked_apart_and_forgotten() {
        let locks = PlaceLocks::default();
        let a = locks.hold(Path::new("a")).await;
        let b = locks.hold(Path::new("b")).await;
        let mut again = Box::pin(locks.hold(Path::new("a")));
        let pending =
            std::future::poll_fn(|cx| std::task::Poll::Ready(again.as_mut().poll(cx).is_pending()));
        assert!(pending.await);
        drop((a, b));
        let _a = again.await;
        let _c = locks.hold(Path::new("c")).await;
        assert_eq!(locks.places.lock().unwrap().len(), 2);
    }
}
