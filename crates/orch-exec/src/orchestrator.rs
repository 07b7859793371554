//! The facade: puts the ports, the scheduler and the dispatcher together, and nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orch_model::{
    Budget, BudgetChange, BudgetScope, Event, EventKind, PlanSpec, Progress, Report, RunId,
    RunState, TaskId, Timestamp, ValidPlan,
    event::{EVENT_VERSION, RunBase, RunHeader, TaskChange},
    plan::{TaskIndex, spec::Isolation},
    ports::{
        AgentRunner, BeginRun, ModelRecords, ModelSelector, ResourceLock, RunJournal, StateStore,
        WorktreeError, WorktreeProvider,
    },
    tiers::Tiers,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    choosing,
    closing::BeforeDelivery,
    config::EngineConfig,
    dispatcher::{self, Message, Outlets, Parts},
    error::EngineError,
    estimates::Past,
    events::EventStream,
    internal::Input,
    reconcile::{self, Found},
    resources::Resources,
    scheduler::{Choosing, Scheduler},
    time::{Clock, SystemClock},
};

/// How many events an observer may be behind before it is sent to the journal.
pub(crate) const EVENT_QUEUE: usize = 4096;

/// What the engine works with.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) workspace: PathBuf,
    pub(crate) runner: Arc<dyn AgentRunner>,
    pub(crate) worktrees: Option<Arc<dyn WorktreeProvider>>,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) locks: Arc<dyn ResourceLock>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resources: Option<Arc<dyn Resources>>,
    pub(crate) selector: Arc<dyn ModelSelector>,
    pub(crate) records: Arc<ModelRecords>,
    pub(crate) before_delivery: Option<Arc<dyn BeforeDelivery>>,
}

impl Ports {
    pub(crate) fn worktrees(&self) -> Result<&dyn WorktreeProvider, WorktreeError> {
        self.worktrees
            .as_deref()
            .ok_or_else(|| WorktreeError::NotARepository { path: self.workspace.clone() })
    }
}

/// Runs plans of dependent tasks in parallel.
///
/// See the [crate's front page](crate) for an example.
#[derive(Debug, Clone)]
pub struct ParallelOrchestrator {
    ports: Arc<Ports>,
    config: EngineConfig,
    expected: Option<Arc<BTreeMap<TaskId, Duration>>>,
}

/// Puts a [`ParallelOrchestrator`] together. What is not given is, with the feature `defaults`, the
/// stock part: processes, git worktrees, a journal and locks in files.
#[derive(Debug)]
pub struct Builder {
    pub(crate) workspace: PathBuf,
    pub(crate) config: EngineConfig,
    pub(crate) runner: Option<Arc<dyn AgentRunner>>,
    pub(crate) worktrees: Option<Arc<dyn WorktreeProvider>>,
    pub(crate) store: Option<Arc<dyn StateStore>>,
    pub(crate) locks: Option<Arc<dyn ResourceLock>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resources: Option<Arc<dyn Resources>>,
    pub(crate) selector: Arc<dyn ModelSelector>,
    pub(crate) records: Arc<ModelRecords>,
    pub(crate) before_delivery: Option<Arc<dyn BeforeDelivery>>,
}

impl Builder {
    /// Sets how the engine behaves.
    #[must_use]
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets what starts agents and commands.
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn AgentRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Sets what gives tasks a place to work and merges what they did.
    #[must_use]
    pub fn worktrees(mut self, worktrees: Arc<dyn WorktreeProvider>) -> Self {
        self.worktrees = Some(worktrees);
        self
    }

    /// Sets what keeps the journal.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets what keeps locks.
    #[must_use]
    pub fn locks(mut self, locks: Arc<dyn ResourceLock>) -> Self {
        self.locks = Some(locks);
        self
    }

    /// Sets the wall clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets what tells how much disk space and memory the machine has left. Without it, and without
    /// the feature `defaults`, that is not looked at.
    #[must_use]
    pub fn resources(mut self, resources: Arc<dyn Resources>) -> Self {
        self.resources = Some(resources);
        self
    }

    /// Sets what chooses models where a plan names none. Default: [`Tiers`], which does so only where an agent
    /// of the plan has `models`.
    #[must_use]
    pub fn model_selector(mut self, selector: Arc<dyn ModelSelector>) -> Self {
        self.selector = selector;
        self
    }

    /// Sets what came of models in earlier runs, for the [`ModelSelector`]. Default: nothing is known.
    #[must_use]
    pub fn model_records(mut self, records: ModelRecords) -> Self {
        self.records = Arc::new(records);
        self
    }

    /// Sets what is told before the results of a run are delivered.
    #[must_use]
    pub fn before_delivery(mut self, closing: Arc<dyn BeforeDelivery>) -> Self {
        self.before_delivery = Some(closing);
        self
    }

    /// Builds the orchestrator. Writes nothing.
    ///
    /// # Errors
    /// Where the workspace can't be used, or a part is missing that has no stock one.
    pub async fn build(self) -> Result<ParallelOrchestrator, EngineError> {
        #[cfg(feature = "defaults")]
        let this = crate::defaults::fill(self).await?;
        #[cfg(not(feature = "defaults"))]
        let this = self;
        let missing = |port| EngineError::MissingPort { port };
        Ok(ParallelOrchestrator {
            ports: Arc::new(Ports {
                workspace: this.workspace,
                runner: this.runner.ok_or_else(|| missing("AgentRunner"))?,
                worktrees: this.worktrees,
                store: this.store.ok_or_else(|| missing("StateStore"))?,
                locks: this.locks.ok_or_else(|| missing("ResourceLock"))?,
                clock: this.clock,
                resources: this.resources,
                selector: this.selector,
                records: this.records,
                before_delivery: this.before_delivery,
            }),
            config: this.config,
            expected: None,
        })
    }
}

impl ParallelOrchestrator {
    /// Begins to put an orchestrator together for the repository at `workspace`.
    #[must_use]
    pub fn builder(workspace: impl Into<PathBuf>) -> Builder {
        Builder {
            workspace: workspace.into(),
            config: EngineConfig::default(),
            runner: None,
            worktrees: None,
            store: None,
            locks: None,
            clock: Arc::new(SystemClock),
            resources: None,
            selector: Arc::new(Tiers),
            records: Arc::default(),
            before_delivery: None,
        }
    }

    /// Tells how long tasks are expected to take, as a history of runs knows it: what holds up most is
    /// started first. Without it that is taken from the run before.
    #[must_use]
    pub fn expecting(mut self, durations: BTreeMap<TaskId, Duration>) -> Self {
        self.expected = Some(Arc::new(durations));
        self
    }

    /// The top folder of the repository.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.ports.workspace
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Where runs are recorded.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.ports.store
    }

    /// What gives tasks a place to work; `None` outside a repository.
    #[must_use]
    pub fn worktrees(&self) -> Option<&Arc<dyn WorktreeProvider>> {
        self.ports.worktrees.as_ref()
    }

    /// Starts a run of a plan.
    ///
    /// # Errors
    /// Where it can't be started: another orchestrator is at work, the target branch can't be used, an agent
    /// is missing that nobody stands in for, the journal can't be made. No task has been started then.
    pub async fn start(&self, plan: ValidPlan) -> Result<Run, EngineError> {
        let plan = Arc::new(plan);
        self.check_repository(&plan)?;
        let choosing = choosing::look(&plan, &self.ports).await;
        choosing::check(&plan, &choosing)?;
        let now = self.ports.clock.now();
        let run = run_id(now);
        let mut settings = self.config.settings(&plan);
        check_budgets(plan.spec(), settings.budgets.keys())?;
        if settings.seed == 0 {
            settings.seed = fastrand::u64(1..);
        }
        let past = self.past(&settings.budgets).await;
        let recorded = match &self.expected {
            None => self.recorded_durations().await,
            Some(_) => Durations::default(),
        };
        // First what most often goes wrong, so that nothing has been made when it does.
        let base = self.begin(&run, &plan, plan.run().target.clone()).await?;
        let journal = match self.ports.store.create(&run).await {
            Ok(journal) => journal,
            Err(error) => {
                if let (Some(_), Some(worktrees)) = (base, &self.ports.worktrees) {
                    worktrees.finish(&run).await?;
                }
                return Err(error.into());
            }
        };
        let started = Event {
            seq: 1,
            at: now,
            kind: EventKind::RunStarted {
                header: Box::new(RunHeader {
                    run,
                    version: EVENT_VERSION,
                    plan: Arc::clone(plan.spec()),
                    settings,
                    repository: self.ports.workspace.clone(),
                    base,
                    pid: std::process::id(),
                }),
            },
        };
        let mut state =
            RunState::begin(&started).map_err(|error| EngineError::Internal(error.to_string()))?;
        let mut found = Found { events: vec![started], ..Found::default() };
        found.events.extend(choosing::warnings(&plan, &choosing, &mut state)?);
        Ok(self.launch(plan, (state, choosing), journal, found, (&recorded, &past)))
    }

    /// Takes a run up again that was stopped, or whose orchestrator died. Its plan and settings are
    /// those that it was started with.
    ///
    /// # Errors
    /// Where there is no such run, where it has ended, where another orchestrator is at work, or
    /// where its journal is damaged.
    pub async fn resume(&self, run: &RunId) -> Result<Run, EngineError> {
        self.resume_with(run, Vec::new()).await
    }

    /// Like [`ParallelOrchestrator::resume`], with other budgets from now on.
    ///
    /// # Errors
    /// As there, and where the plan has nothing of which a change speaks.
    pub async fn resume_with(
        &self,
        run: &RunId,
        budgets: Vec<BudgetChange>,
    ) -> Result<Run, EngineError> {
        let cant = |reason: String| EngineError::CantResume { run: run.clone(), reason };
        let journal = self.ports.store.open(run).await?;
        let mut durations = Durations::default();
        let mut state = None;
        let mut reader = self.ports.store.read(run, 1).await?;
        while let Some(events) = some(reader.next().await?) {
            for event in &events {
                RunState::follow(&mut state, event).map_err(|error| cant(error.to_string()))?;
                durations.see(event);
            }
        }
        let Some(mut state) = state else {
            return Err(cant("its journal is empty: nothing was started".into()));
        };
        if !state.status.may_go_on() {
            let undone = if state.undone.is_some() { " and was undone" } else { "" };
            return Err(cant(format!("it has ended{undone}")));
        }
        let plan = ValidPlan::new((*state.header.plan).clone())
            .map_err(|problems| cant(format!("its plan is not valid any more: {problems}")))?;
        let plan = Arc::new(plan);
        check_budgets(plan.spec(), budgets.iter().map(|change| &change.scope))?;
        self.check_repository(&plan)?;
        let target = state.header.base.as_ref().map(|base| base.target.clone());
        self.begin(run, &plan, target).await?;
        if !orch_faults::planted("resumes-on-unsynced") {
            // What was appended and not synced when its orchestrator died is acted upon now: merges are repeated.
            journal.sync().await?;
        }
        let choosing = choosing::look(&plan, &self.ports).await;
        let mut found = reconcile::reconcile(&mut state, &plan, &self.ports).await?;
        for change in budgets {
            let kind = EventKind::BudgetChanged { change };
            reconcile::record(&mut state, &self.ports, &mut found, kind)?;
        }
        found.events.extend(choosing::warnings(&plan, &choosing, &mut state)?);
        let past = self.past(&state.budgets).await;
        Ok(self.launch(plan, (state, choosing), journal, found, (&durations, &past)))
    }

    fn check_repository(&self, plan: &ValidPlan) -> Result<(), EngineError> {
        let in_git = plan.tasks().iter().find(|task| task.isolation != Isolation::None);
        match in_git {
            Some(task) if self.ports.worktrees.is_none() => Err(EngineError::NoRepository {
                task: task.id.clone(),
                workspace: self.ports.workspace.display().to_string(),
            }),
            _ => Ok(()),
        }
    }

    async fn begin(
        &self,
        run: &RunId,
        plan: &ValidPlan,
        target: Option<String>,
    ) -> Result<Option<RunBase>, EngineError> {
        if plan.tasks().iter().any(|task| !task.locks.is_empty()) {
            // Where nobody can tell who holds them, tasks would fail one after the other, and
            // with them results of agents that have ended well.
            self.ports.locks.overview().await?;
        }
        if plan.tasks().iter().all(|task| task.isolation == Isolation::None) {
            return Ok(None);
        }
        let base = plan.run().base.clone();
        let request = BeginRun { run: run.clone(), target, base };
        Ok(Some(self.ports.worktrees()?.begin(request).await?))
    }

    /// How long tasks took in the run before this one.
    async fn recorded_durations(&self) -> Durations {
        let mut durations = Durations::default();
        let recorded = async {
            let Some(run) = self.ports.store.current().await? else { return Ok(()) };
            // The first event is the plan, and large.
            let mut reader = self.ports.store.read(&run, 2).await?;
            while let Some(events) = some(reader.next().await?) {
                events.iter().for_each(|event| durations.see(event));
            }
            Ok::<_, EngineError>(())
        };
        if let Err(error) = recorded.await {
            tracing::warn!(%error, "durations of earlier runs can't be read");
        }
        durations
    }

    /// What the last runs used, where there is a budget that needs it.
    async fn past(&self, budgets: &BTreeMap<BudgetScope, Budget>) -> Past {
        if budgets.is_empty() {
            return Past::default();
        }
        Past::read(self.ports.store.as_ref()).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "costs of earlier runs can't be read");
            Past::default()
        })
    }

    fn launch(
        &self,
        plan: Arc<ValidPlan>,
        (state, choosing): (RunState, Choosing),
        journal: Box<dyn RunJournal>,
        found: Found,
        (recorded, past): (&Durations, &Past),
    ) -> Run {
        let (id, started) = (state.run().clone(), Arc::new(state.started()));
        let duration = |task: TaskIndex| {
            let id = &plan.task(task).id;
            let expected = || self.expected.as_ref()?.get(id);
            recorded.merged.get(id).or_else(expected).copied()
        };
        let scheduler = Scheduler::new(Arc::clone(&plan), state, duration)
            .choosing(choosing)
            .with_estimates(|worker| past.most(worker));
        let (messages, inbox) = mpsc::unbounded_channel();
        let progress = Arc::new(scheduler.progress(self.ports.clock.now()));
        let outlets = Outlets {
            events: broadcast::channel(EVENT_QUEUE).0,
            durable: watch::channel(0).0,
            progress: watch::channel(progress).0,
            outcome: watch::channel(None).0,
        };
        let run = Run {
            id,
            first_event: found.events.first().map_or(1, |event| event.seq),
            started,
            plan: Arc::clone(&plan),
            store: Arc::clone(&self.ports.store),
            messages: messages.clone(),
            outlets: outlets.clone(),
        };
        let parts = Parts {
            plan,
            ports: Arc::clone(&self.ports),
            scheduler,
            journal: Arc::from(journal),
            first_events: found.events,
            adoptions: found.adoptions,
            outlets,
        };
        dispatcher::spawn(parts, messages, inbox);
        run
    }
}

/// A run under way. Clones speak of the same run; dropping them does not stop it.
#[derive(Debug, Clone)]
pub struct Run {
    id: RunId,
    first_event: u64,
    started: Arc<Event>,
    plan: Arc<ValidPlan>,
    store: Arc<dyn StateStore>,
    messages: mpsc::UnboundedSender<Message>,
    outlets: Outlets,
}

impl Run {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &RunId {
        &self.id
    }

    /// The number of the first event of this orchestrator: 1, unless the run was resumed.
    #[must_use]
    pub const fn first_event(&self) -> u64 {
        self.first_event
    }

    /// Its plan.
    #[must_use]
    pub const fn plan(&self) -> &Arc<ValidPlan> {
        &self.plan
    }

    /// Its events from the first on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.events_from(1)
    }

    /// Its events from number `from` on.
    #[must_use]
    pub fn events_from(&self, from: u64) -> EventStream {
        let (store, started) = (Arc::clone(&self.store), Arc::clone(&self.started));
        EventStream::new(self.id.clone(), store, started, &self.outlets, from)
    }

    /// Where it stands; some hundredths of a second old at most while tasks change.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.outlets.progress.borrow())
    }

    /// Where it stands at this moment.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn refresh_progress(&self) -> Result<Arc<Progress>, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Refresh(reply)).map_err(|_| EngineError::Ended)?;
        answer.await.map_err(|_| EngineError::Ended)?;
        Ok(self.progress())
    }

    /// Tells of each new [`Run::progress`].
    #[must_use]
    pub fn progress_changes(&self) -> watch::Receiver<Arc<Progress>> {
        self.outlets.progress.subscribe()
    }

    async fn ask(&self, input: Input) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Input(input, Some(reply))).map_err(|_| EngineError::Ended)?;
        answer.await.map_err(|_| EngineError::Ended)
    }

    /// Starts nothing new; running agents finish. Returns when that is in force.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    ///
    /// # Cancel safety
    /// A dropped call has its effect all the same; that holds for the other requests too.
    pub async fn pause(&self) -> Result<(), EngineError> {
        self.ask(Input::Pause { freeze: false }).await
    }

    /// Starts nothing new and stops the processes of running agents.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    pub async fn freeze(&self) -> Result<(), EngineError> {
        self.ask(Input::Pause { freeze: true }).await
    }

    /// Goes on after [`Run::pause`] or [`Run::freeze`].
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    pub async fn resume(&self) -> Result<(), EngineError> {
        self.ask(Input::Resume).await
    }

    /// Like [`Run::resume`], with other budgets from now on.
    ///
    /// # Errors
    /// Where the plan has nothing of which a change speaks, or the run has ended.
    pub async fn resume_with(&self, budgets: Vec<BudgetChange>) -> Result<(), EngineError> {
        check_budgets(self.plan.spec(), budgets.iter().map(|change| &change.scope))?;
        self.ask(Input::SetBudgets(budgets)).await?;
        self.resume().await
    }

    /// Cancels everything: running agents are ended, what waits is not started.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    pub async fn cancel(&self) -> Result<(), EngineError> {
        self.ask(Input::Cancel).await
    }

    /// Cancels one task; those that need it are skipped.
    ///
    /// # Errors
    /// Where the plan has no such task, or the run has ended.
    pub async fn cancel_task(&self, task: &TaskId) -> Result<(), EngineError> {
        let index =
            self.plan.index_of(task).ok_or_else(|| EngineError::NoSuchTask(task.clone()))?;
        self.ask(Input::CancelTask(index)).await
    }

    /// Like [`Run::cancel_task`], without grace for its agent.
    ///
    /// # Errors
    /// Where the plan has no such task, or the run has ended.
    pub async fn kill_task(&self, task: &TaskId) -> Result<(), EngineError> {
        let index =
            self.plan.index_of(task).ok_or_else(|| EngineError::NoSuchTask(task.clone()))?;
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::KillTask(index, reply)).map_err(|_| EngineError::Ended)?;
        answer.await.map_err(|_| EngineError::Ended)
    }

    /// Ends running agents, with grace, and then the run, so that it can be resumed later. Their
    /// attempts aren't charged to their tasks.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    pub async fn interrupt(&self) -> Result<(), EngineError> {
        self.ask(Input::Interrupt).await
    }

    /// Like [`Run::interrupt`], without grace.
    ///
    /// # Errors
    /// [`EngineError::Ended`] after the run has ended.
    pub async fn kill(&self) -> Result<(), EngineError> {
        self.messages.send(Message::Kill).map_err(|_| EngineError::Ended)?;
        self.ask(Input::Interrupt).await
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// Where the engine could not do its job; a task that failed is part of the report.
    ///
    /// # Cancel safety
    /// May be dropped and called again, also from several places.
    pub async fn wait(&self) -> Result<Report, EngineError> {
        let mut outcome = self.outlets.outcome.subscribe();
        let result = outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_| EngineError::Internal("the dispatcher is gone".into()))?
            .clone();
        match result {
            Some(result) => result.map_err(EngineError::Shared),
            None => Err(EngineError::Internal("the dispatcher gave no outcome".into())),
        }
    }
}

/// A budget is that of something that there is.
fn check_budgets<'a>(
    plan: &PlanSpec,
    scopes: impl IntoIterator<Item = &'a BudgetScope>,
) -> Result<(), EngineError> {
    match scopes.into_iter().find(|scope| !scope.is_in(plan)) {
        Some(scope) => Err(EngineError::NoSuchBudget(scope.clone())),
        None => Ok(()),
    }
}

/// A run's id: the moment in UTC and a part by chance, so that ids sort by time.
fn run_id(now: Timestamp) -> RunId {
    let time: String = now.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, hour) = time.split_at(8.min(time.len()));
    let chance: String = std::iter::repeat_with(fastrand::lowercase).take(4).collect();
    RunId::new(format!("{day}-{hour}-{chance}")).expect("digits, dashes and letters make an id")
}

/// How long agents ran, as a journal tells event by event.
#[derive(Debug, Default)]
struct Durations {
    begun: HashMap<TaskId, Timestamp>,
    /// Of tasks that were merged.
    merged: HashMap<TaskId, Duration>,
}

impl Durations {
    fn see(&mut self, event: &Event) {
        let EventKind::Task { task, change } = &event.kind else { return };
        match change {
            TaskChange::Started { .. } => {
                self.begun.insert(task.clone(), event.at);
            }
            TaskChange::Merged { .. } => {
                if let Some(begun) = self.begun.remove(task) {
                    self.merged.insert(task.clone(), event.at.since(begun));
                }
            }
            _ => {}
        }
    }
}

/// `None` for nothing more.
fn some(events: Vec<Event>) -> Option<Vec<Event>> {
    (!events.is_empty()).then_some(events)
}
