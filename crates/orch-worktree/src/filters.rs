//! Files with filters that the engine does not run, such as those of LFS: they are in a worktree as they
//! are stored, and what an agent makes of them must not be stored as it is in the worktree.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use orch_model::{CommitId, ports::WorktreeError};

use crate::{
    error::would_lose,
    git::{Call, Git},
    parse::{Status, listed},
    repo::Repo,
};

const ASK: [&str; 4] = ["check-attr", "-z", "--stdin", "filter"];
const ASK_INDEX: [&str; 5] = ["check-attr", "--cached", "-z", "--stdin", "filter"];

/// What a person can do about it.
const CURE: &str = "set the filter up in your own git configuration and name it in `trusted_filters`, or have the task commit them itself";

impl Repo {
    /// Refuses to commit files whose filter is not run: of LFS the whole file would be stored, of
    /// encrypted files the plain text.
    pub(crate) async fn refuse_unfiltered(
        &self,
        git: &Git,
        status: &Status,
    ) -> Result<(), WorktreeError> {
        let changed = status.changed.iter().chain(&status.untracked);
        let is_file = |path: &&String| {
            fs::symlink_metadata(git.folder().join(path)).is_ok_and(|meta| meta.is_file())
                && !status.untouched.contains(path)
        };
        let paths: Vec<&str> = changed.filter(is_file).map(String::as_str).collect();
        let files = with_idle_filter(&self.idle_filters(), &paths, git.call(ASK)).await?;
        if files.is_empty() {
            return Ok(());
        }
        let files = listed(&files);
        Err(would_lose(git.folder(), format!("orch does not run the filters of {files}; {CURE}")))
    }

    /// Why a checkout must not be brought to a commit by the engine: it would write files as they
    /// are stored where a person expects them as they are used.
    pub(crate) async fn why_unfiltered(
        &self,
        git: &Git,
        admin: &Path,
        to: &CommitId,
    ) -> Result<Option<String>, WorktreeError> {
        if self.idle_filters().is_empty() {
            return Ok(None);
        }
        let arguments = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=d"];
        let list =
            git.call(arguments).arguments(["HEAD", to.as_str()]).answer().await?.success()?;
        let list = String::from_utf8_lossy(&list).into_owned();
        let paths: Vec<&str> = list.split('\0').filter(|path| !path.is_empty()).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        // With the attributes that hold there, which may be new.
        let index = admin.join("orch-index");
        let files = async {
            git.call(["read-tree", to.as_str()]).index(&index).answer().await?.success()?;
            let ask = git.call(ASK_INDEX).index(&index);
            with_idle_filter(&self.idle_filters(), &paths, ask).await
        }
        .await;
        let _ = fs::remove_file(&index);
        let files = files?;
        Ok((!files.is_empty()).then(|| {
            format!("orch does not run the filters of {} (`trusted_filters`)", listed(&files))
        }))
    }

    /// Filters that are set up and not run, and that tracked files of the user's checkout ask for.
    pub(crate) async fn needed_filters(&self) -> Result<Vec<String>, WorktreeError> {
        let git = self.git.on_worktree(&self.top_admin, &self.top);
        let mut needed = Vec::new();
        for name in self.idle_filters() {
            // The pathspec has no way to write other characters.
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                continue;
            }
            let files =
                git.run(["ls-files", "-z", "--", &format!(":(attr:filter={name})")]).await?;
            if !files.is_empty() {
                needed.push(name.clone());
            }
        }
        Ok(needed)
    }

    fn idle_filters(&self) -> BTreeSet<String> {
        idle_filters(&self.git)
    }
}

fn idle_filters(git: &Git) -> BTreeSet<String> {
    git.view().map(|view| view.idle_filters().clone()).unwrap_or_default()
}

/// Those of the paths that ask for a filter which is set up and not run.
async fn with_idle_filter(
    idle: &BTreeSet<String>,
    paths: &[&str],
    call: Call<'_>,
) -> Result<Vec<String>, WorktreeError> {
    if idle.is_empty() || paths.is_empty() {
        return Ok(Vec::new());
    }
    let input: String = paths.iter().map(|path| format!("{path}\0")).collect();
    let out = call.input(input).answer().await?.success()?;
    let text = String::from_utf8_lossy(&out).into_owned();
    let words: Vec<&str> = text.split('\0').collect();
    let asked = words.chunks_exact(3).filter(|of| idle.contains(of[2]));
    Ok(asked.map(|of| of[0].to_owned()).collect())
}

/// Finds the files that seem to be changed because their filter is not run. Git reads a file again that
/// was changed within a second of the moment at which the index was written, and gets what
/// is not stored. Whether the file is the one that the agent's git saw is told by its times, of which
/// the index has all digits.
pub(crate) async fn look_again(git: &Git, status: &mut Status) -> Result<(), WorktreeError> {
    let idle = idle_filters(git);
    let paths: Vec<&str> = status.changed.iter().map(String::as_str).collect();
    for path in with_idle_filter(&idle, &paths, git.call(ASK)).await? {
        let spec = format!(":(literal){path}");
        let indexed = git.run(["ls-files", "--debug", "--", &spec]).await?;
        if !is_as_indexed(&git.folder().join(&path), &String::from_utf8_lossy(&indexed)) {
            continue;
        }
        let staged = ["diff-index", "--cached", "--quiet", "HEAD", "--", &spec];
        if git.call(staged).answer().await?.code == Some(0) {
            status.changed.retain(|changed| *changed != path);
        }
        status.untouched.push(path);
    }
    Ok(())
}

/// Whether a file has the size and the times that `git ls-files --debug` prints.
fn is_as_indexed(path: &Path, text: &str) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let field = |name: &str| {
        let rest = text.split_once(name)?.1;
        rest.split(['\n', '\t']).next().map(str::trim)
    };
    let time = |seconds: i64, nanos: i64| format!("{seconds}:{nanos}");
    field("  ctime:") == Some(&*time(meta.ctime(), meta.ctime_nsec()))
        && field("  mtime:") == Some(&*time(meta.mtime(), meta.mtime_nsec()))
        && field("  size:") == Some(&*meta.size().to_string())
}
