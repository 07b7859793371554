//! What a checkout holds, byte for byte.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt, fs,
    hash::{Hash, Hasher},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::SystemTime,
};

use crate::TestRepo;

/// Everything of a checkout that its user could notice a change of: each file's bytes, mode and
/// time of change, untracked and ignored ones too; the index as a file; the branch and its tip;
/// what `git status` says. Of `.git` only the index, of `.orch` nothing.
///
/// Two of them are compared with `assert_eq!`, which prints where they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    head: String,
    commit: String,
    status: Vec<String>,
    index: Bytes,
    staged: Vec<String>,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    modified: SystemTime,
    content: Bytes,
}

/// Content, known by its hash and printed by its beginning.
#[derive(Clone, PartialEq, Eq)]
struct Bytes {
    hash: u64,
    length: usize,
    beginning: String,
}

impl Checkout {
    pub(crate) fn of(repo: &TestRepo) -> Self {
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        // Without optional locks git does not write the index to note what it found out.
        let status = repo.git(["--no-optional-locks", "status", "--porcelain=v2", "--ignored"]);
        let mut files = BTreeMap::new();
        walk(repo.path(), repo.path(), &mut files);
        Self {
            head: repo.git(["symbolic-ref", "-q", "HEAD"]),
            commit: repo.git(["rev-parse", "HEAD"]),
            status: status.lines().filter(|l| !l.contains(".orch")).map(str::to_owned).collect(),
            index: Bytes::of(&fs::read(repo.path().join(".git/index")).unwrap_or_default()),
            staged: lines(repo.git(["ls-files", "--stage"])),
            files,
        }
    }

    /// The hash of all of it.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }

    /// The paths of all files, relative to the top folder.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

impl Bytes {
    fn of(content: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let beginning = &content[..content.len().min(40)];
        Self {
            hash: hasher.finish(),
            length: content.len(),
            beginning: String::from_utf8_lossy(beginning).into_owned(),
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes #{:016x} {:?}", self.length, self.hash, self.beginning)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        write!(f, "{:o} @{} {:?}", self.mode, since.as_nanos(), self.content)
    }
}

fn walk(top: &Path, folder: &Path, files: &mut BTreeMap<String, Entry>) {
    for entry in fs::read_dir(folder).expect("a folder of the checkout can be read") {
        let path = entry.expect("an entry of the checkout can be read").path();
        if folder == top && (path.ends_with(".git") || path.ends_with(".orch")) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).expect("a file of the checkout can be read");
        if metadata.is_dir() {
            walk(top, &path, files);
            continue;
        }
        let content = if metadata.is_symlink() {
            fs::read_link(&path).map(|to| to.into_os_string().into_encoded_bytes())
        } else if metadata.is_file() {
            fs::read(&path)
        } else {
            Ok(metadata.rdev().to_le_bytes().into())
        };
        let content = content.expect("a file of the checkout can be read");
        let name = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
        files.insert(
            name,
            Entry {
                mode: metadata.permissions().mode(),
                modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                content: Bytes::of(&content),
            },
        );
    }
}
