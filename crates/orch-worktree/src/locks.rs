//! Lock files that git made and, where it was killed, left behind.
//!
//! Git makes `X.lock` to change `X` and does not write down who it is, so that nothing in the file
//! tells a lock in use from one whose maker is dead. It is abandoned only where both hold: no
//! process has it open, and no process called git is at work in the repository (git closes some
//! locks long before it lets go of them). Age proves nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orch_model::{RunId, ports::WorktreeError};

use crate::{error::io_error, names, repo::Repo};

/// The engine's own lock file, which is never deleted.
pub(crate) const OWN: &str = "orch-worktree.lock";

/// A lock file of git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitLock {
    /// The file.
    pub path: PathBuf,
    /// Whether it is proven that whoever made it is gone.
    pub is_abandoned: bool,
    /// Whether it stands in the way of references or of worktrees of the engine, and not of the
    /// user's own index or configuration, which programs other than git may lock too.
    pub is_of_engine: bool,
    /// The run on whose branch or worktree it is. While that goes on, the engine removes it where
    /// it is in the way.
    pub run: Option<RunId>,
}

/// The lock files below a common git folder. `places` are the folders in which those who use the
/// repository work.
pub(crate) fn find(common: &Path, places: &[&Path]) -> Vec<GitLock> {
    let mut paths = Vec::new();
    gather(common, false, &mut paths);
    gather(&common.join("refs"), true, &mut paths);
    gather(&common.join("objects/info"), false, &mut paths);
    let entries = fs::read_dir(common.join("worktrees")).into_iter().flatten();
    for admin in entries.filter_map(Result::ok) {
        gather(&admin.path(), true, &mut paths);
    }
    if paths.is_empty() {
        return Vec::new();
    }
    let places: Vec<&Path> = places.iter().copied().chain([common]).collect();
    let is_quiet = !git_is_at_work(&places);
    let lock = |path: PathBuf| GitLock {
        is_abandoned: orch_faults::planted("live-lock-broken") || is_quiet && !is_open(&path),
        is_of_engine: is_of_engine(common, &path, &places),
        run: run_of(common, &path, &places),
        path,
    };
    paths.into_iter().map(lock).collect()
}

fn gather(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if deep {
                gather(&path, deep, found);
            }
        } else if path.extension().is_some_and(|end| end == "lock") && !path.ends_with(OWN) {
            found.push(path);
        }
    }
}

fn is_of_engine(common: &Path, lock: &Path, places: &[&Path]) -> bool {
    let Ok(name) = lock.strip_prefix(common) else { return false };
    let is_worktree_of_ours = || {
        let worktree = worktree_of(common, name);
        // Of an entry that was cut off when it was made nothing can be used.
        worktree.as_os_str().is_empty()
            || root_of(places).is_some_and(|root| worktree.starts_with(root))
    };
    name.starts_with("refs")
        || name == Path::new("packed-refs.lock")
        || (name.starts_with("worktrees") && is_worktree_of_ours())
}

/// The last place before the common folder is the root of the worktrees.
fn root_of<'a>(places: &[&'a Path]) -> Option<&'a Path> {
    places.iter().rev().nth(1).copied()
}

/// The `.git` of the worktree to whose entry a file belongs; empty where nothing tells.
fn worktree_of(common: &Path, name: &Path) -> PathBuf {
    let admin = name.components().take(2).collect::<PathBuf>();
    let link = fs::read_to_string(common.join(admin).join("gitdir")).unwrap_or_default();
    link.trim().into()
}

fn run_of(common: &Path, lock: &Path, places: &[&Path]) -> Option<RunId> {
    let name = lock.strip_prefix(common).ok()?;
    if name.starts_with("worktrees") {
        let worktree = worktree_of(common, name);
        let run = worktree.strip_prefix(root_of(places)?).ok()?.components().next()?;
        return RunId::new(run.as_os_str().to_str()?).ok();
    }
    names::split_ours(name.with_extension("").to_str()?).map(|(run, _)| run)
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let is_process = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    };
    entries.filter(is_process).map(|entry| entry.path())
}

/// Whether a process called git works in one of these folders, or may do so.
fn git_is_at_work(places: &[&Path]) -> bool {
    !Path::new("/proc/self/comm").exists() || processes().any(|process| is_git_in(&process, places))
}

fn is_git_in(process: &Path, places: &[&Path]) -> bool {
    // One that has ended meanwhile holds nothing.
    let Ok(name) = fs::read_to_string(process.join("comm")) else { return false };
    if !name.starts_with("git") {
        return false;
    }
    let folder = match fs::read_link(process.join("cwd")) {
        Ok(folder) => folder,
        // Somebody else's. Where there is none, it is ending and has let go of all.
        Err(error) => return error.kind() == io::ErrorKind::PermissionDenied,
    };
    let mentions = |file: &str| {
        let text = fs::read(process.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        places.iter().any(|place| text.contains(&*place.to_string_lossy()))
    };
    places.iter().any(|place| folder.starts_with(place))
        || mentions("cmdline")
        || mentions("environ")
}

/// A process called git.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GitProcess {
    folder: PathBuf,
    /// Field 22 of `/proc/PID/stat`: the pid alone may come to mean another process.
    started: String,
}

impl GitProcess {
    fn of(folder: PathBuf) -> Option<Self> {
        let started = started(&folder)?;
        Some(Self { folder, started })
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        started(&self.folder).is_some_and(|started| started == self.started)
    }
}

/// When a process was started; `None` where it has ended.
fn started(process: &Path) -> Option<String> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    // A zombie holds nothing.
    let is_over = matches!(fields.next()?, "Z" | "X");
    fields.nth(18).filter(|_| !is_over).map(str::to_owned)
}

/// The processes called git that work in a repository with this common git folder, or may do so.
pub(crate) fn gits_at_work(common: &Path, places: &[&Path]) -> Vec<GitProcess> {
    let places: Vec<&Path> = places.iter().copied().chain([common]).collect();
    let gits = processes().filter(|process| is_git_in(process, &places));
    gits.filter_map(GitProcess::of).collect()
}

/// As [`GitLock::is_of_engine`], of one lock.
pub(crate) fn is_of_engine_at(common: &Path, lock: &Path, places: &[&Path]) -> bool {
    let places: Vec<&Path> = places.iter().copied().chain([common]).collect();
    is_of_engine(common, lock, &places)
}

pub(crate) fn is_open(file: &Path) -> bool {
    processes().any(|process| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok);
        open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == file))
    })
}

impl Repo {
    /// Removes abandoned locks that stand in the engine's way, and names them.
    pub(crate) async fn break_abandoned_locks(&self) -> Result<Vec<PathBuf>, WorktreeError> {
        // Nobody of ours begins to make or to remove a worktree meanwhile.
        let _lock = self.lock.hold().await?;
        let mut broken = Vec::new();
        for lock in find(self.checkouts.common(), &[&self.top, &self.root]) {
            if !(lock.is_abandoned && lock.is_of_engine) {
                continue;
            }
            match orch_faults::point!("locks::abandoned.remove", fs::remove_file(&lock.path)) {
                Ok(()) => {
                    tracing::warn!(path = %lock.path.display(), "removed a lock that a killed git left behind");
                    broken.push(lock.path);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(io_error(format!("removing {}", lock.path.display()))(error));
                }
            }
        }
        Ok(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_abandoned_only_while_nobody_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let common = folder.path().canonicalize().unwrap();
        fs::create_dir_all(common.join("refs/heads/orch/r")).unwrap();
        fs::write(common.join(OWN), "").unwrap();
        assert_eq!(find(&common, &[]), []);
        let path = common.join("refs/heads/orch/r/a.lock");
        let open = fs::File::create(&path).unwrap();
        fs::write(common.join("config.lock"), "").unwrap();
        let of = |name: &str| {
            let all = find(&common, &[]);
            all.into_iter().find(|lock| lock.path.ends_with(name)).unwrap()
        };
        assert!(!of("a.lock").is_abandoned);
        assert!(of("a.lock").is_of_engine && !of("config.lock").is_of_engine);
        drop(open);
        assert!(of("a.lock").is_abandoned);
    }

    #[test]
    fn a_git_at_work_in_the_repository_may_own_any_lock() {
        let folder = tempfile::tempdir().unwrap();
        let common = folder.path().canonicalize().unwrap();
        fs::write(common.join("packed-refs.lock"), "").unwrap();
        assert!(find(&common, &[])[0].is_abandoned);
        // A git that waits for its input.
        let mut git = std::process::Command::new("git")
            .args(["hash-object", "--stdin"])
            .current_dir(&common)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !fs::read_to_string(format!("/proc/{}/comm", git.id())).unwrap().starts_with("git") {
            std::thread::yield_now();
        }
        assert!(!find(&common, &[])[0].is_abandoned);
        drop(git.stdin.take());
        assert!(git.wait().unwrap().success());
        assert!(find(&common, &[])[0].is_abandoned);
    }
}
