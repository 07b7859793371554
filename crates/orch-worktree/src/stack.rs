//! Candidates for the results: merges stacked on one another that move nothing, a folder to verify
//! them in, and the step that makes one of them the results.

use std::path::{Path, PathBuf};

use orch_model::{
    CommitId, RunId,
    ports::{MergeRequest, Stack, Stacked, WorktreeError},
};

use crate::{
    entry::{self, Detached},
    error::io_error,
    merge::Joined,
    names,
    preserve::Site,
    repo::{Repo, Run},
};

impl Repo {
    pub(crate) async fn stack(
        &self,
        run: &RunId,
        requests: &[MergeRequest],
    ) -> Result<Stack, WorktreeError> {
        let run = self.run(run).await?;
        let _one = self.merging.lock().await;
        let tips = self.settle_alone(&run, None).await?;
        let (mut top, mut tree) = (tips.results.clone(), tips.tree);
        let mut merges = Vec::with_capacity(requests.len());
        for request in requests {
            merges.push(match self.join(&run, &top, &tree, request).await? {
                Joined::Contained { merge_commit } => Stacked::Contained { merge_commit },
                Joined::Conflicted { files, hunks } => Stacked::Conflicted { files, hunks },
                Joined::Merged { merge_commit, tree: merged } => {
                    (top, tree) = (merge_commit.clone(), merged);
                    Stacked::Merged { merge_commit }
                }
            });
        }
        Ok(Stack { base: tips.results, merges })
    }

    pub(crate) async fn advance_to(
        &self,
        run: &RunId,
        base: &CommitId,
        commit: &CommitId,
    ) -> Result<bool, WorktreeError> {
        let run = self.run(run).await?;
        let _one = self.merging.lock().await;
        let tips = self.tips(&run, None).await?;
        if tips.results != *base {
            return self.is_ancestor(commit, &tips.results).await;
        }
        // New commits of the target have to be verified with it.
        if !self.is_settled(&run, &tips) {
            return Ok(false);
        }
        let records = self.records(&run, base, commit).await?;
        let why = "orch: merge what was verified";
        Ok(self.advance(&run, &tips, commit, records, why).await?.is_ok())
    }

    /// The folder of the run's merge queue at a commit, which a reference keeps until the next one.
    pub(crate) async fn checkout(
        &self,
        run: &RunId,
        commit: &CommitId,
    ) -> Result<PathBuf, WorktreeError> {
        let run = self.run(run).await?;
        let path = self.candidate_folder(&run.id);
        let _place = self.places.hold(&path).await;
        let line = format!("update {} {commit}", names::run_ref(&run.id, names::CANDIDATE));
        self.transact("orch: verify a candidate", &[line]).await??;
        if !self.switch(&path, commit).await? {
            self.remove(&self.candidate_site(&run.id)).await?;
            self.add_detached(&run, &path, commit).await?;
        }
        Ok(path)
    }

    /// Switches the folder; `false` where there is none or it can't be used.
    async fn switch(&self, path: &Path, commit: &CommitId) -> Result<bool, WorktreeError> {
        let Some(admin) = self.checkouts.admin_of(path) else { return Ok(false) };
        if !path.is_dir() || !admin.join("index").exists() {
            return Ok(false);
        }
        let git = self.git.on_worktree(&admin, path);
        let switched = async {
            git.run(["checkout", "--quiet", "--force", "--detach", commit.as_str(), "--"]).await?;
            git.run(["clean", "-f", "-d", "--quiet"]).await
        };
        match switched.await {
            Ok(_) => Ok(true),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "the merge queue's folder is made anew");
                Ok(false)
            }
        }
    }

    async fn add_detached(
        &self,
        run: &Run,
        path: &Path,
        commit: &CommitId,
    ) -> Result<(), WorktreeError> {
        // The entry of a folder that is gone is in the way of a new one.
        self.forget_vanished(path).await?;
        let reason = format!("orch run {} merge queue", run.id);
        let worktree = Detached { folder: path, commit, reason: &reason };
        let admin = worktree.make(&self.git, &self.checkouts, &self.lock).await?;
        let git = self.git.on_worktree(&admin, path);
        git.run(["read-tree", "--reset", "-u", commit.as_str()]).await.map(drop)
    }

    /// Removes git's entry of a worktree whose folder does not exist.
    pub(crate) async fn forget_vanished(&self, path: &Path) -> Result<(), WorktreeError> {
        if path.exists() {
            return Ok(());
        }
        let held = self.lock.hold().await?;
        for (_, admin) in self.checkouts.linked().filter(|(linked, _)| linked == path) {
            entry::remove(self.checkouts.common(), &admin, &held)
                .map_err(io_error(format!("removing {}", admin.display())))?;
        }
        Ok(())
    }

    /// Removes the folder of the merge queue: what is in it is nobody's work.
    pub(crate) async fn remove_candidate(&self, run: &RunId) -> Result<(), WorktreeError> {
        let site = self.candidate_site(run);
        if site.admin.is_some() || site.path.exists() {
            let _place = self.places.hold(&site.path).await;
            self.remove(&site).await?;
        }
        let name = names::run_ref(run, names::CANDIDATE);
        match self.refs(&[&name]).await?.remove(&name) {
            Some(found) => {
                let line = format!("delete {name} {}", found.commit);
                self.transact("orch: the merge queue is empty", &[line]).await?
            }
            None => Ok(()),
        }
    }

    fn candidate_folder(&self, run: &RunId) -> PathBuf {
        self.root.join(run.as_str()).join(names::MERGE_QUEUE)
    }

    fn candidate_site(&self, run: &RunId) -> Site {
        let path = self.candidate_folder(run);
        let admin = self.checkouts.admin_of(&path);
        Site { path, admin }
    }
}
