//! Brings the results of a run to the target branch.
//!
//! A branch that is checked out nowhere is moved by its reference. One that is checked out is
//! fast-forwarded in that checkout, and only while nothing there would be touched: no changes, no
//! merge or rebase under way, no file in the way. One of a remote is pushed to, and where somebody else
//! did so first, their commits are merged into the results. Otherwise the results wait on their own branch.

use std::fs;

use orch_model::{CommitId, RunId, event::Delivery, ports::WorktreeError};

use crate::{
    checkouts::{Checkout, in_progress},
    error::target_error,
    merge::{Retries, Tips},
    names,
    parse::{self, listed},
    preserve::{Site, status_of},
    remote::Pushed,
    repo::{Repo, Run},
    target::Target,
};

/// What became of the attempt to move the target.
enum Moved {
    Yes,
    No { reason: String, checkout: Option<Checkout> },
}

impl Repo {
    pub(crate) async fn finish(&self, id: &RunId) -> Result<Delivery, WorktreeError> {
        let run = self.run(id).await?;
        let delivery = self.deliver(&run).await?;
        self.remove_epics(&run).await?;
        self.remove_candidate(id).await?;
        self.trash.settle().await;
        let _ = fs::remove_dir(self.root.join(id.as_str()));
        let _ = fs::remove_dir(&self.root);
        if !matches!(delivery, Delivery::Waiting { .. }) {
            self.forget(id);
        }
        Ok(delivery)
    }

    async fn deliver(&self, run: &Run) -> Result<Delivery, WorktreeError> {
        let (delivered, results) = (names::run_ref(&run.id, "delivered"), run.results_ref());
        let known = self.refs(&[&results, &delivered]).await?;
        if let (None, Some(delivered)) = (known.get(&results), known.get(&delivered)) {
            let commit = delivered.commit.clone();
            return Ok(Delivery::Target { target: run.target.name(), commit });
        }
        let _one = self.merging.lock().await;
        // A conflict that was found before may be gone since the results have grown.
        run.seen().refused = None;
        let mut retries = Retries::default();
        loop {
            let unfetched = self.look_at_remote(run).await?;
            let tips = self.settle_alone(run, None).await?;
            if !self.has_merged(run, &tips).await? {
                self.drop_results(run, &tips, None).await?;
                return Ok(Delivery::Nothing);
            }
            if let Some(reason) = unfetched {
                return Ok(waiting(run, &tips, reason, None));
            }
            let moved = match self.move_target(run, &tips).await? {
                Ok(moved) => moved,
                Err(error) => {
                    retries.again(&tips, error)?;
                    continue;
                }
            };
            match moved {
                Moved::No { reason, checkout } => {
                    return Ok(waiting(run, &tips, reason, checkout.as_ref()));
                }
                Moved::Yes => {}
            }
            let tips = self.tips(run, None).await?;
            let Some(target) = tips.target.clone() else { continue };
            if self.is_ancestor(&tips.results, &target).await? {
                self.drop_results(run, &tips, Some(&delivered)).await?;
                return Ok(Delivery::Target { target: run.target.name(), commit: target });
            }
            // The checkout was switched to another branch in that moment.
            let error = target_error(format!(
                "branch `{}` was moved while the results were brought to it; finish the run again",
                run.target.name()
            ));
            retries.again(&tips, error)?;
        }
    }

    /// Whether the results contain more than the target's own commits.
    async fn has_merged(&self, run: &Run, tips: &Tips) -> Result<bool, WorktreeError> {
        if tips.results == run.base {
            return Ok(false);
        }
        // In a regular expression a dot of an id would stand for any character.
        let grep = format!("--grep=^Orch-Run: {}$", run.id.as_str().replace('.', "[.]"));
        let range = format!("{}..{}", run.base, tips.results);
        let arguments = ["rev-list", "--max-count=1", "--extended-regexp", &grep, &range, "--"];
        Ok(!self.git.run(arguments).await?.is_empty())
    }

    /// Moves the target to the results. The inner error: somebody else moved it in that moment.
    async fn move_target(
        &self,
        run: &Run,
        tips: &Tips,
    ) -> Result<Result<Moved, WorktreeError>, WorktreeError> {
        let no = |reason: String| Ok(Ok(Moved::No { reason, checkout: None }));
        let Some(target) = tips.target.as_ref() else {
            if run.makes_target && matches!(run.target, Target::Remote { .. }) {
                return self.push_results(run, tips).await;
            }
            return no(format!("branch `{}` was deleted", run.target.name()));
        };
        if self.is_ancestor(&tips.results, target).await? {
            return Ok(Ok(Moved::Yes));
        }
        let name = run.target_ref();
        let checkouts = self.checkouts.all(&self.git).await?;
        let checkout = checkouts.into_iter().find(|checkout| checkout.holds(&name));
        if let Some(files) = run.refused(Some(target)) {
            let reason = if files.is_empty() {
                format!("branch `{}` has no history in common with the results", run.target.name())
            } else {
                let files = listed(&files);
                let target = run.target.name();
                format!(
                    "branch `{target}` has new commits that conflict with the results in {files}"
                )
            };
            return Ok(Ok(Moved::No { reason, checkout }));
        }
        if matches!(run.target, Target::Remote { .. }) {
            return self.push_results(run, tips).await;
        }
        let Some(checkout) = checkout else {
            let line = format!("update {name} {} {target}", tips.results);
            let moved = self.transact("orch: deliver", &[line]).await?;
            return Ok(moved.map(|()| Moved::Yes));
        };
        Ok(Ok(match self.fast_forward(&checkout, tips).await? {
            None => Moved::Yes,
            Some(reason) => Moved::No { reason, checkout: Some(checkout) },
        }))
    }

    /// Takes over where a remote's branch stands; why that can't be done.
    async fn look_at_remote(&self, run: &Run) -> Result<Option<String>, WorktreeError> {
        let Target::Remote { remote, branch } = &run.target else { return Ok(None) };
        match self.fetch(remote, branch).await {
            Ok(_) => Ok(None),
            Err(error @ (WorktreeError::Target { .. } | WorktreeError::Io { .. })) => {
                Ok(Some(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Pushes the results. They contain what was seen of the remote's branch, so that nobody's work is
    /// overwritten there; the lease refuses where it has been moved since.
    async fn push_results(
        &self,
        run: &Run,
        tips: &Tips,
    ) -> Result<Result<Moved, WorktreeError>, WorktreeError> {
        let no = |reason| Ok(Ok(Moved::No { reason, checkout: None }));
        if let Some(seen) = &tips.target
            && !self.is_ancestor(seen, &tips.results).await?
        {
            return no("the results do not contain what is there".into());
        }
        match self.push(&run.target, &tips.results, tips.target.as_ref()).await? {
            Pushed::Yes => Ok(Ok(Moved::Yes)),
            Pushed::Refused(reason) => no(format!("the push was refused: {reason}")),
            Pushed::Moved => Ok(Err(target_error(format!(
                "`{}` is moved faster than results can be pushed to it",
                run.target.name()
            )))),
        }
    }

    /// Why a checkout can't be moved along without touching somebody's work.
    pub(crate) async fn why_untouchable(
        &self,
        checkout: &Checkout,
    ) -> Result<Option<String>, WorktreeError> {
        let path = checkout.path.display();
        if let Some(what) = in_progress(&checkout.admin) {
            return Ok(Some(format!("{what} is under way in {path}")));
        }
        if !checkout.path.is_dir() {
            return Ok(Some(format!("its checkout {path} is missing")));
        }
        let git = self.git.on_worktree(&checkout.admin, &checkout.path);
        let look = ["status", "--porcelain=v2", "-z", "--untracked-files=no", "--no-renames"];
        let status = git.call(look).arguments(["--ignore-submodules=dirty"]);
        let status = status.answer().await?.success()?;
        let status = parse::status(&status);
        let reason = || format!("{path} has uncommitted changes: {}", status.summary());
        Ok(status.is_dirty().then(reason))
    }

    /// Fast-forwards a checkout; the reason if it can't be done without touching somebody's work.
    async fn fast_forward(
        &self,
        checkout: &Checkout,
        tips: &Tips,
    ) -> Result<Option<String>, WorktreeError> {
        if let Some(reason) = self.why_untouchable(checkout).await? {
            return Ok(Some(reason));
        }
        let path = checkout.path.display();
        let git = self.git.on_worktree(&checkout.admin, &checkout.path);
        if let Some(reason) = self.why_unfiltered(&git, &checkout.admin, &tips.results).await? {
            return Ok(Some(reason));
        }
        let answer = git
            .call(["merge", "--ff-only", "--quiet", "--no-autostash", "--no-overwrite-ignore"])
            .arguments([tips.results.as_str()])
            // The branch that keeps the results is deleted after it.
            .durable()
            .answer()
            .await?;
        Ok((answer.code != Some(0))
            .then(|| format!("git can't fast-forward {path}: {}", answer.complaint())))
    }

    /// Deletes the branch of the results, whose tip is part of the target (or was never more
    /// than that), unless somebody looks at it.
    async fn drop_results(
        &self,
        run: &Run,
        tips: &Tips,
        delivered: Option<&str>,
    ) -> Result<(), WorktreeError> {
        let results = run.results_ref();
        let mut lines = Vec::new();
        if !self.checkouts.all(&self.git).await?.iter().any(|c| c.holds(&results)) {
            lines.push(format!("delete {results} {}", tips.results));
        }
        lines.extend(delivered.map(|name| format!("update {name} {}", tips.results)));
        if lines.is_empty() { Ok(()) } else { self.transact("orch: finish", &lines).await? }
    }

    /// Removes the folders of epics that hold nothing that is not safe elsewhere.
    async fn remove_epics(&self, run: &Run) -> Result<(), WorktreeError> {
        let folder = self.root.join(run.id.as_str());
        for (path, admin) in self.checkouts.linked().collect::<Vec<_>>() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.parent() != Some(&folder) || !name.starts_with("@epic-") || !path.is_dir() {
                continue;
            }
            let status = status_of(&self.git.on_worktree(&admin, &path)).await?;
            let safe = match &status.head {
                Some(head) if !status.is_dirty() && in_progress(&admin).is_none() => {
                    self.refuse_private_modules(&path, &admin).await.is_ok()
                        && !self
                            .refs_containing(head, &["refs/heads", names::PRESERVED])
                            .await?
                            .is_empty()
                }
                _ => false,
            };
            if safe {
                self.remove(&Site { path, admin: Some(admin) }).await?;
            }
        }
        Ok(())
    }
}

fn waiting(run: &Run, tips: &Tips, reason: String, checkout: Option<&Checkout>) -> Delivery {
    let branch = names::results_branch(&run.id);
    let place = checkout.map_or_else(String::new, |checkout| {
        format!("-C {} ", quoted(&checkout.path.to_string_lossy()))
    });
    let name = run.target.name();
    let hint = if let Target::Remote { remote, branch: theirs } = &run.target {
        let push = format!("git push {remote} {branch}:refs/heads/{theirs}");
        match run.refused(tips.target.as_ref()) {
            Some(_) => format!("git switch {branch} && git merge {name} && {push}"),
            None => push,
        }
    } else if tips.target.is_none() {
        format!("git branch {name} {branch}")
    } else if run.refused(tips.target.as_ref()).is_some() {
        match checkout {
            Some(_) => format!("git {place}merge {branch}"),
            None => format!("git switch {name} && git merge {branch}"),
        }
    } else {
        format!("git {place}merge --ff-only {branch}")
    };
    let commit: CommitId = tips.results.clone();
    Delivery::Waiting { target: name, branch, commit, reason, hint }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    if path.chars().all(plain) { path.into() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(super::quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(super::quoted("/a b/c'd"), r"'/a b/c'\''d'");
    }
}
