//! `FileLocks`: locks between the tasks of all orchestrators that share a folder.

mod claims;
mod gate;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    plan::LockClaim,
    ports::{Acquired, Lease, LockError, LockRequest, ResourceLock},
};

use self::{
    claims::{Held, Taken},
    gate::Gate,
    watch::{News, Watch},
};

/// How long a wake-up that never comes is waited for, unless something else was asked for.
const SAFETY_NET: Duration = Duration::from_secs(1);

/// When to look again after a wake-up. A dying process closes its files one after the other, and
/// the kernel tells of a close just before it drops the lock on the file, so the first look may
/// come too early.
const LOOKS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// Locks as locked files in a folder, by custom `<repository>/.orch/locks`.
///
/// - An exclusive claim locks `<name>.lock` for itself, a shared one together with others.
/// - A counted claim of `count` units out of `of` locks `<name>.lock` shared, so that it keeps out
///   exclusive claims and lets shared ones be, and `count` of the files `<name>@0.lock` to
///   `<name>@<of-1>.lock` for itself. Where two plans disagree on `of`, each looks at its own units.
/// - Nothing is stale by age: the kernel drops the locks when their holder ends, however it ends.
///   The files are never deleted, for whoever waits for a deleted file locks what nobody sees.
/// - Who holds an exclusive lock or a unit is written into its file: a hint for messages only.
/// - One at a time decides on claims, behind the lock on the file `@gate`; so a request is granted
///   as a whole or not at all, and none is refused because of a request that is itself refused.
/// - Fencing tokens are counted in that file and are never less than the time in milliseconds since
///   1970, so that they grow even where a power cut takes the last counts away.
///
/// The folder must be on a local file system, and is made when the first lock is taken.
#[derive(Debug)]
pub struct FileLocks {
    dir: PathBuf,
    safety_net: Duration,
    patience: Duration,
    watch: Mutex<Option<Watch>>,
}

impl FileLocks {
    /// Takes a folder as the place of the locks. It need not be there.
    ///
    /// # Errors
    /// Where the path is relative and the current folder is gone.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, LockError> {
        let dir = dir.as_ref();
        let dir = std::path::absolute(dir).map_err(io_error(dir, "finding the folder"))?;
        Ok(Self { dir, safety_net: SAFETY_NET, patience: gate::PATIENCE, watch: Mutex::new(None) })
    }

    /// Sets how long [`released`](ResourceLock::released) waits at most, one second by default: the
    /// net below a wake-up that never comes, as on a file system that tells of nothing.
    #[must_use]
    pub fn with_safety_net(mut self, at_most: Duration) -> Self {
        self.safety_net = at_most;
        self
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Listens to the folder from now on.
    fn listen(&self) -> News {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.as_ref().is_none_or(Watch::is_over) {
            *watch = match std::fs::create_dir_all(&self.dir).and_then(|()| Watch::start(&self.dir))
            {
                Ok(watch) => Some(watch),
                Err(error) => {
                    tracing::debug!(dir = %self.dir.display(), %error, "the locks can't be watched");
                    None
                }
            };
        }
        watch.as_ref().map_or_else(News::none, Watch::news)
    }

    async fn are_free(&self, claims: &[LockClaim]) -> Result<bool, LockError> {
        let (dir, patience, claims) = (self.dir.clone(), self.patience, claims.to_vec());
        blocking(move || {
            make(&dir)?;
            let Some(_gate) = Gate::enter(&dir, patience)? else { return Ok(false) };
            Ok(matches!(claims::take(&dir, &claims)?, Taken::All(_)))
        })
        .await
    }

    async fn become_free(&self, claims: &[LockClaim]) -> Result<(), LockError> {
        // Before the first look, so that nothing freed in between is missed.
        let mut news = self.listen();
        while !self.are_free(claims).await? {
            news.of(claims).await;
            for pause in LOOKS {
                if self.are_free(claims).await? {
                    return Ok(());
                }
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ResourceLock for FileLocks {
    fn name(&self) -> &str {
        "files"
    }

    /// Takes all of the locks at once if they are free, and does not wait for them. Where the gate
    /// stays shut, because its holder is suspended, the first lock is said to be busy.
    ///
    /// # Cancel safety
    /// A dropped call may go on for a moment on a thread of its own; what it gets there is freed
    /// at once.
    async fn try_acquire(&self, request: LockRequest) -> Result<Acquired, LockError> {
        let (dir, patience) = (self.dir.clone(), self.patience);
        blocking(move || acquire(&dir, patience, request)).await
    }

    /// Waits until the claims were seen to be free, or for the time of [`FileLocks::with_safety_net`].
    async fn released(&self, claims: &[LockClaim]) -> Result<(), LockError> {
        tokio::time::timeout(self.safety_net, self.become_free(claims)).await.unwrap_or(Ok(()))
    }
}

fn acquire(
    dir: &Path,
    patience: Duration,
    mut request: LockRequest,
) -> Result<Acquired, LockError> {
    make(dir)?;
    request.claims.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(gate) = Gate::enter(dir, patience)? else {
        return match request.claims.into_iter().next() {
            Some(claim) => Ok(Acquired::Busy { lock: claim.name, holder: None }),
            None => Err(io_error(dir, "waiting for the gate")(std::io::ErrorKind::TimedOut.into())),
        };
    };
    match claims::take(dir, &request.claims)? {
        Taken::All(held) => {
            let held = claims::keep(held, &request.holder)?;
            let fence = gate.next_fence()?;
            Ok(Acquired::Granted(Box::new(FileLease { fence, held })))
        }
        Taken::Busy { lock, file } => {
            let holder = claims::holder(&file);
            Ok(Acquired::Busy { lock, holder })
        }
    }
}

#[derive(Debug)]
struct FileLease {
    fence: u64,
    held: Vec<Held>,
}

#[async_trait]
impl Lease for FileLease {
    fn fence(&self) -> u64 {
        self.fence
    }

    // Unlocking and closing a few files: less work than moving it to another thread.
    async fn release(self: Box<Self>) -> Result<(), LockError> {
        self.held.into_iter().for_each(Held::free);
        Ok(())
    }
}

fn make(dir: &Path) -> Result<(), LockError> {
    std::fs::create_dir_all(dir).map_err(io_error(dir, "making the folder"))
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, LockError> + Send + 'static,
) -> Result<T, LockError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => Err(LockError::Other { source: error.into() }),
    }
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_path_buf();
    move |source| LockError::Io { path, doing, source }
}

#[cfg(test)]
mod tests {
    use orch_model::{
        id::{LockName, RunId, TaskId},
        plan::LockMode,
        ports::LockHolder,
    };

    use super::*;

    fn request(names: &[&str]) -> LockRequest {
        let claim = |name| LockClaim { name, mode: LockMode::Exclusive };
        LockRequest {
            holder: LockHolder {
                pid: 1,
                run: RunId::new("r1").unwrap(),
                task: TaskId::new("a").unwrap(),
                attempt: 1,
            },
            claims: names.iter().map(|name| claim(LockName::new(name).unwrap())).collect(),
        }
    }

    #[tokio::test]
    async fn the_net_catches_where_nothing_can_be_heard() {
        let dir = tempfile::tempdir().unwrap();
        let locks = FileLocks::open(dir.path()).unwrap().with_safety_net(Duration::from_millis(5));
        let taken = locks.try_acquire(request(&["a"])).await.unwrap();
        assert!(matches!(&taken, Acquired::Granted(_)));
        locks.released(&request(&["a"]).claims).await.unwrap();
        assert!(matches!(
            locks.try_acquire(request(&["a"])).await.unwrap(),
            Acquired::Busy { holder: Some(_), .. }
        ));
        let mut deaf = News::none();
        let heard = tokio::time::timeout(Duration::from_millis(1), deaf.of(&[])).await;
        assert!(heard.is_err());
    }

    #[tokio::test]
    async fn a_folder_that_can_t_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let locks = FileLocks::open(file.path()).unwrap();
        assert_eq!(locks.dir(), file.path());
        let error = locks.try_acquire(request(&["a"])).await.unwrap_err();
        assert!(error.to_string().contains("making the folder"), "{error}");
        assert!(locks.released(&request(&["a"]).claims).await.is_err());
    }

    #[tokio::test]
    async fn while_the_gate_is_shut_locks_are_busy() {
        let dir = tempfile::tempdir().unwrap();
        let mut locks = FileLocks::open(dir.path()).unwrap();
        locks.patience = Duration::from_millis(5);
        let gate = Gate::enter(dir.path(), gate::PATIENCE).unwrap().unwrap();
        let taken = locks.try_acquire(request(&["a"])).await.unwrap();
        assert!(matches!(taken, Acquired::Busy { holder: None, .. }));
        assert!(locks.try_acquire(request(&[])).await.is_err(), "there is no lock to name");
        drop(gate);
        assert!(matches!(locks.try_acquire(request(&[])).await, Ok(Acquired::Granted(_))));
    }

    #[tokio::test]
    async fn a_new_watch_begins_where_the_folder_was_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("locks");
        let locks = FileLocks::open(&place).unwrap();
        let free = request(&["a"]).claims;
        locks.released(&free).await.unwrap();
        let mut news = locks.listen();
        std::fs::remove_dir_all(&place).unwrap();
        // Closed: for ever silent.
        assert!(tokio::time::timeout(Duration::from_millis(1), news.of(&free)).await.is_err());
        locks.released(&free).await.unwrap();
        assert!(place.is_dir());
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("a.lock")).unwrap();
        let locks = FileLocks::open(dir.path()).unwrap();
        let error = locks.try_acquire(request(&["a"])).await.unwrap_err();
        assert!(error.to_string().contains("a.lock: opening"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_on_the_other_thread_is_an_error() {
        let error = blocking(|| -> Result<(), LockError> { panic!("planned") }).await.unwrap_err();
        assert!(matches!(error, LockError::Other { .. }), "{error}");
    }
}
