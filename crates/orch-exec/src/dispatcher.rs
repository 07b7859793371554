//! The one owner of a run's state: it takes messages in, has the scheduler decide, writes what was
//! decided to the journal, and only then has it done and told.
//!
//! **Durability.** A turn appends all its events together, which survives the death of this
//! process, before any of its commands is carried out. One `sync` at a time makes what was appended
//! survive a power cut too; turns go on meanwhile and are covered by the next one (group commit).
//! Observers are told of an event only after a `sync` has covered it. A start need not wait for
//! that: a power cut ends what was started as well. A merge waits for it, for what git has merged is
//! there after a power cut.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use orch_faults::planted;
use orch_model::{
    CommitId, Event, Progress, Report, RunId, RunState, Span, Timestamp,
    event::Delivery,
    outcome::{Failure, StopReason},
    plan::{TaskIndex, ValidPlan},
    ports::{BoxError, RunJournal, StoreError},
    state::Attempt,
};
use tokio::{
    sync::{Notify, broadcast, mpsc, oneshot, watch},
    task::{Id, JoinSet},
    time::Instant,
};

use crate::{
    closing::{self, BeforeDelivery},
    error::EngineError,
    foresight::AtWork,
    internal::{Command, Input, UnitEnd, UnitReport},
    merge_queue::MergeQueue,
    orchestrator::{EVENT_QUEUE, Ports},
    resources,
    scheduler::Scheduler,
    unit::{Adoption, Control, Unit, lock_request},
};

mod helpers;

/// How many messages one turn takes in at most, so that the first of them isn't kept waiting.
const TURN_LIMIT: usize = 512;

/// How long observers wait at most for what follows upon a `sync`: a disk that syncs in no time
/// would otherwise be asked after every event, which costs more than what it makes durable.
const SYNC_EVERY: Duration = Duration::from_millis(5);

/// How long the state file may lag behind the run.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// How long [`Progress`] may lag behind the run, unless computing it takes more than a fiftieth of that.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// How long after a delivery that could not be made it is tried again, each time.
const DELIVERY_PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(4)];

/// A message to the dispatcher.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something for the scheduler; the answer comes after it has been written.
    Input(Input, Option<oneshot::Sender<()>>),
    /// A unit is about to merge: may it?
    Verified(TaskIndex, Option<CommitId>, oneshot::Sender<Option<StopReason>>),
    /// A unit failed like this: will there be another attempt?
    WillRetry(TaskIndex, Failure, oneshot::Sender<bool>),
    /// Which tasks are at work, and where?
    AtWork(oneshot::Sender<Vec<AtWork>>),
    /// Bring [`Progress`] up to date now.
    Refresh(oneshot::Sender<()>),
    /// Give running agents no more grace.
    Kill,
    /// Cancel a task without grace; the answer comes after that has been written.
    KillTask(TaskIndex, oneshot::Sender<()>),
    /// Everything up to this event survives a power cut.
    Durable(Result<u64, StoreError>),
}

/// A unit's way to the dispatcher.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    task: TaskIndex,
    messages: mpsc::UnboundedSender<Message>,
}

impl Reporter {
    #[cfg(test)]
    pub(crate) const fn new(task: TaskIndex, messages: mpsc::UnboundedSender<Message>) -> Self {
        Self { task, messages }
    }

    pub(crate) fn tell(&self, report: UnitReport) {
        // Where the dispatcher is gone, nobody is left to be told.
        let _ = self.messages.send(Message::Input(Input::Unit { task: self.task, report }, None));
    }

    /// Reports something and waits until it is written.
    pub(crate) async fn write(&self, report: UnitReport) {
        let (reply, written) = oneshot::channel();
        let input = Input::Unit { task: self.task, report };
        let _ = self.messages.send(Message::Input(input, Some(reply)));
        let _ = written.await;
    }

    /// Reports that the work may be merged; returns when that is written, or why it must not be.
    pub(crate) async fn verified(&self, commit: Option<CommitId>) -> Result<(), StopReason> {
        let (reply, answer) = oneshot::channel();
        let _ = self.messages.send(Message::Verified(self.task, commit, reply));
        match answer.await {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(reason),
            Err(_) => Err(StopReason::Interrupted),
        }
    }

    /// Whether another attempt follows one that failed like this.
    pub(crate) async fn will_retry(&self, failure: Failure) -> bool {
        let (reply, answer) = oneshot::channel();
        let _ = self.messages.send(Message::WillRetry(self.task, failure, reply));
        answer.await.unwrap_or(false)
    }
}

/// What the world outside hears from a dispatcher.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    pub(crate) durable: watch::Sender<u64>,
    pub(crate) progress: watch::Sender<Arc<Progress>>,
    pub(crate) outcome: watch::Sender<Option<Result<Report, Arc<EngineError>>>>,
}

/// What a dispatcher is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) plan: Arc<ValidPlan>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) scheduler: Scheduler,
    pub(crate) journal: Arc<dyn RunJournal>,
    /// Events that are recorded already and not yet in the journal: `run_started`, or what the
    /// reconciliation of a resumed run found.
    pub(crate) first_events: Vec<Event>,
    /// Attempts of an earlier orchestrator that go on.
    pub(crate) adoptions: HashMap<TaskIndex, Adoption>,
    pub(crate) outlets: Outlets,
}

/// Runs a dispatcher in a task of its own, to the end of the run.
pub(crate) fn spawn(
    parts: Parts,
    messages: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
) {
    let outcome = parts.outlets.outcome.clone();
    let dispatcher = Dispatcher {
        run: parts.scheduler.state().run().clone(),
        plan: parts.plan,
        ports: parts.ports,
        scheduler: parts.scheduler,
        journal: parts.journal,
        outlets: parts.outlets,
        messages,
        inbox,
        decided: parts.first_events,
        adoptions: parts.adoptions,
        queue: None,
        undurable: VecDeque::new(),
        merging: Vec::new(),
        appended_seq: 0,
        commit: Arc::new(Notify::new()),
        hurry: Arc::new(Notify::new()),
        helpers: JoinSet::new(),
        units: JoinSet::new(),
        unit_tasks: HashMap::new(),
        controls: BTreeMap::new(),
        frozen: false,
        killing: false,
        wakes: BTreeSet::new(),
        progress_due: None,
        progress_every: PROGRESS_EVERY,
        publish_due: Instant::now(),
        unpublished: true,
        publishing: None,
        ended: false,
    };
    tokio::spawn(async move {
        // A panic in the dispatcher must not leave those waiting for the outcome waiting for ever.
        let result = match tokio::spawn(dispatcher.run()).await {
            Ok(result) => result,
            Err(error) => Err(EngineError::Internal(error.to_string())),
        };
        outcome.send_replace(Some(result.map_err(Arc::new)));
    });
}

#[derive(Debug)]
struct Dispatcher {
    run: RunId,
    plan: Arc<ValidPlan>,
    ports: Arc<Ports>,
    scheduler: Scheduler,
    journal: Arc<dyn RunJournal>,
    outlets: Outlets,
    messages: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Events of this turn, to be appended at its end.
    decided: Vec<Event>,
    /// Events that were appended and may not survive a power cut yet, turn by turn.
    undurable: VecDeque<Vec<Event>>,
    /// Units that are about to merge.
    merging: Vec<Merging>,
    /// The number of the last event that was appended.
    appended_seq: u64,
    commit: Arc<Notify>,
    /// Told where somebody waits for the next `sync`: units that are about to merge, the end of the run.
    hurry: Arc<Notify>,
    /// The committer, waits for locks, the delivery: aborted at the end.
    helpers: JoinSet<()>,
    units: JoinSet<()>,
    unit_tasks: HashMap<Id, TaskIndex>,
    controls: BTreeMap<TaskIndex, watch::Sender<Control>>,
    adoptions: HashMap<TaskIndex, Adoption>,
    /// `None` where nothing verifies the merged result.
    queue: Option<MergeQueue>,
    frozen: bool,
    killing: bool,
    wakes: BTreeSet<Timestamp>,
    progress_due: Option<Instant>,
    progress_every: Duration,
    /// When the state file may be written again; looked at only while it lags behind.
    publish_due: Instant,
    unpublished: bool,
    publishing: Option<tokio::task::JoinHandle<Result<(), StoreError>>>,
    ended: bool,
}

/// A turn's answers, given after its events are written.
#[derive(Debug, Default)]
struct Turn {
    commands: Vec<Command>,
    done: Vec<oneshot::Sender<()>>,
    verified: Vec<Merging>,
}

/// A unit that is about to merge.
#[derive(Debug)]
struct Merging {
    task: TaskIndex,
    /// Whether there is something to merge.
    waits: bool,
    /// The number of the event that says so, or of a later one.
    intent: u64,
    reply: oneshot::Sender<Option<StopReason>>,
}

impl Dispatcher {
    async fn run(mut self) -> Result<Report, EngineError> {
        self.spawn_committer();
        self.watch_for_deadlocks();
        self.open_merge_queue();
        self.watch_runner();
        self.watch_resources();
        self.foresee_conflicts();
        let result = self.turns().await;
        if result.is_err() {
            // Nothing more can be written: end what runs, and tell nobody of it. Units that wait
            // for an answer get none.
            self.inbox.close();
            while self.inbox.try_recv().is_ok() {}
            self.merging.clear();
            self.tell_all(|control| {
                control.stop = Some(StopReason::Interrupted);
            });
            while self.units.join_next().await.is_some() {}
        }
        self.helpers.shutdown().await;
        self.ports.runner.finish(&self.run).await;
        if let Some(publishing) = self.publishing.take() {
            let _ = publishing.await;
        }
        result?;
        // The run has ended, and the journal says so.
        if let Err(error) = self.journal.publish(Arc::new(self.scheduler.state().clone())).await {
            tracing::warn!(%error, "the state file can't be written");
        }
        Ok(Report::of(self.scheduler.state()))
    }

    async fn turns(&mut self) -> Result<(), EngineError> {
        let mut turn = Turn::default();
        if let Some(resources) = &self.ports.resources {
            let reading = resources::first_look(resources.as_ref()).await;
            self.take_in(Message::Input(Input::Resources(reading), None), &mut turn)?;
        }
        self.take_in(Message::Input(Input::Begin, None), &mut turn)?;
        self.show_progress();
        loop {
            self.end_turn(turn).await?;
            turn = Turn::default();
            let all_durable = *self.outlets.durable.borrow() >= self.appended_seq;
            if self.ended && all_durable && self.units.is_empty() {
                return Ok(());
            }
            let wake = self.wake();
            tokio::select! {
                // In an order that is the same each time, what comes seldom before what may come
                // without end.
                biased;
                () = sleep_until(wake) => self.woken(&mut turn)?,
                Some(unit) = self.units.join_next_with_id(), if !self.units.is_empty() => {
                    self.unit_gone(unit);
                }
                // Without it the run would wait for ever; those that end well send a message.
                Some(Err(error)) = self.helpers.join_next() => {
                    return Err(EngineError::Internal(error.to_string()));
                }
                Some(message) = self.inbox.recv() => self.take_in(message, &mut turn)?,
            }
            for _ in 1..TURN_LIMIT {
                let Ok(message) = self.inbox.try_recv() else { break };
                self.take_in(message, &mut turn)?;
            }
        }
    }

    fn open_merge_queue(&mut self) {
        if self.plan.merging().verify.is_empty() {
            return;
        }
        let last = self.scheduler.state().candidate.as_ref().map_or(0, |last| last.number);
        let (plan, ports) = (Arc::clone(&self.plan), Arc::clone(&self.ports));
        let (queue, worker) = MergeQueue::new(plan, ports, self.run.clone(), last);
        self.queue = Some(queue);
        self.helpers.spawn(worker.run());
    }

    fn at_work(&self) -> Vec<AtWork> {
        let places = self.controls.keys().filter_map(|task| {
            let run = self.scheduler.state().task(*task);
            Some((*task, run.place.as_deref().filter(|_| run.state.is_active())?.clone()))
        });
        places.collect()
    }

    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    fn take_in(&mut self, message: Message, turn: &mut Turn) -> Result<(), EngineError> {
        match message {
            Message::Input(input, done) => {
                if let Input::Unit {
                    task,
                    report: UnitReport::Ended(_) | UnitReport::LockBusy { .. },
                } = &input
                {
                    self.controls.remove(task);
                }
                self.step(input, turn);
                turn.done.extend(done);
            }
            Message::Verified(task, commit, reply) => {
                let waits = commit.is_some();
                self.step(Input::Unit { task, report: UnitReport::Verified { commit } }, turn);
                turn.verified.push(Merging { task, waits, intent: 0, reply });
            }
            Message::WillRetry(task, failure, reply) => {
                let _ = reply.send(self.scheduler.will_retry(task, &failure));
            }
            Message::AtWork(reply) => {
                let _ = reply.send(self.at_work());
            }
            // The answer comes at the end of the turn, like all that shows the progress.
            Message::Refresh(done) => turn.done.push(done),
            Message::Kill => {
                self.killing = true;
                self.tell_all(|control| control.kill = true);
            }
            Message::KillTask(task, done) => {
                if let Some(control) = self.controls.get(&task) {
                    control.send_modify(|control| control.kill = true);
                }
                self.step(Input::CancelTask(task), turn);
                turn.done.push(done);
            }
            Message::Durable(result) => self.durable(result?),
        }
        Ok(())
    }

    fn step(&mut self, input: Input, turn: &mut Turn) {
        let now = self.now();
        let mut decision = self.scheduler.step(input, now);
        self.decided.append(&mut decision.events);
        turn.commands.append(&mut decision.commands);
    }

    /// A unit's task is over; where it panicked, its end was not reported.
    fn unit_gone(&mut self, unit: Result<(Id, ()), tokio::task::JoinError>) {
        let (id, error) = match unit {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let task = self.unit_tasks.remove(&id);
        if let (Some(task), Some(error)) = (task, error) {
            let message = format!("the engine failed: {error}");
            let end = UnitEnd::Failed(Failure::Unknown { message });
            let input = Input::Unit { task, report: UnitReport::Ended(end) };
            // After what it reported before, which may not have been looked at yet.
            let _ = self.messages.send(Message::Input(input, None));
        }
    }

    async fn end_turn(&mut self, mut turn: Turn) -> Result<(), EngineError> {
        if planted("act-before-intent") {
            std::mem::take(&mut turn.commands)
                .into_iter()
                .for_each(|command| self.carry_out(command));
        }
        if let Some(last) = self.decided.last() {
            self.journal.append(&self.decided).await?;
            self.appended_seq = last.seq;
            self.keep_undurable();
            if planted("told-before-sync") {
                self.durable(self.appended_seq);
            }
            self.commit.notify_one();
            self.unpublished = true;
            self.progress_due.get_or_insert(Instant::now() + self.progress_every);
        }
        for command in turn.commands {
            self.carry_out(command);
        }
        let intent = self.appended_seq;
        self.merging.extend(turn.verified.into_iter().map(|merging| Merging { intent, ..merging }));
        self.let_merge();
        if !self.merging.is_empty() {
            self.hurry.notify_one();
        }
        // Who asked for something finds it done.
        if !turn.done.is_empty() || self.ended {
            self.show_progress();
        }
        for done in turn.done {
            let _ = done.send(());
        }
        self.publish_if_due();
        Ok(())
    }

    /// Lets those merge whose intent survives a power cut. The merge itself does, so that a task whose
    /// intent was forgotten would be run and merged again.
    fn let_merge(&mut self) {
        let durable = *self.outlets.durable.borrow();
        let may_go = |merging: &Merging| {
            !merging.waits || merging.intent <= durable || planted("merge-before-sync")
        };
        let (go, wait): (Vec<_>, _) = self.merging.drain(..).partition(may_go);
        self.merging = wait;
        for Merging { task, reply, .. } in go {
            let _ = reply.send(self.scheduler.stop_reason(task));
        }
    }

    /// Keeps the events of this turn for observers, who read more than [`EVENT_QUEUE`] of them from
    /// the journal.
    fn keep_undurable(&mut self) {
        let mut events = std::mem::take(&mut self.decided);
        events.drain(..events.len().saturating_sub(EVENT_QUEUE));
        events.shrink_to_fit();
        self.undurable.push_back(events);
        let mut kept: usize = self.undurable.iter().map(Vec::len).sum();
        while kept > EVENT_QUEUE {
            kept -= self.undurable.pop_front().map_or(0, |turn| turn.len());
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start { task, attempt } => self.start(task, attempt, None),
            Command::Adopt { task, attempt } => {
                let adoption = self.adoptions.remove(&task);
                self.start(task, attempt, adoption);
            }
            Command::Stop { task, reason } => {
                if let Some(control) = self.controls.get(&task) {
                    control.send_modify(|control| match reason {
                        StopReason::Budget { scope } => control.out_of_budget = Some(scope),
                        reason => control.stop = Some(reason),
                    });
                }
            }
            Command::Freeze(frozen) => {
                self.frozen = frozen;
                self.tell_all(|control| control.frozen = frozen);
            }
            Command::AwaitLocks(task) => self.await_locks(task),
            Command::WakeAt(at) => {
                self.wakes.insert(at);
            }
            Command::Deliver => self.deliver(),
            Command::End => {
                self.ended = true;
                self.hurry.notify_one();
            }
        }
    }

    fn start(&mut self, task: TaskIndex, attempt: Attempt, adoption: Option<Adoption>) {
        let stop = self.scheduler.stop_reason(task);
        let settings = &self.scheduler.state().header.settings;
        let control =
            Control { stop, out_of_budget: None, kill: self.killing, frozen: self.frozen };
        let (control, receiver) = watch::channel(control);
        let unit = Unit {
            plan: Arc::clone(&self.plan),
            ports: Arc::clone(&self.ports),
            run: self.run.clone(),
            index: task,
            attempt,
            grace: settings.grace.0,
            max_total_output: settings.max_total_output,
            foundations: self.scheduler.foundations(task),
            choice: self.scheduler.chosen(task).cloned(),
            needed: self.scheduler.needed(task),
            previous: self.scheduler.state().task(task).last_failure.as_deref().cloned(),
            proceeds: false,
            inherited: BTreeMap::new(),
            reporter: Reporter { task, messages: self.messages.clone() },
            control: receiver,
            adoption,
            is_merging: false,
            queue: self.queue.clone(),
            lease: None,
        };
        let id = self.units.spawn(unit.run()).id();
        self.unit_tasks.insert(id, task);
        self.controls.insert(task, control);
    }

    fn tell_all(&self, change: impl Fn(&mut Control)) {
        for control in self.controls.values() {
            control.send_modify(&change);
        }
    }

    fn await_locks(&mut self, task: TaskIndex) {
        let locks = Arc::clone(&self.ports.locks);
        let attempt = self.scheduler.state().task(task).attempts + 1;
        let request = lock_request(self.plan.task(task), &self.run, attempt);
        let messages = self.messages.clone();
        self.helpers.spawn(async move {
            if let Err(error) = locks.released(&request).await {
                // The next attempt to take the locks reports what is wrong with them.
                tracing::warn!(%error, "locks can't be watched");
            }
            let _ = messages.send(Message::Input(Input::LockReleased { task }, None));
        });
    }

    fn deliver(&mut self) {
        let Some(worktrees) = self.ports.worktrees.clone() else { return };
        let Some(base) = self.scheduler.state().header.base.clone() else { return };
        let run = self.run.clone();
        let messages = self.messages.clone();
        let closing = self.ports.before_delivery.clone();
        self.helpers.spawn(async move {
            if let Some(closing) = closing
                && let Err(error) = bounded(closing.as_ref(), &run).await
            {
                let warning = format!("before the delivery: {error}");
                let _ = messages.send(Message::Input(Input::Warning(warning), None));
            }
            let mut pauses = DELIVERY_PAUSES.into_iter();
            let delivery = loop {
                let error = match worktrees.finish(&run).await {
                    Ok(delivery) => break delivery,
                    Err(error) => error,
                };
                // What a full disk or a lock kept from being done is done later, and all tasks are merged.
                let Some(pause) = pauses.next() else {
                    let (target, branch) = (base.target, format!("orch/{run}/target"));
                    break Delivery::Failed { target, branch, reason: error.to_string() };
                };
                tracing::warn!(%error, "the results can't be delivered yet");
                tokio::time::sleep(pause).await;
            };
            let _ = messages.send(Message::Input(Input::Delivered(delivery), None));
        });
    }

    fn durable(&mut self, seq: u64) {
        // First, so that an observer who gets an event finds the journal readable up to it, and one
        // who comes too late to be counted here reads that far.
        self.outlets.durable.send_replace(seq);
        while let Some(turn) = self.undurable.front_mut() {
            let covered = turn.partition_point(|event| event.seq <= seq);
            for event in turn.drain(..covered) {
                // Where nobody listens, nobody is told.
                let _ = self.outlets.events.send(Arc::new(event));
            }
            if !turn.is_empty() {
                break;
            }
            self.undurable.pop_front();
        }
        self.let_merge();
    }

    // --- timers ---

    fn wake(&self) -> Option<Instant> {
        let timer = self.wakes.first().map(|at| Instant::now() + at.since(self.now()));
        let publish = self.unpublished.then_some(self.publish_due);
        [timer, self.progress_due, publish].into_iter().flatten().min()
    }

    fn woken(&mut self, turn: &mut Turn) -> Result<(), EngineError> {
        let now = self.now();
        if self.wakes.first().is_some_and(|at| *at <= now) {
            self.wakes.retain(|at| *at > now);
            self.take_in(Message::Input(Input::Tick, None), turn)?;
        }
        if self.progress_due.is_some_and(|due| due <= Instant::now()) {
            self.show_progress();
        }
        Ok(())
    }

    fn show_progress(&mut self) {
        let begin = std::time::Instant::now();
        self.outlets.progress.send_replace(Arc::new(self.scheduler.progress(self.now())));
        self.progress_every = PROGRESS_EVERY.max(begin.elapsed() * 50);
        self.progress_due = None;
    }

    /// Writes the state file, at most so often and never two at a time. It is for people and
    /// scripts; the journal is the truth, so a failure is only told.
    fn publish_if_due(&mut self) {
        if !self.unpublished || Instant::now() < self.publish_due {
            return;
        }
        self.publish_due = Instant::now() + PUBLISH_EVERY;
        if self.publishing.as_ref().is_some_and(|publishing| !publishing.is_finished()) {
            return;
        }
        self.unpublished = false;
        let journal = Arc::clone(&self.journal);
        let state: Arc<RunState> = Arc::new(self.scheduler.state().clone());
        self.publishing = Some(tokio::spawn(async move {
            let result = journal.publish(state).await;
            if let Err(error) = &result {
                tracing::warn!(%error, "the state file can't be written");
            }
            result
        }));
    }
}

async fn bounded(closing: &dyn BeforeDelivery, run: &RunId) -> Result<(), BoxError> {
    let done = tokio::time::timeout(closing::LONGEST, closing.before_delivery(run)).await;
    done.unwrap_or_else(|_| Err(format!("it took longer than {}", Span(closing::LONGEST)).into()))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
