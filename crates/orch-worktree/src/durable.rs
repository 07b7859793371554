//! Makes objects survive a power cut before anybody relies on them.
//!
//! By default git syncs no loose object (`core.fsync`), so after a power cut the tip of a branch
//! may name a commit that can't be read. Agents commit with the settings of the user; what they
//! wrote is synced here, once per attempt: the objects between the base and the tip, and the
//! folders that name them. The engine's own merges ask git itself to sync what they write, see
//! [`Call::durable`](crate::git::Call::durable).

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::PoisonError,
};

use orch_faults::{planted, point};
use orch_model::{CommitId, ports::WorktreeError};

use crate::{error::io_error, repo::Repo};

/// From how many objects on the whole file system is synced instead: each sync of a file waits for
/// the disk, and that of the file system waits once for all.
const MANY: usize = 256;

impl Repo {
    /// Syncs the objects that a commit has and another one does not have.
    pub(crate) async fn sync_objects(
        &self,
        tip: &CommitId,
        known: &CommitId,
    ) -> Result<(), WorktreeError> {
        if planted("objects-not-synced") {
            return Ok(());
        }
        let range = [tip.as_str(), "--not", known.as_str(), "--"];
        let arguments = ["rev-list", "--objects", "--no-object-names"].into_iter().chain(range);
        let list = self.git.line(arguments).await?;
        let store = self.checkouts.common().join("objects");
        let synced = self.packs_synced();
        let sync = move || point!("durable::objects.sync", sync(&store, &list, &synced));
        let packs = tokio::task::spawn_blocking(sync).await;
        let packs = match packs {
            Ok(result) => result.map_err(io_error(format!("syncing the objects of {tip}")))?,
            Err(stopped) => return Err(WorktreeError::Other { source: stopped.into() }),
        };
        self.packs.lock().unwrap_or_else(PoisonError::into_inner).extend(packs);
        Ok(())
    }

    /// Syncs a reference that others wrote, where it lies in a file of its own.
    pub(crate) fn sync_ref(&self, name: &str) -> Result<(), WorktreeError> {
        let file = self.checkouts.common().join(name);
        point!("durable::ref.sync", sync_if_there(&file))
            .map_err(io_error(format!("syncing {name}")))
    }

    fn packs_synced(&self) -> HashSet<PathBuf> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Syncs objects, given one a line; the packs that were synced because of those that are in one.
fn sync(store: &Path, list: &str, synced: &HashSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let objects: Vec<(&str, &str)> = list.lines().filter_map(|id| id.split_at_checked(2)).collect();
    if objects.len() > MANY {
        rustix::fs::syncfs(File::open(store)?)?;
        return Ok(Vec::new());
    }
    let mut folders = BTreeSet::new();
    let mut is_packed = false;
    for (folder, name) in objects {
        let folder = store.join(folder);
        match File::open(folder.join(name)) {
            Ok(file) => {
                if file.metadata()?.len() == 0 {
                    let error = format!("object {name} in {} is empty", folder.display());
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
                file.sync_data()?;
                folders.insert(folder);
            }
            // In a pack, perhaps since a moment ago, or in an alternate, which is not ours.
            Err(error) if error.kind() == ErrorKind::NotFound => is_packed = true,
            Err(error) => return Err(error),
        }
    }
    let mut packs = Vec::new();
    if is_packed {
        packs = new_packs(&store.join("pack"), synced)?;
        for pack in &packs {
            sync_if_there(pack)?;
        }
        if !packs.is_empty() {
            folders.insert(store.join("pack"));
        }
    }
    if !folders.is_empty() {
        folders.insert(store.to_path_buf());
    }
    for folder in folders {
        sync_if_there(&folder)?;
    }
    Ok(packs)
}

fn new_packs(folder: &Path, synced: &HashSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let is_pack =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "pack" || end == "idx");
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.filter(|path| path.as_ref().map_or(true, |p| is_pack(p) && !synced.contains(p))).collect()
}

/// Repacking takes files away, whose objects are synced in another pack then.
fn sync_if_there(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        // Also where references are no files: `refs/heads` is none in a reftable repository.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_objects_packs_and_what_is_gone() {
        let store = tempfile::tempdir().unwrap();
        let store = store.path();
        let none = HashSet::new();
        assert_eq!(sync(store, "", &none).unwrap(), Vec::<PathBuf>::new());
        fs::create_dir_all(store.join("ab")).unwrap();
        fs::write(store.join("ab/cdef"), "object").unwrap();
        assert_eq!(sync(store, "abcdef\n", &none).unwrap(), Vec::<PathBuf>::new());
        // No pack, and no folder of packs.
        assert_eq!(sync(store, "012345\n", &none).unwrap(), Vec::<PathBuf>::new());
        fs::create_dir(store.join("pack")).unwrap();
        for name in ["a.pack", "a.idx", "a.keep"] {
            fs::write(store.join("pack").join(name), "").unwrap();
        }
        let mut packs = sync(store, "abcdef\n012345\n", &none).unwrap();
        packs.sort();
        assert_eq!(packs, [store.join("pack/a.idx"), store.join("pack/a.pack")]);
        let synced = packs.into_iter().collect();
        assert_eq!(sync(store, "012345\n", &synced).unwrap(), Vec::<PathBuf>::new());
        // Where an object is a folder, for one.
        fs::create_dir_all(store.join("ff/00")).unwrap();
        let many: String = (0..=MANY).map(|n| format!("{n:06x}\n")).collect();
        assert_eq!(sync(store, &many, &synced).unwrap(), Vec::<PathBuf>::new());
        assert!(sync(&store.join("absent"), &many, &synced).is_err());
    }
}
