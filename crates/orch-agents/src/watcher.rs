//! Tells when files grow: one `inotify` and one thread for all of them, so that a thousand agents cost as little
//! as one.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs, io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::sync::Notify;

/// How many bytes of news are read at once; one event of a file takes up to 272.
const NEWS: usize = 16 << 10;

/// The one watcher of a runner, which is there while something is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<Weak<Watcher>>>);

impl Watchers {
    /// Watches a file, which need not be there yet. Its folder is made where it is not.
    ///
    /// # Errors
    /// Where the system watches no more.
    pub(crate) fn watch(&self, file: &Path) -> io::Result<Watch> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = known.upgrade()
            && let Some(watch) = watcher.watch(file)?
        {
            return Ok(watch);
        }
        let watcher = Arc::new(Watcher::new()?);
        *known = Arc::downgrade(&watcher);
        let watch = watcher.watch(file)?.ok_or(io::ErrorKind::Other)?;
        thread::Builder::new().name("orch-watcher".into()).spawn(move || watcher.work())?;
        Ok(watch)
    }
}

#[derive(Debug)]
struct Watcher {
    fd: OwnedFd,
    watched: Mutex<Watched>,
}

/// Which files are watched. A folder is watched while one of its files is.
#[derive(Debug, Default)]
struct Watched {
    folders: HashMap<i32, HashMap<OsString, Arc<Notify>>>,
    /// Nobody takes news any more.
    is_over: bool,
}

impl Watcher {
    fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC)?;
        Ok(Self { fd, watched: Mutex::default() })
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where it has ended.
    fn watch(self: &Arc<Self>, file: &Path) -> io::Result<Option<Watch>> {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        fs::create_dir_all(folder)?;
        let grown = Arc::new(Notify::new());
        let mut watched = self.watched();
        if watched.is_over {
            return Ok(None);
        }
        // The same folder gives the same number again.
        let folder = inotify::add_watch(&self.fd, folder, WatchFlags::MODIFY)?;
        let files = watched.folders.entry(folder).or_default();
        files.insert(name.to_owned(), Arc::clone(&grown));
        Ok(Some(Watch { watcher: Arc::clone(self), file: (folder, name.to_owned()), grown }))
    }

    /// Takes the news and hands them on, until nothing is watched: that a folder no longer is, is one of them.
    fn work(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); NEWS];
        let mut news = Reader::new(&self.fd, &mut buffer);
        loop {
            let event = news.next();
            let mut watched = self.watched();
            match event {
                Ok(event) => watched.tell(&event),
                Err(Errno::INTR) => {}
                Err(error) => {
                    // What is left is read when the agents have ended.
                    tracing::warn!(%error, "files can't be watched any more");
                    watched.is_over = true;
                }
            }
            watched.is_over |= watched.folders.is_empty();
            if watched.is_over {
                return;
            }
        }
    }
}

impl Watched {
    fn tell(&self, event: &inotify::Event<'_>) {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            let all = self.folders.values().flat_map(HashMap::values);
            return all.for_each(|grown| grown.notify_one());
        }
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let files = self.folders.get(&event.wd());
        if let Some(grown) = files.zip(name).and_then(|(files, name)| files.get(name)) {
            grown.notify_one();
        }
    }
}

/// A file that is watched for as long as this lives.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Arc<Watcher>,
    file: (i32, OsString),
    grown: Arc<Notify>,
}

impl Watch {
    /// Waits until the file has grown since this was called last, or since it is watched.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    pub(crate) async fn grown(&self) {
        self.grown.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (folder, name) = &self.file;
        let mut watched = self.watcher.watched();
        let Some(files) = watched.folders.get_mut(folder) else { return };
        // Another one may watch the same file by now.
        if files.get(name).is_some_and(|grown| Arc::ptr_eq(grown, &self.grown)) {
            files.remove(name);
        }
        if files.is_empty() {
            watched.folders.remove(folder);
            // It may be gone with its folder.
            let _ = inotify::remove_watch(&self.watcher.fd, *folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn append(path: &Path) {
        let file = fs::File::options().create(true).append(true).open(path);
        file.unwrap().write_all(b"x").unwrap();
    }

    #[tokio::test]
    async fn files_that_grow_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let watchers = Watchers::default();
        let file = |name: &str| folder.path().join("logs").join(name);
        let (one, other) =
            (watchers.watch(&file("1")).unwrap(), watchers.watch(&file("2")).unwrap());
        append(&file("1"));
        timeout(SOON, one.grown()).await.unwrap();
        append(&file("3"));
        append(&file("2"));
        timeout(SOON, other.grown()).await.unwrap();
        // All that was to be told of the first one came before that.
        assert!(timeout(Duration::ZERO, one.grown()).await.is_err(), "nothing new");

        let again = watchers.watch(&file("1")).unwrap();
        drop(one);
        append(&file("1"));
        timeout(SOON, again.grown()).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_watch() {
        let folder = tempfile::tempdir().unwrap();
        let watchers = Watchers::default();
        let files: Vec<_> = (0..1000).map(|n| folder.path().join(format!("logs/{n}"))).collect();
        let all: Vec<_> = files.iter().map(|file| watchers.watch(file).unwrap()).collect();
        let watcher = watchers.0.lock().unwrap().upgrade().unwrap();
        assert_eq!(watcher.watched().folders.len(), 1, "one watch for a folder");
        drop(all);
        assert!(watcher.watched().folders.is_empty());
        // Another one is there at once, whether the thread has ended or not.
        let again = watchers.watch(&files[0]).unwrap();
        append(&files[0]);
        timeout(SOON, again.grown()).await.unwrap();
    }
}
