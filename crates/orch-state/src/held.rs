//! A file lock together with the file that it is on.
//!
//! The guard of `fd-lock` borrows its lock, so the two can't simply stand in one struct. Leaking
//! the guard would be wrong: its drop is what unlocks explicitly. A lock that ends only by closing
//! the file outlives it for as long as some child process, forked at that moment by another thread,
//! still has a copy of the descriptor, and the next attempt then fails for no reason.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
};

use fd_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustix::{fs::OFlags, io::Errno};
use self_cell::{MutBorrow, self_cell};

/// Opens a file to be locked, and makes it if it is not there. A symbolic link in its place is
/// refused: it would let whoever made it choose which file is written to. Users who share a repository
/// by a group, with a umask to match, share the file.
pub(crate) fn open_lock_file(path: &Path, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    orch_faults::step("held::open")?;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::from_raw_mode(0o666))?.into())
}

/// As [`open_lock_file`], for a file of a folder that users may share: who may write to the folder may write to
/// the file, whatever the umask of the one who made it.
///
/// It is opened without `O_CREAT` where it is there: where `fs.protected_regular` is set, the kernel refuses that
/// for the file of another user in a folder with the sticky bit.
pub(crate) fn open_shared_file(path: &Path, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        orch_faults::step("held::open")?;
        match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?.into()),
        }
        // With its mode before it has its name: nobody finds one that is not open to him yet.
        let folder = path.parent().unwrap_or(path);
        let file = tempfile::Builder::new().prefix(NEW).tempfile_in(folder)?;
        share(file.as_file(), folder)?;
        let persist = || file.persist_noclobber(path).map_err(|error| error.error);
        match orch_faults::point!("locks::file.make", persist()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}

/// What a file is called before it has its name.
const NEW: &str = "@new.";

/// Gives a file of this user to those who may write to its folder.
pub(crate) fn share(file: &File, folder: &Path) -> io::Result<()> {
    let of_folder = fs::metadata(folder)?;
    let granted = of_folder.mode() & 0o066;
    // Where the folder does not hand its group on (setgid), and this user is not of that group, others of the
    // group are told what is wrong.
    if granted & 0o060 != 0 && file.metadata()?.gid() != of_folder.gid() {
        let _ = fchown(file, None, Some(of_folder.gid()));
    }
    // Whoever writes reads first.
    let mode = 0o600 | granted | (granted & 0o022) << 1;
    file.set_permissions(fs::Permissions::from_mode(mode))
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
        orch_faults::step("held::lock")?;
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
