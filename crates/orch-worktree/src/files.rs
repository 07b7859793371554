//! Files of the results of a run, and changes of them by a commit of the engine's own. Objects and
//! references only, like merges.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use orch_model::{CommitId, RunId, ports::WorktreeError, trailers};
use tempfile::TempDir;

use crate::{
    commit::NewCommit,
    error::{io_error, to_the_end},
    names,
    provider::GitWorktrees,
    repo::Repo,
};

/// The largest file that is given out, in bytes.
const LARGEST: u64 = 1 << 20;

/// How many files of the folder are given out.
const MOST: usize = 256;

/// Files of the results of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResultFiles {
    /// The commit that they are of.
    pub tip: CommitId,
    /// The paths of all files.
    pub paths: BTreeSet<String>,
    /// The plain files that lie directly in the folder that was asked for, by their names, with what is in
    /// them. Those of more than 1 MiB, and more than 256 of them, are left out.
    pub content: BTreeMap<String, Vec<u8>>,
}

/// A change of files of the results.
#[derive(Debug, Clone)]
pub struct ChangeResults {
    /// The run.
    pub run: RunId,
    /// The commit that it is a change of, [`ResultFiles::tip`].
    pub base: CommitId,
    /// Files by their paths, with what is to be in them.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the commit says; the run is added.
    pub message: String,
}

impl GitWorktrees {
    /// Reads files of the results of a run. `None`: there are none, or they have been delivered.
    ///
    /// # Errors
    /// Where the run has not begun, or git failed.
    pub async fn result_files(
        &self,
        run: &RunId,
        folder: &str,
    ) -> Result<Option<ResultFiles>, WorktreeError> {
        let (repo, run, folder) = (self.repo(), run.clone(), folder.to_owned());
        to_the_end(async move { repo.result_files(&run, &folder).await }).await
    }

    /// Changes files of the results by a commit of the engine's own, on top of them. The target follows as
    /// with a merge. `None`: the results have moved since they were read.
    ///
    /// # Errors
    /// Where the run has not begun, a path leads out of the repository or through something that is no folder, or
    /// git failed. Nothing was moved then.
    pub async fn change_results(
        &self,
        change: ChangeResults,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let repo = self.repo();
        to_the_end(async move { repo.change_results(&change).await }).await
    }
}

impl Repo {
    async fn result_files(
        &self,
        run: &RunId,
        folder: &str,
    ) -> Result<Option<ResultFiles>, WorktreeError> {
        let run = self.run(run).await?;
        let results = run.results_ref();
        if self.refs(&[&results]).await?.is_empty() {
            return Ok(None);
        }
        let tip = self.settle(&run, None).await?.results;
        let list = ["ls-tree", "-r", "-z", "--full-tree", "--long", tip.as_str()];
        let list = self.git.run(list).await?;
        let (mut paths, mut content) = (BTreeSet::new(), BTreeMap::new());
        for line in String::from_utf8_lossy(&list).split('\0') {
            let Some((about, path)) = line.split_once('\t') else { continue };
            paths.insert(path.to_owned());
            let name = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            let Some(name) = name.filter(|name| !name.contains('/')) else { continue };
            let mut about = about.split_whitespace();
            let (mode, blob) = (about.next(), about.nth(1));
            let is_small =
                about.next().and_then(|s| s.parse().ok()).is_some_and(|n: u64| n <= LARGEST);
            let is_plain = matches!(mode, Some("100644" | "100755"));
            if let (Some(blob), true, true) = (blob, is_small && is_plain, content.len() < MOST) {
                let text = self.git.call(["cat-file", "blob", blob]).answer().await?.success()?;
                content.insert(name.to_owned(), text);
            }
        }
        Ok(Some(ResultFiles { tip, paths, content }))
    }

    async fn change_results(
        &self,
        change: &ChangeResults,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let run = self.run(&change.run).await?;
        let _one = self.merging.lock().await;
        if self.refs(&[&run.results_ref()]).await?.is_empty() {
            return Ok(None);
        }
        let tips = self.settle_alone(&run, None).await?;
        if tips.results != change.base {
            return Ok(None);
        }
        self.refuse_what_is_in_the_way(&change.base, change.files.keys()).await?;
        let tree = self.tree_with(&change.base, &change.files).await?;
        let message = trailers::append(&change.message, &[("Orch-Run", change.run.as_str())]);
        let new = self
            .commit(NewCommit {
                tree: &tree,
                parents: &[&change.base],
                message: &message,
                author: None,
                signed: true,
            })
            .await?;
        let subject = change.message.lines().next().unwrap_or_default();
        let why = format!("orch: {subject} ({})", names::results_branch(&run.id));
        Ok(self.advance(&run, &tips, &new, Vec::new(), &why).await?.is_ok().then_some(new))
    }

    /// Nothing that is there is replaced by a folder, and only plain files by other content.
    async fn refuse_what_is_in_the_way(
        &self,
        commit: &CommitId,
        files: impl Iterator<Item = &String>,
    ) -> Result<(), WorktreeError> {
        let files: BTreeSet<&str> = files.map(String::as_str).collect();
        let above = |path: &str| -> Vec<String> {
            path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
        };
        let folders: BTreeSet<String> = files.iter().flat_map(|path| above(path)).collect();
        let named = files.iter().copied().chain(folders.iter().map(String::as_str));
        let list = ["ls-tree", "-z", "--full-tree", commit.as_str(), "--"].into_iter().chain(named);
        let list = self.git.run(list).await?;
        for line in String::from_utf8_lossy(&list).split('\0') {
            let Some((about, path)) = line.split_once('\t') else { continue };
            let is_fit = match about.split(' ').next() {
                Some("040000") => !files.contains(path),
                Some("100644" | "100755") => !folders.contains(path),
                _ => false,
            };
            if !is_fit {
                let message = format!("`{path}` is in the way: it is replaced by nothing else");
                return Err(WorktreeError::Refused { message });
            }
        }
        Ok(())
    }

    /// The tree of a commit with other content in some files.
    async fn tree_with(
        &self,
        commit: &CommitId,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<String, WorktreeError> {
        let scratch =
            TempDir::with_prefix("orch-").map_err(io_error("making a temporary folder"))?;
        let index = scratch.path().join("index");
        let git =
            |arguments: &[&str], index: &Path| self.git.call(arguments).durable().index(index);
        git(&["read-tree", commit.as_str()], &index).answer().await?.success()?;
        let mut put = vec!["update-index".to_owned(), "--add".to_owned()];
        for (path, content) in files {
            let write = self.git.call(["hash-object", "-w", "--stdin"]).durable();
            let blob = write.input(content.clone()).answer().await?.success()?;
            let blob = String::from_utf8_lossy(&blob).trim().to_owned();
            put.extend(["--cacheinfo".to_owned(), format!("100644,{blob},{path}")]);
        }
        // It refuses paths that git would not have in a tree, such as `../x` and `.git/x`.
        self.git.call(&put).durable().index(&index).answer().await?.success()?;
        let tree = git(&["write-tree"], &index).answer().await?.success()?;
        Ok(String::from_utf8_lossy(&tree).trim().to_owned())
    }
}
