//! Deletes folders in the background: they are renamed away, which is quick, and deleted later.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use orch_faults::point;
use tokio::task::JoinHandle;

use crate::names::TRASH;

/// How often the folder is made again.
const TRIES: usize = 16;

/// The folder for what is being deleted.
#[derive(Debug)]
pub(crate) struct Trash {
    folder: PathBuf,
    next: AtomicU64,
    work: Mutex<Vec<JoinHandle<()>>>,
}

impl Trash {
    pub(crate) fn new(root: &Path) -> Self {
        Self { folder: root.join(TRASH), next: AtomicU64::new(0), work: Mutex::default() }
    }

    /// Takes a folder away, and begins to delete it. A folder that isn't there is no error.
    pub(crate) fn take(&self, path: &Path) -> io::Result<()> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = self.folder.join(format!("{}-{now}-{number}", std::process::id()));
        let mut tries = 0;
        loop {
            fs::create_dir_all(&self.folder)?;
            match point!("trash::rename", fs::rename(path, &place)) {
                Ok(()) => break self.delete(place),
                Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => break,
                // The end of another run removed the empty folder in between.
                Err(e) if e.kind() == io::ErrorKind::NotFound && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes what an earlier process left.
    pub(crate) fn empty_leftovers(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok) {
            self.delete(entry.path());
        }
    }

    fn delete(&self, place: PathBuf) {
        let handle = tokio::task::spawn_blocking(move || {
            if let Err(error) = delete_all(&place) {
                tracing::warn!(%error, folder = %place.display(), "can't delete a folder");
            }
        });
        self.keep(handle);
    }

    /// Takes note of other work in the background that is to be waited for.
    pub(crate) fn keep(&self, handle: JoinHandle<()>) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.retain(|handle| !handle.is_finished());
        work.push(handle);
    }

    /// Waits until all is deleted.
    pub(crate) async fn settle(&self) {
        loop {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(handle) = work else { break };
            // A panic there has lost nothing but disk space.
            let _ = handle.await;
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Deletes a folder, also one with folders that nobody may write to: the caches of some build
/// tools are made so.
fn delete_all(place: &Path) -> io::Result<()> {
    let result = match point!("trash::remove", fs::remove_dir_all(place)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(place)?;
            fs::remove_dir_all(place)
        }
        result => result,
    };
    result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

#[cfg(unix)]
fn make_writable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_writable(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn folders_are_made_writable() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("place/inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).unwrap();
        make_writable(&folder.path().join("place")).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        delete_all(&folder.path().join("place")).unwrap();
        delete_all(&folder.path().join("place")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_gone_already_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::new(folder.path());
        trash.take(&folder.path().join("missing")).unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        assert!(Trash::new(&folder.path().join("file")).take(folder.path()).is_err());
        trash.settle().await;
        assert!(!folder.path().join(TRASH).exists());
    }
}
