//! What a task's work changes: commits, files, and the patch.
//!
//! What a worktree holds beside its commits is put together as a tree in an index and a folder for
//! objects that are thrown away, so that neither the agent's index nor the repository is written to.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use orch_model::{CommitId, RunId, TaskId, Timestamp, ports::WorktreeError, prompt::Made};
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    error::io_error,
    git::Git,
    modules::Adding,
    preserve::{copy_index, status_of},
    repo::Repo,
    work::{Work, WorkQuery, WorkSource},
};

/// How many commits are listed.
const COMMITS: usize = 1000;

/// What a task's work consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Changes {
    /// Its commits, the newest first, 1000 at most.
    pub commits: Vec<WorkCommit>,
    /// The files that it changes, also by what is not committed.
    pub files: Vec<FileChange>,
    /// Whether some of it is not committed.
    pub uncommitted: bool,
}

/// A commit of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkCommit {
    /// The commit.
    pub id: CommitId,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub author: String,
    /// Its first line.
    pub subject: String,
}

/// A file that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FileChange {
    /// Its path, relative to the repository.
    pub path: String,
    /// Its path before, where it was renamed.
    pub old_path: Option<String>,
    /// How many lines were added and removed; `None` for a file that has no lines.
    pub lines: Option<(u64, u64)>,
}

/// How changes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiffFormat {
    /// A patch that `git apply` takes.
    Patch,
    /// A line for each file, within so many columns.
    Stat {
        /// How wide a line may be.
        columns: usize,
    },
}

/// What is compared with the base.
struct View {
    git: Git,
    tree: String,
    uncommitted: bool,
    _scratch: Option<TempDir>,
}

impl Repo {
    pub(crate) async fn changes(&self, work: &Work) -> Result<Changes, WorktreeError> {
        let view = self.view(work).await?;
        let arguments = compare(&["--numstat", "-z"], work, &view);
        let files = numstat(&view.git.run(arguments).await?);
        let range = format!("{}..{}", work.base, work.tip);
        let most = format!("--max-count={COMMITS}");
        let list = [
            "rev-list",
            "--topo-order",
            "--no-commit-header",
            "--encoding=UTF-8",
            "--format=%H%x00%ct%x00%an%x00%s",
            &most,
            &range,
            "--",
        ];
        let commits = commits(&self.git.run(list).await?);
        Ok(Changes { commits, files, uncommitted: view.uncommitted })
    }

    pub(crate) async fn made(
        &self,
        run: &RunId,
        tip: &str,
        merge: Option<&CommitId>,
    ) -> Result<Made, WorktreeError> {
        let Some(tip) = self.commit_at(tip).await? else { return Ok(Made::default()) };
        // All that matters of the task is at which commit its work ends.
        let task = TaskId::new("made").expect("letters make an id");
        let mut query = WorkQuery::new(run.clone(), task);
        query.merge_commit = merge.cloned();
        let Some(base) = self.fork(&query, &tip).await? else { return Ok(Made::default()) };
        let changes = self.changes(&Work { base, tip, source: WorkSource::Commit }).await?;
        Ok(Made::of(
            changes.commits.iter().map(|commit| (commit.id.short(), &*commit.subject)),
            changes.files.iter().map(|file| &*file.path),
        ))
    }

    pub(crate) async fn diff(
        &self,
        work: &Work,
        format: DiffFormat,
        sink: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> Result<(), WorktreeError> {
        let view = self.view(work).await?;
        let stat;
        let format: &[&str] = match format {
            DiffFormat::Patch => &["--patch", "--binary"],
            DiffFormat::Stat { columns } => {
                stat = format!("--stat={columns}");
                &[&stat, "--summary"]
            }
        };
        let answer = view.git.call(compare(format, work, &view)).stream(sink).await?;
        answer.success().map(drop)
    }

    /// The tree of the work as it is now.
    async fn view(&self, work: &Work) -> Result<View, WorktreeError> {
        let WorkSource::Worktree { path, admin } = &work.source else {
            let (git, tree) = (self.git.clone(), work.tip.to_string());
            return Ok(View { git, tree, uncommitted: false, _scratch: None });
        };
        let scratch = scratch()?;
        let objects = scratch.path().join("objects");
        fs::create_dir(&objects).map_err(io_error(format!("making {}", objects.display())))?;
        let shared = self.checkouts.common().join("objects");
        let git = self.git.with_environment(vec![
            ("GIT_OBJECT_DIRECTORY".into(), objects.into()),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES".into(), alternate(&shared)),
        ]);
        let tree = tree_of(&git, path, admin, scratch.path()).await?;
        let committed = git.line(["rev-parse", &format!("{}^{{tree}}", work.tip)]).await?;
        Ok(View { git, uncommitted: tree != committed, tree, _scratch: Some(scratch) })
    }

    /// A tree, in the repository, of all that is in a worktree; its own index is only read.
    pub(crate) async fn tree_in(&self, path: &Path, admin: &Path) -> Result<String, WorktreeError> {
        let scratch = scratch()?;
        tree_of(&self.git, path, admin, scratch.path()).await
    }
}

fn scratch() -> Result<TempDir, WorktreeError> {
    TempDir::with_prefix("orch-").map_err(io_error("making a temporary folder"))
}

async fn tree_of(
    git: &Git,
    path: &Path,
    admin: &Path,
    scratch: &Path,
) -> Result<String, WorktreeError> {
    let index: PathBuf = scratch.join("index");
    copy_index(&admin.join("index"), &index)
        .map_err(io_error(format!("copying the index of {}", path.display())))?;
    let git = git.on_worktree(admin, path);
    // An agent at work may take a file away between the listing and the reading of it.
    let adding = Adding::new(&git, Some(&index), &status_of(&git).await?).await?;
    let add = adding.files_as(&git, &["--ignore-errors"]).durable().index(&index);
    let added = add.answer().await?;
    if !matches!(added.code, Some(0 | 1)) {
        return Err(added.into_error());
    }
    if let Some(modules) = adding.modules(&git) {
        modules.index(&index).answer().await?.success()?;
    }
    let tree = git.call(["write-tree"]).durable().index(&index).answer().await?.success()?;
    Ok(String::from_utf8_lossy(&tree).trim().to_owned())
}

/// A comparison that starts no program and follows no setting for how differences are shown.
fn compare(format: &[&str], work: &Work, view: &View) -> Vec<String> {
    let fixed = ["diff-tree", "-r", "-M", "--no-color", "--no-ext-diff", "--no-textconv"];
    let sides = [work.base.as_str(), &view.tree, "--"];
    fixed.iter().chain(format).chain(&sides).map(|part| (*part).to_owned()).collect()
}

/// A folder as `GIT_ALTERNATE_OBJECT_DIRECTORIES` takes it: a list with colons.
fn alternate(folder: &Path) -> OsString {
    let text = folder.to_string_lossy();
    if text.contains([':', '"']) {
        format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")).into()
    } else {
        folder.into()
    }
}

/// Reads what `--numstat -z` prints: counts and a path, or counts and two paths.
fn numstat(text: &[u8]) -> Vec<FileChange> {
    let text = String::from_utf8_lossy(text);
    let mut fields = text.split('\0');
    let mut files = Vec::new();
    while let Some(record) = fields.next().filter(|record| !record.is_empty()) {
        let mut parts = record.splitn(3, '\t');
        let mut count = || parts.next().unwrap_or_default().parse::<u64>().ok();
        let lines = count().zip(count());
        let path = parts.next().unwrap_or_default();
        let (old_path, path) = match path {
            "" => (fields.next().map(str::to_owned), fields.next().unwrap_or_default()),
            path => (None, path),
        };
        files.push(FileChange { path: path.to_owned(), old_path, lines });
    }
    files
}

fn commits(text: &[u8]) -> Vec<WorkCommit> {
    let text = String::from_utf8_lossy(text);
    let commit = |line: &str| {
        let mut fields = line.splitn(4, '\0');
        let id = CommitId::new(fields.next()?);
        let seconds: u64 = fields.next()?.parse().ok()?;
        Some(WorkCommit {
            id,
            at: Timestamp::from_millis(seconds.saturating_mul(1000)),
            author: fields.next()?.to_owned(),
            subject: fields.next()?.to_owned(),
        })
    };
    text.lines().filter_map(commit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_files_with_and_without_lines_and_renamed_ones() {
        let files = numstat(b"3\t1\ta b\0-\t-\tlogo.png\x001\t0\t\0old\tname\0new\nname\0");
        let file = |path: &str, old: Option<&str>, lines| FileChange {
            path: path.into(),
            old_path: old.map(str::to_owned),
            lines,
        };
        assert_eq!(
            files,
            [
                file("a b", None, Some((3, 1))),
                file("logo.png", None, None),
                file("new\nname", Some("old\tname"), Some((1, 0))),
            ]
        );
        assert_eq!(numstat(b""), []);
    }

    #[test]
    fn a_list_of_folders_takes_any_folder() {
        assert_eq!(alternate(Path::new("/a b/objects")), "/a b/objects");
        assert_eq!(alternate(Path::new("/a:b\"c/objects")), "\"/a:b\\\"c/objects\"");
    }
}
