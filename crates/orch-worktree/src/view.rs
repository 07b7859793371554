//! The repository as the engine sees it: with settings that no agent can change.
//!
//! Git takes what all worktrees share from the common git folder, its configuration among it, and an
//! agent can write there: a filter that it names there would be run by the engine's next `git add`. So
//! the engine's git gets another common folder (`GIT_COMMON_DIR`, gitrepository-layout(5)): links
//! to objects, references and logs, and a configuration of its own. That has the settings of the
//! repository that can neither run a program nor lead elsewhere, as they were when it was opened; the
//! list is one of what is taken over, so that what a newer git adds is left out. It is compared
//! before each call, and written anew where somebody has changed it.
//!
//! The user's own settings (`~/.gitconfig`, the system's) hold as ever, except filters: those are run
//! only where the user trusts them by name.

mod keys;

pub(crate) use keys::is_program;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use orch_faults::point;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::settings::{self, Entry, Scope};

/// The folder in the common git folder for what this module writes.
const FOLDER: &str = "orch-git";

/// What is the repository's own.
const LINKS: &[&str] = &[
    "HEAD",
    "logs",
    "modules",
    "objects",
    "packed-refs",
    "refs",
    "reftable",
    "rr-cache",
    "shallow",
    "worktrees",
    "info/exclude",
];

/// A common git folder with settings of the engine's.
#[derive(Debug)]
pub(crate) struct View {
    common: PathBuf,
    folder: PathBuf,
    config: String,
    attributes: Vec<u8>,
    idle: BTreeSet<String>,
    trusted: Vec<String>,
    /// Whether somebody had changed it, which nobody has been told yet.
    mended: AtomicBool,
}

impl View {
    /// Takes over what is harmless of a repository's settings.
    ///
    /// # Errors
    /// Where a file can't be read or written.
    pub(crate) fn new(common: &Path, entries: &[Entry], trusted: &[String]) -> io::Result<Self> {
        let attributes = match fs::read(common.join("info/attributes")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let users: BTreeSet<&str> =
            entries.iter().filter(|e| e.scope == Scope::User).filter_map(Entry::filter).collect();
        let all = entries.iter().filter_map(Entry::filter);
        let is_trusted = |name: &str| trusted.iter().any(|t| t == name) && users.contains(name);
        let idle: BTreeSet<String> = all.filter(|n| !is_trusted(n)).map(str::to_owned).collect();
        // Whether there is a checkout is said by each call.
        let mut config = settings::line("core.bare", "false");
        for entry in entries.iter().filter(|e| e.scope == Scope::Repository) {
            if keys::is_harmless(&entry.key, &entry.value) {
                config.push_str(&settings::line(&entry.key, &entry.value));
            }
        }
        for name in &idle {
            for (what, value) in
                [("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")]
            {
                config.push_str(&settings::line(&format!("filter.{name}.{what}"), value));
            }
        }
        let name = format!("{:016x}", fnv(config.as_bytes(), &attributes));
        let folder = common.join(FOLDER).join(name);
        let view = Self {
            common: common.into(),
            folder,
            config,
            attributes,
            idle,
            trusted: trusted.to_vec(),
            mended: AtomicBool::new(false),
        };
        view.ensure()?;
        // That was another process's.
        view.mended.store(false, Ordering::Relaxed);
        Ok(view)
    }

    /// Filters that are set up somewhere and that the engine does not run.
    pub(crate) const fn idle_filters(&self) -> &BTreeSet<String> {
        &self.idle
    }

    /// Filters that the user trusts.
    pub(crate) fn trusted(&self) -> &[String] {
        &self.trusted
    }

    /// The folder for a call on this git folder; `None` where that is another repository.
    pub(crate) fn of(&self, git_dir: &Path) -> Option<&Path> {
        let ours = git_dir == self.common
            || git_dir.parent().is_some_and(|parent| parent == self.common.join("worktrees"));
        ours.then_some(&*self.folder)
    }

    /// A path that git named, as it is in the repository.
    pub(crate) fn real(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.folder).ok().map(|rest| self.common.join(rest))
    }

    /// Puts right what is not as it was written.
    ///
    /// # Errors
    /// Where that can't be done.
    pub(crate) fn ensure(&self) -> io::Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        // Written aside, and put in place as a whole: other processes may be using it.
        let folder = self.common.join(FOLDER);
        fs::create_dir_all(&folder)?;
        // Other users of the repository read it too.
        let open = fs::Permissions::from_mode(0o777);
        let aside =
            tempfile::Builder::new().prefix("new-").permissions(open).tempdir_in(folder)?.keep();
        fs::create_dir(aside.join("info"))?;
        point!("view::config.write", fs::write(aside.join("config"), &self.config))?;
        fs::write(aside.join("info/attributes"), &self.attributes)?;
        for (link, to) in self.links() {
            symlink(to, aside.join(link))?;
        }
        let rename = || renameat_with(CWD, &aside, CWD, &self.folder, RenameFlags::NOREPLACE);
        match point!("view::rename", rename().map_err(io::Error::from)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Another process was quicker with the same.
        if self.is_whole() {
            return remove(&aside);
        }
        tracing::warn!(folder = %self.folder.display(), "somebody changed the engine's settings for git");
        self.mended.store(true, Ordering::Relaxed);
        match renameat_with(CWD, &aside, CWD, &self.folder, RenameFlags::EXCHANGE) {
            Ok(()) => remove(&aside),
            // Not every file system can do it.
            Err(Errno::INVAL) => {
                remove(&self.folder)?;
                fs::rename(&aside, &self.folder)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What stands in it for what is the repository's own, and where that is.
    fn links(&self) -> impl Iterator<Item = (&'static str, PathBuf)> + '_ {
        LINKS.iter().map(|name| (*name, self.common.join(name)))
    }

    /// Whether it is as it was written.
    fn is_whole(&self) -> bool {
        let is_file = |name: &str, content: &[u8]| {
            let path = self.folder.join(name);
            fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file())
                && fs::read(path).is_ok_and(|found| found == content)
        };
        is_file("config", self.config.as_bytes())
            && is_file("info/attributes", &self.attributes)
            && self.links().all(|(link, to)| {
                fs::read_link(self.folder.join(link)).is_ok_and(|found| found == to)
            })
    }

    /// Looks at it, and says once that somebody had changed it, as a sentence for a person.
    ///
    /// # Errors
    /// Where it can't be put right.
    pub(crate) fn examine(&self) -> io::Result<Option<String>> {
        self.ensure()?;
        let mended = self.mended.swap(false, Ordering::Relaxed);
        let folder = self.folder.display();
        Ok(mended.then(|| {
            format!("{folder}: the engine's settings were others; they were written anew")
        }))
    }

    /// Removes what other processes wrote for other settings, and that nobody uses any more: whoever
    /// does writes it again.
    pub(crate) fn forget_others(&self) {
        let entries = fs::read_dir(self.common.join(FOLDER)).into_iter().flatten();
        for entry in entries.filter_map(Result::ok).filter(|entry| entry.path() != self.folder) {
            if let Err(error) = remove(&entry.path()) {
                tracing::debug!(%error, path = %entry.path().display(), "can't remove a view");
            }
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// FNV-1a over 64 bits: a name for content, which is compared as a whole before it is used.
fn fnv(config: &[u8], attributes: &[u8]) -> u64 {
    let bytes = config.iter().chain([&0]).chain(attributes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_make_it_at_once_do_not_take_it_from_one_another() {
        let common = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            remove(&common.path().join(FOLDER)).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let view = View::new(common.path(), &[], &[]).unwrap();
                        for _ in 0..50 {
                            assert!(view.is_whole());
                        }
                    });
                }
            });
        }
        let left = fs::read_dir(common.path().join(FOLDER)).unwrap().count();
        assert_eq!(left, 1, "what was written aside is gone");
    }

    #[test]
    fn what_somebody_changed_is_put_right() {
        let common = tempfile::tempdir().unwrap();
        let view = View::new(common.path(), &[], &[]).unwrap();
        assert_eq!(view.examine().unwrap(), None);
        fs::write(view.folder.join("config"), "[core]\n\tfsmonitor = x\n").unwrap();
        assert!(view.examine().unwrap().is_some_and(|what| what.contains("written anew")));
        assert_eq!(view.examine().unwrap(), None);
        assert!(view.is_whole());
    }
}
