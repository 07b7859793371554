//! Which branches are checked out where, read from the files of the repository without starting
//! git: `<common>/HEAD` and `<common>/worktrees/*/HEAD` are exact, except with the reftable
//! backend, where git is asked.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use orch_model::ports::WorktreeError;

use crate::{git::Git, names::HEADS, parse};

/// A work tree of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// The folder.
    pub(crate) path: PathBuf,
    /// Its git folder.
    pub(crate) admin: PathBuf,
    /// The branch that is checked out, by its whole name.
    pub(crate) branch: Option<String>,
}

impl Checkout {
    /// Whether a branch, given by its whole name, must not be moved under this checkout: it is
    /// checked out, or being rebased.
    pub(crate) fn holds(&self, reference: &str) -> bool {
        self.branch.as_deref() == Some(reference)
            || ["rebase-merge/head-name", "rebase-apply/head-name"].iter().any(|file| {
                fs::read_to_string(self.admin.join(file)).is_ok_and(|name| name.trim() == reference)
            })
    }
}

/// The file in a worktree's git folder that says under which path it is lent to a task, where that is
/// another than its own.
pub(crate) const PLACE: &str = "orch-place";

/// What was begun in a work tree and not finished, for a person.
pub(crate) fn in_progress(admin: &Path) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("MERGE_HEAD", "a merge"),
        ("rebase-merge", "a rebase"),
        ("rebase-apply", "a rebase"),
        ("CHERRY_PICK_HEAD", "a cherry-pick"),
        ("REVERT_HEAD", "a revert"),
        ("sequencer", "a cherry-pick or revert"),
    ];
    SIGNS.iter().find(|(file, _)| admin.join(file).exists()).map(|(_, what)| *what)
}

/// Reads the work trees of a repository.
#[derive(Debug)]
pub(crate) struct Checkouts {
    common: PathBuf,
    /// The main work tree; `None` in a bare repository.
    main: Option<PathBuf>,
    reftable: bool,
}

impl Checkouts {
    pub(crate) fn new(common: &Path, main: Option<PathBuf>) -> Self {
        Self { common: common.into(), main, reftable: common.join("reftable").is_dir() }
    }

    /// The git folder that all work trees share.
    pub(crate) fn common(&self) -> &Path {
        &self.common
    }

    /// All work trees, the main one first.
    pub(crate) async fn all(&self, git: &Git) -> Result<Vec<Checkout>, WorktreeError> {
        let listed: HashMap<PathBuf, Option<String>> = if self.reftable {
            let list = git.plain().run(["worktree", "list", "--porcelain", "-z"]).await?;
            parse::worktrees(&list).into_iter().map(|(path, b)| (path.into(), b)).collect()
        } else {
            HashMap::new()
        };
        let branch = |path: &Path, admin: &Path| {
            if !self.reftable {
                return branch_of(admin);
            }
            let folder = self.folder_of(admin);
            listed.get(folder.as_deref().unwrap_or(path)).cloned().flatten()
        };
        let main = self.main.iter().map(|path| (path.clone(), self.common.clone()));
        Ok(main
            .chain(self.linked())
            .map(|(path, admin)| Checkout { branch: branch(&path, &admin), path, admin })
            .collect())
    }

    /// The git folder of a linked worktree.
    pub(crate) fn admin_of(&self, path: &Path) -> Option<PathBuf> {
        self.linked().find(|(linked, _)| linked == path).map(|(_, admin)| admin)
    }

    /// Path and git folder of the linked worktrees; of one that is lent, the path that it is lent
    /// under.
    pub(crate) fn linked(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        self.entries().filter_map(|admin| {
            let path = lent_to(&admin).or_else(|| self.folder_of(&admin))?;
            Some((path, admin))
        })
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.common.join("worktrees")).into_iter().flatten();
        entries.filter_map(Result::ok).map(|entry| entry.path())
    }

    /// The folder of a linked worktree, given its git folder.
    pub(crate) fn folder_of(&self, admin: &Path) -> Option<PathBuf> {
        let link = fs::read_to_string(admin.join("gitdir")).ok()?;
        let link = Path::new(link.trim_end_matches('\n'));
        let folder = link.parent()?.to_path_buf();
        if link.is_absolute() {
            return Some(folder);
        }
        // Newer versions of git can be told to write relative links.
        let folder = admin.join(folder);
        Some(folder.canonicalize().unwrap_or(folder))
    }

    /// The git folder of the worktree in a folder, and the path that it is lent under.
    pub(crate) fn lent_from(&self, folder: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
        let admin =
            self.entries().find(|admin| self.folder_of(admin).as_deref() == Some(folder))?;
        let path = lent_to(&admin);
        Some((admin, path))
    }

    /// The git folder of the worktree that is locked for this reason.
    pub(crate) fn locked_for(&self, reason: &str) -> Option<PathBuf> {
        let is_it = |admin: &PathBuf| {
            fs::read_to_string(admin.join("locked"))
                .is_ok_and(|r| r.trim_end() == reason.trim_end())
        };
        self.entries().find(is_it)
    }

    pub(crate) const fn is_reftable(&self) -> bool {
        self.reftable
    }
}

fn lent_to(admin: &Path) -> Option<PathBuf> {
    let path = fs::read_to_string(admin.join(PLACE)).ok()?;
    let path = path.trim_end_matches('\n');
    (!path.is_empty()).then(|| path.into())
}

/// The branch that HEAD names.
fn branch_of(admin: &Path) -> Option<String> {
    let head = fs::read_to_string(admin.join("HEAD")).ok()?;
    let name = head.strip_prefix("ref:")?.trim();
    name.starts_with(HEADS).then(|| name.to_owned())
}
