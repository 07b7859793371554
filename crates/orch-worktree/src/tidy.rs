//! Takes away what is left of a merged task, for an orchestrator that was killed before it could, or whose
//! machine lost its power before the removal was on the disk.

use std::{collections::BTreeSet, fs, sync::Arc};

use orch_model::{
    RunId, TaskId,
    ports::{Release, Worktree, WorktreeError, WorktreeRequest},
};

use crate::{
    mend::set_aside,
    names::{self, OURS},
    preserve::Site,
    repo::Repo,
    slot::Slot,
};

impl Repo {
    /// The tasks of a run of which a folder or a branch is there, also one that can't be read.
    pub(crate) async fn traces(&self, run: &RunId) -> Result<BTreeSet<TaskId>, WorktreeError> {
        let branches = format!("{OURS}{run}/");
        let list = ["for-each-ref", "--format=%(refname)", "--", &*branches];
        let list = String::from_utf8_lossy(&self.git.run(list).await?).into_owned();
        let branches = list.lines().filter_map(|name| name.strip_prefix(&*branches));
        let top = self.root.join(run.as_str());
        let folders = fs::read_dir(&top).into_iter().flatten().flatten().map(|entry| entry.path());
        // Of a place of a pool, that it is lent may be all that is there.
        let lent = self.checkouts.linked().map(|(path, _)| path);
        let folders: Vec<_> = folders.chain(lent).collect();
        let folders = folders.iter().filter(|path| path.parent() == Some(&*top));
        let folders = folders.filter_map(|path| path.file_name()?.to_str());
        Ok(branches.chain(folders).filter_map(|name| TaskId::new(name).ok()).collect())
    }

    /// Releases a worktree of which nothing but the names is known. What of it is gone already is
    /// no error, so this may be repeated after any of its steps.
    pub(crate) async fn tidy(
        self: Arc<Self>,
        request: WorktreeRequest,
        release: Release,
    ) -> Result<(), WorktreeError> {
        let run = self.run(&request.run).await?;
        let branch = names::task_branch(&request.run, &request.task);
        let path = self.root.join(request.run.as_str()).join(names::folder(&request));
        self.revive(&path).await?;
        let mut admin = self.checkouts.admin_of(&path);
        if let Some(entry) = &admin {
            let changes = self.misled(&path, entry);
            if !changes.is_empty() {
                // A power cut emptied what leads git there, or brought only some of it back. The work is merged.
                let site = Site { path: path.clone(), admin: admin.take() };
                self.give_up(&site, &WorktreeError::Tampered { changes }).await?;
            }
        }
        if admin.is_none() && (path.exists() || path.is_symlink()) {
            // A power cut took git's entry away, or brought the folder back: what is in it may be
            // more than what was merged.
            set_aside(&path)?;
            self.remove(&Site { path: path.clone(), admin: None }).await?;
        }
        let name = names::head(&branch);
        if admin.is_none() && self.refs(&[&name]).await?.is_empty() {
            return Ok(());
        }
        let slot = Slot {
            task: request.task,
            attempt: request.attempt,
            // Looked at only while the folder is there, and then git knows of it.
            admin: admin.clone().unwrap_or_else(|| path.join(".git")),
            site: Site { path, admin },
            branch,
            base: run.base.clone(),
            shared: request.shared_by.is_some(),
            run,
            settings: None,
            repo: self,
        };
        Box::new(slot).release(release).await
    }
}
