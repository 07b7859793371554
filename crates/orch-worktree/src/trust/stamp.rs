//! Whether files are the same and unchanged, without reading them.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A file that was changed so short a time before it was looked at may be changed once more without
/// another time stamp: the clock of file systems ticks every 1 to 10 ms.
const TICK: Duration = Duration::from_millis(50);

/// Inode, size, rights and times of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    files: Vec<(PathBuf, [Option<Trait>; 2])>,
    /// Whether each of them had been left alone for long enough.
    settled: bool,
}

/// What tells one state of a file from another. Unlike the time of modification, that of change
/// can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trait {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    changed: (i64, i64),
}

impl From<Metadata> for Trait {
    fn from(meta: Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mode: meta.mode(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Stamp {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let files: Vec<_> = files
            .iter()
            .map(|path| {
                // A link counts, and what it leads to.
                let both = [fs::symlink_metadata(path), fs::metadata(path)];
                (path.clone(), both.map(|meta| meta.ok().map(Trait::from)))
            })
            .collect();
        let age = |(seconds, nanos): (i64, i64)| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            now.checked_sub(Duration::new(seconds, u32::try_from(nanos).unwrap_or(0)))
        };
        let mut all = files.iter().flat_map(|(_, both)| both.iter().flatten());
        let settled = all.all(|file| age(file.changed).is_some_and(|age| age > TICK));
        Self { files, settled }
    }

    /// The same with further files.
    pub(super) fn with(self, more: &[PathBuf]) -> Self {
        let more = Self::of(more);
        let files = self.files.into_iter().chain(more.files).collect();
        Self { files, settled: self.settled && more.settled }
    }

    /// Whether these files, in this order, are still the same.
    pub(super) fn holds(&self, files: &[PathBuf]) -> bool {
        self.settled && self.files == Self::of(files).files
    }
}

/// What a file is, for a person: `executable file`, `link to X`.
pub(super) fn kind(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            let to = fs::read_link(path).unwrap_or_default();
            format!("link to {}", to.display())
        }
        Ok(meta) if meta.is_dir() => "folder".into(),
        Ok(meta) if meta.mode() & 0o111 != 0 => "executable file".into(),
        Ok(_) => "file".into(),
        Err(_) => "nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_keeps_size_and_time_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let files = [path.clone(), folder.path().join("missing")];
        fs::write(&path, "one").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let fresh = Stamp::of(&files);
        assert!(!fresh.holds(&files), "it may change within the same tick");
        let old = Stamp { settled: true, ..fresh };
        assert!(old.holds(&files));
        // Until the clock of the file system has moved on.
        while Stamp::of(&files).files == old.files {
            fs::write(&path, "two").unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
        }
        assert!(!old.holds(&files));
        assert_eq!(kind(&path), "file");
    }
}
