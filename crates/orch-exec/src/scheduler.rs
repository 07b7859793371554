//! What happens next: a pure state machine. It does no IO, reads no clock and draws no randomness,
//! so a simulated world can drive it through thousands of schedules a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, OnceLock},
    time::Duration,
};

use orch_deps::{Ended, Frontier, Graph, Rank, Ranks, Waves};
use orch_faults::planted;
use orch_model::{
    CommitId, Event, EventKind, RunState, RunStatus, TaskChange, TaskState, Timestamp, ValidPlan,
    event::{Delivery, RunSettings},
    outcome::{Failure, StopReason},
    plan::{
        AgentChoice, Service, TaskIndex,
        spec::{OnConflict, OnFailure, Schedule},
    },
    progress::WaitReason,
    state::{Merged, SkipReason},
};

use crate::{
    backoff,
    briefing::{self, Needed},
    internal::{Command, Decision, Input, UnitEnd, UnitReport},
};

mod breaker;
mod budget;
mod choice;
mod conflicts;
mod holdings;
mod pressure;
mod progress;
mod stops;

use budget::{Books, Budgets};
pub use choice::Choosing;
use holdings::Holdings;
use pressure::Machine;

/// Decides what happens next in a run. Its [`RunState`] is the state of the run.
#[derive(Debug)]
pub struct Scheduler {
    plan: Arc<ValidPlan>,
    graph: Arc<Graph>,
    ranks: Ranks,
    waves: Waves,
    state: RunState,
    frontier: Frontier,
    holdings: Holdings,
    /// Tasks that wait for a slot, the best first.
    queue: BTreeSet<Rank>,
    /// Tasks that hold a slot, with the moment they got it.
    slots: BTreeMap<TaskIndex, Timestamp>,
    /// Pauses before the next attempt.
    pauses: BTreeSet<(Timestamp, TaskIndex)>,
    /// Queued tasks whose locks are held by somebody outside this run.
    foreign: BTreeMap<TaskIndex, WaitReason>,
    /// Why units of work were told to stop, also where their state does not say so: they waited
    /// for their locks, were merging, or were being ended for another reason already.
    told: BTreeMap<TaskIndex, StopReason>,
    /// The failed task because of which nothing new is started.
    stopped_by: Option<TaskIndex>,
    /// The tasks that try whether the trouble of their kind, whose breaker is open, is over: one of each
    /// kind, and what an earlier orchestrator had begun.
    probes: BTreeSet<(TaskIndex, String)>,
    /// Whom the limits of each task concern, for each of its agents; told when the first limit is met.
    services: OnceLock<Vec<Vec<Service>>>,
    /// What is known of agents and models.
    choosing: Choosing,
    /// Who was given the attempts that this scheduler has begun.
    chosen: BTreeMap<TaskIndex, Box<AgentChoice>>,
    /// How many agents succeeded since the concurrency changed last.
    successes: u32,
    /// How the machine does.
    machine: Machine,
    /// By wave: how many of its tasks have not ended.
    wave_left: Vec<usize>,
    /// The first wave that has not ended.
    wave: usize,
    /// When it may begin.
    wave_opens: Timestamp,
    /// Tasks whose conflicts a person has to resolve before what needs them can go on.
    on_hold: BTreeSet<TaskIndex>,
    /// How long the tasks took that have ended well: their number and their sum.
    observed: (u32, Duration),
    budgets: Budgets,
    ending: bool,
    out: Decision,
}

impl Scheduler {
    /// A scheduler for a run in this state: one that has just begun, or one that is resumed.
    /// `recorded` gives durations of tasks that were measured in earlier runs.
    #[must_use]
    pub fn new(
        plan: Arc<ValidPlan>,
        state: RunState,
        recorded: impl Fn(TaskIndex) -> Option<Duration>,
    ) -> Self {
        let graph = Arc::new(Graph::new(&plan));
        let ranks = Ranks::new(&graph, &plan, recorded);
        let limit = state.header.settings.max_per_wave.map(|max| max as usize);
        let waves = graph.waves().split(limit, &ranks);
        let mut scheduler = Self {
            frontier: Frontier::new(Arc::clone(&graph)),
            holdings: Holdings::new(Arc::clone(&plan)),
            wave_left: waves.iter().map(<[TaskIndex]>::len).collect(),
            wave: 0,
            wave_opens: Timestamp::from_millis(0),
            queue: BTreeSet::new(),
            slots: BTreeMap::new(),
            pauses: BTreeSet::new(),
            foreign: BTreeMap::new(),
            told: BTreeMap::new(),
            stopped_by: None,
            probes: BTreeSet::new(),
            services: OnceLock::new(),
            choosing: Choosing::default(),
            chosen: BTreeMap::new(),
            successes: 0,
            machine: Machine::default(),
            on_hold: BTreeSet::new(),
            observed: (0, Duration::ZERO),
            budgets: Budgets::default(),
            ending: false,
            out: Decision::default(),
            plan,
            graph,
            ranks,
            waves,
            state,
        };
        scheduler.assign_budgets();
        scheduler
    }

    /// The state of the run.
    #[must_use]
    pub const fn state(&self) -> &RunState {
        &self.state
    }

    /// The commits that brought in the work of the tasks that one needs.
    #[must_use]
    pub fn foundations(&self, task: TaskIndex) -> Vec<CommitId> {
        let merged = |needed: TaskIndex| match &self.state.task(needed).state {
            TaskState::Merged { result: Merged::Commit { merge_commit, .. }, .. } => {
                Some(merge_commit.clone())
            }
            _ => None,
        };
        self.graph.needs(task).into_iter().filter_map(merged).collect()
    }

    /// The tasks that one needs, and what came of them; nothing for a command.
    #[must_use]
    pub(crate) fn needed(&self, task: TaskIndex) -> Vec<Needed> {
        briefing::needed(&self.plan, &self.graph, Some(&self.state), task)
    }

    /// Takes a message in and decides. Every change of the state is among the events.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Decision {
        if self.state.status.is_ended() {
            return Decision::default();
        }
        let now = now.max(self.state.updated_at);
        match input {
            Input::Begin => self.begin(now),
            Input::Unit { task, report } => self.unit(task, report, now),
            Input::LockReleased { task } => {
                let waited = self.foreign.remove(&task).is_some();
                if waited && matches!(self.state.task(task).state, TaskState::Queued) {
                    self.queue.insert(self.ranks.rank(task));
                }
            }
            Input::Pause { freeze } => self.pause(freeze, now),
            Input::SetBudgets(changes) => self.change_budgets(changes, now),
            Input::Resume => {
                if self.state.status == RunStatus::Frozen {
                    self.out.commands.push(Command::Freeze(false));
                }
                if self.is_paused() || !self.state.budget_stops.is_empty() {
                    self.record(EventKind::RunResumed, now);
                }
            }
            Input::CancelTask(task) => self.cancel(task, now),
            Input::Cancel => self.cancel_all(now),
            Input::Interrupt => self.interrupt(now),
            Input::Tick => {}
            Input::Delivered(delivery) => self.delivered(delivery, now),
            Input::Warning(message) => {
                self.record(EventKind::Warning { task: None, message }, now);
            }
            Input::Resources(reading) => self.resources(&reading, now),
            Input::ConflictExpected { tasks, files } => self.conflict_expected(tasks, files, now),
        }
        if !self.ending {
            self.end_pauses(now);
            self.open_waves(now);
            self.wake_for_breakers(now);
            self.keep_budgets(now);
            self.fill_slots(now);
            self.find_dead_ends(now);
            self.check_end(now);
        }
        std::mem::take(&mut self.out)
    }

    /// Whether an attempt that fails like this will be followed by another.
    #[must_use]
    pub fn will_retry(&self, task: TaskIndex, failure: &Failure) -> bool {
        if self.state.status == RunStatus::Cancelling
            || self.stopped_by.is_some()
            || self.is_cut_off(task)
            || self.told.get(&task) == Some(&StopReason::Cancelled)
        {
            return false;
        }
        let on_conflict = self.plan.task(task).on_conflict;
        if matches!(failure, Failure::Conflict { .. }) && on_conflict != OnConflict::RebaseRetry {
            return false;
        }
        // How it ends does not count: the run was stopped, and it begins anew.
        if self.is_ended_for(task, &StopReason::Interrupted) {
            return true;
        }
        if self.has_stand_in(task, failure) {
            return true;
        }
        let run = self.state.task(task);
        let failed = run.failures.get(failure.class()).map_or(0, |count| *count) + 1;
        let charged = run.charged + u32::from(failure.is_charged());
        let may_pay = charged <= self.plan.task(task).retries || planted("retries-without-end");
        failed < failure.policy().bound && may_pay
    }

    /// Whether a unit is being ended because it was told to for this reason: that it may have failed of
    /// itself meanwhile does not count.
    fn is_ended_for(&self, task: TaskIndex, told: &StopReason) -> bool {
        let state = &self.state.task(task).state;
        let of_itself = |reason: &_| matches!(reason, StopReason::Timeout { .. });
        self.told.get(&task) == Some(told)
            && matches!(state, TaskState::Stopping { reason, .. } if !of_itself(reason))
    }

    /// Why a unit of work must not go on; `None` where it may.
    #[must_use]
    pub fn stop_reason(&self, task: TaskIndex) -> Option<StopReason> {
        match &self.state.task(task).state {
            TaskState::Stopping { reason, .. } => Some(reason.clone()),
            _ => None,
        }
    }

    fn settings(&self) -> &RunSettings {
        &self.state.header.settings
    }

    const fn is_paused(&self) -> bool {
        matches!(self.state.status, RunStatus::Paused | RunStatus::Frozen)
    }

    fn record(&mut self, kind: EventKind, now: Timestamp) {
        let event = Event { seq: self.state.seq + 1, at: now, kind };
        self.state.apply(&event).expect("the scheduler makes only changes that the state allows");
        self.out.events.push(event);
    }

    /// Records a change of a task and follows up what it means for others.
    fn change(&mut self, task: TaskIndex, change: TaskChange, now: Timestamp) {
        let id = self.state.task(task).id.clone();
        self.record(EventKind::Task { task: id, change }, now);
        if self.state.task(task).state.is_terminal() {
            self.ended(task, now);
        }
    }

    fn begin(&mut self, now: Timestamp) {
        // What had ended before the run was resumed. Skips that follow from it are recorded below.
        let ended: Vec<_> =
            self.plan.indices().filter(|task| self.state.task(*task).state.is_terminal()).collect();
        let mut skipped = Vec::new();
        for task in ended {
            self.leave_wave(task, now);
            if self.waits_for_person(task) {
                self.on_hold.insert(task);
                continue;
            }
            let how = match self.state.task(task).state {
                TaskState::Merged { .. } => Ended::Succeeded,
                TaskState::Failed { .. } | TaskState::Conflicted { .. } => {
                    self.stop_after(task);
                    Ended::Failed
                }
                _ => Ended::Failed,
            };
            skipped.extend(self.frontier.resolve(task, how).skipped);
        }
        for (task, because) in skipped {
            self.skip(task, because, now);
        }
        let ready = self.frontier.ready();
        self.out.events.reserve_exact(2 * ready.len());
        for task in ready {
            match self.state.task(task).state {
                TaskState::Blocked => self.unblock(task, now),
                TaskState::Ready => self.enqueue(task, now),
                TaskState::Queued => {
                    self.queue.insert(self.ranks.rank(task));
                }
                TaskState::Backoff { .. } if planted("timer-forgotten") => {}
                TaskState::Backoff { until, .. } => self.pause_until(task, until),
                _ => self.adopt(task),
            }
        }
        if let Some(by) = self.stopped_by {
            self.skip_rest(by, now);
        }
    }

    /// Goes on with an attempt that an earlier orchestrator began.
    fn adopt(&mut self, task: TaskIndex) {
        let run = self.state.task(task);
        let Some(attempt) = run.state.attempt().filter(|_| run.state.is_active()) else { return };
        if let TaskState::Stopping { reason, .. } = &run.state {
            self.told.insert(task, reason.clone());
        }
        self.slots.insert(task, run.entered_at);
        // It may have been the one that tries; in any case its end tells how things are.
        self.probe(task);
        self.holdings.take(task);
        self.out.commands.push(Command::Adopt { task, attempt });
    }

    fn unblock(&mut self, task: TaskIndex, now: Timestamp) {
        self.change(task, TaskChange::Unblocked, now);
        self.enqueue(task, now);
    }

    fn enqueue(&mut self, task: TaskIndex, now: Timestamp) {
        self.change(task, TaskChange::Queued, now);
        self.queue.insert(self.ranks.rank(task));
    }

    fn pause_until(&mut self, task: TaskIndex, until: Timestamp) {
        self.pauses.insert((until, task));
        self.out.commands.push(Command::WakeAt(until));
    }

    fn end_pauses(&mut self, now: Timestamp) {
        while let Some((until, task)) = self.pauses.first().copied() {
            if until > now {
                break;
            }
            self.pauses.pop_first();
            if matches!(self.state.task(task).state, TaskState::Backoff { .. }) {
                self.enqueue(task, now);
            }
        }
    }

    // --- waves: a gate in front of the queue ---

    fn is_behind_wave(&self, task: TaskIndex, now: Timestamp) -> bool {
        self.settings().schedule == Schedule::Waves
            && (self.waves.wave_of(task) > self.wave || now < self.wave_opens)
    }

    fn leave_wave(&mut self, task: TaskIndex, now: Timestamp) {
        let wave = self.waves.wave_of(task);
        self.wave_left[wave] -= 1;
        while self.wave_left.get(self.wave) == Some(&0) {
            self.wave += 1;
            self.wave_opens = now + self.settings().wave_delay.0;
        }
    }

    fn open_waves(&mut self, now: Timestamp) {
        if self.settings().schedule == Schedule::Waves && now < self.wave_opens {
            self.out.commands.push(Command::WakeAt(self.wave_opens));
        }
    }

    // --- starting ---

    fn fill_slots(&mut self, now: Timestamp) {
        let max = self.state.concurrency.unwrap_or(self.settings().max_concurrency) as usize
            + usize::from(planted("one-too-many"));
        if self.state.status != RunStatus::Running
            || self.stopped_by.is_some()
            || self.machine.shortage().is_some()
        {
            return;
        }
        let mut books = self.books();
        let mut from = Bound::Unbounded;
        while self.slots.len() < max {
            let mut queue = self.queue.range((from, Bound::Unbounded)).copied();
            let startable = queue.find_map(|rank| {
                let task = self.ranks.task(rank);
                let is_free =
                    !self.is_behind_wave(task, now) && self.holdings.obstacle(task).is_none();
                let agent = is_free.then(|| self.startable(task, books.as_ref(), now)).flatten()?;
                Some((rank, agent))
            });
            let Some((rank, agent)) = startable else { break };
            from = Bound::Excluded(rank);
            self.queue.remove(&rank);
            self.start(self.ranks.task(rank), agent, books.as_ref(), now);
            books = self.books();
        }
    }

    /// Starts a task by the agent at this place of its list.
    fn start(&mut self, task: TaskIndex, agent: usize, books: Option<&Books>, now: Timestamp) {
        let attempt = self.state.task(task).attempts + 1;
        if let Some(choice) = self.choose(task, agent, books, now) {
            self.chosen.insert(task, choice);
        }
        self.probe(task);
        self.slots.insert(task, now);
        self.holdings.take(task);
        if self.plan.task(task).locks.is_empty() {
            self.leased(task, now);
        }
        self.out.commands.push(Command::Start { task, attempt });
    }

    fn leased(&mut self, task: TaskIndex, now: Timestamp) {
        let attempt = self.state.task(task).attempts + 1;
        let by = self.chosen.get(&task).cloned();
        self.change(task, TaskChange::Leased { attempt, by }, now);
        self.change(task, TaskChange::Preparing, now);
    }

    // --- units of work ---

    fn unit(&mut self, task: TaskIndex, report: UnitReport, now: Timestamp) {
        let stopping = matches!(self.state.task(task).state, TaskState::Stopping { .. });
        match report {
            UnitReport::Ended(end) => self.unit_ended(task, end, now),
            UnitReport::LockBusy { .. } if self.told.contains_key(&task) => {
                let reason = self.told[&task].clone();
                self.unit_ended(task, UnitEnd::Stopped(reason), now);
            }
            UnitReport::LockBusy { lock, holder } => {
                self.free_slot(task);
                // It won't be started any more.
                if let Some(by) = self.stopped_by {
                    return self.skip_rest(by, now);
                }
                self.foreign.insert(task, WaitReason::ForeignLock { lock, holder });
                self.out.commands.push(Command::AwaitLocks(task));
            }
            UnitReport::Warning(message) => {
                let id = self.state.task(task).id.clone();
                self.record(EventKind::Warning { task: Some(id), message }, now);
            }
            UnitReport::Resolving { round, files } => {
                self.change(task, TaskChange::Resolving { round, files }, now);
            }
            UnitReport::ResolvingEnded { resolved, usage } => {
                self.change(task, TaskChange::ResolvingEnded { resolved, usage }, now);
            }
            UnitReport::CandidateMade { number, tasks, commit } => {
                self.record(EventKind::CandidateMade { number, tasks, commit }, now);
            }
            UnitReport::CandidateVerified { number, passed } => {
                self.record(EventKind::CandidateVerified { number, passed }, now);
            }
            UnitReport::Used(usage) => {
                let run = self.state.task(task);
                // An agent whose start could not be recorded any more is none of the task's; the one of a
                // merge resolves its conflicts.
                let is_at_work = run.agent_since.is_some()
                    && matches!(run.state, TaskState::Running { .. } | TaskState::Stopping { .. });
                if is_at_work || matches!(run.state, TaskState::Merging { .. }) {
                    self.answered(task, now);
                    self.change(task, TaskChange::AgentUsed { usage }, now);
                }
            }
            UnitReport::Answered => self.answered(task, now),
            UnitReport::RateLimited { reset, message } => {
                let since = self.slots.get(&task).copied().unwrap_or(now);
                self.rate_limited(task, &Failure::RateLimit { reset, message }, since, now);
            }
            UnitReport::AgentEnded { exit, usage, model } => {
                let state = &self.state.task(task).state;
                // An agent that could be started only as it was to end: its start was not recorded.
                if !matches!(state, TaskState::Running { .. } | TaskState::Stopping { .. }) {
                    return;
                }
                self.change(task, TaskChange::AgentEnded { exit, usage, model }, now);
                if exit.is_success() && !stopping {
                    self.agent_succeeded(task, now);
                }
            }
            // It was told to stop meanwhile and will end soon.
            _ if stopping => {}
            // What is stopped is the resolver of its conflicts, or a verification of that.
            UnitReport::Stopping(_)
                if matches!(self.state.task(task).state, TaskState::Merging { .. }) => {}
            UnitReport::Leased => {
                self.leased(task, now);
                if let Some(reason) = self.told.get(&task).cloned() {
                    self.change(task, TaskChange::Stopping { reason }, now);
                }
            }
            UnitReport::Prepared(place) => self.change(task, TaskChange::Prepared { place }, now),
            UnitReport::Started(agent) => self.change(task, TaskChange::Started { agent }, now),
            UnitReport::Verified { commit } => {
                self.change(task, TaskChange::Verified { commit }, now);
            }
            UnitReport::Stopping(reason) => {
                self.change(task, TaskChange::Stopping { reason }, now);
            }
        }
    }

    fn free_slot(&mut self, task: TaskIndex) {
        self.probes.retain(|(probing, _)| *probing != task);
        self.slots.remove(&task);
        self.told.remove(&task);
        self.holdings.release(task);
    }

    fn unit_ended(&mut self, task: TaskIndex, end: UnitEnd, now: Timestamp) {
        let since = self.slots.get(&task).copied().unwrap_or(now);
        let told = self.told.get(&task).cloned();
        let is_cancelled = told == Some(StopReason::Cancelled);
        self.free_slot(task);
        let state = &self.state.task(task).state;
        if matches!(state, TaskState::Queued) {
            // It ended while it waited for its locks.
            match end {
                UnitEnd::Stopped(StopReason::Cancelled) => {
                    return self.change(task, TaskChange::Cancelled, now);
                }
                UnitEnd::Failed(_) => self.leased(task, now),
                _ => {
                    self.queue.insert(self.ranks.rank(task));
                    return;
                }
            }
        }
        // A reason to stop that came from outside wins over how the unit happened to end, unless
        // that was the end of a merge.
        let timed_out = |reason: &_| matches!(reason, StopReason::Timeout { .. });
        let end = match (&self.state.task(task).state, told, end) {
            (_, Some(StopReason::Cancelled), UnitEnd::Failed(_)) => {
                UnitEnd::Stopped(StopReason::Cancelled)
            }
            (TaskState::Stopping { reason, .. }, Some(told), _) if !timed_out(reason) => {
                UnitEnd::Stopped(told)
            }
            (_, _, end) => end,
        };
        match end {
            UnitEnd::Merged(result) => {
                self.observed.0 += 1;
                self.observed.1 += now.since(since);
                self.change(task, TaskChange::Merged { result }, now);
            }
            UnitEnd::Conflicted { commit, branch, files, hunks } => {
                let (of, at) = (files.clone(), hunks.clone());
                let failure = Failure::Conflict { branch: branch.clone(), files: of, hunks: at };
                if !is_cancelled && self.will_retry(task, &failure) {
                    let until = self.next_attempt(task, &failure, now);
                    self.retry(task, failure, until, now);
                } else {
                    let change = TaskChange::Conflicted { commit, branch, files, hunks };
                    self.change(task, change, now);
                }
            }
            // It stays where it is: whoever resumes the run repeats the merge, not the work.
            UnitEnd::Stopped(StopReason::Interrupted)
                if matches!(self.state.task(task).state, TaskState::Merging { .. })
                    && self.state.status == RunStatus::Interrupting => {}
            UnitEnd::Stopped(StopReason::Interrupted) => {
                let failure = Failure::Interrupted { message: "the run was stopped".into() };
                self.retry(task, failure, now, now);
                // An attempt of an earlier orchestrator, perhaps: nobody starts it again.
                if let Some(by) = self.stopped_by {
                    self.skip_rest(by, now);
                }
            }
            UnitEnd::Stopped(StopReason::Budget { scope }) => {
                let failure = Failure::Budget { scope };
                if self.will_retry(task, &failure) {
                    self.retry(task, failure, now, now);
                } else {
                    self.change(task, TaskChange::Failed { failure }, now);
                }
            }
            UnitEnd::Stopped(_) => self.change(task, TaskChange::Cancelled, now),
            UnitEnd::Failed(failure) => {
                let retried = self.will_retry(task, &failure);
                self.rate_limited(task, &failure, since, now);
                if retried {
                    let until = self.next_attempt(task, &failure, now);
                    self.retry(task, failure, until, now);
                } else {
                    self.change(task, TaskChange::Failed { failure }, now);
                }
            }
        }
    }

    fn next_attempt(&self, task: TaskIndex, failure: &Failure, now: Timestamp) -> Timestamp {
        let policy = failure.policy();
        // The breaker holds it up, or somebody else can do it at once.
        let is_limited = || {
            let books = self.books();
            self.startable(task, books.as_ref(), now).is_none() || self.evades(task, now)
        };
        if policy.tries_fallback || (policy.opens_breaker && is_limited()) {
            return now;
        }
        let run = self.state.task(task);
        let failed = run.failures.get(failure.class()).map_or(0, |count| *count);
        let failures = run.charged.max(failed) + 1;
        let pause = backoff::pause(self.settings(), &run.id, failures);
        now + pause.max(failure.policy().least_pause)
    }

    fn retry(&mut self, task: TaskIndex, failure: Failure, until: Timestamp, now: Timestamp) {
        self.change(task, TaskChange::Retry { failure, until }, now);
        self.pause_until(task, until);
    }

    // --- endings ---

    /// A task has come to a terminal state: what follows for the others.
    fn ended(&mut self, task: TaskIndex, now: Timestamp) {
        self.queue.remove(&self.ranks.rank(task));
        self.foreign.remove(&task);
        self.leave_wave(task, now);
        if self.waits_for_person(task) {
            self.on_hold.insert(task);
            return;
        }
        let how = match self.state.task(task).state {
            TaskState::Merged {
                result: Merged::Nothing | Merged::Commit { .. } | Merged::Kept { .. },
                ..
            } => Ended::Succeeded,
            _ if planted("ended-is-merged") => Ended::Succeeded,
            _ => Ended::Failed,
        };
        let resolved = self.frontier.resolve(task, how);
        for (skipped, because) in resolved.skipped {
            self.skip(skipped, because, now);
        }
        // Where the run is ending, what is ready is about to be skipped or cancelled.
        if self.stopped_by.is_none() && self.state.status != RunStatus::Cancelling {
            for ready in resolved.ready {
                if matches!(self.state.task(ready).state, TaskState::Blocked) {
                    self.unblock(ready, now);
                }
            }
        }
        if matches!(
            self.state.task(task).state,
            TaskState::Failed { .. } | TaskState::Conflicted { .. }
        ) {
            self.stop_after(task);
            if let Some(by) = self.stopped_by {
                self.skip_rest(by, now);
            }
        }
    }

    fn skip(&mut self, task: TaskIndex, because: TaskIndex, now: Timestamp) {
        if !self.state.task(task).state.is_terminal() {
            let because = SkipReason::Dependency { task: self.plan.task(because).id.clone() };
            self.change(task, TaskChange::Skipped { because }, now);
        }
    }

    fn stop_after(&mut self, task: TaskIndex) {
        if self.settings().on_failure == OnFailure::Stop {
            self.stopped_by.get_or_insert(task);
        }
    }

    fn skip_rest(&mut self, by: TaskIndex, now: Timestamp) {
        let by = self.plan.task(by).id.clone();
        for task in self.waiting() {
            // Where its merge was interrupted, whoever resumes the run repeats that.
            let state = &self.state.task(task).state;
            if !state.is_terminal() && !state.is_active() {
                let because = SkipReason::RunStopped { task: by.clone() };
                self.change(task, TaskChange::Skipped { because }, now);
            }
        }
    }

    /// Tasks that have not ended and hold no slot, in plan order.
    fn waiting(&self) -> Vec<TaskIndex> {
        self.plan
            .indices()
            .filter(|task| !self.state.task(*task).state.is_terminal())
            .filter(|task| !self.slots.contains_key(task))
            .collect()
    }

    fn check_end(&mut self, now: Timestamp) {
        if self.ending || !self.slots.is_empty() {
            return;
        }
        let interrupted = self.state.status == RunStatus::Interrupting;
        if self.frontier.unresolved() == 0 || (self.is_held_up() && !interrupted) {
            self.ending = true;
            if self.state.header.base.is_some() {
                self.out.commands.push(Command::Deliver);
            } else {
                self.delivered(Delivery::Nothing, now);
            }
        } else if interrupted {
            self.ending = true;
            self.finish(RunStatus::Interrupted, now);
        } else if self.is_out_of_budget(now) {
            self.ending = true;
            self.finish(RunStatus::OutOfBudget, now);
        }
    }

    fn delivered(&mut self, delivery: Delivery, now: Timestamp) {
        if self.state.header.base.is_some() {
            self.record(EventKind::Delivered { delivery }, now);
        }
        let all_merged =
            self.state.tasks.iter().all(|task| matches!(task.state, TaskState::Merged { .. }));
        let status = match self.state.status {
            _ if all_merged => RunStatus::Succeeded,
            RunStatus::Cancelling => RunStatus::Cancelled,
            _ if !self.on_hold.is_empty() => RunStatus::Conflicted,
            _ => RunStatus::Failed,
        };
        self.finish(status, now);
    }

    fn finish(&mut self, status: RunStatus, now: Timestamp) {
        self.record(EventKind::RunEnded { status }, now);
        self.out.commands.push(Command::End);
    }
}

#[cfg(test)]
mod tests;
