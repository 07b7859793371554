//! Trees that are a layer over one checkout which all tasks share, by overlayfs.
//!
//! The worktree's git folder is its own, as with any worktree; its index is a copy of that of the
//! shared checkout. As all layers lie on one file system, what git remembers of a file (its times,
//! its inode) holds for the file in the tree too, and no file has to be looked at again.
//!
//! What a task writes is in `.overlay/layer-<n>/upper`. The file `orch-overlay` in the git folder
//! names the layers: if the machine is started anew the mount is gone and the layers are not, and the
//! tree is mounted again before anybody looks at it.
//!
//! The right to mount is needed. In a user namespace the mount would be seen only there, and so
//! not by the supervisor or a later orchestrator: that is not supported.

mod base;
pub(crate) mod mounts;
mod shift;

use std::{
    collections::HashMap,
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use orch_faults::point;
use orch_model::{CommitId, RunId, ports::WorktreeError};

use crate::{
    checkouts::Checkouts,
    config::PoolConfig,
    error::io_error,
    git::Git,
    lock::{Held, RepositoryLock},
    mend::move_aside,
    names::OVERLAY,
    pool::slot::write_whole,
    trash::Trash,
};

use base::Base;
use mounts::{Layers, is_mounted, unmount};

/// The file in a worktree's git folder that names its layers, one a line.
const LAYERS: &str = "orch-overlay";

/// The shared checkouts and the layers over them.
#[derive(Debug)]
pub(crate) struct Overlay {
    folder: PathBuf,
    git: Git,
    checkouts: Arc<Checkouts>,
    trash: Arc<Trash>,
    config: PoolConfig,
    /// Held while a base is chosen, made or deleted.
    lock: RepositoryLock,
    chosen: tokio::sync::Mutex<HashMap<RunId, Base>>,
}

impl Overlay {
    pub(crate) fn new(
        root: &Path,
        git: Git,
        checkouts: Arc<Checkouts>,
        trash: Arc<Trash>,
        config: PoolConfig,
    ) -> Self {
        let folder = root.join(OVERLAY);
        let lock = RepositoryLock::at(folder.join("lock"));
        Self { folder, git, checkouts, trash, config, lock, chosen: Default::default() }
    }

    /// Whether overlays work here.
    ///
    /// # Errors
    /// Why they don't.
    pub(crate) fn probe(&self) -> std::io::Result<()> {
        mounts::probe(&self.folder)
    }

    /// Gives a worktree that was added without files its files.
    pub(crate) async fn fill(
        &self,
        path: &Path,
        admin: &Path,
        run: &RunId,
        commit: &CommitId,
    ) -> Result<(), WorktreeError> {
        let doing = || format!("mounting {}", path.display());
        fs::create_dir_all(&self.folder).map_err(io_error(doing()))?;
        let held = self.lock.hold().await?;
        let base = self.base(run, commit, &held).await?;
        let layers = self.record(path, admin, &base, &held)?;
        drop(held);
        let link = format!("gitdir: {}\n", admin.display());
        fs::create_dir_all(layers.upper()).map_err(io_error(doing()))?;
        fs::write(layers.upper().join(".git"), link).map_err(io_error(doing()))?;
        point!("overlay::mount", layers.mount(path)).map_err(io_error(doing()))?;
        // Without an index the worktree counts as half made.
        let index = admin.join("orch-index");
        point!("overlay::index.copy", fs::copy(base.index(), &index)).map_err(io_error(doing()))?;
        if base.commit != *commit {
            shift::shift(&self.git.on_worktree(admin, path), &index, &base.commit, commit).await?;
        }
        point!("overlay::index.rename", fs::rename(index, admin.join("index")))
            .map_err(io_error(doing()))
    }

    /// Writes down which layers a tree has. From then on its base stays as it is.
    fn record(
        &self,
        path: &Path,
        admin: &Path,
        base: &Base,
        _held: &Held,
    ) -> Result<Layers, WorktreeError> {
        let name = admin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let layers =
            Layers { lower: base.tree(), layer: self.folder.join(format!("layer-{name}")) };
        self.clear_away(&layers, path)?;
        let text = format!("{}\n{}\n", layers.lower.display(), layers.layer.display());
        write_whole(&admin.join(LAYERS), &text, true)
            .map_err(io_error(format!("recording the layers of {}", path.display())))?;
        Ok(layers)
    }

    /// A layer that no worktree names any more, since somebody removed git's entry: what was
    /// written there is kept beside the place.
    fn clear_away(&self, layers: &Layers, path: &Path) -> Result<(), WorktreeError> {
        let doing = || format!("clearing {}", layers.layer.display());
        let upper = layers.upper();
        let mut entries = fs::read_dir(&upper).into_iter().flatten().filter_map(Result::ok);
        if entries.any(|entry| entry.file_name() != ".git") {
            move_aside(&upper, path)?;
        }
        self.trash.take(&layers.layer).map_err(io_error(doing()))
    }

    /// Mounts a tree again whose mount is gone, after the machine was started anew. Whether it is
    /// there: one whose layer is gone too was being made or removed, and what is left of it has to go.
    pub(crate) fn revive(&self, path: &Path, admin: &Path) -> Result<bool, WorktreeError> {
        let Some(layers) = self.layers_of(admin) else { return Ok(true) };
        if is_mounted(path) {
            return Ok(true);
        }
        if !layers.upper().is_dir() || !layers.lower.is_dir() {
            // Without its lower layer, what was written is all that there is.
            return self.clear_away(&layers, path).map(|()| false);
        }
        let doing = || format!("mounting {} again", path.display());
        tracing::info!(path = %path.display(), "the layers of a worktree are mounted again");
        fs::create_dir_all(path).map_err(io_error(doing()))?;
        layers.mount(path).map_err(io_error(doing()))?;
        Ok(true)
    }

    /// Takes a tree apart whose content was proven to be safe elsewhere; its folder is empty then.
    pub(crate) fn take_apart(&self, path: &Path, admin: &Path) -> Result<(), WorktreeError> {
        let Some(layers) = self.layers_of(admin) else { return Ok(()) };
        let doing = || format!("unmounting {}", path.display());
        if is_mounted(path) {
            point!("overlay::unmount", unmount(path)).map_err(io_error(doing()))?;
        }
        self.trash.take(&layers.layer).map_err(io_error(doing()))
    }

    /// Takes a tree apart that can't be read; what was written in it is kept beside its place.
    pub(crate) fn put_aside(&self, path: &Path, admin: &Path) -> Result<(), WorktreeError> {
        let Some(layers) = self.layers_of(admin) else { return Ok(()) };
        if is_mounted(path) {
            unmount(path).map_err(io_error(format!("unmounting {}", path.display())))?;
        }
        self.clear_away(&layers, path)?;
        // Below the mount there is nothing but git's link.
        self.trash.take(path).map_err(io_error(format!("removing {}", path.display())))
    }

    /// Takes the layers of a worktree away that goes on without them.
    pub(crate) fn give_up(&self, path: &Path, admin: &Path) -> Result<(), WorktreeError> {
        self.take_apart(path, admin)?;
        for name in [LAYERS, "orch-index"] {
            match fs::remove_file(admin.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error(format!("removing {name}"))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The file that names a worktree's layers, if they are not the engine's.
    pub(crate) fn foreign_layers(&self, admin: &Path) -> Option<PathBuf> {
        let file = admin.join(LAYERS);
        (file.exists() && self.layers_of(admin).is_none()).then_some(file)
    }

    /// The layers that a worktree is made of. Whatever else is written there is nobody's to mount or to
    /// delete: the file lies where agents can write.
    fn layers_of(&self, admin: &Path) -> Option<Layers> {
        let text = fs::read_to_string(admin.join(LAYERS)).ok()?;
        let mut lines = text.lines();
        let (lower, layer): (PathBuf, PathBuf) = (lines.next()?.into(), lines.next()?.into());
        let is_ours = lower.starts_with(&self.folder)
            && !lower.components().any(|part| part == Component::ParentDir)
            && layer.parent() == Some(&*self.folder);
        if !is_ours {
            tracing::warn!(file = %admin.join(LAYERS).display(), "names layers that are not the engine's");
        }
        is_ours.then_some(Layers { lower, layer })
    }
}
