//! Versions that programs have told, kept so that a program is asked once: to start one for its version alone
//! takes up to seconds.
//!
//! A program is the same as long as each of its files is: the place that its name leads to, its inode, its size, and
//! when it was changed last, by its content or by its entry (`ctime`: package managers date content back).

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::adapter::Version;

/// The version of the format.
const V: u32 = 1;

/// How many programs are kept.
const MOST: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    v: u32,
    programs: BTreeMap<String, Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    files: Vec<Stamp>,
    version: (u64, u64, u64),
}

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let it = path.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            inode: it.ino(),
            size: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
            path,
        })
    }
}

/// A program as it is now.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    files: Vec<Stamp>,
}

impl Program {
    /// The program at `path` with these arguments, of which those that are files belong to it. `None` where it is
    /// no file.
    pub(super) fn of(path: &Path, args: &[String]) -> Option<Self> {
        let mut files = vec![Stamp::of(path)?];
        files.extend(
            args.iter()
                .filter(|arg| arg.starts_with('/'))
                .filter_map(|arg| Stamp::of(arg.as_ref())),
        );
        let mut words = vec![files[0].path.to_string_lossy().into_owned()];
        words.extend_from_slice(args);
        Some(Self { name: words.join(" "), files })
    }

    /// The version that it told, where it is the same still.
    pub(super) fn version(&self, file: &Path) -> Option<Version> {
        let kept = read(file)?.programs.remove(&self.name)?;
        let (major, minor, patch) = kept.version;
        (kept.files == self.files).then_some(Version(major, minor, patch))
    }

    /// Keeps what it told. Whoever writes at the same time may be forgotten: it is asked again.
    ///
    /// # Errors
    /// Where it can't be written.
    pub(super) fn keep(self, version: Version, file: &Path) -> io::Result<()> {
        let mut document = read(file).unwrap_or(Document { v: V, programs: BTreeMap::new() });
        document.programs.retain(|_, kept| kept.files.iter().all(|it| it.path.exists()));
        while document.programs.len() >= MOST {
            document.programs.pop_first();
        }
        let Version(major, minor, patch) = version;
        let kept = Kept { files: self.files, version: (major, minor, patch) };
        document.programs.insert(self.name, kept);
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let new = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&new, &document)?;
        new.persist(file)?;
        Ok(())
    }
}

/// What is kept; `None` where there is nothing that can be read.
fn read(file: &Path) -> Option<Document> {
    let document: Document = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (document.v == V).then_some(document)
}

/// The file below the user's folder for caches; `None` where there is no such folder.
pub(super) fn file(home: &Path, cache: Option<&str>) -> Option<PathBuf> {
    let folder = match cache.filter(|folder| folder.starts_with('/')) {
        Some(folder) => PathBuf::from(folder),
        None if home.is_absolute() && home.is_dir() => home.join(".cache"),
        None => return None,
    };
    Some(folder.join("orch/agents.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_changed_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = (folder.path().join("cache/agents.json"), folder.path().join("agent"));
        let script = folder.path().join("agent.js");
        let args = [script.to_string_lossy().into_owned(), "--acp".to_owned()];
        let program = |args: &[String]| Program::of(&path, args).unwrap();
        assert!(Program::of(&path, &[]).is_none());
        fs::write(&path, "one").unwrap();
        fs::write(&script, "one").unwrap();
        assert_eq!(program(&args).version(&file), None);
        program(&args).keep(Version(1, 2, 3), &file).unwrap();
        assert_eq!(program(&args).version(&file), Some(Version(1, 2, 3)));
        assert_eq!(program(&[]).version(&file), None, "with other arguments it may be another");

        // Another file under its name, of the same size and date.
        let date = fs::metadata(&script).unwrap().modified().unwrap();
        let new = folder.path().join("new");
        fs::write(&new, "two").unwrap();
        fs::File::open(&new).unwrap().set_modified(date).unwrap();
        fs::rename(new, &script).unwrap();
        assert_eq!(program(&args).version(&file), None);

        fs::write(&file, "{").unwrap();
        assert_eq!(program(&args).version(&file), None, "damage is no version");
        program(&args).keep(Version(1, 2, 4), &file).unwrap();
        assert_eq!(program(&args).version(&file), Some(Version(1, 2, 4)));
    }

    #[test]
    fn it_is_in_the_folder_for_caches() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let below_home = Some(home.join(".cache/orch/agents.json"));
        assert_eq!(file(home, None), below_home);
        assert_eq!(file(home, Some("c")), below_home);
        assert_eq!(file(home, Some("/var/c")), Some("/var/c/orch/agents.json".into()));
        assert_eq!(file(&home.join("none"), None), None, "nobody makes a home");
        assert_eq!(file(Path::new(""), None), None);
    }
}
