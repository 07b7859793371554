//! Puts right what can be put right without losing anything.

use std::fs;

use orch_model::{
    TaskState, ValidPlan,
    plan::spec::Isolation,
    ports::{Release, StateStore, WorktreeProvider, WorktreeRequest},
    state::Merged,
};

use super::{Finding, Remedy, Repair, World};
use crate::{error::EngineError, process::cgroup, shim};

impl World {
    /// Puts right what of these findings is [`repairable`](Finding::is_repairable), one after the
    /// other, and says what became of each. Runs that somebody is at work on are left alone.
    pub async fn repair(&self, findings: &[Finding]) -> Vec<Repair> {
        let mut repairs: Vec<Repair> = Vec::new();
        for finding in findings {
            let Some(remedy) = &finding.remedy else { continue };
            // One deed may answer to several findings.
            let before =
                repairs.iter().find(|repair| repair.finding.remedy.as_ref() == Some(remedy));
            let failed = match before {
                Some(repair) => repair.failed.clone(),
                None => self.apply(remedy).await.err().map(|error| error.to_string()),
            };
            repairs.push(Repair { finding: finding.clone(), failed });
        }
        repairs
    }

    async fn apply(&self, remedy: &Remedy) -> Result<(), EngineError> {
        match remedy {
            Remedy::RebuildState(run) => {
                self.store.rebuild_state(run).await?;
            }
            Remedy::ForgetRun(run) => self.store.remove(run).await?,
            Remedy::RemoveLeftovers => self.store.remove_leftovers()?,
            Remedy::BreakLocks => {
                if let Ok(Some(git)) = &self.git {
                    git.break_abandoned_locks().await?;
                }
            }
            Remedy::SweepLeases => self.locks.sweep().await?,
            Remedy::EndProcesses(run) => {
                let run_dir = self.store.dir().join("runs").join(run.as_str());
                if self.store.owner(run).is_some() || shim::is_supervised(&run_dir) {
                    return Err(EngineError::Internal(format!("run {run} is under way again")));
                }
                cgroup::sweep(&run_dir).await.map_err(|source| EngineError::Io {
                    doing: format!("ending what is left of run {run}"),
                    source,
                })?;
            }
            Remedy::RemoveEmptyFolder(path) => {
                fs::remove_dir(path).map_err(|source| EngineError::Io {
                    doing: format!("removing the empty folder {}", path.display()),
                    source,
                })?;
            }
            Remedy::Tidy { run, task } => {
                let (Ok(Some(git)), None) = (&self.git, self.store.owner(run)) else {
                    return Err(EngineError::Internal(format!("run {run} is under way again")));
                };
                let Some(state) = self.store.state(run).await? else { return Ok(()) };
                let plan = ValidPlan::new((*state.header.plan).clone())
                    .map_err(|problems| EngineError::Internal(problems.to_string()))?;
                let Some(index) = plan.index_of(task) else { return Ok(()) };
                let TaskState::Merged { attempt, result } = &state.task(index).state else {
                    return Ok(());
                };
                // Nothing uncommitted goes with it, whatever made it.
                let release = match result {
                    Merged::Kept { .. } => Release::Shelve { verified: false },
                    _ => Release::Done,
                };
                let spec = plan.task(index);
                let shared_by = spec
                    .epic
                    .filter(|_| spec.isolation == Isolation::Epic)
                    .map(|epic| plan.epics()[epic.get()].id.clone());
                let (run, task) = (run.clone(), task.clone());
                let request = WorktreeRequest { run, task, attempt: *attempt, shared_by };
                git.tidy(request, release).await?;
            }
        }
        Ok(())
    }
}
