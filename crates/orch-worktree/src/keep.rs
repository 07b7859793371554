//! Keeps the work of a task for good.

use std::path::PathBuf;

use orch_model::{CommitId, ports::WorktreeError};

use crate::{
    error::refused,
    names,
    repo::Repo,
    work::{WorkQuery, WorkSource},
};

/// What is kept of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The reference that keeps it, by its whole name.
    pub reference: String,
    /// The last commit of it.
    pub commit: CommitId,
    /// Whether it was not kept before.
    pub is_new: bool,
    /// Its worktree, which stays too.
    pub worktree: Option<PathBuf>,
    /// Its branch, which stays too, without `refs/heads/`.
    pub branch: Option<String>,
}

impl Repo {
    pub(crate) async fn keep_work(&self, query: &WorkQuery) -> Result<Kept, WorktreeError> {
        let (run, task) = (&query.run, &query.task);
        let Some(work) = self.work(query).await? else {
            return Err(refused(format!(
                "nothing is left of task {task} of run {run} that could be kept"
            )));
        };
        let mut worktree = None;
        let mut commit = work.tip.clone();
        if let WorkSource::Worktree { path, admin } = &work.source {
            let tree = self.tree_in(path, admin).await?;
            let committed = self.git.line(["rev-parse", &format!("{commit}^{{tree}}")]).await?;
            if tree != committed {
                let reason = std::fs::read_to_string(admin.join("locked")).unwrap_or_default();
                let attempt = names::attempt_of(&reason).unwrap_or_default();
                let message = names::left_by(run, task, attempt).to_string();
                commit = match self.kept_before(query, &tree, &commit).await? {
                    Some(same) => same,
                    None => self.commit_tree(&tree, &[&commit], &message).await?,
                };
            }
            worktree = Some(path.clone());
        }
        self.sync_objects(&commit, &work.base).await?;
        let folder = names::all_kept(run, task);
        let taken = self.refs(&[&folder]).await?;
        let same = taken.values().find(|reference| reference.commit == commit);
        let reference = match same {
            Some(reference) => reference.name.clone(),
            None => {
                let last = taken.keys().filter_map(|name| names::number_below(&folder, name)).max();
                let name = format!("{folder}/{}", last.unwrap_or(0) + 1);
                self.transact("orch: keep", &[format!("create {name} {commit}")]).await??;
                name
            }
        };
        let branch = names::task_branch(run, task);
        let name = names::head(&branch);
        let branch = self.refs(&[&name]).await?.contains_key(&name).then_some(branch);
        Ok(Kept { is_new: same.is_none(), reference, commit, worktree, branch })
    }

    /// A commit with this tree on top of this one that was kept earlier: nothing has changed since.
    async fn kept_before(
        &self,
        query: &WorkQuery,
        tree: &str,
        parent: &CommitId,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let kept = self.refs(&[names::all_kept(&query.run, &query.task)]).await?;
        for reference in kept.into_values().filter(|reference| reference.tree == tree) {
            let name = format!("{}^1", reference.commit);
            if self.commit_at(&name).await?.as_ref() == Some(parent) {
                return Ok(Some(reference.commit));
            }
        }
        Ok(None)
    }
}
