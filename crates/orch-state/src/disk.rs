//! Making files in such a way that they are there after a power cut.
//!
//! A new name is durable only once its folder was synced, and a replaced file is whole only if its
//! content was synced before the rename. See "All File Systems Are Not Created Equal" (Pillai et
//! al., OSDI 2014).

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use orch_faults::{planted, point};
use orch_model::ports::StoreError;
use tempfile::NamedTempFile;

/// What the names of half-written files begin with.
const TEMPORARY: &str = ".orch-tmp-";

/// Names the file and the deed in an error.
pub(crate) fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { path, doing, source }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    if planted("no-folder-sync") {
        return Ok(());
    }
    let synced = point!("disk::folder.sync", File::open(path).and_then(|dir| dir.sync_all()));
    synced.map_err(io_error(path, "syncing the folder"))
}

/// Makes a folder, if it is not there, and its name durable. Its parent must be there.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    match point!("disk::folder.make", fs::create_dir(path)) {
        Ok(()) => sync_dir(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(io_error(path, "making the folder")(error)),
    }
}

/// Replaces a file as a whole: whoever reads it sees the old or the new content, also after a
/// power cut.
///
/// The temporary file is made in `temporaries`, a folder of the same file system that only the
/// caller writes in. When it is whole, `is_wanted` decides whether it takes the place of the file.
pub(crate) fn replace(
    path: &Path,
    temporaries: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    is_wanted: impl FnOnce() -> bool,
) -> Result<(), StoreError> {
    let file = write_temporary(path, temporaries, write)?;
    if !is_wanted() {
        return Ok(());
    }
    let persist = || file.persist(path).map_err(|error| error.error);
    point!(orch_faults::file_point("disk::replace", path), persist())
        .map_err(io_error(path, "putting the file in place"))?;
    sync_dir(parent(path))
}

/// Makes a file that is there as a whole or not at all; `false` where there is one of that name.
/// `temporaries` as for [`replace`].
pub(crate) fn create(path: &Path, temporaries: &Path, content: &[u8]) -> Result<bool, StoreError> {
    let file = write_temporary(path, temporaries, |file| file.write_all(content))?;
    let persist = || file.persist_noclobber(path).map_err(|error| error.error);
    match point!(orch_faults::file_point("disk::create", path), persist()) {
        Ok(_) => sync_dir(parent(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error(path, "putting the file in place")(error)),
    }
}

/// What is in a folder; nothing where there is no folder.
pub(crate) fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    match fs::read_dir(dir).and_then(Iterator::collect) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(io_error(dir, "listing the folder")),
    }
}

/// What writers that died left half-written in a folder, where nobody is writing now.
pub(crate) fn temporaries(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let is_one = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(TEMPORARY);
    Ok(entries(dir)?.iter().filter(|entry| is_one(entry)).map(fs::DirEntry::path).collect())
}

/// Removes what writers that died left half-written. Nobody may be writing in the folder.
pub(crate) fn remove_temporaries(dir: &Path) {
    for path in temporaries(dir).unwrap_or_default() {
        if let Err(error) = point!("disk::temporary.remove", fs::remove_file(&path)) {
            tracing::debug!(path = %path.display(), %error, "a temporary file stays");
        }
    }
}

fn write_temporary(
    path: &Path,
    folder: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<NamedTempFile, StoreError> {
    let make = || {
        let file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(folder)?;
        let mut buffered = BufWriter::new(file);
        point!(orch_faults::file_point("disk::write", path), write(&mut buffered))?;
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        if !planted("no-file-sync") {
            point!(orch_faults::file_point("disk::sync", path), file.as_file().sync_all())?;
        }
        Ok(file)
    };
    make().map_err(io_error(path, "writing a temporary file for it"))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_once_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(create(&path, dir.path(), b"one").unwrap());
        assert!(!create(&path, dir.path(), b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, dir.path(), |file| file.write_all(b"two"), || false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one", "it was not wanted any more");
        replace(&path, dir.path(), |file| file.write_all(b"three"), || true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("{TEMPORARY}x")), "half").unwrap();
        fs::write(dir.path().join("kept"), "").unwrap();
        remove_temporaries(dir.path());
        remove_temporaries(&dir.path().join("absent"));
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent/file");
        for error in [
            create(&absent, parent(&absent), b"").unwrap_err(),
            replace(&absent, parent(&absent), |_| Ok(()), || true).unwrap_err(),
            create_dir(&absent).unwrap_err(),
            sync_dir(&absent).unwrap_err(),
        ] {
            assert!(error.to_string().contains("absent/file"), "{error}");
        }
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(create_dir(&file).is_err(), "a file is not a folder");
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(replace(&dir.path().join("dir"), dir.path(), |_| Ok(()), || true).is_err());
    }
}
