//! A file lock together with the file that it is on.
//!
//! The guard of `fd-lock` borrows its lock, so the two can't simply stand in one struct. Leaking
//! the guard would be wrong: its drop is what unlocks explicitly. A lock that ends only by closing
//! the file outlives it for as long as some child process, forked at that moment by another thread,
//! still has a copy of the descriptor, and the next attempt then fails for no reason.

use std::{fs::File, io, path::Path};

use fd_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::fs::OFlags;
use self_cell::{MutBorrow, self_cell};

/// Opens a file to be locked, and makes it if it is not there. A symbolic link in its place is
/// refused: it would let whoever made it choose which file is written to. Users who share a repository
/// by a group, with a umask to match, share the file.
pub(crate) fn open_lock_file(path: &Path, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::from_raw_mode(0o666))?.into())
}

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

type Lock = MutBorrow<RwLock<File>>;

enum Guard<'lock> {
    Shared(RwLockReadGuard<'lock, File>),
    Exclusive(RwLockWriteGuard<'lock, File>),
}

self_cell! {
    struct Cell {
        owner: Lock,
        #[not_covariant]
        dependent: Guard,
    }
}

/// A file that is locked until this is dropped: first unlocked, then closed.
pub(crate) struct HeldFile(Cell);

impl HeldFile {
    /// Locks an open file, or gives `None` where somebody else holds it. Locks belong to the open
    /// file description: two of one process exclude each other as those of two processes do.
    pub(crate) fn try_lock(file: File, mode: Mode) -> io::Result<Option<Self>> {
        let cell = Cell::try_new(MutBorrow::new(RwLock::new(file)), |lock| {
            let lock = lock.borrow_mut();
            match mode {
                Mode::Shared => lock.try_read().map(Guard::Shared),
                Mode::Exclusive => lock.try_write().map(Guard::Exclusive),
            }
        });
        match cell {
            Ok(cell) => Ok(Some(Self(cell))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does something with the locked file.
    pub(crate) fn with_file<T>(&self, act: impl FnOnce(&File) -> T) -> T {
        self.0.with_dependent(|_, guard| match guard {
            Guard::Shared(file) => act(file),
            Guard::Exclusive(file) => act(file),
        })
    }
}

impl std::fmt::Debug for HeldFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.with_file(|file| f.debug_tuple("HeldFile").field(file).finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_exclusive_holders_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lock = |mode| HeldFile::try_lock(file.reopen().unwrap(), mode).unwrap();

        let first = lock(Mode::Shared).unwrap();
        let second = lock(Mode::Shared).unwrap();
        assert!(lock(Mode::Exclusive).is_none());
        drop((first, second));
        let alone = lock(Mode::Exclusive).unwrap();
        assert!(lock(Mode::Shared).is_none());
        assert!(lock(Mode::Exclusive).is_none());
        assert!(format!("{alone:?}").starts_with("HeldFile("));
        drop(alone);
        assert!(lock(Mode::Exclusive).is_some());
    }

    #[test]
    fn dropping_unlocks_even_while_a_copy_of_the_descriptor_is_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ours = file.reopen().unwrap();
        let copy = ours.try_clone().unwrap();
        drop(HeldFile::try_lock(ours, Mode::Exclusive).unwrap().unwrap());
        assert!(HeldFile::try_lock(file.reopen().unwrap(), Mode::Exclusive).unwrap().is_some());
        drop(copy);
    }
}
