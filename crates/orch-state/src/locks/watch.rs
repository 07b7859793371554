//! Hearing of locks that are freed.
//!
//! Whoever holds a lock has its file open for writing, and closes it after the unlocking; where the
//! holder is killed, the kernel closes it. inotify tells of such closes. One reader per folder hands
//! the names on to all who wait, since a user may have only so many inotify instances.

use std::{
    io::{self, PipeReader, PipeWriter},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    thread,
};

use orch_model::plan::LockClaim;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many names may wait to be heard by one who waits; beyond that it looks without a name.
const BACKLOG: usize = 64;

/// Reads what the kernel tells of a folder, on a thread that ends when this is dropped. So it
/// belongs to no runtime, and outlives the one in which it was made.
#[derive(Debug)]
pub(super) struct Watch {
    names: broadcast::Receiver<Arc<str>>,
    _stop: PipeWriter,
}

impl Watch {
    /// Begins to watch. What happens in the folder after this call is heard of.
    pub(super) fn start(dir: &Path) -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&kernel, dir, WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR)?;
        let (stopped, stop) = io::pipe()?;
        let (sender, names) = broadcast::channel(BACKLOG);
        thread::Builder::new().name("orch-locks".into()).spawn(move || {
            if let Err(error) = read(&kernel, &stopped, &sender) {
                tracing::debug!(%error, "the locks are no longer watched");
            }
        })?;
        Ok(Self { names, _stop: stop })
    }

    /// Whether nothing more is heard, as when the folder was deleted.
    pub(super) fn is_over(&self) -> bool {
        self.names.is_closed()
    }

    /// Listens from now on.
    pub(super) fn news(&self) -> News {
        News(Some(self.names.resubscribe()))
    }
}

/// What one who waits hears.
#[derive(Debug)]
pub(super) struct News(Option<broadcast::Receiver<Arc<str>>>);

impl News {
    /// Where nothing can be heard.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Waits until something may have been freed that one of the claims wants. For ever where
    /// nothing can be heard.
    pub(super) async fn of(&mut self, claims: &[LockClaim]) {
        let Some(names) = &mut self.0 else { return std::future::pending().await };
        loop {
            match names.recv().await {
                Ok(name) if concerns(&name, claims) => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

/// Whether a file belongs to one of the claims; the empty name stands for any file.
fn concerns(file: &str, claims: &[LockClaim]) -> bool {
    if file.is_empty() {
        return true;
    }
    let Some(stem) = file.strip_suffix(".lock") else { return false };
    let name = stem.split_once('@').map_or(stem, |(name, _unit)| name);
    claims.iter().any(|claim| claim.name.as_str() == name)
}

/// Reads until the other end of the pipe is closed.
fn read(
    kernel: &OwnedFd,
    stopped: &PipeReader,
    names: &broadcast::Sender<Arc<str>>,
) -> io::Result<()> {
    loop {
        let mut ready =
            [PollFd::new(kernel, PollFlags::IN), PollFd::new(stopped, PollFlags::empty())];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) if !ready[1].revents().is_empty() => return Ok(()),
            Ok(_) => hand_on(kernel, names)?,
        }
    }
}

/// Hands all names on that are there.
fn hand_on(kernel: &OwnedFd, names: &broadcast::Sender<Arc<str>>) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(kernel, &mut buffer);
    loop {
        let event = match events.next() {
            Ok(event) => event,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if event.events().contains(ReadFlags::IGNORED) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // No name: the kernel's queue ran over.
        let name = event.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        // Nobody listens: no harm.
        let _ = names.send(name.as_ref().into());
    }
}

#[cfg(test)]
mod tests {
    use orch_model::{id::LockName, plan::LockMode};

    use super::*;

    #[test]
    fn names_of_files_are_told_apart() {
        let claims = [LockClaim { name: LockName::new("a.b").unwrap(), mode: LockMode::Exclusive }];
        for (file, expected) in [
            ("a.b.lock", true),
            ("a.b@3.lock", true),
            ("", true),
            ("a.lock", false),
            ("a.b", false),
            ("@gate", false),
        ] {
            assert_eq!(concerns(file, &claims), expected, "{file}");
        }
    }

    #[tokio::test]
    async fn closing_a_file_is_heard_until_the_watch_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let claims = [LockClaim { name: LockName::new("b").unwrap(), mode: LockMode::Shared }];
        let watch = Watch::start(dir.path()).unwrap();
        let mut news = watch.news();
        for name in ["a.lock", "b.lock"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        news.of(&claims).await;
        for number in 0..2 * BACKLOG {
            std::fs::write(dir.path().join(format!("a@{number}.lock")), "").unwrap();
        }
        let News(Some(names)) = &mut news else { panic!("it is watched") };
        drop(watch);
        while names.recv().await != Err(RecvError::Closed) {}
    }

    #[tokio::test]
    async fn a_deleted_folder_ends_the_watch() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::start(dir.path()).unwrap();
        assert!(!watch.is_over());
        let News(Some(mut names)) = watch.news() else { panic!("it is watched") };
        dir.close().unwrap();
        assert_eq!(names.recv().await, Err(RecvError::Closed));
        assert!(watch.is_over());
        assert!(Watch::start(Path::new("/nonexistent")).is_err());
    }
}
