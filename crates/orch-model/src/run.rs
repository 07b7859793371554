//! The whole state of a run: what its events add up to.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    budget::{Budget, BudgetScope, BudgetStop},
    conflict::Conflict,
    event::{AgentIdentity, Delivery, Event, EventKind, Place, RunHeader, TaskChange, Undone},
    id::{AgentName, CommitId, RunId, TaskId},
    outcome::Failure,
    plan::{AgentChoice, TaskIndex},
    spending::{Spending, Worker},
    state::{Attempt, RunStatus, TaskState},
    time::{Span, Timestamp},
    transition::{self, IllegalTransition},
    usage::Usage,
};

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
    /// When they were to go on, until something later shows that this was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thawed_at: Option<Timestamp>,
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

/// The state of one task of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Its id.
    pub id: TaskId,
    /// Where it stands.
    #[serde(flatten)]
    pub state: TaskState,
    /// When it came to stand there.
    pub entered_at: Timestamp,
    /// How many attempts have begun.
    pub attempts: Attempt,
    /// How many of them count against its retries.
    pub charged: u32,
    /// How many failed by each class, [`Failure::class`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u32>,
    /// Why its last attempt failed, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Box<LastFailure>>,
    /// When its first agent was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Where its last attempt worked, where it has a place of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Place>>,
    /// Who was given its last attempt; `None` for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<AgentChoice>>,
    /// Agents that turned out not to be able to do it, and why: they are not started for it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfit: BTreeMap<AgentName, String>,
    /// The process of its last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentIdentity>,
    /// When the agent of its last attempt was started, until its end is recorded; later by the time for
    /// which it was frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_since: Option<Timestamp>,
    /// What all attempts used together, also those that failed, but for the agent that is at work.
    #[serde(default)]
    pub usage: Usage,
    /// What the agent that is at work used so far, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<Box<Usage>>,
    /// How long the agents of all attempts ran together, as far as their ends were seen.
    #[serde(default)]
    pub agent_time: Span,
}

/// Why an attempt failed, in short: what the next one is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// The attempt.
    pub attempt: Attempt,
    /// [`Failure::class`].
    pub class: String,
    /// What went wrong, in one line of at most 500 characters.
    pub message: String,
    /// Where it conflicted, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// Where it worked, where it was only held up: the next attempt goes on there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Place>>,
}

impl LastFailure {
    const LONGEST: usize = 500;

    fn new(attempt: Attempt, failure: &Failure) -> Self {
        let message = failure.to_string();
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            attempt,
            class: failure.class().to_owned(),
            message: line.chars().take(Self::LONGEST).collect(),
            conflict: match failure {
                Failure::Conflict { files, hunks, .. } => {
                    Some(Conflict { files: files.clone(), hunks: hunks.clone() })
                }
                _ => None,
            },
            place: None,
        }
    }
}

/// One line: class and message.
impl fmt::Display for LastFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
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
            thawed_at: None,
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
        let thawed_at = self.thawed_at.filter(|at| *at < event.at);
        match &event.kind {
            EventKind::RunStarted { .. } => {
                return Err(ApplyError::NotStarted { seq: event.seq });
            }
            EventKind::RunReopened { pid } => {
                self.pid = *pid;
                // Its orchestrator died before it had told them.
                self.frozen_since = self.frozen_since.or(thawed_at);
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
        if self.thawed_at == thawed_at {
            self.thawed_at = None;
        }
        self.seq = event.seq;
        self.updated_at = event.at;
        Ok(())
    }

    /// Running agents go on: the time for which they stood still counts for none of them.
    fn thaw(&mut self, now: Timestamp) {
        let Some(frozen) = self.frozen_since.take() else { return };
        self.thawed_at = Some(now);
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

impl TaskRun {
    /// What it used, with what its agent at work used so far.
    #[must_use]
    pub fn used(&self) -> Usage {
        let mut usage = self.usage;
        usage += self.in_flight.as_deref().copied().unwrap_or_default();
        usage
    }

    /// An agent is no longer at work: adds what it used to the rest, by its last word where its end tells
    /// nothing.
    fn settle(&mut self, usage: Option<Usage>) {
        let in_flight = self.in_flight.take().map(|usage| *usage);
        self.usage += usage.or(in_flight).unwrap_or_default();
    }

    fn apply(&mut self, change: &TaskChange, at: Timestamp) -> Result<(), IllegalTransition> {
        let state = transition::next(&self.state, change)?;
        match change {
            TaskChange::Leased { attempt, by } => {
                self.settle(None);
                self.attempts = *attempt;
                self.by.clone_from(by);
                self.place = None;
                self.agent = None;
                self.agent_since = None;
            }
            TaskChange::Prepared { place } => self.place = Some(Box::new(place.clone())),
            TaskChange::Started { agent } => {
                self.started_at.get_or_insert(at);
                self.agent_since = Some(at);
                self.agent.clone_from(agent);
            }
            // Only once: an orchestrator that takes the attempt up may see the same end again.
            TaskChange::AgentEnded { usage, .. } => {
                if let Some(since) = self.agent_since.take() {
                    self.settle(*usage);
                    self.agent_time = Span(self.agent_time.0 + at.since(since));
                }
            }
            TaskChange::AgentUsed { usage } => self.in_flight = Some(Box::new(*usage)),
            TaskChange::ResolvingEnded { usage, .. } => self.settle(*usage),
            TaskChange::Retry { failure, .. } | TaskChange::Failed { failure } => {
                self.settle(None);
                // The same agent would end the same way again: another one is given the next attempt, which
                // the task can't help.
                let moves_on =
                    failure.policy().tries_fallback && matches!(change, TaskChange::Retry { .. });
                if moves_on && let Some(by) = &self.by {
                    self.unfit.insert(by.agent.clone(), failure.to_string());
                }
                self.charged += u32::from(failure.is_charged() && !moves_on);
                *self.failures.entry(failure.class().to_owned()).or_default() += 1;
                let mut last = LastFailure::new(self.attempts, failure);
                last.place = self.place.clone().filter(|_| failure.is_hold_up());
                self.last_failure = Some(Box::new(last));
            }
            _ => {}
        }
        if state.name() != self.state.name() {
            self.entered_at = at;
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{EVENT_VERSION, RunSettings},
        plan::spec::{PlanSpec, TaskSpec},
    };

    fn started() -> Event {
        let plan = PlanSpec::new()
            .task(TaskSpec::new(TaskId::new("a").unwrap()).run("true"))
            .task(TaskSpec::new(TaskId::new("b").unwrap()).run("true"));
        Event {
            seq: 1,
            at: Timestamp::from_millis(1),
            kind: EventKind::RunStarted {
                header: Box::new(RunHeader {
                    run: RunId::new("r1").unwrap(),
                    version: EVENT_VERSION,
                    plan: plan.into(),
                    settings: RunSettings::default(),
                    repository: "/repo".into(),
                    base: None,
                    pid: 7,
                }),
            },
        }
    }

    fn task(seq: u64, id: &str, change: TaskChange) -> Event {
        Event {
            seq,
            at: Timestamp::from_millis(seq),
            kind: EventKind::Task { task: TaskId::new(id).unwrap(), change },
        }
    }

    #[test]
    fn replay_adds_up() {
        let interrupted = Failure::Interrupted { message: "stopped".into() };
        let events = [
            started(),
            task(2, "a", TaskChange::Unblocked),
            task(3, "a", TaskChange::Queued),
            task(4, "a", TaskChange::Leased { attempt: 1, by: None }),
            task(5, "a", TaskChange::Preparing),
            task(6, "a", TaskChange::Started { agent: None }),
            task(
                7,
                "a",
                TaskChange::Retry { failure: interrupted, until: Timestamp::from_millis(9) },
            ),
            Event {
                seq: 8,
                at: Timestamp::from_millis(8),
                kind: EventKind::RunEnded { status: RunStatus::Interrupted },
            },
            Event {
                seq: 9,
                at: Timestamp::from_millis(9),
                kind: EventKind::RunReopened { pid: 8 },
            },
        ];
        let state = RunState::replay(&events).unwrap().unwrap();
        assert_eq!(state.status, RunStatus::Running);
        assert_eq!((state.pid, state.seq), (8, 9));
        let a = &state.tasks[0];
        assert_eq!((a.attempts, a.charged), (1, 0), "an interrupted attempt isn't charged");
        let last = a.last_failure.as_ref().map(|last| (last.attempt, last.to_string()));
        assert_eq!(last, Some((1, "interrupted: stopped".into())));
        assert_eq!(a.started_at, Some(Timestamp::from_millis(6)));
        assert_eq!(a.entered_at, Timestamp::from_millis(7));
        assert_eq!(state.tasks[1].state, TaskState::Blocked);

        let text = serde_json::to_string(&state).unwrap();
        let mut read: RunState = serde_json::from_str(&text).unwrap();
        read.index();
        assert_eq!(read, state);
    }

    #[test]
    fn time_for_which_an_agent_was_frozen_does_not_count() {
        let event = |seq, at, kind| Event { seq, at: Timestamp::from_millis(at), kind };
        let mut state = RunState::begin(&started()).unwrap();
        let begin = [
            TaskChange::Unblocked,
            TaskChange::Queued,
            TaskChange::Leased { attempt: 1, by: None },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
        ];
        for change in begin {
            state.apply(&task(state.seq + 1, "a", change)).unwrap();
        }
        // Another orchestrator takes the run up, and it is frozen once more.
        for (seq, at, kind) in [
            (7, 106, EventKind::RunPaused { frozen: true }),
            (8, 1106, EventKind::RunReopened { pid: 8 }),
            (9, 1206, EventKind::RunPaused { frozen: true }),
            (10, 1306, EventKind::RunPaused { frozen: true }),
            (11, 2206, EventKind::RunResumed),
        ] {
            state.apply(&event(seq, at, kind)).unwrap();
        }
        assert_eq!(state.tasks[0].agent_since, Some(Timestamp::from_millis(2006)));
        assert_eq!(state.frozen_since, None);

        // Whoever thawed them died in that moment: they stood still until somebody took them up.
        state.apply(&event(12, 5206, EventKind::RunReopened { pid: 9 })).unwrap();
        assert_eq!(state.tasks[0].agent_since, Some(Timestamp::from_millis(5006)));
        state.apply(&event(13, 5207, EventKind::RunPaused { frozen: false })).unwrap();
        state.apply(&event(14, 6206, EventKind::RunReopened { pid: 10 })).unwrap();
        assert_eq!(state.tasks[0].agent_since, Some(Timestamp::from_millis(5006)));
    }

    #[test]
    fn what_failed_attempts_used_counts() {
        let usage = Usage { output_tokens: 5, cost_micro_usd: 7, ..Usage::default() };
        let ended = |code| TaskChange::AgentEnded {
            exit: crate::outcome::ExitStatus::Code(code),
            usage: Some(usage),
            model: None,
        };
        let failure = || Failure::NoChanges;
        let retry = TaskChange::Retry { failure: failure(), until: Timestamp::from_millis(1) };
        let changes = [
            TaskChange::Unblocked,
            TaskChange::Queued,
            TaskChange::Leased { attempt: 1, by: None },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
            ended(1),
            // Seen again by the next orchestrator.
            ended(1),
            retry,
            TaskChange::Queued,
            TaskChange::Leased { attempt: 2, by: None },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
            ended(0),
            TaskChange::Failed { failure: failure() },
        ];
        let events = changes.into_iter().zip(2..).map(|(change, seq)| task(seq, "a", change));
        let events: Vec<_> = std::iter::once(started()).chain(events).collect();
        let state = RunState::replay(&events).unwrap().unwrap();
        let a = &state.tasks[0];
        assert_eq!((a.usage.output_tokens, a.usage.cost_micro_usd), (10, 14));
        assert_eq!(a.agent_time, Span(std::time::Duration::from_millis(2)));
        let report = crate::Report::of(&state);
        assert_eq!((report.usage.output_tokens, report.agent_seconds), (10, 0.002));
    }

    #[test]
    fn what_an_agent_used_counts_once_also_where_nobody_saw_its_end() {
        let usage = |output_tokens| Usage { output_tokens, ..Usage::default() };
        let used = |tokens| TaskChange::AgentUsed { usage: usage(tokens) };
        let failure = Failure::Interrupted { message: "it died".into() };
        let retry = TaskChange::Retry { failure, until: Timestamp::from_millis(1) };
        let begin = |attempt| {
            [
                TaskChange::Queued,
                TaskChange::Leased { attempt, by: None },
                TaskChange::Preparing,
                TaskChange::Started { agent: None },
            ]
        };
        let end = |usage| TaskChange::AgentEnded {
            exit: crate::outcome::ExitStatus::Code(0),
            usage,
            model: None,
        };
        let steps = [
            (vec![TaskChange::Unblocked], 0),
            (begin(1).into(), 0),
            (vec![used(3), used(5)], 5),
            // Its end was not seen.
            (vec![retry], 5),
            (begin(2).into(), 5),
            (vec![used(2)], 7),
            (vec![end(Some(usage(4)))], 9),
        ];
        let mut state = RunState::begin(&started()).unwrap();
        for (changes, sum) in steps {
            for change in changes {
                state.apply(&task(state.seq + 1, "a", change)).unwrap();
            }
            assert_eq!(state.tasks[0].used().output_tokens, sum, "{:?}", state.tasks[0].state);
        }
        assert_eq!(state.tasks[0].in_flight, None);
    }

    #[test]
    fn a_journal_that_does_not_add_up_is_refused() {
        assert_eq!(RunState::replay([]).unwrap(), None);
        let first = task(1, "a", TaskChange::Unblocked);
        assert_eq!(RunState::replay([&first]), Err(ApplyError::NotStarted { seq: 1 }));
        let gap = task(3, "a", TaskChange::Unblocked);
        assert_eq!(
            RunState::replay([&started(), &gap]),
            Err(ApplyError::Gap { expected: 2, found: 3 })
        );
        let unknown = task(2, "z", TaskChange::Unblocked);
        assert!(matches!(
            RunState::replay([&started(), &unknown]),
            Err(ApplyError::UnknownTask { .. })
        ));
        let mut state = RunState::begin(&started()).unwrap();
        let before = state.clone();
        let illegal = task(2, "a", TaskChange::Preparing);
        assert!(matches!(state.apply(&illegal), Err(ApplyError::Illegal { .. })));
        assert_eq!(state, before);
    }
}
