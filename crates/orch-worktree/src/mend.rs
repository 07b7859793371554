//! What a power cut leaves of a worktree in which an agent was at work: nobody had synced its
//! branch, its index or its objects. None of that was ever recorded as done.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orch_model::ports::WorktreeError;

use crate::{error::io_error, names, preserve::Site, repo::Repo};

impl Repo {
    /// Takes a task's branch away if it names nothing that can be read, so that it can be made
    /// anew. Whether it did.
    pub(crate) async fn drop_unreadable(&self, branch: &str) -> Result<bool, WorktreeError> {
        let name = names::head(branch);
        let file = self.checkouts.common().join(&name);
        if !file.is_file() {
            return Ok(false);
        }
        let answer =
            self.git.call(["cat-file", "-e", &format!("{name}^{{tree}}")]).answer().await?;
        if answer.code == Some(0) {
            return Ok(false);
        }
        let value = fs::read(&file).unwrap_or_default();
        let value = String::from_utf8_lossy(&value).trim().escape_debug().to_string();
        tracing::warn!(branch, value, "a branch that names no commit that can be read is removed");
        // Git itself refuses to delete a reference that it can't read.
        fs::remove_file(&file).map_err(io_error(format!("removing {}", file.display())))?;
        Ok(true)
    }

    /// Removes loose objects without content. No git makes such a file; a power cut does, of one
    /// that was not synced. Git takes it for the object, so that a repetition of the work would
    /// not write the object again.
    pub(crate) fn drop_empty_objects(&self) -> Result<(), WorktreeError> {
        let store = self.checkouts.common().join("objects");
        let doing = || format!("looking for empty objects in {}", store.display());
        for folder in fs::read_dir(&store).map_err(io_error(doing()))? {
            let folder = folder.map_err(io_error(doing()))?;
            if folder.file_name().len() != 2 {
                continue;
            }
            for object in fs::read_dir(folder.path()).map_err(io_error(doing()))? {
                let object = object.map_err(io_error(doing()))?;
                let is_empty = object.metadata().is_ok_and(|m| m.is_file() && m.len() == 0);
                // What is being written has another name until it is whole.
                if is_empty && !object.file_name().to_string_lossy().starts_with("tmp_") {
                    let path = object.path();
                    tracing::warn!(path = %path.display(), "removed an object that a power cut had emptied");
                    fs::remove_file(&path)
                        .map_err(io_error(format!("removing {}", path.display())))?;
                }
            }
        }
        Ok(())
    }

    /// Moves the folder of a worktree that git can't read out of the way: what is in it stays,
    /// beside its place.
    pub(crate) async fn give_up(
        &self,
        site: &Site,
        why: &WorktreeError,
    ) -> Result<(), WorktreeError> {
        tracing::warn!(path = %site.path.display(), %why, "a worktree can't be read");
        if let Some(admin) = &site.admin {
            self.overlay.put_aside(&site.path, admin)?;
        }
        let lent = site.admin.as_ref().and_then(|admin| self.checkouts.folder_of(admin));
        let is_lent = |folder: &PathBuf| folder.parent() == Some(&*self.pool.folder);
        match lent.filter(|folder| is_lent(folder) && folder.is_dir() && !folder.is_symlink()) {
            Some(folder) => move_aside(&folder, &site.path)?,
            None => set_aside(&site.path)?,
        }
        self.remove(site).await
    }
}

/// Files that belong to no worktree of this repository are not known to be anywhere else: they
/// are moved out of the way, beside the place where they were.
pub(crate) fn set_aside(path: &Path) -> Result<(), WorktreeError> {
    let doing = format!("moving {} out of the way", path.display());
    if path.is_symlink() {
        // Of a worktree that is not lent under this path any more. A link holds no work.
        return fs::remove_file(path).map_err(io_error(doing));
    }
    let empty = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(_) => false,
    };
    if empty || !path.exists() {
        return Ok(());
    }
    move_aside(path, path)
}

/// Moves a folder to a free name beside a path.
pub(crate) fn move_aside(folder: &Path, path: &Path) -> Result<(), WorktreeError> {
    let doing = format!("moving {} out of the way", folder.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (1..)
        .map(|n| path.with_file_name(format!("{name}.found-{n}")))
        .find(|aside| !aside.exists())
        .unwrap_or_default();
    tracing::warn!(path = %path.display(), aside = %free.display(), "files in the place of a worktree are moved");
    fs::rename(folder, free).map_err(io_error(doing))
}
