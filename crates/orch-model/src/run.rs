//! The whole state of a run: what its events add up to.

mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    budget::{Budget, BudgetScope, BudgetStop},
    event::{Delivery, Event, EventKind, RunHeader, TaskChange, Undone},
    id::{CommitId, RunId, TaskId},
    plan::TaskIndex,
    spending::{Spending, Worker},
    state::{RunStatus, TaskState},
    time::{Span, Timestamp},
    transition::IllegalTransition,
    usage::Usage,
};

pub use task::{LastFailure, TaskRun};

/// Why an event can't be applied: a mistake in the engine or a damaged journal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The first event of a run must be `run_started`.
    #[error("event {seq} stands where `run_started` must be the first")]
    NotStarted {
        /// The event's number.
        seq: u64,
    },
    /// A number is missing or repeated.
    #[error("event {found} stands where {expected} is due")]
    Gap {
        /// The number that was due.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The event names a task that the plan does not have.
    #[error("event {seq} is about task {task}, which the plan does not have")]
    UnknownTask {
        /// The event's number.
        seq: u64,
        /// The task.
        task: TaskId,
    },
    /// The task's state does not allow the change.
    #[error("event {seq}, task {task}: {source}")]
    Illegal {
        /// The event's number.
        seq: u64,
        /// The task.
        task: TaskId,
        /// What is not allowed.
        source: IllegalTransition,
    },
}

/// The state of a run. Changes only by [`RunState::apply`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The version of the format, [`crate::event::EVENT_VERSION`].
    pub version: u32,
    /// What the run was started with.
    pub header: Arc<RunHeader>,
    /// Where it stands.
    pub status: RunStatus,
    /// The number of the last event.
    pub seq: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When the last event happened.
    pub updated_at: Timestamp,
    /// The process that runs it, or that ran it last.
    pub pid: u32,
    /// Where the results stand, once that is known.
    pub delivery: Option<Delivery>,
    /// What was taken back of them since, by `orch undo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
    /// Its tasks, in plan order.
    pub tasks: Vec<TaskRun>,
    /// How many tasks may run at a time for now; `None`: as many as the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// When and why it was made fewer last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<Slowdown>,
    /// Kinds of agents that are not started for now, by [`crate::plan::ValidPlan::service`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub breakers: BTreeMap<String, Breaker>,
    /// Since when running agents are frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_since: Option<Timestamp>,
    /// What the merge queue verified last, or verifies now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// Conflicts between tasks that were at work at the same time, as they were seen last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_conflicts: Vec<ExpectedConflict>,
    /// What may be used at most, and by whom.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<BudgetScope, Budget>,
    /// Where it stopped for a budget's sake, or a part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budget_stops: Vec<BudgetStop>,
    /// Whose work is not counted, as nobody knows what it costs: a person knows and went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<Worker>,
    /// Who used what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spending: Vec<Spending>,
    #[serde(skip)]
    by_id: Arc<HashMap<TaskId, TaskIndex>>,
}

/// What merging some tasks, one after another, gives, and whether it may become the results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which one of the run, from 1.
    pub number: u64,
    /// The tasks, in the order in which they are merged.
    pub tasks: Vec<TaskId>,
    /// The merge commit of the last one.
    pub commit: CommitId,
    /// Whether its verification passed; `None`: it has not ended.
    pub passed: Option<bool>,
}

/// A conflict between what two tasks have committed so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedConflict {
    /// The two.
    pub tasks: [TaskId; 2],
    /// The files.
    pub files: Vec<String>,
}

/// A breaker that is open: nothing of its kind is started. From [`Breaker::until`] on one task may try
/// whether the trouble is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Until when nothing is started.
    pub until: Timestamp,
    /// How often in a row it was opened.
    pub opened: u32,
    /// Why.
    pub reason: String,
}

/// When and why fewer tasks may run at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slowdown {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

impl RunState {
    /// The state after the first event, which must be `run_started`.
    ///
    /// # Errors
    /// Where it is another one.
    pub fn begin(event: &Event) -> Result<Self, ApplyError> {
        let EventKind::RunStarted { header } = &event.kind else {
            return Err(ApplyError::NotStarted { seq: event.seq });
        };
        if event.seq != 1 {
            return Err(ApplyError::Gap { expected: 1, found: event.seq });
        }
        let tasks: Vec<TaskRun> = header
            .plan
            .tasks
            .iter()
            .map(|task| TaskRun {
                id: task.id.clone(),
                state: TaskState::Blocked,
                entered_at: event.at,
                attempts: 0,
                charged: 0,
                failures: BTreeMap::new(),
                last_failure: None,
                started_at: None,
                place: None,
                by: None,
                unfit: BTreeMap::new(),
                agent: None,
                agent_since: None,
                usage: Usage::default(),
                in_flight: None,
                agent_time: Span::default(),
            })
            .collect();
        let mut state = Self {
            version: header.version,
            header: Arc::new((**header).clone()),
            status: RunStatus::Running,
            seq: 1,
            started_at: event.at,
            updated_at: event.at,
            pid: header.pid,
            delivery: None,
            undone: None,
            tasks,
            concurrency: None,
            slowdown: None,
            breakers: BTreeMap::new(),
            frozen_since: None,
            candidate: None,
            expected_conflicts: Vec::new(),
            budgets: header.settings.budgets.clone(),
            budget_stops: Vec::new(),
            uncounted: Vec::new(),
            spending: Vec::new(),
            by_id: Arc::default(),
        };
        state.index();
        Ok(state)
    }

    /// The state that a whole journal adds up to; `None` for an empty one.
    ///
    /// # Errors
    /// Where an event can't follow those before it.
    pub fn replay<'a>(
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Option<Self>, ApplyError> {
        let mut state = None;
        for event in events {
            Self::follow(&mut state, event)?;
        }
        Ok(state)
    }

    /// Takes the next event of a journal in: the first one where there is no state yet.
    ///
    /// # Errors
    /// Where it can't follow; the state is then as it was before.
    pub fn follow(state: &mut Option<Self>, event: &Event) -> Result<(), ApplyError> {
        match state {
            Some(state) => state.apply(event),
            None => Self::begin(event).map(|begun| *state = Some(begun)),
        }
    }

    /// The event that the run began with.
    #[must_use]
    pub fn started(&self) -> Event {
        let header = Box::new((*self.header).clone());
        Event { seq: 1, at: self.started_at, kind: EventKind::RunStarted { header } }
    }

    /// Rebuilds the index of ids after the state was read from a file.
    pub fn index(&mut self) {
        self.by_id = Arc::new(
            self.tasks
                .iter()
                .enumerate()
                .map(|(i, t)| (t.id.clone(), TaskIndex::from(i)))
                .collect(),
        );
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.header.run
    }

    /// The task at a position of the plan.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn task(&self, index: TaskIndex) -> &TaskRun {
        &self.tasks[index.get()]
    }

    /// The position of the task with this id.
    #[must_use]
    pub fn index_of(&self, id: &TaskId) -> Option<TaskIndex> {
        self.by_id.get(id).copied()
    }

    /// Takes the next event in.
    ///
    /// # Errors
    /// Where it can't follow; the state is then as it was before.
    pub fn apply(&mut self, event: &Event) -> Result<(), ApplyError> {
        if event.seq != self.seq + 1 {
            return Err(ApplyError::Gap { expected: self.seq + 1, found: event.seq });
        }
        match &event.kind {
            EventKind::RunStarted { .. } => {
                return Err(ApplyError::NotStarted { seq: event.seq });
            }
            EventKind::RunReopened { pid } => {
                self.pid = *pid;
                self.go_on_after_budget(self.status == RunStatus::OutOfBudget);
                self.status = RunStatus::Running;
                self.thaw(event.at);
            }
            EventKind::Task { task, change } => {
                let index = self.index_of(task).ok_or_else(|| ApplyError::UnknownTask {
                    seq: event.seq,
                    task: task.clone(),
                })?;
                self.change(index, change, event.at).map_err(|source| ApplyError::Illegal {
                    seq: event.seq,
                    task: task.clone(),
                    source,
                })?;
            }
            EventKind::RunPaused { frozen } => {
                if *frozen {
                    self.status = RunStatus::Frozen;
                    self.frozen_since.get_or_insert(event.at);
                } else {
                    self.status = RunStatus::Paused;
                    self.thaw(event.at);
                }
            }
            EventKind::RunResumed => {
                self.go_on_after_budget(true);
                self.status = RunStatus::Running;
                self.thaw(event.at);
            }
            EventKind::RunCancelling => {
                self.status = RunStatus::Cancelling;
                self.thaw(event.at);
            }
            EventKind::RunInterrupting => {
                self.status = RunStatus::Interrupting;
                self.thaw(event.at);
            }
            EventKind::Delivered { delivery } => self.delivery = Some(delivery.clone()),
            EventKind::Warning { .. } => {}
            EventKind::ConflictExpected { tasks, files } => {
                self.expected_conflicts.retain(|known| known.tasks != *tasks);
                if !files.is_empty() {
                    let (tasks, files) = (tasks.clone(), files.clone());
                    self.expected_conflicts.push(ExpectedConflict { tasks, files });
                }
            }
            EventKind::BreakerOpened { key, until, reason } => {
                // One that is open and is to be so for longer was opened once.
                let opened = self
                    .breakers
                    .get(key)
                    .map_or(1, |breaker| breaker.opened + u32::from(event.at >= breaker.until));
                let breaker = Breaker { until: *until, opened, reason: reason.clone() };
                self.breakers.insert(key.clone(), breaker);
            }
            EventKind::BreakerClosed { key } => {
                self.breakers.remove(key);
            }
            EventKind::ConcurrencyChanged { limit, reason } => {
                let full = self.header.settings.max_concurrency;
                if *limit < self.concurrency.unwrap_or(full) {
                    self.slowdown = Some(Slowdown { at: event.at, reason: reason.clone() });
                }
                self.concurrency = (*limit < full).then_some(*limit);
            }
            EventKind::CandidateMade { number, tasks, commit } => {
                let (tasks, commit) = (tasks.clone(), commit.clone());
                self.candidate = Some(Candidate { number: *number, tasks, commit, passed: None });
            }
            EventKind::CandidateVerified { number, passed } => {
                if let Some(candidate) = &mut self.candidate
                    && candidate.number == *number
                {
                    candidate.passed = Some(*passed);
                }
            }
            EventKind::BudgetReached { stop } => self.budget_stops.push(stop.clone()),
            EventKind::BudgetChanged { change } => {
                let budget = self.budgets.entry(change.scope.clone()).or_default();
                *budget = budget.with(change.budget);
                self.budget_stops.retain(|stop| stop.scope != change.scope);
            }
            // It is looked at anew by whoever goes on with the run.
            EventKind::StartsHeld { .. } | EventKind::StartsResumed => {}
            EventKind::RunEnded { status } => self.status = *status,
            EventKind::Undone { undone } => self.undone = Some(undone.clone()),
        }
        self.seq = event.seq;
        self.updated_at = event.at;
        Ok(())
    }

    /// Running agents go on: the time for which they stood still counts for none of them.
    fn thaw(&mut self, now: Timestamp) {
        let Some(frozen) = self.frozen_since.take() else { return };
        for task in &mut self.tasks {
            if let Some(since) = &mut task.agent_since {
                *since = *since + now.since(frozen.max(*since));
            }
        }
    }

    /// Changes a task, and what its worker used with it.
    fn change(
        &mut self,
        index: TaskIndex,
        change: &TaskChange,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let task = &mut self.tasks[index.get()];
        let (before, at_work, was_at_work) =
            (task.used(), task.in_flight.as_deref().copied(), task.agent_since.is_some());
        let by = match change {
            TaskChange::Leased { by, .. } => by,
            _ => &task.by,
        };
        let worker = Worker::of(&self.header.plan, index, &task.state, by.as_deref());
        task.apply(change, at)?;
        let after = task.used();
        let is_news = match change {
            TaskChange::Leased { .. } => true,
            // Only once, as above.
            TaskChange::AgentEnded { .. } => was_at_work,
            _ => before != after,
        };
        if is_news {
            let epic = &self.header.plan.tasks[index.get()].epic;
            let known = |s: &Spending| s.worker == worker && s.epic == *epic;
            let at = self.spending.iter().position(known).unwrap_or_else(|| {
                let epic = epic.clone();
                self.spending.push(Spending { epic, worker, ..Spending::default() });
                self.spending.len() - 1
            });
            self.spending[at].see(change, (before, after), at_work);
        }
        Ok(())
    }

    /// Somebody goes on with it: budgets are looked at anew, and who went on after reading that they can't
    /// be kept does without.
    fn go_on_after_budget(&mut self, was_told: bool) {
        for stop in std::mem::take(&mut self.budget_stops) {
            if let Some(worker) = stop.unknown.filter(|_| was_told)
                && !self.uncounted.contains(&worker)
            {
                self.uncounted.push(worker);
            }
        }
    }
}
