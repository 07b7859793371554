//! Worktrees that are kept warm: lent to a task, taken back, reset, lent again.
//!
//! A place is a worktree `<root>/.pool/slot-<n>`, which never moves, so that build caches with whole
//! paths in them stay valid. It is lent as `<root>/<run>/<task>`, a symbolic link to it; the file
//! `orch-place` in its git folder says so, and is the truth. A change has two phases: first the mark
//! of a clean place goes, at the end the place is lent, or marked as clean. Whoever is killed in
//! between leaves a place that is neither, and which is reset as a whole before it is lent again.
//!
//! A place is taken back only after what was in it was proven to be safe elsewhere, as a worktree is
//! deleted only then.

mod limits;
pub(crate) mod slot;

pub(crate) use limits::is_nearly_full;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use orch_faults::point;
use orch_model::{CommitId, ports::WorktreeError};

use crate::{
    checkouts::{Checkouts, PLACE},
    config::PoolConfig,
    entry::{self, Detached},
    error::io_error,
    furnish::command::DONE,
    git::Git,
    lock::{PlaceLocks, RepositoryLock},
    mend::set_aside,
    parse,
    trash::Trash,
};

use slot::Slot;
pub(crate) use slot::write_whole;

/// Why a place that is lent to nobody is locked, for a person and for `git worktree prune`.
const REASON: &str = "orch pool";

/// What of a place's git folder the next task finds; all else is the last task's.
const STAYS: &[&str] = &[
    "HEAD",
    "commondir",
    "gitdir",
    "index",
    "locked",
    "config.worktree",
    "info",
    SPARSE,
    DONE,
    "refs",
];

/// A copy of what says which files a place has, made before a task could change it.
const SPARSE: &str = "orch-sparse";

/// The pool of a repository.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) folder: PathBuf,
    pub(crate) git: Git,
    pub(crate) checkouts: Arc<Checkouts>,
    pub(crate) lock: Arc<RepositoryLock>,
    pub(crate) trash: Arc<Trash>,
    pub(crate) config: PoolConfig,
    /// Places that this process cleans at this moment.
    cleaning: Mutex<BTreeSet<PathBuf>>,
    places: PlaceLocks,
}

impl Pool {
    pub(crate) fn new(
        root: &Path,
        git: Git,
        checkouts: Arc<Checkouts>,
        lock: Arc<RepositoryLock>,
        trash: Arc<Trash>,
        config: PoolConfig,
    ) -> Self {
        Self {
            folder: root.join(crate::names::POOL),
            git,
            checkouts,
            lock,
            trash,
            config,
            cleaning: Mutex::default(),
            places: PlaceLocks::default(),
        }
    }

    /// Lends a place as `path`, on a new branch at a commit; its git folder.
    pub(crate) async fn lend(
        &self,
        path: &Path,
        branch: &str,
        base: &CommitId,
        reason: &str,
    ) -> Result<PathBuf, WorktreeError> {
        if let Some((slot, admin)) = self.claim().await? {
            match self.hand_over(&slot, &admin, path, branch, base, reason).await {
                Ok(()) => return Ok(admin),
                Err(error) => {
                    tracing::warn!(%error, folder = %slot.folder().display(), "a place of the pool can't be used");
                    self.discard(&slot, Some(&admin)).await?;
                    self.forget_branch(branch, base).await;
                }
            }
        }
        let (slot, admin) = self.make(base).await?;
        let lent = self.hand_over(&slot, &admin, path, branch, base, reason).await;
        if lent.is_err() {
            self.discard(&slot, Some(&admin)).await?;
            self.forget_branch(branch, base).await;
        }
        lent.map(|()| admin)
    }

    /// A place that is lent to nobody: a clean one, one that is being cleaned, any.
    async fn claim(&self) -> Result<Option<(Slot, PathBuf)>, WorktreeError> {
        if let Some(found) = self.claim_idle(true).await? {
            return Ok(Some(found));
        }
        let waited = self.cleaning().pop_first();
        if let Some(folder) = waited {
            drop(self.places.hold(&folder).await);
            if let Some(found) = self.claim_idle(true).await? {
                return Ok(Some(found));
            }
        }
        self.claim_idle(false).await
    }

    async fn claim_idle(&self, clean: bool) -> Result<Option<(Slot, PathBuf)>, WorktreeError> {
        for folder in slot::all(&self.folder) {
            if (clean && slot::clean(&folder).is_none()) || self.cleaning().contains(&folder) {
                continue;
            }
            if folder.is_symlink() {
                // What it leads to is nobody's to clean.
                continue;
            }
            let Some(slot) = self.take(&folder)? else { continue };
            match self.checkouts.lent_from(&folder) {
                Some((admin, None)) if folder.is_dir() => {
                    if !clean || slot.clean().is_some() {
                        return Ok(Some((slot, admin)));
                    }
                }
                // Somebody was killed while it was made or deleted.
                Some((admin, None)) => self.discard(&slot, Some(&admin)).await?,
                Some(_) => {}
                // Git does not know of it: what is in it may be work.
                None => set_aside(&folder)?,
            }
        }
        Ok(None)
    }

    fn take(&self, folder: &Path) -> Result<Option<Slot>, WorktreeError> {
        Slot::take(folder).map_err(io_error(format!("locking {}", folder.display())))
    }

    /// A new place, without files yet.
    async fn make(&self, base: &CommitId) -> Result<(Slot, PathBuf), WorktreeError> {
        let doing = || format!("making a worktree in {}", self.folder.display());
        fs::create_dir_all(&self.folder).map_err(io_error(doing()))?;
        for number in 1.. {
            let folder = slot::at(&self.folder, number);
            if folder.exists() {
                continue;
            }
            let Some(slot) = self.take(&folder)? else { continue };
            // Between the look and the taking somebody else may have made one.
            if folder.exists() || self.checkouts.lent_from(&folder).is_some() {
                continue;
            }
            let place = Detached { folder: &folder, commit: base, reason: REASON };
            let admin = place.make(&self.git, &self.checkouts, &self.lock).await?;
            let sparse = sparse_of(&admin);
            fs::write(admin.join(SPARSE), sparse).map_err(io_error(doing()))?;
            return Ok((slot, admin));
        }
        Err(io_error(doing())(io::ErrorKind::AlreadyExists.into()))
    }

    /// Brings a place to a commit and lends it. The step that counts is the file that says to whom.
    async fn hand_over(
        &self,
        slot: &Slot,
        admin: &Path,
        path: &Path,
        branch: &str,
        base: &CommitId,
        reason: &str,
    ) -> Result<(), WorktreeError> {
        let doing = || format!("handing out {}", slot.folder().display());
        let was = slot.clean();
        slot.unmark().map_err(io_error(doing()))?;
        write_whole(&slot.folder().join(".git"), &format!("gitdir: {}\n", admin.display()), false)
            .map_err(io_error(doing()))?;
        let is_ready = match &was {
            Some(was) => self.forward(slot, admin, &was.commit, base).await?,
            None => false,
        };
        if !is_ready {
            self.reset_wholly(slot, admin, base).await?;
        }
        let name = crate::names::head(branch);
        let zero = "0".repeat(base.as_str().len());
        self.git.run(["update-ref", &name, base.as_str(), &zero]).await?;
        if self.checkouts.is_reftable() {
            self.on(slot, admin).run(["symbolic-ref", "HEAD", &name]).await?;
        } else {
            write_whole(&admin.join("HEAD"), &format!("ref: {name}\n"), false)
                .map_err(io_error(doing()))?;
        }
        link(path, slot.folder()).map_err(io_error(doing()))?;
        let place = format!("{}\n", path.display());
        write_whole(&admin.join(PLACE), &place, true).map_err(io_error(doing()))?;
        // Only now: a place that is not lent must not seem to be a task's.
        write_whole(&admin.join("locked"), reason, false).map_err(io_error(doing()))
    }

    fn on(&self, slot: &Slot, admin: &Path) -> Git {
        self.git.on_worktree(admin, slot.folder())
    }

    /// Changes only the files that differ between two commits, then looks whether all is as it
    /// should be. Whether it is.
    async fn forward(
        &self,
        slot: &Slot,
        admin: &Path,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<bool, WorktreeError> {
        let git = self.on(slot, admin);
        let lock = || slot.share().map_err(io_error("sharing the lock of a place"));
        if from != to {
            let arguments = ["read-tree", "-m", "-u", from.as_str(), to.as_str()];
            let answer = git.call(arguments).with_lock(lock()?).answer().await?;
            if answer.code != Some(0) {
                return Ok(false);
            }
            // The status compares the index with HEAD too.
            git.run(["update-ref", "--no-deref", "HEAD", to.as_str()]).await?;
        }
        let arguments =
            ["status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=dirty"];
        let answer = git.call(arguments).with_lock(lock()?).answer().await?;
        Ok(answer.success().is_ok_and(|out| !parse::status(&out).is_dirty()))
    }

    /// Writes every file anew: what was there before counts for nothing, except what git ignores.
    async fn reset_wholly(
        &self,
        slot: &Slot,
        admin: &Path,
        to: &CommitId,
    ) -> Result<(), WorktreeError> {
        let doing = || format!("resetting {}", slot.folder().display());
        self.forget_state(admin).map_err(io_error(doing()))?;
        let git = self.on(slot, admin);
        git.run(["update-ref", "--no-deref", "HEAD", to.as_str()]).await?;
        for name in ["index", "index.lock"] {
            match point!("pool::index.remove", fs::remove_file(admin.join(name))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(doing())(error));
                }
                _ => {}
            }
        }
        let lock = slot.share().map_err(io_error(doing()))?;
        let arguments = ["read-tree", "--reset", "-u", to.as_str()];
        git.call(arguments).with_lock(lock).answer().await?.success()?;
        self.clean(slot, &git).await
    }

    /// Removes what is not tracked.
    async fn clean(&self, slot: &Slot, git: &Git) -> Result<(), WorktreeError> {
        let lock = slot.share().map_err(io_error("sharing the lock of a place"))?;
        let ignored = (!self.config.keep_ignored).then_some("-x");
        let arguments = ["clean", "-f", "-f", "-d", "--quiet"].into_iter().chain(ignored);
        git.call(arguments).with_lock(lock).answer().await?.success().map(drop)
    }

    /// Removes what a task left in the git folder: merges half done, notes, logs.
    fn forget_state(&self, admin: &Path) -> io::Result<()> {
        for entry in fs::read_dir(admin)? {
            let entry = entry?;
            if STAYS.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes a lent place back whose content was proven to be safe elsewhere. It is cleaned in the
    /// background. Whether it is a place of the pool.
    pub(crate) async fn take_back(
        self: &Arc<Self>,
        path: &Path,
        admin: &Path,
    ) -> Result<bool, WorktreeError> {
        let Some(folder) = self.checkouts.folder_of(admin) else { return Ok(false) };
        if folder.parent() != Some(&*self.folder) {
            return Ok(false);
        }
        if folder.is_symlink() {
            let change = format!("{}: it is a symbolic link now", folder.display());
            return Err(WorktreeError::Tampered { changes: vec![change] });
        }
        let doing = || format!("taking back {}", path.display());
        let Some(slot) = self.take(&folder)? else {
            let error = io::Error::new(io::ErrorKind::ResourceBusy, "another process has it");
            return Err(io_error(doing())(error));
        };
        // The folder may be gone.
        let git = self.git.on_repository(admin);
        // HEAD is on a branch that is deleted next.
        let head = git.call(["rev-parse", "--verify", "-q", "HEAD^{commit}"]).answer().await?;
        let head =
            head.success().ok().map(|out| CommitId::new(String::from_utf8_lossy(&out).trim_end()));
        if let Some(head) = &head {
            git.run(["update-ref", "--no-deref", "HEAD", head.as_str()]).await?;
        }
        write_whole(&admin.join("locked"), REASON, false).map_err(io_error(doing()))?;
        for file in [&admin.join(PLACE), path] {
            match point!("pool::place.remove", fs::remove_file(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(doing())(error));
                }
                _ => {}
            }
        }
        if !self.config.keep_ignored {
            let _ = fs::remove_file(admin.join(DONE));
        }
        let usable = folder.is_dir() && !admin.join("modules").exists();
        let Some(head) = head.filter(|_| usable) else {
            self.discard(&slot, Some(admin)).await?;
            return Ok(true);
        };
        let guard = self.places.hold(&folder).await;
        self.cleaning().insert(folder.clone());
        let (pool, admin) = (Arc::clone(self), admin.to_path_buf());
        self.trash.keep(tokio::spawn(async move {
            if let Err(error) = pool.make_ready(slot, &admin, &head).await {
                tracing::warn!(%error, folder = %folder.display(), "can't clean a place of the pool");
            }
            pool.cleaning().remove(&folder);
            drop(guard);
        }));
        Ok(true)
    }

    /// Cleans a place that was taken back, or deletes it where it can't be used or is one too many.
    async fn make_ready(
        &self,
        slot: Slot,
        admin: &Path,
        head: &CommitId,
    ) -> Result<(), WorktreeError> {
        let doing = || format!("cleaning {}", slot.folder().display());
        let made_with = fs::read(admin.join(SPARSE)).unwrap_or_default();
        if made_with != sparse_of(admin) || !self.has_room_for(slot.folder()) {
            return self.discard(&slot, Some(admin)).await;
        }
        let git = self.on(&slot, admin);
        let is_ready = async {
            self.forget_state(admin).map_err(io_error(doing()))?;
            if !self.index_is_honest(&git).await? {
                return Ok(false);
            }
            let lock = slot.share().map_err(io_error(doing()))?;
            let reset = ["reset", "--hard", "--quiet", head.as_str()];
            let answer = git.call(reset).with_lock(lock).answer().await?;
            if answer.code != Some(0) {
                return Ok(false);
            }
            self.clean(&slot, &git).await.map(|()| true)
        };
        let is_ready: Result<bool, WorktreeError> = is_ready.await;
        if !is_ready.unwrap_or_default()
            && let Err(error) = self.reset_wholly(&slot, admin, head).await
        {
            self.discard(&slot, Some(admin)).await?;
            return Err(error);
        }
        let folder = slot.folder().to_path_buf();
        let bytes = tokio::task::spawn_blocking(move || slot::size_of(&folder)).await;
        slot.mark(head, bytes.unwrap_or_default()).map_err(io_error(doing()))?;
        drop(slot);
        self.keep_limits().await
    }

    /// Whether the index hides no change: entries can be marked as never to be looked at.
    async fn index_is_honest(&self, git: &Git) -> Result<bool, WorktreeError> {
        let list = git.run(["ls-files", "-v", "-z"]).await?;
        let mut entries = list.split(|&b| b == 0);
        Ok(!entries.any(|entry| entry.first().is_some_and(u8::is_ascii_lowercase)))
    }

    /// Deletes a place that is lent to nobody.
    async fn discard(&self, slot: &Slot, admin: Option<&Path>) -> Result<(), WorktreeError> {
        let doing = || format!("removing {}", slot.folder().display());
        slot.unmark().map_err(io_error(doing()))?;
        self.trash.take(slot.folder()).map_err(io_error(doing()))?;
        let Some(admin) = admin else { return Ok(()) };
        let held = self.lock.hold().await?;
        entry::remove(self.checkouts.common(), admin, &held).map_err(io_error(doing()))
    }

    /// Takes a branch away again that nobody was given.
    async fn forget_branch(&self, branch: &str, base: &CommitId) {
        let name = crate::names::head(branch);
        let answer = self.git.call(["update-ref", "-d", &name, base.as_str()]).answer().await;
        tracing::debug!(branch, ?answer, "a branch that nobody was given is removed");
    }

    fn cleaning(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.cleaning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the link of a lent place again if it is gone.
    pub(crate) fn revive(&self, path: &Path, admin: &Path) -> Result<(), WorktreeError> {
        match self.checkouts.folder_of(admin) {
            Some(folder) if folder != path && !path.exists() && folder.is_dir() => {
                link(path, &folder).map_err(io_error(format!("linking {}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Makes a symbolic link, in the place of an older one.
fn link(path: &Path, folder: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    fs::create_dir_all(parent)?;
    if path.is_symlink() {
        fs::remove_file(path)?;
    }
    point!("pool::link", std::os::unix::fs::symlink(folder, path))?;
    point!("pool::link.sync", File::open(parent)?.sync_all())
}

/// What decides which files of a commit a worktree has.
fn sparse_of(admin: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for name in ["config.worktree", "info/sparse-checkout"] {
        all.extend(fs::read(admin.join(name)).unwrap_or_default());
        all.push(0);
    }
    all
}
