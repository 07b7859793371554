//! A world that does what a scheduler says, or doesn't, and an oracle that looks on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use orch_model::{
    CommitId, Event, EventKind, LockName, RunState, RunStatus, Span, TaskState, Timestamp,
    ValidPlan,
    event::{Delivery, Place, TaskChange},
    outcome::{ExitStatus, Failure, StopReason},
    plan::{
        TaskIndex,
        spec::{OnFailure, Schedule},
    },
    resources::Contended,
    state::Merged,
};

use super::{super::Scheduler, oracle, scheduler};
use crate::{
    internal::{Command, Decision, Input, UnitEnd, UnitReport},
    resources::{FreeSpace, Reading, Stall},
};

/// Where a simulated unit of work stands.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Leasing,
    Preparing,
    Running,
    TimedOut,
    Verifying,
    Merging,
}

#[derive(Debug, Clone)]
struct Unit {
    phase: Phase,
    stop: Option<StopReason>,
}

/// Numbers that decide what happens; zeros, which mean "all goes well", once they are used up.
#[derive(Debug, Clone)]
pub(super) struct Chance {
    numbers: std::vec::IntoIter<u16>,
}

impl Chance {
    pub(super) fn new(numbers: Vec<u16>) -> Self {
        Self { numbers: numbers.into_iter() }
    }

    fn is_used_up(&self) -> bool {
        self.numbers.as_slice().is_empty()
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.numbers.next().unwrap_or(0)) % limit
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}

/// The simulated world around one scheduler.
#[derive(Debug)]
pub(super) struct World {
    plan: Arc<ValidPlan>,
    chance: Chance,
    pub(super) scheduler: Scheduler,
    now: Timestamp,
    pub(super) events: Vec<Event>,
    units: BTreeMap<TaskIndex, Unit>,
    wakes: BTreeSet<Timestamp>,
    awaiting: BTreeSet<TaskIndex>,
    delivering: bool,
    frozen: bool,
    /// There is not enough disk space to start anything.
    short: bool,
    pub(super) ended: bool,
    /// When units were started.
    begun: BTreeMap<TaskIndex, Timestamp>,
    /// Units whose orchestrator died and that can be taken up.
    adoptable: BTreeMap<TaskIndex, Unit>,
    /// What the scheduler was told since it was made, and what it answered.
    told: Vec<(Input, Timestamp, Decision)>,
    /// The state that it was made with.
    first: RunState,
    cancelled: BTreeSet<TaskIndex>,
    cancelled_all: bool,
    /// Tasks that must not be started again.
    over: BTreeSet<TaskIndex>,
    /// By wave level: when the last of its tasks ended.
    level_ended: BTreeMap<usize, Timestamp>,
}

impl World {
    pub(super) fn new(plan: Arc<ValidPlan>, started: Event, chance: Chance) -> Self {
        let state = RunState::begin(&started).expect("a first event");
        let mut world = Self {
            chance,
            scheduler: scheduler(&plan, state.clone()),
            now: started.at,
            events: vec![started],
            units: BTreeMap::new(),
            wakes: BTreeSet::new(),
            awaiting: BTreeSet::new(),
            delivering: false,
            frozen: false,
            short: false,
            ended: false,
            begun: BTreeMap::new(),
            adoptable: BTreeMap::new(),
            told: Vec::new(),
            first: state,
            cancelled: BTreeSet::new(),
            cancelled_all: false,
            over: BTreeSet::new(),
            level_ended: BTreeMap::new(),
            plan,
        };
        world.tell(Input::Begin);
        world
    }

    fn status(&self) -> RunStatus {
        self.scheduler.state().status
    }

    /// Does one thing that may happen now.
    pub(super) fn happen(&mut self) {
        assert!(!self.ended, "nothing happens after the end");
        if !self.chance.is_used_up() && self.chance.once_in(10) {
            return self.interfere();
        }
        let paused = matches!(self.status(), RunStatus::Paused | RunStatus::Frozen);
        let waking = usize::from(!self.wakes.is_empty());
        let choices =
            self.units.len() + self.awaiting.len() + waking + usize::from(self.delivering);
        if paused && (choices == 0 || self.chance.is_used_up()) {
            return self.tell(Input::Resume);
        }
        if self.short && (choices == 0 || self.chance.is_used_up()) {
            return self.look(false);
        }
        assert!(
            choices > 0,
            "stuck: {:?}\n{:#?}",
            self.status(),
            self.scheduler.progress(self.now)
        );
        let chosen = self.chance.below(choices);
        if let Some(task) = self.units.keys().nth(chosen).copied() {
            self.now = self.now + Duration::from_millis(self.chance.below(30) as u64);
            return self.advance(task);
        }
        let chosen = chosen - self.units.len();
        if let Some(task) = self.awaiting.iter().nth(chosen).copied() {
            self.awaiting.remove(&task);
            return self.tell(Input::LockReleased { task });
        }
        if let Some(wake) = self.wakes.pop_first() {
            self.now = self.now.max(wake);
            return self.tell(Input::Tick);
        }
        self.delivering = false;
        self.tell(Input::Delivered(Delivery::Nothing));
    }

    /// Somebody interferes.
    fn interfere(&mut self) {
        let task = TaskIndex::from(self.chance.below(self.plan.tasks().len()));
        match self.chance.below(26) {
            24 | 25 => {
                let short = self.chance.once_in(2);
                self.look(short);
            }
            0..=4 => self.tell(Input::Pause { freeze: false }),
            5..=7 => self.tell(Input::Pause { freeze: true }),
            8..=13 => self.tell(Input::Resume),
            14..=17 => {
                self.cancelled.insert(task);
                self.over.insert(task);
                self.tell(Input::CancelTask(task));
            }
            18 => self.tell(Input::Tick),
            19 => self.tell(Input::Warning("look".into())),
            20 => self.tell(Input::Interrupt),
            21 => self.crash(),
            22 if self.chance.once_in(2) => {
                self.cancelled_all = true;
                self.tell(Input::Cancel);
            }
            _ => {
                // A watch may end early, and a message may come to one who does not wait.
                self.awaiting.remove(&task);
                self.tell(Input::LockReleased { task });
            }
        }
    }

    /// The machine is looked at.
    fn look(&mut self, short: bool) {
        self.short = short;
        let some = [0.0, 10.0, 90.0][self.chance.below(3)];
        let bytes = if short { 0 } else { u64::MAX };
        let reading = Reading {
            disk: Some(FreeSpace { path: "/".into(), bytes }),
            stalls: vec![Stall { of: Contended::Memory, some, full: 0.0 }],
            ..Reading::default()
        };
        self.tell(Input::Resources(reading));
    }

    /// One step of a unit of work.
    fn advance(&mut self, task: TaskIndex) {
        let unit = self.units[&task].clone();
        // What a unit reports may have been on its way when it was told to stop.
        let stop = unit.stop.clone().filter(|_| !self.chance.once_in(3));
        let goes_wrong = self.chance.once_in(5);
        let infrastructure = Failure::Infrastructure { message: "bad luck".into() };
        match (unit.phase, stop) {
            (Phase::Leasing, _) if goes_wrong => {
                let lock = LockName::new("db").expect("a name");
                self.units.remove(&task);
                self.report(task, UnitReport::LockBusy { lock, holder: "somebody".into() });
            }
            (Phase::Leasing, _) if !self.chance.is_used_up() && self.chance.once_in(9) => {
                self.fail(task, infrastructure);
            }
            (Phase::Leasing, _) => self.go_on(task, Phase::Preparing, UnitReport::Leased),
            (Phase::Preparing, _) if goes_wrong => self.fail(task, infrastructure),
            (Phase::Merging, _) if goes_wrong => match self.chance.below(2) {
                0 => self.fail(task, infrastructure),
                _ => self.end(
                    task,
                    UnitEnd::Conflicted {
                        commit: CommitId::new("c1"),
                        branch: "b".into(),
                        files: vec!["f".into()],
                        hunks: Vec::new(),
                    },
                ),
            },
            (Phase::Merging, _) => self.end(task, UnitEnd::Merged(Merged::Nothing)),
            (Phase::TimedOut, _) => self.fail(task, Failure::Timeout { after: Span::from_secs(1) }),
            (_, Some(reason)) => self.end(task, UnitEnd::Stopped(reason)),
            (Phase::Preparing, None) => {
                let place = Place {
                    path: "/w".into(),
                    branch: "b".into(),
                    base: CommitId::new("c0"),
                    settings: None,
                };
                self.report(task, UnitReport::Prepared(place));
                self.go_on(task, Phase::Running, UnitReport::Started(None));
            }
            (Phase::Running, None) if goes_wrong && self.chance.once_in(4) => {
                let known = self.chance.once_in(2);
                let reset = known.then(|| self.now + Duration::from_millis(40));
                self.fail(task, Failure::RateLimit { reset, message: "too much".into() });
            }
            (Phase::Running, None) if goes_wrong => match self.chance.below(5) {
                0 => self.fail(
                    task,
                    Failure::Agent { exit: ExitStatus::Code(1), output_tail: String::new() },
                ),
                1 => self.fail(task, Failure::Spawn { message: "nothing there".into() }),
                3 => self.fail(task, Failure::Authentication { message: "who is it?".into() }),
                4 => {
                    let reset = Some(self.now + Duration::from_millis(60));
                    self.fail(task, Failure::Quota { reset, message: "nothing left".into() });
                }
                _ => {
                    let reason = StopReason::Timeout { after: Span::from_secs(1) };
                    self.go_on(task, Phase::TimedOut, UnitReport::Stopping(reason));
                }
            },
            (Phase::Running, None) => {
                let ended =
                    UnitReport::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None };
                self.go_on(task, Phase::Verifying, ended);
            }
            (Phase::Verifying, None) if goes_wrong => self.fail(task, Failure::NoChanges),
            (Phase::Verifying, None) => {
                self.go_on(task, Phase::Merging, UnitReport::Verified { commit: None });
                if let Some(reason) = self.scheduler.stop_reason(task) {
                    self.end(task, UnitEnd::Stopped(reason));
                }
            }
        }
    }

    fn report(&mut self, task: TaskIndex, report: UnitReport) {
        self.tell(Input::Unit { task, report });
    }

    fn go_on(&mut self, task: TaskIndex, phase: Phase, report: UnitReport) {
        self.units.get_mut(&task).expect("a unit").phase = phase;
        self.report(task, report);
    }

    fn end(&mut self, task: TaskIndex, end: UnitEnd) {
        self.units.remove(&task);
        self.report(task, UnitReport::Ended(end));
    }

    fn fail(&mut self, task: TaskIndex, failure: Failure) {
        let promised = self.scheduler.will_retry(task, &failure);
        self.end(task, UnitEnd::Failed(failure));
        let state = &self.scheduler.state().task(task).state;
        let retried = matches!(state, TaskState::Backoff { .. } | TaskState::Queued)
            || self.units.contains_key(&task);
        assert_eq!(retried, promised, "it became {state:?}");
    }

    /// The orchestrator dies; another one takes the run up.
    fn crash(&mut self) {
        self.check_replay();
        let mut state = self.scheduler.state().clone();
        let stops: BTreeMap<_, _> =
            self.units.keys().map(|task| (*task, self.scheduler.stop_reason(*task))).collect();
        // Only what was written is known after that.
        let written = |task: &TaskIndex| state.task(*task).state.is_terminal();
        self.over
            .retain(|task| written(task) || stops.get(task) == Some(&Some(StopReason::Cancelled)));
        let mut record = |kind: EventKind| {
            let event = Event { seq: state.seq + 1, at: self.now, kind };
            state.apply(&event).expect("a legal event");
            self.events.push(event);
        };
        record(EventKind::RunReopened { pid: 2 });
        for task in self.plan.indices() {
            let is_on_hold = oracle::is_on_hold(&self.plan, self.scheduler.state(), task);
            if is_on_hold && !self.chance.once_in(2) {
                // Somebody resolved its conflicts meanwhile.
                let task_id = self.plan.task(task).id.clone();
                record(EventKind::Task { task: task_id, change: TaskChange::Resolved });
                self.over.remove(&task);
                self.adoptable.insert(task, Unit { phase: Phase::Merging, stop: None });
            }
        }
        for (task, unit) in std::mem::take(&mut self.units) {
            let adoptable =
                matches!(unit.phase, Phase::Running | Phase::TimedOut | Phase::Verifying);
            if adoptable && self.chance.once_in(2) {
                // A new unit goes on where the old one was, and is told again what that one was.
                self.adoptable.insert(task, Unit { stop: stops[&task].clone(), ..unit });
                continue;
            }
            let change = match unit.phase {
                Phase::Leasing => continue,
                Phase::Merging => TaskChange::Merged { result: Merged::Nothing },
                _ if stops[&task] == Some(StopReason::Cancelled) => TaskChange::Cancelled,
                _ => TaskChange::Retry {
                    failure: Failure::Interrupted { message: "died".into() },
                    until: self.now,
                },
            };
            record(EventKind::Task { task: self.plan.task(task).id.clone(), change });
        }
        self.take_up(state);
    }

    /// A scheduler takes the run up in this state.
    fn take_up(&mut self, state: RunState) {
        self.scheduler = scheduler(&self.plan, state.clone());
        self.first = state;
        self.told.clear();
        self.wakes.clear();
        self.awaiting.clear();
        self.level_ended.clear();
        self.delivering = false;
        self.frozen = false;
        self.short = false;
        self.ended = false;
        for task in self.plan.indices() {
            if self.scheduler.state().task(task).state.is_terminal() {
                let level = oracle::level(&self.plan, task);
                self.level_ended.insert(level, self.now);
            }
        }
        self.tell(Input::Begin);
        assert!(self.adoptable.is_empty(), "every attempt that can go on does");
    }

    fn adopt(&mut self, task: TaskIndex, attempt: u32) {
        assert_eq!(self.scheduler.state().task(task).attempts, attempt);
        let unit = self.adoptable.remove(&task).expect("it was at work");
        assert!(self.units.insert(task, unit).is_none(), "{task:?} twice");
    }

    /// Takes a run up again that may go on.
    pub(super) fn resume(&mut self) {
        assert!(self.status().may_go_on());
        self.crash();
    }

    fn tell(&mut self, input: Input) {
        let before = self.scheduler.state().clone();
        let decision = self.scheduler.step(input.clone(), self.now);
        self.told.push((input, self.now, decision.clone()));
        let mut state = before;
        for event in decision.events {
            assert!(!state.status.is_ended(), "{event:?} after the end");
            state.apply(&event).expect("every event is legal");
            self.note_end(&event);
            self.events.push(event);
        }
        for command in decision.commands {
            assert!(!self.ended, "{command:?} after the end");
            match command {
                Command::Start { task, attempt } => self.start(task, attempt, &state),
                Command::Adopt { task, attempt } => self.adopt(task, attempt),
                Command::Stop { task, reason } => {
                    self.units.get_mut(&task).expect("who is stopped works").stop = Some(reason);
                }
                Command::Freeze(frozen) => self.frozen = frozen,
                Command::AwaitLocks(task) => assert!(self.awaiting.insert(task)),
                Command::WakeAt(at) => drop(self.wakes.insert(at)),
                Command::Deliver => {
                    assert!(state.header.base.is_some() && !self.delivering);
                    self.delivering = true;
                }
                Command::End => self.ended = true,
            }
        }
        assert_eq!(&state, self.scheduler.state());
        self.check();
    }

    fn note_end(&mut self, event: &Event) {
        if let EventKind::Task { task, .. } = &event.kind {
            let task = self.plan.index_of(task).expect("a task of the plan");
            self.level_ended.insert(oracle::level(&self.plan, task), event.at);
        }
    }

    /// A start must be allowed by everything that the plan says.
    fn start(&mut self, task: TaskIndex, attempt: u32, state: &RunState) {
        let settings = &state.header.settings;
        assert_eq!(state.status, RunStatus::Running, "{task:?}");
        assert!(!self.short, "{task:?} starts for want of space");
        assert!(!self.over.contains(&task), "{task:?} was cancelled");
        assert!(oracle::may_start(&self.plan, state, task), "{task:?} starts too early");
        let limit = state.concurrency.unwrap_or(settings.max_concurrency);
        assert!((1..=settings.max_concurrency).contains(&limit));
        let alone = self.units.len();
        assert!(alone < limit as usize, "{task:?} is one too many");
        oracle::check_agent(&self.scheduler, &self.plan, task);
        let key = self.scheduler.service(task).key.clone();
        if let Some(breaker) = state.breakers.get(&key) {
            assert!(self.now >= breaker.until, "{task:?} starts while {key} is limited");
            let since = breaker.until;
            let probing = self.begun.iter().any(|(other, at)| {
                *at >= since
                    && self.units.contains_key(other)
                    && self.scheduler.service(*other).key == key
            });
            assert!(!probing, "{task:?} is the second to try");
        }
        self.begun.insert(task, self.now);
        let beside = self.units.keys().map(|task| self.plan.task(*task));
        assert!(oracle::fits(self.plan.task(task), beside), "{task:?} must not run beside others");
        if settings.on_failure == OnFailure::Stop {
            assert!(!self.any_failed(state), "{task:?} starts after a failure");
        }
        if settings.schedule == Schedule::Waves {
            let level = oracle::level(&self.plan, task);
            for other in self.plan.indices() {
                let earlier = oracle::level(&self.plan, other) < level;
                assert!(!earlier || state.task(other).state.is_terminal(), "{task:?}, {other:?}");
            }
            if let Some(opened) = level.checked_sub(1).and_then(|l| self.level_ended.get(&l)) {
                assert!(self.now >= *opened + settings.wave_delay.0, "{task:?} is too early");
            }
        }
        assert_eq!(state.task(task).attempts + u32::from(self.has_locks(task)), attempt);
        let phase = if self.has_locks(task) { Phase::Leasing } else { Phase::Preparing };
        assert!(self.units.insert(task, Unit { phase, stop: None }).is_none(), "{task:?} twice");
    }

    fn any_failed(&self, state: &RunState) -> bool {
        let failed =
            |state: &_| matches!(state, TaskState::Failed { .. } | TaskState::Conflicted { .. });
        self.plan.indices().any(|task| {
            failed(&state.task(task).state) && !oracle::is_on_hold(&self.plan, state, task)
        })
    }

    fn has_locks(&self, task: TaskIndex) -> bool {
        !self.plan.task(task).locks.is_empty()
    }

    /// What must hold after every step.
    fn check(&self) {
        let state = self.scheduler.state();
        let progress = self.scheduler.progress(self.now);
        assert_eq!(progress.running.len(), self.units.len());
        assert_eq!(progress.counts.active, progress.running.len());
        assert_eq!(progress.counts.waiting, progress.waiting.len());
        if !state.status.is_ended() {
            assert_eq!(self.frozen, state.status == RunStatus::Frozen);
        }
        let stopped = state.header.settings.on_failure == OnFailure::Stop && self.any_failed(state);
        if state.status != RunStatus::Running || self.ended || stopped || self.short {
            return;
        }
        let limit = state.concurrency.unwrap_or(state.header.settings.max_concurrency);
        let free = self.units.len() < limit as usize;
        let beside = self.units.keys().map(|task| self.plan.task(*task));
        for task in self.plan.indices().filter(|task| !self.units.contains_key(task)) {
            match &state.task(task).state {
                TaskState::Blocked => assert!(!oracle::may_start(&self.plan, state, task)),
                TaskState::Ready => panic!("{task:?} is ready and not queued"),
                TaskState::Backoff { until, .. } => assert!(*until > self.now),
                TaskState::Queued if state.header.settings.schedule == Schedule::Ready => {
                    // What somebody sets free while the results are delivered goes on by a resume.
                    let idle = free
                        && !self.delivering
                        && !self.awaiting.contains(&task)
                        && oracle::has_free_agent(&self.plan, state, task);
                    let fits = oracle::fits(self.plan.task(task), beside.clone());
                    assert!(!idle || !fits, "{task:?} waits beside an idle slot");
                }
                _ => {}
            }
        }
    }

    /// The same messages give the same answers, and the events add up to the state.
    pub(super) fn check_replay(&self) {
        let replayed = RunState::replay(&self.events).expect("events add up").expect("events");
        assert_eq!(&replayed, self.scheduler.state());
        let mut again = scheduler(&self.plan, self.first.clone());
        for (input, now, decision) in &self.told {
            assert_eq!(&again.step(input.clone(), *now), decision, "{input:?}");
        }
    }

    /// What must hold of how everything ended.
    pub(super) fn check_end(&self) {
        self.check_replay();
        let state = self.scheduler.state();
        let merged = |task: TaskIndex| matches!(state.task(task).state, TaskState::Merged { .. });
        let on_hold = |task| oracle::is_on_hold(&self.plan, state, task);
        let waiting = self.plan.indices().any(|task| !state.task(task).state.is_terminal());
        match state.status {
            RunStatus::Succeeded => assert!(self.plan.indices().all(merged)),
            RunStatus::Interrupted => assert!(waiting || self.plan.indices().any(on_hold)),
            RunStatus::Cancelled => assert!(self.cancelled_all),
            RunStatus::Failed => assert!(!self.plan.indices().all(merged)),
            RunStatus::Conflicted => assert!(self.plan.indices().any(on_hold)),
            status => panic!("a run can't end {status:?}"),
        }
        assert!(state.status.may_go_on() || !waiting);
        assert!(state.status != RunStatus::Failed || !self.plan.indices().any(on_hold));
        for task in self.plan.indices() {
            self.check_task(state, task);
        }
    }

    fn check_task(&self, state: &RunState, task: TaskIndex) {
        use orch_model::state::SkipReason;
        let run = state.task(task);
        let because = |task: &_| &state.task(self.plan.index_of(task).expect("a task")).state;
        match &run.state {
            TaskState::Merged { attempt, .. } => {
                assert!(*attempt >= 1 && oracle::may_start(&self.plan, state, task));
            }
            TaskState::Skipped { because: SkipReason::Dependency { task: other } } => {
                let index = self.plan.index_of(other).expect("a task");
                assert!(oracle::hard(&self.plan, task).contains(&index));
                let ended = because(other);
                assert!(ended.is_terminal() && !matches!(ended, TaskState::Merged { .. }));
                assert!(!oracle::is_on_hold(&self.plan, state, index), "{task:?}");
            }
            TaskState::Skipped { because: SkipReason::RunStopped { task: other } } => {
                assert_eq!(state.header.settings.on_failure, OnFailure::Stop);
                let ended = because(other);
                assert!(
                    matches!(ended, TaskState::Failed { .. } | TaskState::Conflicted { .. }),
                    "{ended:?}"
                );
            }
            TaskState::Cancelled { .. } => {
                assert!(self.cancelled_all || self.cancelled.contains(&task), "{task:?}");
            }
            TaskState::Failed { failure, .. } => {
                let used_up = run.charged > self.plan.task(task).retries
                    || run.failures[failure.class()] >= failure.policy().bound;
                let stopped = state.header.settings.on_failure == OnFailure::Stop;
                assert!(used_up || !failure.is_retryable() || stopped || self.cancelled_all);
            }
            _ => {}
        }
    }
}
