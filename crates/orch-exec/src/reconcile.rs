//! What became of the tasks that were under way when an earlier orchestrator stopped.

mod merges;
mod tidy;

use std::{collections::HashMap, time::Duration};

use orch_faults::planted;
use orch_model::{
    Event, EventKind, RunState, TaskState, Timestamp, ValidPlan,
    event::TaskChange,
    outcome::{Failure, StopReason},
    plan::{TaskIndex, spec::Isolation},
    ports::{Acquired, AdoptRequest, Adopted, Purpose, RunningAgent, WorktreeRequest},
};

use crate::{
    conflicts::{self, Waited},
    error::EngineError,
    orchestrator::Ports,
    unit::{Adoption, Entry, Workplace, lock_request, shared_by},
};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Events that say so, for the journal; the first is `run_reopened`.
    pub(crate) events: Vec<Event>,
    /// Attempts that go on.
    pub(crate) adoptions: HashMap<TaskIndex, Adoption>,
}

/// Finds out what became of each task under way and brings the state up to date.
///
/// - Its agent runs or has ended meanwhile, and its worktree is there: the attempt goes on where it
///   was, under the time limit that began when the agent was started.
/// - It was being verified: the verification is repeated.
/// - It was being merged: the merge is repeated, which finds out whether it had been done. What resolved
///   its conflicts is ended, and they are resolved anew.
/// - It waited for a person, who has resolved its conflicts: it is merged.
/// - Nothing of its agent is left, and nobody saw how it ended: what it left is preserved and the task
///   is run again, uncharged, unless it was being cancelled.
/// - It can't be known: the task needs attention.
///
/// Where an attempt does not go on, its locks are freed.
///
/// # Errors
/// Where the world can't be asked.
pub(crate) async fn reconcile(
    state: &mut RunState,
    plan: &ValidPlan,
    ports: &Ports,
) -> Result<Found, EngineError> {
    let mut recovery = Recovery { state, plan, ports, found: Found::default() };
    recovery.record(EventKind::RunReopened { pid: std::process::id() })?;
    recovery.end_candidate().await?;
    let traces = recovery.traces().await?;
    for index in plan.indices() {
        let task = recovery.state.task(index);
        let is_trace = traces.contains(&task.id);
        if task.state.is_active() {
            recovery.take_up(index).await?;
        } else {
            recovery.take_up_conflict(index).await?;
            if is_trace {
                recovery.tidy_or_tell(index).await?;
            }
        }
    }
    Ok(recovery.found)
}

pub(crate) fn record(
    state: &mut RunState,
    ports: &Ports,
    found: &mut Found,
    kind: EventKind,
) -> Result<(), EngineError> {
    let at = ports.clock.now().max(state.updated_at);
    let event = Event { seq: state.seq + 1, at, kind };
    state
        .apply(&event)
        .map_err(|error| EngineError::Internal(format!("reconciliation: {error}")))?;
    found.events.push(event);
    Ok(())
}

/// A run as its orchestrator left it, and what is found of it.
struct Recovery<'a> {
    state: &'a mut RunState,
    plan: &'a ValidPlan,
    ports: &'a Ports,
    found: Found,
}

enum Fate {
    Becomes(TaskChange),
    GoesOn(Adoption),
}

impl Recovery<'_> {
    fn record(&mut self, kind: EventKind) -> Result<(), EngineError> {
        record(self.state, self.ports, &mut self.found, kind)
    }

    /// Finds out what became of a task that was under way.
    async fn take_up(&mut self, index: TaskIndex) -> Result<(), EngineError> {
        let (changes, adoption) = match self.fate(index).await? {
            Fate::Becomes(change) => (vec![change], None),
            Fate::GoesOn(adoption) => (self.begun(index, &adoption), Some(adoption)),
        };
        let is_lost = matches!(&changes[..], [TaskChange::Lost { .. }]);
        if adoption.is_none() && !is_lost {
            self.free_locks(index).await?;
        }
        let task = self.state.task(index).id.clone();
        for change in changes {
            self.record(EventKind::Task { task: task.clone(), change })?;
        }
        self.tidy_or_tell(index).await?;
        self.found.adoptions.extend(adoption.map(|adoption| (index, adoption)));
        Ok(())
    }

    /// Goes on with a task whose conflicts a person has resolved.
    async fn take_up_conflict(&mut self, index: TaskIndex) -> Result<(), EngineError> {
        let task = self.state.task(index).id.clone();
        match conflicts::waited(self.state, self.plan, index, self.ports).await? {
            None => {}
            Some(Waited::Unresolved { reason }) => {
                let message = format!("its conflicts are not resolved yet: {reason}");
                self.record(EventKind::Warning { task: Some(task), message })?;
            }
            Some(Waited::Resolved { place }) => {
                let kind = EventKind::Task { task, change: TaskChange::Resolved };
                self.record(kind)?;
                if let TaskState::Merging { commit: Some(commit), .. } =
                    &self.state.task(index).state
                {
                    let entry = Entry::Merge { commit: commit.clone() };
                    let there = self.workplace(index).await?;
                    let place = there.unwrap_or(Workplace::Gone(place));
                    self.found.adoptions.insert(index, Adoption { place, entry });
                }
            }
        }
        Ok(())
    }

    /// The attempt counts for nothing.
    fn run_again(&self, message: &str) -> Fate {
        Fate::Becomes(TaskChange::Retry {
            failure: Failure::Interrupted { message: message.into() },
            until: self.state.updated_at,
        })
    }

    /// What is yet to be written of an agent that was started just before its orchestrator died.
    fn begun(&self, index: TaskIndex, adoption: &Adoption) -> Vec<TaskChange> {
        let Entry::Agent { agent, .. } = &adoption.entry else { return Vec::new() };
        let agent = agent.identity();
        match &self.state.task(index).state {
            TaskState::Leased { .. } => vec![TaskChange::Preparing, TaskChange::Started { agent }],
            TaskState::Preparing { .. } => vec![TaskChange::Started { agent }],
            _ => Vec::new(),
        }
    }

    /// Frees the locks of an attempt that does not go on. They depend on its supervisor too, which may live on for
    /// others, so that its next attempt, or another task, would wait for them until the end of the run.
    async fn free_locks(&self, index: TaskIndex) -> Result<(), EngineError> {
        let task = self.plan.task(index);
        if task.locks.is_empty() || planted("lease-left-behind") {
            return Ok(());
        }
        let request = lock_request(task, self.state.run(), self.state.task(index).attempts);
        self.ports.locks.release_kept(&request.holder, None).await?;
        // To free a lease is to have it. Where others have the locks, the attempt has none.
        if let Acquired::Granted(lease) = self.ports.locks.try_acquire(request).await? {
            lease.release().await?;
        }
        Ok(())
    }

    async fn fate(&self, index: TaskIndex) -> Result<Fate, EngineError> {
        let task = self.state.task(index);
        let again = |message| self.run_again(message);
        let lost = |known: String| {
            let place = task.place.as_ref().map(|place| place.path.display().to_string());
            let place = place.unwrap_or_else(|| "the repository".into());
            let hint = format!("end what still runs of it, then look at its work in {place}");
            Fate::Becomes(TaskChange::Lost { known, hint })
        };
        // Also of a task that runs: that its agent had ended may not have been written down.
        if !matches!(task.state, TaskState::Merging { .. })
            && let Some(known) = self.end_verifications(index).await?
        {
            return Ok(lost(known));
        }
        let is_cut_off =
            |agent| self.ports.runner.is_of_earlier_boot(agent) && !planted("torn-work-taken");
        Ok(match &task.state {
            TaskState::Merging { .. } => {
                self.end_resolver(index).await?;
                self.merging(index).await?
            }
            // It may have ended well, and its files be lost in part. What is left of them is kept.
            _ if task.agent.as_ref().is_some_and(is_cut_off) => match task.state {
                TaskState::Stopping { reason: StopReason::Cancelled, .. } => {
                    Fate::Becomes(TaskChange::Cancelled)
                }
                _ => again("the machine was started again before its work was safe"),
            },
            TaskState::Verifying { .. } => match self.workplace(index).await? {
                Some(place) => Fate::GoesOn(Adoption { place, entry: Entry::Verification }),
                None => again("its worktree is gone"),
            },
            _ => match self.ask(index, Purpose::Work).await? {
                Adopted::Agent(agent) => match self.workplace(index).await? {
                    Some(place) => {
                        let since = self.began(index);
                        Fate::GoesOn(Adoption { place, entry: Entry::Agent { agent, since } })
                    }
                    None => {
                        end(agent.as_ref()).await;
                        again("its worktree is gone")
                    }
                },
                Adopted::Unknown { known } => lost(known),
                _ if matches!(
                    task.state,
                    TaskState::Stopping { reason: StopReason::Cancelled, .. }
                ) =>
                {
                    Fate::Becomes(TaskChange::Cancelled)
                }
                _ if matches!(
                    task.state,
                    TaskState::Leased { .. } | TaskState::Preparing { .. }
                ) =>
                {
                    again("the orchestrator ended before the agent was started")
                }
                _ => again("the orchestrator ended while the agent ran"),
            },
        })
    }

    /// When the agent was started, as near as the journal tells, and later by the time for which it was frozen.
    fn began(&self, index: TaskIndex) -> Timestamp {
        let task = self.state.task(index);
        task.agent_since.unwrap_or(task.entered_at)
    }

    /// Ends what verifies the work of an attempt: it is repeated. What is known of one that can't be ended.
    async fn end_verifications(&self, index: TaskIndex) -> Result<Option<String>, EngineError> {
        for verification in 0..self.plan.task(index).verify.len() {
            match self.ask(index, Purpose::Verify { index: verification }).await? {
                Adopted::Agent(agent) => end(agent.as_ref()).await,
                Adopted::Unknown { known } => return Ok(Some(known)),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn ask(&self, index: TaskIndex, purpose: Purpose) -> Result<Adopted, EngineError> {
        if planted("no-adoption") {
            return Ok(Adopted::Gone);
        }
        let task = self.state.task(index);
        let request = AdoptRequest {
            run: self.state.run().clone(),
            task: task.id.clone(),
            attempt: task.attempts,
            purpose,
            identity: task.agent.clone().filter(|_| purpose == Purpose::Work),
        };
        Ok(self.ports.runner.adopt(request).await?)
    }

    /// Where the attempt works; `None` where that is gone.
    async fn workplace(&self, index: TaskIndex) -> Result<Option<Workplace>, EngineError> {
        let task = self.state.task(index);
        if self.plan.task(index).isolation == Isolation::None {
            return Ok(Some(Workplace::Repository));
        }
        let Some(place) = &task.place else { return Ok(None) };
        let request = WorktreeRequest {
            run: self.state.run().clone(),
            task: task.id.clone(),
            attempt: task.attempts,
            shared_by: shared_by(self.plan, index),
        };
        Ok(self.ports.worktrees()?.reopen(request, place).await?.map(Workplace::Worktree))
    }
}

/// Ends an agent whose result nobody needs.
async fn end(agent: &dyn RunningAgent) {
    if let Err(error) = agent.stop(Duration::ZERO).await {
        tracing::warn!(%error, "an agent of an earlier orchestrator can't be ended");
    }
}
