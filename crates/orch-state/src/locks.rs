//! `FileLocks`: locks between the tasks of all orchestrators that share a folder.

mod deadlock;
pub(crate) mod file;
mod gate;
#[cfg(test)]
mod histories;
mod inspect;
#[cfg(test)]
mod simulation;
pub(crate) mod table;
mod watch;

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    event::AgentIdentity,
    id::LockName,
    ports::{
        Acquired, Deadlock, HeldLock, Lease, LockError, LockHolder, LockOverview, LockRequest,
        ResourceLock,
    },
};
use tokio::time::timeout;

pub use self::inspect::LockInspection;
#[cfg(test)]
pub(crate) use self::watch::simulated as simulated_watch;
use self::{
    table::{Answer, Grant, Obstacle, Table},
    watch::{News, Sign, Watch},
};
use crate::process::Life;

/// How long a wake-up that never comes is waited for, unless something else was asked for.
const SAFETY_NET: Duration = Duration::from_secs(1);
/// How often one who waits shows that he is still there; well below [`table::IN_LINE`].
const RENEWAL: Duration = Duration::from_secs(1);

/// Locks in a folder, by custom `<repository>/.orch/locks`.
///
/// - Who holds and who waits for what stands in one file, the table, which is looked at and changed
///   by one process at a time, behind the lock of the kernel on the file `@gate`. So a request is
///   granted as a whole or not at all, and who waits for whom is known over all processes.
/// - A lease names the processes that it depends on, each by its pid, its start and the boot. It is
///   free again when all of them are dead for certain: at the next look, and who waits hears of it.
///   Nothing is stale by age, and a process that can't be seen, as in another pid namespace, lives.
/// - `@gate` is never deleted, for whoever waits for a deleted file locks what nobody sees.
/// - Fencing tokens are counted in that file and are never less than the time in milliseconds since
///   1970, so that they grow even where a power cut takes the last counts away.
/// - A table that can't be read, or that a newer version wrote, is an error, and stays as it is.
///
/// The folder must be on a local file system, and is made when the first lock is taken.
#[derive(Debug)]
pub struct FileLocks {
    place: Place,
    safety_net: Duration,
    watch: Mutex<Option<Watch>>,
}

/// Where the table is.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
    patience: Duration,
}

impl Place {
    /// Looks at the table or changes it, on a thread that may block. `None` where the gate stays
    /// shut, because its holder is suspended.
    async fn with_table<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Table, table::Now, table::NextFence<'_>) -> Result<T, LockError>
        + Send
        + 'static,
    ) -> Result<Option<T>, LockError> {
        let Self { dir, patience } = self.clone();
        blocking(move || file::with_table(&dir, patience, act)).await
    }

    /// As [`Place::with_table`], where a gate that stays shut is an error.
    async fn change<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Table) -> T + Send + 'static,
    ) -> Result<T, LockError> {
        self.with_table(move |table, _, _| Ok(act(table))).await?.ok_or_else(|| self.shut())
    }

    fn shut(&self) -> LockError {
        io_error(&self.dir, "waiting for the gate")(std::io::ErrorKind::TimedOut.into())
    }

    async fn read(&self) -> Result<Table, LockError> {
        let dir = self.dir.clone();
        blocking(move || Ok(file::read(&dir)?.unwrap_or_else(Table::new))).await
    }
}

impl FileLocks {
    /// Takes a folder as the place of the locks. It need not be there.
    ///
    /// # Errors
    /// Where the path is relative and the current folder is gone.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, LockError> {
        let dir = dir.as_ref();
        let dir = std::path::absolute(dir).map_err(io_error(dir, "finding the folder"))?;
        let place = Place { dir, patience: gate::PATIENCE };
        Ok(Self { place, safety_net: SAFETY_NET, watch: Mutex::new(None) })
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
        &self.place.dir
    }

    /// The identity of a running process, for [`Lease::bind`] and [`Lease::keep`]; `None`
    /// where there is no such process.
    #[must_use]
    pub fn identify(pid: u32) -> Option<AgentIdentity> {
        crate::process::identify(pid)
    }

    fn watch(&self) -> MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to the folder from now on.
    fn listen(&self) -> News {
        let dir = self.dir();
        #[cfg(test)]
        if orch_faults::is_interleaved() {
            return watch::simulated::listen(dir);
        }
        let mut watch = self.watch();
        if watch.as_ref().is_none_or(Watch::is_over) {
            *watch = match std::fs::create_dir_all(dir).and_then(|()| Watch::start(dir)) {
                Ok(watch) => Some(watch),
                Err(error) => {
                    tracing::debug!(dir = %dir.display(), %error, "the locks can't be watched");
                    None
                }
            };
        }
        watch.as_ref().map_or_else(News::none, Watch::news)
    }

    async fn become_free(&self, request: &LockRequest) -> Result<(), LockError> {
        // Before the first look, so that nothing freed in between is missed.
        let mut news = self.listen();
        loop {
            let wanted = request.clone();
            let look = self.place.with_table(move |table, now, fence| {
                let look = table.look(&wanted, &Life::own(), now, fence)?;
                Ok((look, table.processes()))
            });
            match look.await? {
                Some((Answer::Granted(()), _)) => return Ok(()),
                Some((Answer::Refused(deadlock), _)) => {
                    return Err(LockError::Deadlock { deadlock });
                }
                Some((Answer::Busy(_), processes)) => {
                    #[cfg(test)]
                    watch::simulated::follow(&processes);
                    if let Some(watch) = &mut *self.watch() {
                        watch.follow(processes);
                    }
                }
                None => {}
            }
            if orch_faults::planted("looks-before-it-listens") {
                news = self.listen();
            }
            // Where nothing is heard, the place in line has to be kept all the same.
            let _ = timeout(RENEWAL, news.of(Sign::Freed)).await;
        }
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
    async fn try_acquire(&self, mut request: LockRequest) -> Result<Acquired, LockError> {
        request.claims.sort_by(|a, b| a.name.cmp(&b.name));
        let Place { dir, patience } = self.place.clone();
        let answer = blocking(move || {
            let answer = file::with_table(&dir, patience, |table, now, fence| {
                table.acquire(&request, &Life::own(), now, fence)
            })?;
            Ok(match answer {
                Some(Answer::Granted(grant)) => {
                    let place = Place { dir, patience };
                    Ok(Acquired::Granted(Box::new(FileLease::new(grant, place))))
                }
                Some(Answer::Busy(Obstacle { lock, holder })) => {
                    Ok(Acquired::Busy { lock, holder })
                }
                Some(Answer::Refused(deadlock)) => Err(LockError::Deadlock { deadlock }),
                None => match request.claims.into_iter().next() {
                    Some(claim) => Ok(Acquired::Busy { lock: claim.name, holder: None }),
                    None => Err(Place { dir, patience }.shut()),
                },
            })
        });
        answer.await?
    }

    /// Waits in line until the claims were seen to be free, or for the time of
    /// [`FileLocks::with_safety_net`].
    async fn released(&self, request: &LockRequest) -> Result<(), LockError> {
        timeout(self.safety_net, self.become_free(request)).await.unwrap_or(Ok(()))
    }

    async fn release_kept(
        &self,
        holder: &LockHolder,
        lock: Option<&LockName>,
    ) -> Result<usize, LockError> {
        // Where nobody uses locks that is all it costs: no thread that may block is asked.
        if !file::path(self.dir()).exists() || !self.place.read().await?.keeps(holder) {
            return Ok(0);
        }
        let (holder, lock) = (holder.clone(), lock.cloned());
        self.place.change(move |table| table.free_kept(&holder, lock.as_ref())).await
    }

    async fn overview(&self) -> Result<LockOverview, LockError> {
        if !self.dir().is_dir() {
            return Ok(LockOverview::default());
        }
        self.place.change(|table| table.overview()).await
    }

    async fn next_deadlock(&self, after: u64) -> Result<Deadlock, LockError> {
        let mut news = self.listen();
        loop {
            if let Some(deadlock) = self.place.read().await?.deadlock_after(after) {
                return Ok(deadlock.clone());
            }
            news.of(Sign::Deadlock).await;
        }
    }
}

/// The variables of what was granted.
pub(crate) fn variables(locks: &[HeldLock]) -> BTreeMap<String, String> {
    let pools = locks.iter().filter_map(|held| Some((held.claim.pool.as_ref()?, &held.values)));
    pools.flat_map(|(pool, values)| pool.variables(values)).collect()
}

#[derive(Debug)]
struct FileLease {
    fence: u64,
    env: BTreeMap<String, String>,
    place: Place,
    /// Nothing is left to be freed.
    is_over: bool,
}

impl FileLease {
    fn new(grant: Grant, place: Place) -> Self {
        let Grant { fence, locks } = grant;
        Self { fence, env: variables(&locks), place, is_over: false }
    }

    /// Frees the locks on this thread, in the way of a drop.
    fn free(&self) {
        let (fence, place) = (self.fence, self.place.clone());
        let free = move || {
            file::with_table(&place.dir, place.patience, |table, _, _| {
                table.free(fence);
                Ok(())
            })
        };
        match free() {
            Ok(Some(())) => {}
            // The holder of the gate is suspended: this process lives, so that nobody else would
            // ever free what it holds.
            Ok(None) => drop(std::thread::spawn(move || while let Ok(None) = free() {})),
            Err(error) => tracing::warn!(%error, "locks can't be freed before this process ends"),
        }
    }
}

#[async_trait]
impl Lease for FileLease {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    async fn bind(&self, process: &AgentIdentity) -> Result<(), LockError> {
        let (fence, life) = (self.fence, Life::of(process.clone()));
        self.place.change(move |table| table.bind(fence, life)).await.map(drop)
    }

    async fn keep(mut self: Box<Self>, processes: Vec<AgentIdentity>) -> Result<(), LockError> {
        let (fence, lives) = (self.fence, processes.into_iter().map(Life::of).collect());
        self.place.change(move |table| table.keep(fence, lives)).await?;
        self.is_over = true;
        Ok(())
    }

    async fn release(mut self: Box<Self>) -> Result<(), LockError> {
        let fence = self.fence;
        self.place.change(move |table| table.free(fence)).await?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        if !self.is_over {
            self.free();
        }
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, LockError> + Send + 'static,
) -> Result<T, LockError> {
    if orch_faults::is_interleaved() {
        return act();
    }
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => Err(LockError::Other { source: error.into() }),
    }
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_path_buf();
    move |source| LockError::Io { source: with_cure(source, &path), path, doing }
}

/// What keeps users from sharing a folder of locks, and what to do.
fn with_cure(error: std::io::Error, path: &Path) -> std::io::Error {
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return error;
    }
    let folder = path.parent().unwrap_or(path);
    let is_sticky = std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o1000 != 0);
    let folder = folder.display();
    let cure = if is_sticky {
        format!("the folder is sticky, so only its maker may replace a file: `chmod -t {folder}`")
    } else {
        format!(
            "users who share locks need a group that owns the folder and may write to it: `chgrp -R GROUP {folder} \
             && chmod 2775 {folder}`"
        )
    };
    std::io::Error::new(error.kind(), format!("{error}; {cure}"))
}

#[cfg(test)]
mod tests {
    use orch_model::{
        id::{RunId, TaskId},
        plan::{LockClaim, LockMode},
    };

    use super::{gate::Gate, *};

    fn request(attempt: u32, names: &[&str]) -> LockRequest {
        let (run, task) = (RunId::new("r1").unwrap(), TaskId::new("a").unwrap());
        let claim = |name| LockClaim::new(LockName::new(name).unwrap(), LockMode::Exclusive);
        let claims = names.iter().map(claim).collect();
        LockRequest::new(LockHolder::Attempt { run, task, attempt }, claims)
    }

    #[tokio::test]
    async fn the_net_catches_where_nothing_can_be_heard() {
        let dir = tempfile::tempdir().unwrap();
        let locks = FileLocks::open(dir.path()).unwrap().with_safety_net(Duration::from_millis(5));
        let taken = locks.try_acquire(request(1, &["a"])).await.unwrap();
        assert!(matches!(&taken, Acquired::Granted(_)));
        locks.released(&request(2, &["a"])).await.unwrap();
        assert!(matches!(
            locks.try_acquire(request(2, &["a"])).await.unwrap(),
            Acquired::Busy { holder: Some(_), .. }
        ));
        let mut deaf = News::none();
        let heard = timeout(Duration::from_millis(1), deaf.of(Sign::Freed)).await;
        assert!(heard.is_err());
    }

    #[tokio::test]
    async fn a_folder_that_can_t_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let locks = FileLocks::open(file.path()).unwrap();
        assert_eq!(locks.dir(), file.path());
        let error = locks.try_acquire(request(1, &["a"])).await.unwrap_err();
        assert!(error.to_string().contains("making the folder"), "{error}");
        assert!(locks.released(&request(1, &["a"])).await.is_err());
    }

    #[tokio::test]
    async fn while_the_gate_is_shut_locks_are_busy() {
        let dir = tempfile::tempdir().unwrap();
        let mut locks = FileLocks::open(dir.path()).unwrap();
        locks.place.patience = Duration::from_millis(5);
        let gate = Gate::enter(dir.path(), gate::PATIENCE).unwrap().unwrap();
        let taken = locks.try_acquire(request(1, &["a"])).await.unwrap();
        assert!(matches!(taken, Acquired::Busy { holder: None, .. }));
        assert!(locks.try_acquire(request(1, &[])).await.is_err(), "there is no lock to name");
        drop(gate);
        assert!(matches!(locks.try_acquire(request(1, &[])).await, Ok(Acquired::Granted(_))));
    }

    #[tokio::test]
    async fn what_is_dropped_while_the_gate_is_shut_is_freed_when_it_opens() {
        let dir = tempfile::tempdir().unwrap();
        let mut locks = FileLocks::open(dir.path()).unwrap();
        let Acquired::Granted(lease) = locks.try_acquire(request(1, &["a"])).await.unwrap() else {
            panic!("it is free");
        };
        drop(lease);
        locks.place.patience = Duration::from_millis(5);
        let Acquired::Granted(lease) = locks.try_acquire(request(1, &["a"])).await.unwrap() else {
            panic!("it is free again");
        };
        let gate = Gate::enter(dir.path(), gate::PATIENCE).unwrap().unwrap();
        drop(lease);
        let error = locks.overview().await.unwrap_err();
        assert!(error.to_string().contains("waiting for the gate"), "{error}");
        drop(gate);
        let lease = locks.acquire(request(2, &["a"]));
        timeout(Duration::from_secs(60), lease).await.expect("it is freed").unwrap();
    }

    #[tokio::test]
    async fn a_new_watch_begins_where_the_folder_was_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("locks");
        let locks = FileLocks::open(&place).unwrap();
        let free = request(1, &["a"]);
        locks.released(&free).await.unwrap();
        let mut news = locks.listen();
        std::fs::remove_dir_all(&place).unwrap();
        // Closed: for ever silent.
        let heard = timeout(Duration::from_millis(1), news.of(Sign::Freed)).await;
        assert!(heard.is_err());
        locks.released(&free).await.unwrap();
        assert!(place.is_dir());
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_the_gate_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("@gate")).unwrap();
        let locks = FileLocks::open(dir.path()).unwrap();
        let error = locks.try_acquire(request(1, &["a"])).await.unwrap_err();
        assert!(error.to_string().contains("@gate: opening"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_on_the_other_thread_is_an_error() {
        let error = blocking(|| -> Result<(), LockError> { panic!("planned") }).await.unwrap_err();
        assert!(matches!(error, LockError::Other { .. }), "{error}");
    }
}
