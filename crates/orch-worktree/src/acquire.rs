//! Makes worktrees.
//!
//! Git's entry is made in one step, see [`entry`]; where git has to do that, it is
//! serialised, as `git worktree add` fails when several run at once. The checkout runs in parallel. The worktree is locked from its first
//! moment, so that no `git worktree prune` takes it. Where worktrees are used again, one of the pool is
//! taken instead.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use orch_model::{
    CommitId, TaskId,
    event::Place,
    ports::{Worktree, WorktreeError, WorktreeRequest},
    state::Attempt,
};

use crate::{
    entry::{self, Entry},
    error::io_error,
    kind::TreeKind,
    mend::set_aside,
    names,
    pool::write_whole,
    preserve::{Owner, Site, refuse_nested, status_of},
    repo::{Repo, Run},
    slot::Slot,
    trust::Settings,
};

impl Repo {
    pub(crate) async fn acquire(
        self: Arc<Self>,
        request: WorktreeRequest,
    ) -> Result<Box<dyn Worktree>, WorktreeError> {
        let run = self.run(&request.run).await?;
        let branch = names::task_branch(&request.run, &request.task);
        let path = self.root.join(request.run.as_str()).join(names::folder(&request));
        let _place = self.places.hold(&path).await;
        let settings = self.settings_of(&run, &path).await?;
        self.revive(&path).await?;
        let head = names::head(&branch);
        let tips = match self.settle(&run, Some(&head)).await {
            Err(WorktreeError::Git { .. }) if self.drop_unreadable(&branch).await? => {
                self.settle(&run, Some(&head)).await?
            }
            tips => tips?,
        };
        let base = tips.results;
        let owner = Owner { run: &run, task: &request.task, attempt: request.attempt };
        let shared = request.shared_by.is_some();
        let reused = if shared { self.reuse(&path, &branch, &base, owner).await? } else { None };
        let admin = match reused {
            Some(admin) => admin,
            None => {
                let leftovers = tips.other.is_some()
                    || path.exists()
                    || path.is_symlink()
                    || self.checkouts.admin_of(&path).is_some();
                self.fresh(&path, &branch, &base, owner, leftovers).await?
            }
        };
        let site = Site { path, admin: Some(admin.clone()) };
        if let Err(error) = self.furnish(&site.path, &admin).await {
            // Nobody has worked in it yet.
            self.remove(&site).await?;
            self.delete_branch(&branch, &base).await?;
            return Err(error);
        }
        Ok(Box::new(Slot {
            repo: Arc::clone(&self),
            task: request.task,
            attempt: request.attempt,
            site,
            admin,
            branch,
            base,
            shared,
            run,
            settings: Some(settings),
        }))
    }

    /// The worktree that an earlier process made for the same attempt.
    pub(crate) async fn reopen(
        self: Arc<Self>,
        request: WorktreeRequest,
        place: Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        let slot = self.slot_of(request, place).await?;
        Ok(slot.map(|slot| Box::new(slot) as Box<dyn Worktree>))
    }

    /// The worktree of an earlier attempt, which is that of this one from now on.
    pub(crate) async fn proceed(
        self: Arc<Self>,
        request: WorktreeRequest,
        before: Attempt,
        place: Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        let _place = self.places.hold(&place.path).await;
        let attempt = request.attempt;
        let earlier = WorktreeRequest { attempt: before, ..request };
        let Some(slot) = Arc::clone(&self).slot_of(earlier, place).await? else { return Ok(None) };
        let slot = Slot { attempt, ..slot };
        let reason = names::lock_reason(&slot.run.id, &slot.task, attempt);
        write_whole(&slot.admin.join("locked"), &reason, false)
            .map_err(io_error("taking over the worktree of the attempt before"))?;
        Ok(Some(Box::new(slot)))
    }

    async fn slot_of(
        self: Arc<Self>,
        request: WorktreeRequest,
        place: Place,
    ) -> Result<Option<Slot>, WorktreeError> {
        let run = self.run(&request.run).await?;
        self.revive(&place.path).await?;
        let reason = names::lock_reason(&request.run, &request.task, request.attempt);
        // Its entry may name another folder by now: then it is found by what it is locked for.
        let admin = self.checkouts.admin_of(&place.path);
        let Some(admin) = admin.or_else(|| self.checkouts.locked_for(&reason)) else {
            return Ok(None);
        };
        let locked = fs::read_to_string(admin.join("locked")).unwrap_or_default();
        if !place.path.is_dir() || locked.trim_end() != reason.trim_end() {
            return Ok(None);
        }
        let settings = match place.settings {
            Some(name) => {
                let print = self.trust.recall(&self.git, &name).await?;
                Some(Settings { name, print, stash: None })
            }
            None => None,
        };
        Ok(Some(Slot {
            repo: Arc::clone(&self),
            task: request.task,
            attempt: request.attempt,
            site: Site { path: place.path, admin: Some(admin.clone()) },
            admin,
            branch: place.branch,
            base: place.base,
            shared: request.shared_by.is_some(),
            run,
            settings,
        }))
    }

    /// A new worktree, in the place of what an interrupted call may have left.
    async fn fresh(
        &self,
        path: &Path,
        branch: &str,
        base: &CommitId,
        owner: Owner<'_>,
        leftovers: bool,
    ) -> Result<PathBuf, WorktreeError> {
        if leftovers {
            self.recover(path, branch, owner).await?;
        }
        if self.choice().kind == TreeKind::Pool {
            let reason = names::lock_reason(&owner.run.id, owner.task, owner.attempt);
            match self.pool.lend(path, branch, base, &reason).await {
                Ok(admin) => return Ok(admin),
                // What is slower may work, or says better what is wrong.
                Err(error) => tracing::warn!(%error, "the pool has no worktree"),
            }
        }
        match self.fill(path, branch, base, owner).await {
            Ok(admin) => Ok(admin),
            // A git of a killed process may have written to the entry of the same name.
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "filling a worktree again");
                self.fill(path, branch, base, owner).await
            }
        }
    }

    /// A new worktree with the files of a commit. Where that fails nothing of it is left.
    async fn fill(
        &self,
        path: &Path,
        branch: &str,
        base: &CommitId,
        owner: Owner<'_>,
    ) -> Result<PathBuf, WorktreeError> {
        let admin = match self.add(path, branch, base, owner).await {
            Ok(admin) => admin,
            Err(error) => {
                // The entry of a worktree whose folder is gone is not seen by a look at the
                // folder; looking for it each time would cost more.
                tracing::debug!(%error, path = %path.display(), "making a worktree again");
                self.recover(path, branch, owner).await?;
                match self.add(path, branch, base, owner).await {
                    Ok(admin) => admin,
                    Err(error) => {
                        self.recover(path, branch, owner).await?;
                        return Err(error);
                    }
                }
            }
        };
        if self.choice().kind == TreeKind::Overlay {
            match self.overlay.fill(path, &admin, &owner.run.id, base).await {
                Ok(()) => return Ok(admin),
                Err(error) => {
                    tracing::warn!(%error, "an overlay can't be used");
                    self.overlay.give_up(path, &admin)?;
                }
            }
        }
        let git = self.git.on_worktree(&admin, path);
        if let Err(error) = git.run(["read-tree", "--reset", "-u", base.as_str()]).await {
            let site = Site { path: path.into(), admin: Some(admin) };
            self.remove(&site).await?;
            self.delete_branch(branch, base).await?;
            return Err(error);
        }
        Ok(admin)
    }

    async fn add(
        &self,
        path: &Path,
        branch: &str,
        base: &CommitId,
        owner: Owner<'_>,
    ) -> Result<PathBuf, WorktreeError> {
        let reason = names::lock_reason(&owner.run.id, owner.task, owner.attempt);
        let common = self.checkouts.common();
        if entry::is_simple(common) {
            let name = names::head(branch);
            let zero = "0".repeat(base.as_str().len());
            self.git.run(["update-ref", &name, base.as_str(), &zero]).await?;
            let head = format!("ref: {name}\n");
            let lock = self.lock.hold().await?;
            let entry = Entry { folder: path, head: &head, reason: &reason };
            let doing = format!("making the worktree {}", path.display());
            return entry.make(common, &lock).map_err(io_error(doing));
        }
        let arguments: [&Path; 13] = [
            "worktree".as_ref(),
            "add".as_ref(),
            "--quiet".as_ref(),
            "--no-checkout".as_ref(),
            "--no-track".as_ref(),
            "--lock".as_ref(),
            "--reason".as_ref(),
            reason.as_ref(),
            "-b".as_ref(),
            branch.as_ref(),
            "--".as_ref(),
            path,
            base.as_str().as_ref(),
        ];
        let lock = self.lock.hold().await?;
        self.git.plain().call(arguments).holding(&lock)?.answer().await?.success()?;
        let doing = format!("reading the git file of {}", path.display());
        let link = fs::read_to_string(path.join(".git")).map_err(io_error(&*doing))?;
        let admin = Path::new(link.trim_start_matches("gitdir:").trim());
        path.join(admin).canonicalize().map_err(io_error(doing))
    }

    /// Takes leftovers out of the way, after their work was kept.
    async fn recover(
        &self,
        path: &Path,
        branch: &str,
        owner: Owner<'_>,
    ) -> Result<(), WorktreeError> {
        let mut site = Site { path: path.into(), admin: self.checkouts.admin_of(path) };
        if let Some(admin) = &site.admin
            && !self.misled(path, admin).is_empty()
        {
            // What is there is not the worktree: it is neither read nor deleted, and moved away. Git's
            // entry of it is.
            let changes = self.misled(path, admin);
            let entry = Site { path: admin.join("nowhere"), admin: Some(admin.clone()) };
            self.preserve(&entry, branch, owner).await?;
            self.give_up(&site, &WorktreeError::Tampered { changes }).await?;
            site.admin = None;
        }
        let owner = Owner { attempt: site.attempt().unwrap_or(owner.attempt), ..owner };
        self.drop_unreadable(branch).await?;
        let tip = match self.preserve(&site, branch, owner).await {
            Ok(tip) => tip,
            Err(error @ WorktreeError::Git { .. }) => {
                self.give_up(&site, &error).await?;
                // What can be read is kept under a reference.
                let gone = Site { path: path.into(), admin: None };
                self.preserve(&gone, branch, owner).await?
            }
            Err(error) => return Err(error),
        };
        if site.admin.is_none() {
            set_aside(path)?;
        }
        self.remove(&site).await?;
        if let Some(tip) = tip {
            self.delete_branch(branch, &tip).await?;
        }
        Ok(())
    }

    /// The folder of an epic with its ignored files, on a new branch; `None` if there is none or
    /// it can't be used.
    async fn reuse(
        &self,
        path: &Path,
        branch: &str,
        base: &CommitId,
        owner: Owner<'_>,
    ) -> Result<Option<PathBuf>, WorktreeError> {
        let Some(admin) = self.checkouts.admin_of(path) else { return Ok(None) };
        if !path.is_dir() || !admin.join("index").exists() {
            return Ok(None);
        }
        let site = Site { path: path.into(), admin: Some(admin.clone()) };
        let left = self.commit_leftovers(&site, &admin, owner.run).await?;
        self.preserve(&site, branch, owner).await?;
        for unfinished in ["rebase-merge", "rebase-apply", "sequencer"] {
            let _ = fs::remove_dir_all(admin.join(unfinished));
        }
        let git = self.git.on_worktree(&admin, path);
        let switch =
            ["checkout", "--quiet", "--force", "--no-track", "-B", branch, base.as_str(), "--"];
        let switched = async {
            git.run(switch).await?;
            if left {
                git.run(["clean", "-f", "-d", "--quiet"]).await?;
            }
            Ok::<_, WorktreeError>(())
        };
        if let Err(error) = switched.await {
            // All that was in it is kept: a new one takes its place.
            tracing::warn!(%error, path = %path.display(), "can't use the folder of an epic again");
            self.recover(path, branch, owner).await?;
            return Ok(None);
        }
        let reason = names::lock_reason(&owner.run.id, owner.task, owner.attempt);
        fs::write(admin.join("locked"), reason)
            .map_err(io_error(format!("locking the worktree {}", path.display())))?;
        Ok(Some(admin))
    }

    /// Commits what the last task of an epic's folder left on the branch of that task. Returns
    /// whether anything was left.
    pub(crate) async fn commit_leftovers(
        &self,
        site: &Site,
        admin: &Path,
        run: &Run,
    ) -> Result<bool, WorktreeError> {
        let status = status_of(&self.git.on_worktree(admin, &site.path)).await?;
        refuse_nested(&site.path, &status)?;
        if !status.is_dirty() {
            return Ok(false);
        }
        let branch = status.branch.as_deref().unwrap_or_default();
        let ours = names::split_ours(&names::head(branch))
            .filter(|(of, _)| *of == run.id)
            .and_then(|(_, task)| TaskId::new(task).ok());
        if let (Some(task), Some(head)) = (ours, &status.head) {
            let message = names::left_by(&run.id, &task, site.attempt().unwrap_or(1));
            let commit = self.snapshot(&site.path, admin, &status, &message).await?;
            let line = format!("update {} {commit} {head}", names::head(branch));
            self.transact(&message.subject, &[line]).await??;
            // The index follows; where it can't, the caller finds the folder changed and keeps
            // that too.
            let _ = self.git.on_worktree(admin, &site.path).run(["reset", "--quiet"]).await;
        }
        Ok(true)
    }
}
