//! Whether a worktree is where it was made, and leads to its own git folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orch_model::ports::WorktreeError;

use crate::{
    checkouts::PLACE,
    error::io_error,
    repo::Repo,
    settings::{self, Scope},
};

use super::{keys, value};

impl Repo {
    /// Refuses a place that a folder above it leads elsewhere from: the root is known without symbolic
    /// links.
    pub(crate) fn refuse_detour(&self, path: &Path) -> Result<(), WorktreeError> {
        match self.detour(path) {
            None => Ok(()),
            Some(change) => Err(WorktreeError::Tampered { changes: vec![change] }),
        }
    }

    fn detour(&self, path: &Path) -> Option<String> {
        let parents = path.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.root));
        let parents: Vec<&Path> = parents.collect();
        let is_link = |path: &&&Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        parents.iter().rev().find(is_link).map(|parent| {
            let to = fs::read_link(parent).unwrap_or_default();
            format!("{}: it is a symbolic link now, to `{}`", parent.display(), to.display())
        })
    }

    /// What of a worktree leads elsewhere, each as a sentence for a person.
    pub(crate) fn misled(&self, path: &Path, admin: &Path) -> Vec<String> {
        let mut changes: Vec<String> = self.detour(path).into_iter().collect();
        let mut differs = |file: PathBuf, what: String| {
            changes.push(format!("{}: {what}", file.display()));
        };
        let meta = fs::symlink_metadata(path);
        let folder = match &meta {
            Ok(meta) if meta.is_symlink() => self.lent(path, admin),
            Ok(meta) if meta.is_dir() => Some(path.to_path_buf()),
            // Nothing is there that could lead anywhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return changes,
            _ => None,
        };
        let Some(folder) = folder else {
            differs(path.into(), "it is not the folder that was made any more".into());
            return changes;
        };
        let common = self.checkouts.common();
        let is_own = |found: &Path, expected: &Path| {
            found.canonicalize().is_ok_and(|found| found == expected)
        };
        if !is_own(admin, admin) {
            differs(admin.into(), "it is not the worktree's git folder any more".into());
            return changes;
        }
        if let Some(file) = self.overlay.foreign_layers(admin) {
            differs(file, "it names layers that are not the engine's".into());
        }
        let link = folder.join(".git");
        let is_file = fs::symlink_metadata(&link).is_ok_and(|meta| meta.is_file());
        let text = fs::read_to_string(&link).unwrap_or_default();
        let to = text.strip_prefix("gitdir:").map(|to| folder.join(to.trim()));
        if !is_file || !to.is_some_and(|to| is_own(&to, admin)) {
            let what = if is_file { value(&text) } else { super::stamp::kind(&link) };
            differs(link, format!("it has to lead to {} and is {what}", admin.display()));
        }
        let read = |name: &str| fs::read_to_string(admin.join(name)).unwrap_or_default();
        let text = read("commondir");
        if !is_own(&admin.join(text.trim_end_matches('\n')), common) {
            let what = format!("it has to lead to {} and is {}", common.display(), value(&text));
            differs(admin.join("commondir"), what);
        }
        if self.checkouts.folder_of(admin).as_deref() != Some(&*folder) {
            let (expected, is) = (folder.join(".git"), value(&read("gitdir")));
            let what = format!("it has to name {} and is {is}", expected.display());
            differs(admin.join("gitdir"), what);
        }
        changes
    }

    /// The folder of the pool that a worktree is lent from.
    fn lent(&self, path: &Path, admin: &Path) -> Option<PathBuf> {
        let folder = fs::read_link(path).ok()?;
        let place = fs::read_to_string(admin.join(PLACE)).ok()?;
        let is_lent = folder.parent() == Some(&*self.pool.folder)
            && folder.canonicalize().is_ok_and(|found| found == folder)
            && Path::new(place.trim_end_matches('\n')) == path;
        is_lent.then_some(folder)
    }

    /// What a worktree's own settings say that those of the repository don't and that matters.
    pub(crate) async fn own_settings(&self, admin: &Path) -> Result<Vec<String>, WorktreeError> {
        let file = admin.join("config.worktree");
        let read = |path: &Path| match fs::read(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(format!("reading {}", path.display()))(error))
            }
            read => Ok(read.unwrap_or_default()),
        };
        let own = read(&file)?;
        if own.is_empty() || own == read(&self.top_admin.join("config.worktree"))? {
            return Ok(Vec::new());
        }
        let ours = settings::read(&self.git, &self.top_admin).await?.unwrap_or_default();
        let theirs = match settings::read(&self.git, admin).await? {
            Ok(theirs) => theirs,
            Err(complaint) => {
                return Ok(vec![format!("{}: git can't read it: {complaint}", file.display())]);
            }
        };
        let is_known = |key: &str, value: &str| {
            ours.iter().any(|entry| entry.key == key && entry.value == value)
        };
        Ok(theirs
            .iter()
            .filter(|e| e.scope == Scope::Repository && keys::matters(&e.key, &e.value))
            .filter(|e| !is_known(&e.key, &e.value))
            .map(|e| format!("{}: `{}` is new: {}", e.file.display(), e.key, value(&e.value)))
            .collect())
    }
}
