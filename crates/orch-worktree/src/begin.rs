//! Begins a run: finds the target branch and where it stands.

use std::fs;

use orch_model::{
    event::RunBase,
    ports::{BeginRun, WorktreeError},
};

use crate::{
    error::{io_error, target_error},
    names::{self, HEADS},
    repo::{Repo, Run},
    target::Target,
};

impl Repo {
    pub(crate) async fn begin(&self, request: BeginRun) -> Result<RunBase, WorktreeError> {
        let (id, base) = (request.run, request.base);
        if self.checkouts.common().join(names::run_ref(&id, "base")).exists() {
            // A git that was killed together with the last orchestrator would stop this one.
            self.break_abandoned_locks().await?;
            self.drop_empty_objects()?;
        }
        if let Some(run) = self.recall(&id).await? {
            let run = self.remember(Run { makes_target: base.is_some(), ..run });
            return Ok(RunBase { target: run.target.name(), commit: run.base.clone() });
        }
        let target = match request.target {
            Some(name) => self.target_named(&name).await?,
            None => Target::Branch(self.checked_out().await?),
        };
        self.refuse_odd_name(&target).await?;
        // Where a power cut took the name of the target only, the base stays what it was.
        let base_ref = names::run_ref(&id, "base");
        let begun = self.refs(&[&base_ref]).await?.remove(&base_ref);
        let commit = match &begun {
            Some(base) => base.commit.clone(),
            None => self.start_of(&target, base.as_deref()).await?,
        };
        let run = Run { makes_target: base.is_some(), ..Run::new(id, target, commit) };
        self.record(&run, begun.is_some()).await?;
        let base = RunBase { target: run.target.name(), commit: run.base.clone() };
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
    async fn refuse_odd_name(&self, target: &Target) -> Result<(), WorktreeError> {
        let (Target::Branch(name) | Target::Remote { branch: name, .. }) = target;
        let answer = self.git.call(["check-ref-format", "--branch", name]).answer().await?;
        let same = answer.code == Some(0) && answer.stdout.trim_ascii_end() == name.as_bytes();
        same.then_some(()).ok_or_else(|| {
            target_error(format!("`{name}` can't be the name of a branch; name another target"))
        })
    }

    /// Remembers the run in references and makes the branch for its results, and the target where that is to
    /// be made. The base comes
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
        let branch = run.target_ref();
        let known = self.refs(&[&results, &branch]).await?;
        let is_here = matches!(run.target, Target::Branch(_));
        if is_here && !has_base && !known.contains_key(&branch) {
            lines.push(format!("create {branch} {}", run.base));
        }
        if !known.contains_key(&results) {
            lines.push(format!("create {results} {}", run.base));
        }
        if lines.is_empty() { Ok(()) } else { self.transact("orch: begin", &lines).await? }
    }
}
