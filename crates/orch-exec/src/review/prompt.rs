//! What the agent of a task would be told if it were started now.

use std::collections::BTreeMap;

use orch_deps::Graph;
use orch_model::{
    ByteSize, RunId, RunState, TaskId, TaskState,
    conflict::described,
    plan::{ValidPlan, Work, spec::Isolation},
    ports::{AgentRequest, Purpose, StoreError, WorktreeProvider as _, WorktreeRequest},
    prompt::PromptBranch,
};

use super::Review;
use crate::{
    briefing::{self, Facts},
    error::EngineError,
    logs,
    unit::shared_by,
};

impl Review {
    /// What the next agent of a task would be started with, or, where one is at work, what that was
    /// started with; [`AgentRequest::env`] is left out. What is merged or fails meanwhile changes it.
    ///
    /// # Errors
    /// Where there is no such run or task, where the task is a command, or where git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn request(&self, run: &RunId, task: &TaskId) -> Result<AgentRequest, EngineError> {
        let state = self.state(run).await?;
        let plan = ValidPlan::new((*state.header.plan).clone()).map_err(|problems| {
            StoreError::Other { source: format!("run {run}: its plan: {problems}").into() }
        })?;
        self.request_of(&plan, run, task, Some(&state)).await
    }

    /// As [`Review::request`], for a task of a plan that has not been started. Where its run would show,
    /// `run` stands for it.
    ///
    /// # Errors
    /// As [`Review::request`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn request_of_plan(
        &self,
        plan: &ValidPlan,
        task: &TaskId,
    ) -> Result<AgentRequest, EngineError> {
        let run = RunId::new("run").map_err(|error| EngineError::Internal(error.to_string()))?;
        self.request_of(plan, &run, task, None).await
    }

    async fn request_of(
        &self,
        plan: &ValidPlan,
        run: &RunId,
        task: &TaskId,
        state: Option<&RunState>,
    ) -> Result<AgentRequest, EngineError> {
        let no_such_task = || EngineError::NoSuchTask(task.clone());
        let index = plan.index_of(task).ok_or_else(no_such_task)?;
        let spec = plan.task(index);
        let Work::Prompt { agent, .. } = &spec.work else {
            return Err(EngineError::NoPrompt(task.clone()));
        };
        let record = state.map(|state| state.task(index));
        let last = record.and_then(|record| record.last_failure.as_deref());
        let at_work = record.filter(|record| is_at_work(&record.state));
        let attempt = match (record, at_work) {
            (_, Some(at_work)) => at_work.attempts,
            (Some(record), None) => record.attempts + 1,
            (None, None) => 1,
        };
        let repository = self.git.repository().to_owned();
        let (directory, branch) = match spec.isolation {
            Isolation::None => (repository.clone(), None),
            _ => {
                let request = WorktreeRequest {
                    run: run.clone(),
                    task: task.clone(),
                    attempt,
                    shared_by: shared_by(plan, index),
                };
                let (path, name) = self.git.place_of(&request);
                let base = match at_work.and_then(|record| record.place.as_ref()) {
                    Some(place) => Some(place.base.clone()),
                    None => self.git.results_of(run).await?,
                };
                let begin = || Some(state?.header.base.as_ref()?.commit.clone());
                let base = base.or_else(begin).map(|base| base.short().to_owned());
                (path, Some(PromptBranch { name, base }))
            }
        };
        let mut before = None;
        let mut redo = None;
        if let Some(last) = last {
            let reference = match spec.isolation {
                Isolation::None => None,
                _ => self.git.kept(run, task).await?,
            };
            let conflict = last.conflict.as_ref();
            redo = conflict.map(|found| {
                let conflict = described(&found.files, &found.hunks);
                briefing::after_conflict(reference.as_deref(), &conflict)
            });
            let made = match &reference {
                Some(name) => briefing::made(run, name, None, Some(&self.git)).await,
                None => Default::default(),
            };
            let output = logs::output_of(self.store.dir(), run, task, last.attempt);
            before = Some(briefing::last(last, redo.clone(), output, reference, made));
        }
        let needed = briefing::needed(plan, &Graph::new(plan), state, index);
        let dependencies = briefing::dependencies(plan, run, &needed, Some(&self.git)).await;
        let facts = Facts {
            plan,
            index,
            run,
            attempt,
            repository: repository.clone(),
            directory: directory.clone(),
            branch,
            last: before,
        };
        Ok(AgentRequest {
            run: run.clone(),
            task: task.clone(),
            attempt,
            purpose: Purpose::Work,
            work: briefing::plain(plan, spec, redo.as_deref()),
            agent: plan.agents().get(agent).cloned(),
            context: facts.work(dependencies, needed.len()),
            directory,
            repository,
            env: BTreeMap::new(),
            silence_timeout: spec.silence_timeout,
            max_output: spec.max_output,
            max_total_output: ByteSize(0),
        })
    }
}

const fn is_at_work(state: &TaskState) -> bool {
    matches!(
        state,
        TaskState::Leased { .. }
            | TaskState::Preparing { .. }
            | TaskState::Running { .. }
            | TaskState::Verifying { .. }
            | TaskState::Merging { .. }
            | TaskState::Stopping { .. }
            | TaskState::Merged { .. }
    )
}
