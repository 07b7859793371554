//! Removes worktrees whose work was proven to be safe.

use std::path::Path;

use orch_model::{CommitId, ports::WorktreeError};

use crate::{entry, error::io_error, names, preserve::Site, repo::Repo};

impl Repo {
    /// Removes a worktree: the folder is renamed away, the repository's entry is dropped under
    /// the lock, and files are deleted in the background. What of it is gone already is no error.
    pub(crate) async fn remove(&self, site: &Site) -> Result<(), WorktreeError> {
        let path = &site.path;
        let doing = || format!("removing {}", path.display());
        self.refuse_detour(path)?;
        if let Some(admin) = &site.admin
            && self.pool.take_back(path, admin).await?
        {
            return Ok(());
        }
        if let Some(admin) = &site.admin {
            self.overlay.take_apart(path, admin)?;
        }
        if path.exists() {
            self.trash.take(path).map_err(io_error(doing()))?;
        }
        if let Some(admin) = &site.admin {
            let lock = self.lock.hold().await?;
            entry::remove(self.checkouts.common(), admin, &lock).map_err(io_error(doing()))?;
        }
        Ok(())
    }

    /// Makes a worktree whole again whose path leads nowhere, although its files are there.
    pub(crate) async fn revive(&self, path: &Path) -> Result<(), WorktreeError> {
        let Some(admin) = self.checkouts.admin_of(path) else { return Ok(()) };
        self.pool.revive(path, &admin)?;
        if self.overlay.revive(path, &admin)? {
            return Ok(());
        }
        self.remove(&Site { path: path.into(), admin: Some(admin) }).await
    }

    /// Deletes a branch that stands where it was seen; git refuses if it was moved meanwhile.
    pub(crate) async fn delete_branch(
        &self,
        branch: &str,
        tip: &CommitId,
    ) -> Result<(), WorktreeError> {
        let name = names::head(branch);
        let delete = || self.git.call(["update-ref", "-d", &name, tip.as_str()]);
        self.past_locks(delete).await?.success().map(drop)
    }
}
