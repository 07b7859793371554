//! Hearing of locks that are freed.
//!
//! Whoever frees something closes a file of the folder that was open for writing, of which inotify
//! tells; the end of a process is told by its pidfd. One reader per folder hands both on to all who
//! wait, since a user may have only so many inotify instances.

use std::{
    collections::HashMap,
    io::{self, PipeReader, PipeWriter, Read, Write},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use orch_model::event::AgentIdentity;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::sync::broadcast::{self, error::RecvError};

/// The file that is closed when something was freed.
pub(super) const FREED: &str = "@freed";
/// The file that is closed when a deadlock was broken.
pub(super) const DEADLOCK: &str = "@deadlock";

/// How much may wait to be heard by one who waits; beyond that it looks without having heard.
const BACKLOG: usize = 64;

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Something was freed, or a process has ended.
    Freed,
    /// A deadlock was broken.
    Deadlock,
    /// Perhaps either.
    Lost,
}

type Pidfds = Mutex<HashMap<u32, (AgentIdentity, Option<OwnedFd>)>>;

/// Reads what the kernel tells of a folder and of processes, on a thread that ends when this is
/// dropped. So it belongs to no runtime, and outlives the one in which it was made.
#[derive(Debug)]
pub(super) struct Watch {
    signs: broadcast::Receiver<Sign>,
    pidfds: Arc<Pidfds>,
    nudge: PipeWriter,
}

impl Watch {
    /// Begins to watch. What happens in the folder after this call is heard of.
    pub(super) fn start(dir: &Path) -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&kernel, dir, WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR)?;
        let (nudged, nudge) = io::pipe()?;
        let (sender, signs) = broadcast::channel(BACKLOG);
        let pidfds = Arc::<Pidfds>::default();
        let reader = Reader { kernel, nudged, sender, pidfds: Arc::clone(&pidfds) };
        thread::Builder::new().name("orch-locks".into()).spawn(move || {
            if let Err(error) = reader.read() {
                tracing::debug!(%error, "the locks are no longer watched");
            }
        })?;
        Ok(Self { signs, pidfds, nudge })
    }

    /// Whether nothing more is heard, as when the folder was deleted.
    pub(super) fn is_over(&self) -> bool {
        self.signs.is_closed()
    }

    /// Listens from now on.
    pub(super) fn news(&self) -> News {
        News(Some(self.signs.resubscribe()))
    }

    /// Has the end of these processes heard of.
    pub(super) fn follow(&mut self, processes: Vec<AgentIdentity>) {
        let mut has_new = false;
        let mut pidfds = lock(&self.pidfds);
        for process in processes {
            if process.pid == std::process::id()
                || pidfds.get(&process.pid).is_some_and(|(known, _)| *known == process)
            {
                continue;
            }
            has_new = true;
            let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
            // Where there is no such process, it has just ended.
            let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            pidfds.insert(process.pid, (process, pidfd));
        }
        drop(pidfds);
        if has_new && let Err(error) = self.nudge.write_all(b".") {
            tracing::debug!(%error, "the ends of processes are no longer watched");
        }
    }
}

fn lock(pidfds: &Pidfds) -> MutexGuard<'_, HashMap<u32, (AgentIdentity, Option<OwnedFd>)>> {
    pidfds.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one who waits hears.
#[derive(Debug)]
pub(super) struct News(Option<broadcast::Receiver<Sign>>);

impl News {
    /// Where nothing can be heard.
    pub(super) fn none() -> Self {
        Self(None)
    }

    #[cfg(test)]
    fn of_simulated(signs: broadcast::Receiver<Sign>) -> Self {
        Self(Some(signs))
    }

    /// Waits for a sign, or one that was lost. For ever where nothing can be heard.
    pub(super) async fn of(&mut self, sign: Sign) {
        let Some(signs) = &mut self.0 else { return std::future::pending().await };
        loop {
            match signs.recv().await {
                Ok(heard) if heard == sign || heard == Sign::Lost => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

/// What the thread works with.
#[derive(Debug)]
struct Reader {
    kernel: OwnedFd,
    nudged: PipeReader,
    sender: broadcast::Sender<Sign>,
    pidfds: Arc<Pidfds>,
}

impl Reader {
    /// Reads until the other end of the pipe is closed.
    fn read(mut self) -> io::Result<()> {
        loop {
            let followed = self.take_ended();
            let mut ready = vec![
                PollFd::new(&self.kernel, PollFlags::IN),
                PollFd::new(&self.nudged, PollFlags::IN),
            ];
            ready.extend(followed.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut ended =
                followed.iter().zip(&ready[2..]).filter(|(_, ready)| **ready).peekable();
            if ended.peek().is_some() {
                let mut pidfds = lock(&self.pidfds);
                for ((process, _), _) in ended {
                    if pidfds.get(&process.pid).is_some_and(|(known, _)| known == process) {
                        pidfds.remove(&process.pid);
                    }
                }
                drop(pidfds);
                self.say(Sign::Freed);
            }
            if ready[1] && self.nudged.read(&mut [0; 64])? == 0 {
                return Ok(());
            }
            if ready[0] {
                self.hand_on()?;
            }
        }
    }

    /// The processes that are followed. Of those that had ended before is told at once.
    fn take_ended(&self) -> Vec<(AgentIdentity, OwnedFd)> {
        let mut pidfds = lock(&self.pidfds);
        let before = pidfds.len();
        pidfds.retain(|_, (_, pidfd)| pidfd.is_some());
        let has_ended = pidfds.len() < before;
        let followed = pidfds.values().filter_map(|(process, pidfd)| {
            let copy = pidfd.as_ref()?.try_clone().ok()?;
            Some((process.clone(), copy))
        });
        let followed = followed.collect();
        drop(pidfds);
        if has_ended {
            self.say(Sign::Freed);
        }
        followed
    }

    fn say(&self, sign: Sign) {
        // Nobody listens: no harm.
        let _ = self.sender.send(sign);
    }

    /// Hands on all that the kernel tells of the folder.
    fn hand_on(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.kernel, &mut buffer);
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
            match event.file_name().map(|name| name.to_bytes()) {
                Some(name) if name == FREED.as_bytes() => self.say(Sign::Freed),
                Some(name) if name == DEADLOCK.as_bytes() => self.say(Sign::Deadlock),
                Some(_) => {}
                // The kernel's queue ran over.
                None => self.say(Sign::Lost),
            }
        }
    }
}

/// What processes of one program hear of each other, without the kernel: at once, and on the same thread.
#[cfg(test)]
pub(crate) mod simulated;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::identify;

    #[tokio::test]
    async fn what_happens_in_the_folder_is_heard_until_the_watch_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::start(dir.path()).unwrap();
        let (mut freed, mut deadlock) = (watch.news(), watch.news());
        for name in ["@gate", DEADLOCK, FREED] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        freed.of(Sign::Freed).await;
        deadlock.of(Sign::Deadlock).await;
        for _ in 0..2 * BACKLOG {
            std::fs::write(dir.path().join(FREED), "").unwrap();
        }
        let News(Some(signs)) = &mut freed else { panic!("it is watched") };
        drop(watch);
        while signs.recv().await != Err(RecvError::Closed) {}
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(dir.path()).unwrap();
        let mut news = watch.news();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = identify(child.id()).unwrap();
        let own = identify(std::process::id()).unwrap();
        watch.follow(vec![process.clone(), own, process.clone()]);
        assert_eq!(lock(&watch.pidfds).len(), 1);
        child.kill().unwrap();
        news.of(Sign::Freed).await;
        child.wait().unwrap();
        // It has ended before it was followed.
        watch.follow(vec![AgentIdentity { pid: u32::MAX, ..process }]);
        news.of(Sign::Freed).await;
        assert!(lock(&watch.pidfds).is_empty());
    }

    #[tokio::test]
    async fn a_deleted_folder_ends_the_watch() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::start(dir.path()).unwrap();
        assert!(!watch.is_over());
        let News(Some(mut signs)) = watch.news() else { panic!("it is watched") };
        dir.close().unwrap();
        assert_eq!(signs.recv().await, Err(RecvError::Closed));
        assert!(watch.is_over());
        assert!(Watch::start(Path::new("/proc/nonexistent")).is_err());
    }
}
