//! Files of the user's checkout that git ignores and that a tree needs all the same: `.env`, caches.
//!
//! Named by the configuration and by a file `.worktreeinclude` in the checkout, which has the syntax of
//! `.gitignore`. Only what git ignores is taken, here and there: a tracked file is in the tree
//! already, and any other would be committed with the task's work.

use std::{
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use orch_model::ports::WorktreeError;

use crate::{error::io_error, parse::listed, repo::Repo};

/// The file in the checkout that names what is copied.
const LIST: &str = ".worktreeinclude";

/// Files that each tree gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// A pattern as in `.gitignore`.
    pub pattern: String,
    /// How they get there.
    pub mode: IncludeMode,
}

/// How a file gets into a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IncludeMode {
    /// As a copy.
    #[default]
    Copy,
    /// As a symbolic link to the one in the checkout: what a task writes there, it writes there.
    Symlink,
    /// As another name of the same file; as a copy where that is not possible.
    Hardlink,
    /// As a copy that shares its space until it is changed; as a plain copy where the file system
    /// can't do that.
    Reflink,
}

/// `pattern`, or the mode before it: `symlink:node_modules`.
impl FromStr for Include {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (mode, pattern) = match text.trim().split_once(':') {
            None => (IncludeMode::Copy, text.trim()),
            Some(("copy", rest)) => (IncludeMode::Copy, rest),
            Some(("symlink", rest)) => (IncludeMode::Symlink, rest),
            Some(("hardlink", rest)) => (IncludeMode::Hardlink, rest),
            Some(("reflink", rest)) => (IncludeMode::Reflink, rest),
            Some((other, _)) => {
                return Err(format!(
                    "`{text}`: `{other}` is not one of copy, symlink, hardlink, reflink"
                ));
            }
        };
        if pattern.is_empty() {
            return Err(format!("`{text}` names no files"));
        }
        Ok(Self { pattern: pattern.into(), mode })
    }
}

impl Repo {
    pub(super) async fn include(&self, path: &Path, admin: &Path) -> Result<(), WorktreeError> {
        let wanted = self.included.get_or_try_init(|| self.find_included()).await?;
        if wanted.is_empty() {
            return Ok(());
        }
        let (top, tree, work) = (self.top.clone(), path.to_path_buf(), wanted.clone());
        let placed = tokio::task::spawn_blocking(move || {
            for (name, mode) in &work {
                let doing = || format!("bringing {} into {}", name.display(), tree.display());
                place(&top, &tree, name, *mode).map_err(io_error(doing()))?;
            }
            Ok::<_, WorktreeError>(())
        });
        match placed.await {
            Ok(result) => result?,
            Err(stopped) => return Err(WorktreeError::Other { source: stopped.into() }),
        }
        let names: Vec<&Path> = wanted.iter().map(|(name, _)| name.as_path()).collect();
        let git = self.git.on_worktree(admin, path);
        let ignored = ignored(&git, &names).await?;
        let exposed: Vec<_> =
            names.iter().filter(|name| !ignored.iter().any(|path| path == **name)).collect();
        if exposed.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = exposed.iter().map(|name| name.to_string_lossy()).collect();
        Err(WorktreeError::Other {
            source: format!(
                "{} would be committed with the work of a task: .gitignore of the commit does not name it (`folder/` does not name a link); name it there, or include it no more",
                listed(&names)
            )
            .into(),
        })
    }

    /// What the checkout has of what is to be included.
    async fn find_included(&self) -> Result<Vec<(PathBuf, IncludeMode)>, WorktreeError> {
        let list = self.top.join(LIST);
        let mut sources: Vec<(String, IncludeMode)> = Vec::new();
        if list.is_file() {
            sources.push((format!("--exclude-from={LIST}"), IncludeMode::Copy));
        }
        let named = self.trees.include.iter();
        sources.extend(named.map(|i| (format!("--exclude={}", i.pattern), i.mode)));
        let git = self.git.on_worktree(&self.top_admin, &self.top);
        let mut all: Vec<(PathBuf, IncludeMode)> = Vec::new();
        for (patterns, mode) in sources {
            let arguments = ["ls-files", "--others", "--ignored", "--directory", "-z", &patterns];
            let out = git.run(arguments).await?;
            let names: Vec<PathBuf> = paths(&out).collect();
            let names: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();
            for name in ignored(&git, &names).await? {
                // The configuration comes after the file, and wins.
                all.retain(|(other, _)| *other != name);
                all.push((name, mode));
            }
        }
        Ok(all)
    }
}

/// Paths, one after the other, without the slash at the end of a folder.
fn paths(out: &[u8]) -> impl Iterator<Item = PathBuf> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let names = out.split(|&b| b == 0).filter(|name| !name.is_empty());
    names.map(|name| OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)).into())
}

/// Those that git ignores.
async fn ignored(git: &crate::git::Git, names: &[&Path]) -> Result<Vec<PathBuf>, WorktreeError> {
    use std::os::unix::ffi::OsStrExt;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = Vec::new();
    for name in names {
        input.extend_from_slice(name.as_os_str().as_bytes());
        input.push(0);
    }
    let answer = git.call(["check-ignore", "-z", "--stdin"]).input(input).answer().await?;
    match answer.code {
        Some(0) => Ok(paths(&answer.stdout).collect()),
        Some(1) => Ok(Vec::new()),
        _ => Err(answer.into_error()),
    }
}

/// Brings one file or folder into a tree. A folder that is there already, from an earlier task, stays.
fn place(top: &Path, tree: &Path, name: &Path, mode: IncludeMode) -> io::Result<()> {
    let (from, to) = (top.join(name), tree.join(name));
    let Ok(kind) = fs::symlink_metadata(&from) else { return Ok(()) };
    make_parents(tree, name)?;
    match fs::symlink_metadata(&to) {
        Ok(there) if there.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(&to)?,
        Err(_) => {}
    }
    match mode {
        IncludeMode::Symlink => std::os::unix::fs::symlink(&from, &to),
        _ if kind.is_dir() => copy_folder(&from, &to, mode),
        _ => copy_file(&from, &to, mode),
    }
}

/// Makes the folders above a file, and refuses links among them: they may lead out of the tree.
fn make_parents(tree: &Path, name: &Path) -> io::Result<()> {
    let mut folder = tree.to_path_buf();
    for part in name.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(part) = part else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads elsewhere"));
        };
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                let error = format!("{} is not a folder", folder.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, error));
            }
            Err(_) => fs::create_dir(&folder)?,
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path, mode: IncludeMode) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to, mode)?;
        } else {
            copy_file(&from, &to, mode)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

fn copy_file(from: &Path, to: &Path, mode: IncludeMode) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?;
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if !kind.is_file() {
        // A socket or a pipe is of a program that runs.
        return Ok(());
    }
    let shared = match mode {
        IncludeMode::Hardlink => fs::hard_link(from, to).is_ok(),
        IncludeMode::Reflink => reflink(from, to).is_ok(),
        _ => false,
    };
    if shared { Ok(()) } else { fs::copy(from, to).map(drop) }
}

#[cfg(target_os = "linux")]
fn reflink(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = File::create(to)?;
    rustix::fs::ioctl_ficlone(&target, &source)?;
    target.set_permissions(source.metadata()?.permissions())
}

#[cfg(not(target_os = "linux"))]
fn reflink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_stands_before_the_pattern() {
        let of = |text: &str| text.parse::<Include>().map(|i| (i.pattern, i.mode));
        assert_eq!(of(".env"), Ok((".env".into(), IncludeMode::Copy)));
        assert_eq!(of(" symlink:node_modules"), Ok(("node_modules".into(), IncludeMode::Symlink)));
        assert_eq!(of("hardlink:a"), Ok(("a".into(), IncludeMode::Hardlink)));
        assert!(of("move:a").unwrap_err().contains("copy, symlink, hardlink, reflink"));
        assert!(of("copy:").unwrap_err().contains("names no files"));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (top, tree) = (folder.path().join("top"), folder.path().join("tree"));
        for place in [&top.join("a"), &tree, &folder.path().join("outside")] {
            fs::create_dir_all(place).unwrap();
        }
        fs::write(top.join("a/secret"), "x").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), tree.join("a")).unwrap();
        let error = place(&top, &tree, Path::new("a/secret"), IncludeMode::Copy).unwrap_err();
        assert!(error.to_string().contains("is not a folder"), "{error}");
        let error = place(&top, &tree, Path::new("../x/y"), IncludeMode::Copy);
        assert!(error.is_ok(), "what is not there is left out");
        assert!(make_parents(&tree, Path::new("../x/y")).is_err());
        assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
    }
}
