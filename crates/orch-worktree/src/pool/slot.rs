//! A place of the pool on disk.
//!
//! | file | what it says |
//! |---|---|
//! | `slot-1/` | the worktree |
//! | `slot-1.lock` | locked by whoever hands the place out or cleans it, and by the git that does so; never deleted |
//! | `slot-1.clean` | the tree is that of this commit, since this start of the machine |
//! | `<git folder>/orch-place` | to which path it is lent; what is in it is somebody's work |
//!
//! A place without the last two may hold anything: it is reset as a whole before it is used.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use orch_faults::point;
use orch_model::CommitId;

/// The names of places.
const PREFIX: &str = "slot-";

/// A place of the pool; while this lives nobody else takes, cleans or deletes it.
#[derive(Debug)]
pub(crate) struct Slot {
    folder: PathBuf,
    lock: File,
}

/// What the mark of a clean place says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clean {
    /// The commit that the tree is of.
    pub(crate) commit: CommitId,
    /// How much space the place takes, in bytes.
    pub(crate) bytes: u64,
    /// Since when.
    pub(crate) since: SystemTime,
}

impl Slot {
    /// Takes a place, by its folder; `None` where somebody else has it in hand.
    pub(crate) fn take(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.with_extension("lock");
        let lock = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { folder: folder.into(), lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The lock for a child process: until that has ended too, the place is taken.
    pub(crate) fn share(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// The mark of a clean place, if it is one.
    pub(crate) fn clean(&self) -> Option<Clean> {
        clean(&self.folder)
    }

    /// From now on the place may hold anything.
    pub(crate) fn unmark(&self) -> io::Result<()> {
        match point!("pool::unmark", fs::remove_file(mark(&self.folder))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The place is clean.
    pub(crate) fn mark(&self, commit: &CommitId, bytes: u64) -> io::Result<()> {
        let text = format!("{commit} {bytes} {}\n", boot());
        write_whole(&mark(&self.folder), &text, false)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // To close it is not enough while a process that is being started has it open.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, folder = %self.folder.display(), "can't unlock a place");
        }
    }
}

fn mark(folder: &Path) -> PathBuf {
    folder.with_extension("clean")
}

/// The mark of a clean place. One from before the machine was started anew counts for nothing:
/// nobody had synced the files.
pub(crate) fn clean(folder: &Path) -> Option<Clean> {
    let path = mark(folder);
    let text = fs::read_to_string(&path).ok()?;
    let mut words = text.split_whitespace();
    let (commit, bytes) = (CommitId::new(words.next()?), words.next()?.parse().ok()?);
    let boot = boot();
    let is_current = !boot.is_empty() && words.next() == Some(&boot);
    is_current.then_some(())?;
    Some(Clean { commit, bytes, since: fs::metadata(path).ok()?.modified().ok()? })
}

/// The folders of all places, also of those of which only a file is left, in order.
pub(crate) fn all(pool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pool).into_iter().flatten().filter_map(Result::ok);
    let number = |path: PathBuf| {
        let name = path.file_stem()?.to_str()?.strip_prefix(PREFIX)?.to_owned();
        name.parse::<u32>().ok()
    };
    let mut numbers: Vec<u32> = entries.filter_map(|entry| number(entry.path())).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().map(|number| at(pool, number)).collect()
}

/// The folder of a place.
pub(crate) fn at(pool: &Path, number: u32) -> PathBuf {
    pool.join(format!("{PREFIX}{number}"))
}

/// This start of the machine; empty where the system does not tell.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Writes a small file as a whole; `durable`: it survives a power cut.
pub(crate) fn write_whole(path: &Path, text: &str, durable: bool) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    point!(orch_faults::file_point("small::write", path), fs::write(&new, text))?;
    if durable {
        point!(orch_faults::file_point("small::sync", path), File::open(&new)?.sync_data())?;
    }
    point!(orch_faults::file_point("small::rename", path), fs::rename(&new, path))?;
    match path.parent() {
        Some(folder) if durable => {
            point!(
                orch_faults::file_point("small::folder.sync", path),
                File::open(folder)?.sync_all()
            )
        }
        _ => Ok(()),
    }
}

/// How much space a folder takes, in bytes. What vanishes meanwhile counts as nothing.
#[cfg(unix)]
pub(crate) fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    let mut left = vec![folder.to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * 512;
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_and_its_mark_is_of_this_boot() {
        let pool = tempfile::tempdir().unwrap();
        let folder = at(pool.path(), 1);
        let slot = Slot::take(&folder).unwrap().unwrap();
        assert!(Slot::take(&folder).unwrap().is_none());
        assert_eq!(slot.clean(), None);
        slot.mark(&CommitId::new("abc"), 7).unwrap();
        let clean = slot.clean().unwrap();
        assert_eq!((clean.commit.as_str(), clean.bytes), ("abc", 7));
        fs::write(mark(&folder), "abc 7 another-boot\n").unwrap();
        assert_eq!(slot.clean(), None);
        slot.unmark().unwrap();
        slot.unmark().unwrap();
        drop(slot);
        assert!(Slot::take(&folder).unwrap().is_some());
        assert_eq!(all(pool.path()), [folder]);
    }

    #[test]
    fn the_size_counts_what_is_below() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/file"), vec![1; 100_000]).unwrap();
        assert!(size_of(folder.path()) >= 100_000);
        assert_eq!(size_of(Path::new("/nonexistent")), 0);
    }
}
