//! Git's entry of a worktree, `worktrees/<name>`, as one step.
//!
//! `git worktree add` writes the files of an entry one after the other, and every git that looks at all
//! worktrees meanwhile (a fetch does) fails on one half written: "failed to read
//! .git/worktrees/x/commondir". It also fails when several run at once. An entry is four small files, see
//! gitrepository-layout(5); they are written aside and renamed into place, and renamed away before they
//! are deleted.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orch_faults::point;
use orch_model::{CommitId, ports::WorktreeError};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{
    checkouts::Checkouts,
    error::io_error,
    git::Git,
    lock::{Held, RepositoryLock},
};

/// The folder in the common git folder where entries are written and deleted.
const ASIDE: &str = "orch-worktree.tmp";

/// How many names are tried.
const TRIES: u32 = 10_000;

/// What an entry says.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The folder of the worktree.
    pub(crate) folder: &'a Path,
    /// The content of `HEAD`.
    pub(crate) head: &'a str,
    /// Why it is locked.
    pub(crate) reason: &'a str,
}

/// Whether an entry needs nothing but these files. With references in tables it has one of its own, and
/// with configuration per worktree that has to be copied: both are git's business.
pub(crate) fn is_simple(common: &Path) -> bool {
    !common.join("reftable").exists()
        && !common.join("config.worktree").exists()
        && !common.join("info/sparse-checkout").exists()
}

impl Entry<'_> {
    /// Makes the entry, the folder and the file in it that links the two; the entry.
    pub(crate) fn make(&self, common: &Path, _held: &Held) -> io::Result<PathBuf> {
        let aside = aside(common)?;
        let new = aside.join("new");
        fs::create_dir_all(new.join("refs"))?;
        fs::write(new.join("commondir"), "../..\n")?;
        point!("entry::head.write", fs::write(new.join("HEAD"), self.head))?;
        point!("entry::locked.write", fs::write(new.join("locked"), self.reason))?;
        fs::write(new.join("gitdir"), format!("{}\n", self.folder.join(".git").display()))?;
        let entries = common.join("worktrees");
        fs::create_dir_all(&entries)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = (1..TRIES).map(|n| format!("{name}{n}"));
        for name in std::iter::once(name.clone()).chain(names) {
            let entry = entries.join(name);
            let rename = || renameat_with(CWD, &new, CWD, &entry, RenameFlags::NOREPLACE);
            match point!("entry::rename", rename().map_err(io::Error::from)) {
                Ok(()) => return self.link(entry),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn link(&self, entry: PathBuf) -> io::Result<PathBuf> {
        point!("entry::folder.make", fs::create_dir_all(self.folder))?;
        if fs::read_dir(self.folder)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let link = format!("gitdir: {}\n", entry.display());
        point!("entry::link.write", fs::write(self.folder.join(".git"), link))?;
        Ok(entry)
    }
}

/// A worktree without files yet, at a commit and on no branch.
#[derive(Debug)]
pub(crate) struct Detached<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) commit: &'a CommitId,
    /// Why it is locked.
    pub(crate) reason: &'a str,
}

impl Detached<'_> {
    /// Makes it; its git folder.
    pub(crate) async fn make(
        &self,
        git: &Git,
        checkouts: &Checkouts,
        lock: &RepositoryLock,
    ) -> Result<PathBuf, WorktreeError> {
        let (folder, reason) = (self.folder, self.reason);
        let doing = || format!("making the worktree {}", folder.display());
        let held = lock.hold().await?;
        if is_simple(checkouts.common()) {
            let head = format!("{}\n", self.commit);
            let entry = Entry { folder, head: &head, reason };
            return entry.make(checkouts.common(), &held).map_err(io_error(doing()));
        }
        let arguments = ["worktree", "add", "--quiet", "--no-checkout", "--detach", "--lock"];
        git.plain()
            .call(arguments)
            .arguments(["--reason", reason, "--"])
            .arguments([folder.as_os_str(), self.commit.as_str().as_ref()])
            .holding(&held)?
            .answer()
            .await?
            .success()?;
        let found = checkouts.lent_from(folder).map(|(admin, _)| admin);
        found.ok_or_else(|| io_error(doing())(io::ErrorKind::NotFound.into()))
    }
}

/// Deletes an entry. One that is gone already is no error.
pub(crate) fn remove(common: &Path, entry: &Path, _held: &Held) -> io::Result<()> {
    let aside = aside(common)?;
    match point!("entry::aside.rename", fs::rename(entry, aside.join("old"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    point!("entry::aside.remove", fs::remove_dir_all(aside))
}

/// The folder aside, empty: what is in it was left by somebody who was killed.
fn aside(common: &Path) -> io::Result<PathBuf> {
    let aside = common.join(ASIDE);
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(&aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn entries_have_names_of_their_own_and_go_whole() {
        let folder = tempfile::tempdir().unwrap();
        let common = folder.path().join("git");
        fs::create_dir(&common).unwrap();
        let held = RepositoryLock::new(&common).hold().await.unwrap();
        // Left by somebody who was killed.
        fs::create_dir_all(common.join(ASIDE).join("new/refs")).unwrap();
        let make = |place: &str| {
            let folder = folder.path().join(place);
            Entry { folder: &folder, head: "x", reason: "mine" }.make(&common, &held)
        };
        let (a, b) = (make("1/a").unwrap(), make("2/a").unwrap());
        assert_eq!(
            (a.clone(), b.clone()),
            (common.join("worktrees/a"), common.join("worktrees/a1"))
        );
        let link = fs::read_to_string(folder.path().join("2/a/.git")).unwrap();
        assert_eq!(link, format!("gitdir: {}\n", b.display()));
        assert_eq!(make("1/a").unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
        for _ in 0..2 {
            remove(&common, &a, &held).unwrap();
        }
        assert!(!a.exists() && b.exists() && !common.join(ASIDE).exists());
        assert!(is_simple(&common));
    }
}
