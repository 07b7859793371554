//! A worktree in the hands of a task.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use orch_model::{
    CommitId, TaskId,
    ports::{CommitMessage, Findings, Release, Sealed, Worktree, WorktreeError},
    state::Attempt,
};

use crate::{
    checkouts::in_progress,
    error::{io_error, to_the_end, would_lose},
    git::Git,
    modules::Adding,
    names,
    parse::{Status, listed},
    preserve::{Owner, Site, refuse_nested, status_of},
    repo::{Repo, Run},
    signing::Signing,
    trust::Settings,
    view::View,
};

/// A worktree on the branch of a task.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) repo: Arc<Repo>,
    pub(crate) run: Arc<Run>,
    pub(crate) task: TaskId,
    pub(crate) attempt: Attempt,
    pub(crate) site: Site,
    pub(crate) admin: std::path::PathBuf,
    pub(crate) branch: String,
    pub(crate) base: CommitId,
    pub(crate) shared: bool,
    /// What the repository's settings were when the attempt began, where that is known.
    pub(crate) settings: Option<Settings>,
}

#[async_trait]
impl Worktree for Slot {
    fn path(&self) -> &Path {
        &self.site.path
    }

    fn branch(&self) -> &str {
        &self.branch
    }

    fn base(&self) -> &CommitId {
        &self.base
    }

    fn settings(&self) -> Option<&str> {
        self.settings.as_ref().map(|settings| &*settings.name)
    }

    async fn examine(&self) -> Result<Findings, WorktreeError> {
        let slot = self.clone();
        to_the_end(async move { slot.look_over().await }).await
    }

    async fn seal(&self, message: &CommitMessage) -> Result<Sealed, WorktreeError> {
        let (slot, message) = (self.clone(), message.clone());
        to_the_end(async move {
            let sealed = slot.seal_now(&message).await?;
            if let Some(tip) = &sealed.tip {
                slot.repo.sync_objects(tip, &slot.base).await?;
                slot.repo.sync_ref(&names::head(&slot.branch))?;
            }
            Ok(sealed)
        })
        .await
    }

    async fn release(self: Box<Self>, release: Release) -> Result<(), WorktreeError> {
        to_the_end(async move {
            let _place = self.repo.places.hold(&self.site.path).await;
            self.repo.revive(&self.site.path).await?;
            self.refuse_misled()?;
            match (release, self.shared) {
                (Release::Done, _) => self.done(false).await,
                (Release::Verified, _) => self.done(true).await,
                (Release::Retry, false) => self.retry().await,
                (Release::Retry, true) => self.retry_shared().await,
                (Release::Keep, true) => self.keep_shared().await,
                (Release::Shelve { verified }, _) => self.shelve(verified).await,
                // Folder and branch stay, and so does the lock that keeps `prune` away.
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Slot {
    fn git(&self) -> Git {
        self.repo.git.on_worktree(&self.admin, &self.site.path)
    }

    async fn look_over(&self) -> Result<Findings, WorktreeError> {
        let repo = &self.repo;
        let view = repo.git.view().map(View::examine).transpose();
        let view = view.map_err(io_error("looking at the engine's settings for git"))?;
        let now = repo.trust.look(&repo.git).await?;
        let mut tampering = repo.misled(&self.site.path, &self.admin);
        tampering.extend(view.flatten());
        tampering.extend(repo.own_settings(&self.admin).await?);
        let begun = self.settings.as_ref();
        let prints = begun.and_then(|s| s.print.as_ref()).into_iter();
        for print in prints.chain(self.run.settings.get().map(|look| &look.print)) {
            let changes = print.changes(&now.print);
            tampering
                .extend(changes.into_iter().filter(|c| !tampering.contains(c)).collect::<Vec<_>>());
        }
        if let Some(Settings { name, print: None, .. }) = begun
            && now.name(&repo.git).await? != name
        {
            let what = format!("settings or hooks of {}", repo.checkouts.common().display());
            tampering.push(format!("{what}: what they were is not known any more"));
        }
        let mut notices = Vec::new();
        if let Some(stash) = begun.and_then(|settings| settings.stash.as_ref()) {
            notices.extend(repo.stash_since(stash, &self.run.id, &self.branch).await?);
        }
        if !repo.told_of_filters.swap(true, Ordering::Relaxed) {
            notices.extend(repo.needed_filters().await?.into_iter().map(|name| {
                format!("files with the filter `{name}` are in worktrees as they are stored: orch does not run it unless it is named in `trusted_filters`")
            }));
        }
        Ok(Findings { tampering, notices })
    }

    /// Does nothing in a folder that leads elsewhere.
    fn refuse_misled(&self) -> Result<(), WorktreeError> {
        let changes = self.repo.misled(&self.site.path, &self.admin);
        if changes.is_empty() { Ok(()) } else { Err(WorktreeError::Tampered { changes }) }
    }

    fn owner(&self) -> Owner<'_> {
        Owner { run: &self.run, task: &self.task, attempt: self.attempt }
    }

    async fn seal_now(&self, message: &CommitMessage) -> Result<Sealed, WorktreeError> {
        self.refuse_misled()?;
        let path = &self.site.path;
        let git = self.git();
        let status = status_of(&git).await?;
        if !status.unmerged.is_empty() {
            let files = listed(&status.unmerged);
            return Err(would_lose(path, format!("files with unresolved conflicts: {files}")));
        }
        if let Some(what) = in_progress(&self.admin) {
            let reason = format!("{what} was begun and not finished; finish or abort it");
            return Err(would_lose(path, reason));
        }
        refuse_nested(path, &status)?;
        self.repo.refuse_unfiltered(&git, &status).await?;
        if status.branch.as_deref() != Some(&self.branch) {
            return self.seal_elsewhere(&status, message).await;
        }
        let committed = status.is_dirty() && self.commit(&git, &status, message).await?;
        let tip = if committed {
            Some(CommitId::new(git.line(["rev-parse", "--verify", "HEAD"]).await?))
        } else {
            status.head
        };
        Ok(Sealed { tip: tip.filter(|tip| *tip != self.base), committed })
    }

    /// Commits all changes. There may be nothing to commit all the same: changed files inside a
    /// submodule make a worktree dirty.
    async fn commit(
        &self,
        git: &Git,
        status: &Status,
        message: &CommitMessage,
    ) -> Result<bool, WorktreeError> {
        let adding = Adding::new(git, None, status).await?;
        self.repo.past_locks(|| adding.files(git)).await?.success()?;
        if let Some(modules) = adding.modules(git) {
            modules.answer().await?.success()?;
        }
        let text = message.to_string();
        let commit = || {
            let signing = self.repo.signing.as_ref();
            let sign = if signing.is_some() { "--gpg-sign" } else { "--no-gpg-sign" };
            let quiet =
                ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", sign, "-m", &text];
            git.call(quiet).settings(signing.map_or(&[], Signing::settings))
        };
        let answer = self.repo.past_locks(commit).await?;
        if answer.code == Some(0) {
            return Ok(true);
        }
        let staged = git.call(["diff-index", "--cached", "--quiet", "HEAD", "--"]).answer().await?;
        if staged.code == Some(0) { Ok(false) } else { Err(answer.into_error()) }
    }

    /// The task left the branch that it was given. Its work is where HEAD is; the task's branch
    /// follows if it can do so without losing a commit.
    async fn seal_elsewhere(
        &self,
        status: &Status,
        message: &CommitMessage,
    ) -> Result<Sealed, WorktreeError> {
        let (path, repo) = (&self.site.path, &self.repo);
        let branch = names::head(&self.branch);
        let old = repo.refs(&[&branch]).await?.remove(&branch).map(|r| r.commit);
        let committed = status.is_dirty();
        let tip = match &status.head {
            // A commit on objects: the branch that is checked out now may be anybody's.
            _ if committed => Some(repo.snapshot(path, &self.admin, status, message).await?),
            head => head.clone(),
        };
        let Some(tip) = tip else {
            return Err(would_lose(path, "HEAD is on a branch without commits; commit there"));
        };
        let tip = match old {
            Some(old) if repo.is_ancestor(&old, &tip).await? => {
                self.attach(&tip, &format!("update {branch} {tip} {old}")).await?;
                tip
            }
            Some(old) if !committed && repo.is_ancestor(&tip, &old).await? => old,
            None => {
                self.attach(&tip, &format!("create {branch} {tip}")).await?;
                tip
            }
            Some(old) => {
                return Err(would_lose(
                    path,
                    format!(
                        "HEAD is at {} and branch {} at {}, and neither contains the other; merge them",
                        tip.short(),
                        self.branch,
                        old.short()
                    ),
                ));
            }
        };
        Ok(Sealed { tip: Some(tip).filter(|tip| *tip != self.base), committed })
    }

    /// Moves the task's branch to a commit of what is in the worktree, and HEAD to the branch.
    async fn attach(&self, tip: &CommitId, line: &str) -> Result<(), WorktreeError> {
        tracing::warn!(branch = %self.branch, %tip, "the task left its branch; the branch follows");
        self.repo.transact("orch: follow HEAD", &[line.to_owned()]).await??;
        let git = self.git();
        git.run(["symbolic-ref", "HEAD", &names::head(&self.branch)]).await?;
        // The files are those of the commit already; only the index may lag behind.
        git.run(["read-tree", tip.as_str()]).await.map(drop)
    }

    /// Removes the worktree of merged work. `by_products`: what is not committed came after the
    /// work was sealed, and goes with it.
    async fn done(&self, by_products: bool) -> Result<(), WorktreeError> {
        let head = self.look_back(by_products).await?;
        let tip = self.prove_merged(head.as_ref()).await?;
        self.leave(head.as_ref(), by_products).await?;
        match tip {
            Some(tip) => self.repo.delete_branch(&self.branch, &tip).await,
            None => Ok(()),
        }
    }

    /// Removes the worktree of work that stays on its branch.
    async fn shelve(&self, by_products: bool) -> Result<(), WorktreeError> {
        let head = self.look_back(by_products).await?;
        if let Some(head) = &head
            && self.repo.refs_containing(head, &[names::head(&self.branch)]).await?.is_empty()
        {
            let (path, short) = (&self.site.path, head.short());
            return Err(would_lose(path, format!("commit {short} is not on its branch")));
        }
        self.leave(head.as_ref(), by_products).await
    }

    /// Where HEAD is, if nothing in the folder keeps it from being removed.
    async fn look_back(&self, by_products: bool) -> Result<Option<CommitId>, WorktreeError> {
        let path = &self.site.path;
        if !path.is_dir() {
            return Ok(None);
        }
        let status = status_of(&self.git()).await?;
        if status.is_dirty() && !by_products {
            let reason = format!("not committed: {}", status.summary());
            return Err(would_lose(path, reason));
        }
        if let Some(what) = in_progress(&self.admin) {
            return Err(would_lose(path, format!("{what} was begun and not finished")));
        }
        self.repo.refuse_private_modules(path, &self.admin).await?;
        Ok(status.head)
    }

    /// Removes the folder, or leaves that of an epic to its next task.
    async fn leave(&self, head: Option<&CommitId>, by_products: bool) -> Result<(), WorktreeError> {
        if !self.shared {
            return self.repo.remove(&self.site).await;
        }
        if by_products {
            let git = self.git();
            git.run(["reset", "--hard", "--quiet"]).await?;
            git.run(["clean", "-d", "--force", "--quiet"]).await?;
        }
        if let Some(head) = head {
            self.git().run(["update-ref", "--no-deref", "HEAD", head.as_str()]).await?;
        }
        Ok(())
    }

    /// Proves that HEAD and the branch are part of the results or of the target, or are kept as what
    /// became part of them, and returns where the branch stands.
    async fn prove_merged(
        &self,
        head: Option<&CommitId>,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let branch = names::head(&self.branch);
        let merged = names::merged(&self.run.id, &self.task);
        let places = [self.run.results_ref(), self.run.target_ref(), merged, branch.clone()];
        let mut proven: Option<CommitId> = None;
        if let Some(head) = head {
            let mut found = self.repo.refs_containing(head, &places).await?;
            let tip = found.remove(&branch).map(|r| r.commit);
            if found.is_empty() {
                return Err(self.unmerged(head));
            }
            if tip.as_ref() == Some(head) {
                return Ok(tip);
            }
            proven = Some(head.clone());
        }
        let tip = self.repo.refs(&[&branch]).await?.remove(&branch).map(|r| r.commit);
        if let Some(tip) = tip.as_ref().filter(|tip| proven.as_ref() != Some(tip))
            && self.repo.refs_containing(tip, &places[..3]).await?.is_empty()
        {
            return Err(self.unmerged(tip));
        }
        Ok(tip)
    }

    fn unmerged(&self, commit: &CommitId) -> WorktreeError {
        let short = commit.short();
        would_lose(&self.site.path, format!("commit {short} is not part of the results"))
    }

    async fn retry(&self) -> Result<(), WorktreeError> {
        let tip = self.repo.preserve(&self.site, &self.branch, self.owner()).await?;
        self.repo.remove(&self.site).await?;
        match tip {
            Some(tip) => self.repo.delete_branch(&self.branch, &tip).await,
            None => Ok(()),
        }
    }

    /// The folder of an epic stays with its ignored files; all else in it is kept elsewhere.
    async fn retry_shared(&self) -> Result<(), WorktreeError> {
        let tip = self.repo.preserve(&self.site, &self.branch, self.owner()).await?;
        let git = self.git();
        let cleaned = async {
            git.run(["checkout", "--quiet", "--force", "--detach", self.base.as_str(), "--"])
                .await?;
            git.run(["clean", "-f", "-d", "--quiet"]).await
        };
        if let Err(error) = cleaned.await {
            let path = self.site.path.display();
            tracing::warn!(%error, %path, "can't clean the folder of an epic: it is removed");
            self.repo.remove(&self.site).await?;
        }
        match tip {
            Some(tip) => self.repo.delete_branch(&self.branch, &tip).await,
            None => Ok(()),
        }
    }

    /// The folder of an epic goes on to the next task, so the branch alone has to keep the work.
    async fn keep_shared(&self) -> Result<(), WorktreeError> {
        self.repo.commit_leftovers(&self.site, &self.admin, &self.run).await.map(drop)
    }
}
