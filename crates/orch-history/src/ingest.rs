//! From the journal of a run to its row and those of its sessions.

use std::collections::{BTreeMap, HashMap};

use orch_agents::session::RunFolder;
use orch_model::{
    DomainName, Event, EventKind, PlanSpec, RunId, RunState, Span, TaskChange, TaskId, Timestamp,
    attempts::{AttemptRecord, Attempts},
    plan::{
        AgentChoice,
        spec::{AgentKind, TaskSpec},
    },
    ports::{Purpose, StateStore as _, StoreError},
    state::Attempt,
    usage::Usage,
};
use orch_state::FileStore;

use crate::{
    domain::domain_of,
    error::HistoryError,
    history::{History, RunEntry},
    session::{Part, Session, SessionStatus},
    stream::Counts,
};

/// What taking in journals came to.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ingested {
    /// The runs that were taken in, those that had been before and went on included.
    pub runs: Vec<RunId>,
    /// The runs that can't be read, and why.
    pub unread: Vec<(RunId, String)>,
}

/// Takes in what the history does not have yet: the runs whose journals have grown since, or are new. One
/// whose journal is gone stays in the history.
///
/// # Errors
/// Where the history or the folder of runs fails. A run that can't be read is no error.
///
/// # Cancel safety
/// Each run is taken in as a whole or not at all; the next call goes on.
pub async fn ingest(store: &FileStore, history: &dyn History) -> Result<Ingested, HistoryError> {
    take_in(store, history, history.taken_in()?).await
}

/// The same for all runs whose journals are there, whatever the history says of them.
///
/// # Errors
/// As [`ingest`].
///
/// # Cancel safety
/// As [`ingest`].
pub async fn rebuild(store: &FileStore, history: &dyn History) -> Result<Ingested, HistoryError> {
    take_in(store, history, BTreeMap::new()).await
}

async fn take_in(
    store: &FileStore,
    history: &dyn History,
    known: BTreeMap<RunId, u64>,
) -> Result<Ingested, HistoryError> {
    let mut ingested = Ingested::default();
    for run in store.runs()? {
        let journal = store.run_dir(&run).join("journal");
        // Before it is read: what is added meanwhile is taken in the next time.
        let bytes = std::fs::metadata(&journal).map_or(0, |found| found.len());
        if known.get(&run) == Some(&bytes) {
            continue;
        }
        match read(store, &run, bytes).await {
            Ok(Some((entry, sessions))) => {
                history.record(&entry, &sessions)?;
                ingested.runs.push(run);
            }
            // It has not begun.
            Ok(None) => {}
            Err(error) => ingested.unread.push((run, error.to_string())),
        }
    }
    Ok(ingested)
}

/// What a run comes to; `None` where nothing has happened in it.
async fn read(
    store: &FileStore,
    run: &RunId,
    journal_bytes: u64,
) -> Result<Option<(RunEntry, Vec<Session>)>, StoreError> {
    let mut reader = store.read(run, 1).await?;
    let mut state = None;
    let mut tasks = Tasks::default();
    loop {
        let events = reader.next().await?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            RunState::follow(&mut state, event)
                .map_err(|source| StoreError::Inconsistent { run: run.clone(), source })?;
            tasks.see(event);
        }
    }
    let Some(state) = state else { return Ok(None) };
    let sessions = sessions(&state, tasks, &RunFolder::new(store.dir(), run));
    let usage = sessions.iter().filter_map(|session| session.usage).fold(
        Usage::default(),
        |mut sum, usage| {
            sum += usage;
            sum
        },
    );
    let agent_time =
        sessions.iter().filter_map(|session| session.agent_time).map(|time| time.0).sum();
    let ended = |task: &&orch_model::run::TaskRun| task.state.is_terminal();
    let merged = |task: &&orch_model::run::TaskRun| {
        matches!(task.state, orch_model::TaskState::Merged { .. })
    };
    let (ended, merged) = (
        state.tasks.iter().filter(ended).count() as u64,
        state.tasks.iter().filter(merged).count() as u64,
    );
    let entry = RunEntry {
        run: run.clone(),
        status: state.status,
        undone: state.undone.is_some(),
        started_at: state.started_at,
        updated_at: state.updated_at,
        tasks: state.tasks.len() as u64,
        merged,
        unsuccessful: ended - merged,
        agent_time: Span(agent_time),
        usage,
        journal_bytes,
    };
    Ok(Some((entry, sessions)))
}

/// What happened to the tasks, by what sessions are made of.
#[derive(Debug, Default)]
struct Tasks {
    attempts: HashMap<TaskId, Attempts>,
    last: HashMap<TaskId, Attempt>,
    resolutions: Vec<Resolution>,
}

/// One time that a resolver was at work.
#[derive(Debug)]
struct Resolution {
    task: TaskId,
    attempt: Attempt,
    round: u32,
    began_at: Timestamp,
    ended: Option<(Timestamp, bool, Option<Usage>)>,
}

impl Tasks {
    fn see(&mut self, event: &Event) {
        let EventKind::Task { task, change } = &event.kind else { return };
        match change {
            TaskChange::Leased { attempt, .. } => {
                self.last.insert(task.clone(), *attempt);
            }
            TaskChange::Resolving { round, .. } => {
                let attempt = self.last.get(task).copied().unwrap_or_default();
                let (task, round) = (task.clone(), *round);
                // An orchestrator that takes the attempt up begins the round again.
                let is_it = |known: &Resolution| {
                    known.task == task && known.attempt == attempt && known.round == round
                };
                if !self.resolutions.iter().any(is_it) {
                    let began_at = event.at;
                    self.resolutions.push(Resolution {
                        task,
                        attempt,
                        round,
                        began_at,
                        ended: None,
                    });
                }
            }
            TaskChange::ResolvingEnded { resolved, usage } => {
                let open = |known: &&mut Resolution| known.task == *task && known.ended.is_none();
                if let Some(last) = self.resolutions.iter_mut().rev().find(open) {
                    last.ended = Some((event.at, *resolved, *usage));
                }
            }
            _ => {}
        }
        self.attempts.entry(task.clone()).or_default().see(change, event.at);
    }
}

/// The sessions of a run, in the order in which they began.
fn sessions(state: &RunState, mut tasks: Tasks, folder: &RunFolder) -> Vec<Session> {
    let plan = &state.header.plan;
    let mut sessions = Vec::new();
    for task in &plan.tasks {
        let Some(attempts) = tasks.attempts.remove(&task.id) else { continue };
        let about = About { run: state.run(), plan, task, domain: domain_of(task), folder };
        for record in attempts.into_records() {
            sessions.push(about.attempt(&record));
        }
        for resolution in tasks.resolutions.iter().filter(|found| found.task == task.id) {
            sessions.push(about.resolution(resolution));
        }
    }
    sessions.sort_by(|a, b| {
        let place = |s: &Session| (s.began_at, s.attempt, s.part);
        place(a).cmp(&place(b)).then_with(|| a.task.cmp(&b.task))
    });
    sessions
}

/// The task that sessions are of.
struct About<'a> {
    run: &'a RunId,
    plan: &'a PlanSpec,
    task: &'a TaskSpec,
    domain: DomainName,
    folder: &'a RunFolder,
}

impl About<'_> {
    fn attempt(&self, record: &AttemptRecord) -> Session {
        let status = match &record.end {
            None => SessionStatus::Open,
            Some(TaskChange::Merged { .. }) => SessionStatus::Succeeded,
            Some(TaskChange::Conflicted { .. }) => SessionStatus::Conflicted,
            Some(TaskChange::Cancelled) => SessionStatus::Cancelled,
            Some(TaskChange::Lost { .. }) => SessionStatus::Lost,
            Some(_) => SessionStatus::Failed,
        };
        let failure = record.failure();
        Session {
            status,
            class: failure.map(|failure| failure.class().to_owned()),
            charged: failure.is_some_and(orch_model::outcome::Failure::is_charged),
            started_at: record.started_at,
            ended_at: record.ended_at,
            agent_time: record.agent_time,
            usage: record.usage,
            ..self.begun(record.attempt, Part::Work, record.began_at, record.by.as_ref())
        }
    }

    fn resolution(&self, resolution: &Resolution) -> Session {
        let ended = resolution.ended;
        let status = match ended {
            None => SessionStatus::Open,
            Some((_, true, _)) => SessionStatus::Succeeded,
            Some((_, false, _)) => SessionStatus::Failed,
        };
        let began_at = resolution.began_at;
        Session {
            status,
            charged: status == SessionStatus::Failed,
            started_at: Some(began_at),
            ended_at: ended.map(|(at, ..)| at),
            agent_time: ended.map(|(at, ..)| Span(at.since(began_at))),
            usage: ended.and_then(|(_, _, usage)| usage),
            ..self.begun(resolution.attempt, Part::Resolve(resolution.round), began_at, None)
        }
    }

    /// What is known of a session besides how it ended. What can't be read of its files is left out.
    fn begun(
        &self,
        attempt: Attempt,
        part: Part,
        began_at: Timestamp,
        by: Option<&AgentChoice>,
    ) -> Session {
        let TaskSpec { id, run, .. } = self.task;
        let purpose = match part {
            Part::Work => Purpose::Work,
            Part::Resolve(round) => Purpose::Resolve { round },
        };
        let agent = match part {
            Part::Resolve(_) => self.plan.merge.resolver.as_ref(),
            Part::Work if run.is_some() => None,
            Part::Work => by.map(|by| &by.agent).or(self.task.agent.as_ref()).or(self
                .plan
                .defaults
                .agent
                .as_ref()),
        };
        let spec = agent.and_then(|agent| self.plan.agents.get(agent));
        // Where it is an agent that is read, this says what really was called.
        let record = agent.and_then(|_| self.folder.read_for(id, attempt, purpose).ok().flatten());
        let counts = match &record {
            Some(_) => {
                let events = self.folder.events(id, attempt, purpose);
                Counts::read(&events).unwrap_or_else(|error| {
                    tracing::warn!(path = %events.display(), %error, "these events can't be read");
                    Counts::default()
                })
            }
            None => Counts::default(),
        };
        let kind = match (&record, spec) {
            (Some(record), _) => record.kind,
            (None, Some(spec)) => spec.kind,
            (None, None) => AgentKind::Command,
        };
        let asked = || {
            if let Some(by) = by {
                return by.model.clone();
            }
            let of_task = self.task.model.clone().filter(|_| part == Part::Work);
            let of_plan = of_task.or_else(|| spec?.model.clone());
            of_plan.or_else(|| self.plan.defaults.model.clone()).filter(|_| agent.is_some())
        };
        let (of_record, session) =
            record.map_or((None, None), |record| (record.model, record.session));
        Session {
            run: self.run.clone(),
            task: id.clone(),
            attempt,
            part,
            agent: agent.map(ToString::to_string),
            kind: kind.name().to_owned(),
            model: counts.model.or(of_record).or_else(asked),
            domain: self.domain.clone(),
            status: SessionStatus::Open,
            class: None,
            charged: false,
            began_at,
            started_at: None,
            ended_at: None,
            agent_time: None,
            messages: counts.messages,
            tool_calls: counts.tool_calls,
            session: counts.session.or(session),
            usage: None,
        }
    }
}
