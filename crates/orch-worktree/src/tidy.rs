//! Takes away what is left of a merged task, for an orchestrator that was killed before it could.

use std::sync::Arc;

use orch_model::ports::{Release, Worktree, WorktreeError, WorktreeRequest};

use crate::{mend::set_aside, names, preserve::Site, repo::Repo, slot::Slot};

impl Repo {
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
        let admin = self.checkouts.admin_of(&path);
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
