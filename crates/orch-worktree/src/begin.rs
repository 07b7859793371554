//! Begins a run: finds the target branch and where it stands.

use std::fs;

use orch_model::{
    CommitId,
    event::RunBase,
    ports::{BeginRun, WorktreeError},
};

use crate::{
    error::{io_error, target_error},
    names::{self, HEADS},
    parse::listed,
    repo::{Repo, Run},
};

impl Repo {
    pub(crate) async fn begin(&self, request: BeginRun) -> Result<RunBase, WorktreeError> {
        let id = request.run;
        if self.checkouts.common().join(names::run_ref(&id, "base")).exists() {
            // A git that was killed together with the last orchestrator would stop this one.
            self.break_abandoned_locks().await?;
            self.drop_empty_objects()?;
        }
        if let Some(run) = self.recall(&id).await? {
            let run = self.remember(run);
            return Ok(RunBase { target: run.target.clone(), commit: run.base.clone() });
        }
        let target = match request.target {
            Some(name) => name.strip_prefix(HEADS).unwrap_or(&name).to_owned(),
            None => self.checked_out().await?,
        };
        self.refuse_odd_name(&target).await?;
        // Where a power cut took the name of the target only, the base stays what it was.
        let base_ref = names::run_ref(&id, "base");
        let begun = self.refs(&[&base_ref]).await?.remove(&base_ref);
        let commit = match &begun {
            Some(base) => base.commit.clone(),
            None => self.tip_of_target(&target).await?,
        };
        let run = Run::new(id, target, commit);
        self.record(&run, begun.is_some()).await?;
        let base = RunBase { target: run.target.clone(), commit: run.base.clone() };
        self.remember(run);
        Ok(base)
    }

    /// The branch that is checked out in the folder that was named.
    async fn checked_out(&self) -> Result<String, WorktreeError> {
        let git = self.git.on_repository(&self.top_admin);
        let answer = git.call(["symbolic-ref", "-q", "HEAD"]).answer().await?;
        if answer.code == Some(1) {
            return Err(target_error(format!(
                "HEAD is detached in {}, so there is no branch to merge into; check one out with `git switch BRANCH`, or name one as the run's target",
                self.top.display()
            )));
        }
        let name = String::from_utf8_lossy(&answer.success()?).trim_end().to_owned();
        Ok(name.strip_prefix(HEADS).unwrap_or(&name).to_owned())
    }

    /// Takes no name that git would not give a branch: `-x`, `a..b`, `@{-1}`.
    async fn refuse_odd_name(&self, target: &str) -> Result<(), WorktreeError> {
        let answer = self.git.call(["check-ref-format", "--branch", target]).answer().await?;
        let same = answer.code == Some(0) && answer.stdout.trim_ascii_end() == target.as_bytes();
        same.then_some(()).ok_or_else(|| {
            target_error(format!("`{target}` can't be the name of a branch; name another target"))
        })
    }

    async fn tip_of_target(&self, target: &str) -> Result<CommitId, WorktreeError> {
        let heads = self.refs(&[HEADS]).await?;
        if heads.contains_key("refs/heads/orch") {
            return Err(target_error(
                "a branch named `orch` is in the way of the branches `orch/<run>/<task>`; rename it with `git branch -m orch NEW-NAME`",
            ));
        }
        if let Some(tip) = heads.get(&names::head(target)) {
            return Ok(tip.commit.clone());
        }
        let branches: Vec<&str> = heads
            .keys()
            .filter(|name| !name.starts_with(names::OURS))
            .filter_map(|name| name.strip_prefix(HEADS))
            .collect();
        if branches.is_empty() {
            return Err(target_error(format!(
                "branch `{target}` has no commits yet; make a first one: `git add . && git commit -m first`"
            )));
        }
        let mut similar: Vec<(f64, &str)> = branches
            .iter()
            .map(|name| (strsim::jaro_winkler(target, name), *name))
            .filter(|(likeness, _)| *likeness > 0.7)
            .collect();
        similar.sort_by(|a, b| b.0.total_cmp(&a.0));
        let similar: Vec<&str> = similar.into_iter().map(|(_, name)| name).take(3).collect();
        let cure = if similar.is_empty() {
            format!("make it with `git branch -- {target}`, or name one of {}", listed(&branches))
        } else {
            format!("did you mean {}?", listed(&similar))
        };
        Err(target_error(format!("there is no branch `{target}`; {cure}")))
    }

    /// Remembers the run in references and makes the branch for its results. The base comes
    /// last: without it the run has not begun.
    async fn record(&self, run: &Run, has_base: bool) -> Result<(), WorktreeError> {
        let target = names::run_ref(&run.id, "target");
        let emptied = self.checkouts.common().join(&target);
        if has_base && emptied.is_file() {
            // Git refuses to write a reference that it can't read.
            let doing = format!("removing {}", emptied.display());
            fs::remove_file(&emptied).map_err(io_error(doing))?;
        }
        self.git.run(["symbolic-ref", "-m", "orch: begin", &target, &run.target_ref()]).await?;
        let results = run.results_ref();
        // Git does not sync symbolic references, whatever it is told.
        self.sync_ref(&target)?;
        let mut lines = Vec::new();
        if !has_base {
            lines.push(format!("create {} {}", names::run_ref(&run.id, "base"), run.base));
        }
        if !self.refs(&[&results]).await?.contains_key(&results) {
            lines.push(format!("create {results} {}", run.base));
        }
        if lines.is_empty() { Ok(()) } else { self.transact("orch: begin", &lines).await? }
    }
}
