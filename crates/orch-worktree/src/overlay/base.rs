//! The checkout that trees share: `.overlay/base-<n>/{tree,index,ready}`.
//!
//! It is written once, synced, and marked as ready with its commit. While a tree uses it nothing in it
//! changes; one that no tree uses is brought to the commit of a later run, or deleted.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use orch_faults::point;
use orch_model::{CommitId, ports::WorktreeError};

use crate::{error::io_error, lock::Held, pool::slot::write_whole};

use super::Overlay;

/// A checkout that is ready.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) folder: PathBuf,
    pub(super) commit: CommitId,
}

impl Base {
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// A folder as a base, if it is ready.
    fn found(folder: PathBuf) -> Option<Self> {
        let commit = fs::read_to_string(folder.join("ready")).ok()?;
        Some(Self { folder, commit: CommitId::new(commit.trim()) })
    }
}

impl Overlay {
    /// The base for trees of a run: that which the run uses already, or else one at this commit.
    pub(super) async fn base(
        &self,
        run: &orch_model::RunId,
        commit: &CommitId,
        held: &Held,
    ) -> Result<Base, WorktreeError> {
        let chosen = self.chosen.lock().await.get(run).cloned();
        if let Some(base) = chosen.and_then(|base: Base| Base::found(base.folder)) {
            return Ok(base);
        }
        let base = self.find_or_make(commit, held).await?;
        self.chosen.lock().await.insert(run.clone(), base.clone());
        Ok(base)
    }

    async fn find_or_make(&self, commit: &CommitId, held: &Held) -> Result<Base, WorktreeError> {
        let used = self.used();
        let mut idle = None;
        for folder in self.bases() {
            match Base::found(folder.clone()) {
                Some(base) if base.commit == *commit => return Ok(base),
                Some(base) if !used.contains(&base.tree()) => idle = Some(base),
                Some(_) => {}
                // Somebody was killed while it was written.
                None if !used.contains(&folder.join("tree")) => self.throw_away(&folder)?,
                None => {}
            }
        }
        if let Some(base) = idle {
            match self.forward(&base, commit, held).await {
                Ok(base) => return Ok(base),
                Err(error) => {
                    tracing::warn!(%error, folder = %base.folder.display(), "a base can't be used again");
                    self.throw_away(&base.folder)?;
                }
            }
        }
        self.make(commit, held).await
    }

    async fn make(&self, commit: &CommitId, held: &Held) -> Result<Base, WorktreeError> {
        let free = (1..).map(|n| self.folder.join(format!("base-{n}"))).find(|f| !f.exists());
        let base = Base { folder: free.unwrap_or_default(), commit: commit.clone() };
        let doing = format!("making {}", base.folder.display());
        fs::create_dir_all(base.tree()).map_err(io_error(doing))?;
        let written = self.write(&base, &["--reset"], &[commit], held).await;
        if written.is_err() {
            self.throw_away(&base.folder)?;
        }
        written.map(|()| base)
    }

    /// Brings a base that no tree uses to another commit.
    async fn forward(
        &self,
        base: &Base,
        commit: &CommitId,
        held: &Held,
    ) -> Result<Base, WorktreeError> {
        let doing = format!("changing {}", base.folder.display());
        fs::remove_file(base.folder.join("ready")).map_err(io_error(doing))?;
        let new = Base { commit: commit.clone(), ..base.clone() };
        self.write(&new, &["-m"], &[&base.commit, commit], held).await?;
        Ok(new)
    }

    async fn write(
        &self,
        base: &Base,
        how: &[&str],
        commits: &[&CommitId],
        held: &Held,
    ) -> Result<(), WorktreeError> {
        let doing = || format!("writing {}", base.folder.display());
        let git = self.git.on_worktree(self.checkouts.common(), &base.tree());
        git.call(["read-tree", "-u"])
            .arguments(how)
            .arguments(commits.iter().map(|commit| commit.as_str()))
            .index(&base.index())
            .holding(held)?
            .answer()
            .await?
            .success()?;
        let disk = File::open(&base.folder).map_err(io_error(doing()))?;
        // Trees are mounted on it again after a power cut.
        let sync = move || rustix::fs::syncfs(disk).map_err(std::io::Error::from);
        let sync = move || point!("overlay::base.sync", sync());
        match tokio::task::spawn_blocking(sync).await {
            Ok(result) => result.map_err(io_error(doing()))?,
            Err(stopped) => return Err(WorktreeError::Other { source: stopped.into() }),
        }
        write_whole(&base.folder.join("ready"), &format!("{}\n", base.commit), true)
            .map_err(io_error(doing()))
    }

    /// Deletes bases that no tree uses, all but the newest.
    pub(crate) async fn keep_limits(&self) -> Result<(), WorktreeError> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        let _held = self.lock.hold().await?;
        let used = self.used();
        let mut idle: Vec<PathBuf> =
            self.bases().into_iter().filter(|f| !used.contains(&f.join("tree"))).collect();
        let age = |folder: &PathBuf| fs::metadata(folder.join("ready"))?.modified();
        idle.sort_by_key(|folder| age(folder).ok());
        let newest = idle.pop();
        for folder in idle {
            self.throw_away(&folder)?;
        }
        let keep = newest.filter(|folder| {
            !folder.join("ready").exists()
                || crate::pool::is_nearly_full(folder, self.config.free_floor)
        });
        keep.map_or(Ok(()), |folder| self.throw_away(&folder))
    }

    fn bases(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let mut all: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("base-"))
            .map(|entry| entry.path())
            .collect();
        all.sort();
        all
    }

    /// The lower layers of all trees.
    fn used(&self) -> HashSet<PathBuf> {
        let trees = self.checkouts.linked();
        trees.filter_map(|(_, admin)| Some(self.layers_of(&admin)?.lower)).collect()
    }

    fn throw_away(&self, folder: &Path) -> Result<(), WorktreeError> {
        self.trash.take(folder).map_err(io_error(format!("removing {}", folder.display())))
    }
}
