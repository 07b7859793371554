//! [`AgentAdapters`]: an `AgentRunner` for coding agents, around one that runs processes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use orch_exec::logs;
use orch_faults::point;
use orch_model::{
    RunId, TaskId, Timestamp,
    event::AgentIdentity,
    outcome::AgentExit,
    plan::{Agent, Work, spec::AgentKind},
    ports::{
        AdoptRequest, Adopted, AgentNotice, AgentRequest, AgentRunner, Purpose, RunnerError,
        RunningAgent,
    },
    state::Attempt,
};
use tokio::sync::OnceCell;

use crate::{
    adapter,
    event::{EVENTS_VERSION, Header},
    home::UserHome,
    prices::{self, Prices},
    session::{RunFolder, SessionRecord, name},
    stream::Parser,
    summary::Summary,
    verdict::judge,
};

mod prepare;

/// Runs coding agents through another runner, which runs their processes.
///
/// What is no agent of a kind that orch knows goes to the other runner as it is. An agent gets a
/// private home, is called as its adapter says, and is judged by what its stream says; its events are
/// written beside its output, to `<task>.<attempt>.events.jsonl`.
#[derive(Debug, Clone)]
pub struct AgentAdapters {
    inner: Arc<dyn AgentRunner>,
    state_dir: PathBuf,
    user: Arc<UserHome>,
    prices: Arc<Prices>,
}

impl AgentAdapters {
    /// Adapters around a runner that keeps its output under `<state_dir>/runs/<run>/`, for a user.
    #[must_use]
    pub fn new(inner: Arc<dyn AgentRunner>, state_dir: impl Into<PathBuf>, user: UserHome) -> Self {
        let prices = Arc::new(Prices::built_in());
        Self { inner, state_dir: state_dir.into(), user: Arc::new(user), prices }
    }

    /// Sets what tokens cost. Default: [`Prices::built_in`].
    #[must_use]
    pub fn prices(mut self, prices: Prices) -> Self {
        self.prices = Arc::new(prices);
        self
    }

    fn watched(
        &self,
        inner: Box<dyn RunningAgent>,
        request: &AdoptRequest,
        record: SessionRecord,
    ) -> Box<dyn RunningAgent> {
        Box::new(Watched {
            inner,
            judged: OnceCell::new(),
            attempt: Ended {
                runner: self.clone(),
                run: request.run.clone(),
                task: request.task.clone(),
                attempt: request.attempt,
                purpose: request.purpose,
                record,
            },
        })
    }
}

#[async_trait]
impl AgentRunner for AgentAdapters {
    fn name(&self) -> &str {
        "agents"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let is_read = |agent: &Agent| agent.kind != AgentKind::Command || !agent.events.is_empty();
        let is_agent = is_agents(request.purpose)
            && matches!(request.work, Work::Prompt { .. })
            && request.agent.as_ref().is_some_and(is_read);
        if !is_agent {
            return self.inner.start(request).await;
        }
        let name = AdoptRequest {
            run: request.run.clone(),
            task: request.task.clone(),
            attempt: request.attempt,
            purpose: request.purpose,
            identity: None,
        };
        let (request, record) = self.prepare(request)?;
        let agent = self.inner.start(request).await.map_err(|error| cure(error, record.kind))?;
        Ok(self.watched(agent, &name, record))
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        let adopted = self.inner.adopt(request.clone()).await?;
        let Adopted::Agent(agent) = adopted else { return Ok(adopted) };
        let folder = RunFolder::new(&self.state_dir, &request.run);
        let record = match request.purpose {
            purpose if is_agents(purpose) => folder
                .read_of(&name(&request.task, request.attempt, purpose))
                .map_err(|source| RunnerError::Io {
                    doing: "reading the agent's session".into(),
                    source,
                })?,
            _ => None,
        };
        Ok(Adopted::Agent(match record {
            Some(record) => self.watched(agent, &request, record),
            None => agent,
        }))
    }

    fn output(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<PathBuf> {
        self.inner.output(run, task, attempt)
    }

    async fn guardian(&self, run: &RunId) -> Result<Option<AgentIdentity>, RunnerError> {
        self.inner.guardian(run).await
    }

    async fn notice(&self, run: &RunId) -> String {
        self.inner.notice(run).await
    }

    async fn finish(&self, run: &RunId) {
        self.inner.finish(run).await;
    }
}

/// Whether that is something for an agent.
const fn is_agents(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Work | Purpose::Resolve { .. })
}

/// Says how a program is installed that is missing.
fn cure(error: RunnerError, kind: AgentKind) -> RunnerError {
    match (error, adapter::of(kind)) {
        (RunnerError::Spawn { program, source }, Some(adapter))
            if source.kind() == io::ErrorKind::NotFound =>
        {
            let message = format!("{source}; `{}` installs {kind}", adapter.install());
            RunnerError::Spawn { program, source: io::Error::new(source.kind(), message) }
        }
        (error, _) => error,
    }
}

/// An agent whose stream is read when it has ended.
#[derive(Debug)]
struct Watched {
    inner: Box<dyn RunningAgent>,
    judged: OnceCell<AgentExit>,
    attempt: Ended,
}

#[async_trait]
impl RunningAgent for Watched {
    fn identity(&self) -> Option<AgentIdentity> {
        self.inner.identity()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        let exit = self.inner.wait().await?;
        let judge = || async {
            let attempt = self.attempt.clone();
            let judged = tokio::task::spawn_blocking(move || attempt.judge(exit)).await;
            judged.map_err(|source| RunnerError::Other { source: source.into() })
        };
        self.judged.get_or_try_init(judge).await.cloned()
    }

    async fn notice(&self) -> AgentNotice {
        self.inner.notice().await
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        self.inner.stop(grace).await
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.inner.freeze().await
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        self.inner.thaw().await
    }
}

/// An attempt whose agent has ended.
#[derive(Debug, Clone)]
struct Ended {
    runner: AgentAdapters,
    run: RunId,
    task: TaskId,
    attempt: Attempt,
    purpose: Purpose,
    record: SessionRecord,
}

impl Ended {
    /// Reads what the agent printed, keeps its events, and judges it.
    fn judge(mut self, mut exit: AgentExit) -> AgentExit {
        let (now, dialect) = (now(), self.record.dialect());
        let folder = RunFolder::new(&self.runner.state_dir, &self.run);
        let name = name(&self.task, self.attempt, self.purpose);
        let output = logs::folder(&self.runner.state_dir, &self.run).join(format!("{name}.log"));
        // One without output has none.
        let summary = if output.is_file() { self.read(&output, now) } else { Summary::default() };
        let verdict = judge(&dialect, &summary, &exit, &self.record.earlier, now);
        let model = summary.model.as_deref().or(self.record.model.as_deref());
        exit.usage = prices::usage(verdict.tokens, verdict.cost, model, &self.runner.prices);
        exit.is_done = verdict.failure.is_none() && dialect.tells_its_end();
        exit.failure = verdict.failure;
        exit.no_change = verdict.no_change;

        self.record.is_begun |= summary.tool_calls > 0 || !summary.text.is_empty();
        self.record.session = summary.session.or(self.record.session);
        self.record.totals = verdict.totals;
        let written = folder.write_of(&name, &self.record);
        let home = match self.purpose {
            Purpose::Work => folder.home(&self.task, self.record.began, self.attempt),
            _ => folder.home_of(&name),
        };
        let links = adapter::of(self.record.kind).map(|adapter| adapter.links(&self.runner.user));
        for link in home.replaced(&links.unwrap_or_default()) {
            let (file, target) = (&link.name, link.target.display());
            tracing::warn!(
                task = %self.task,
                "its agent has written a file of its own in place of {target}: if it has renewed your login \
                 there, log in again (the file is {file} in its home)"
            );
        }
        for (doing, result) in
            [("its session can't be kept", written), ("its files", home.remove_temporary())]
        {
            if let Err(error) = result {
                tracing::warn!(task = %self.task, %error, "{doing}");
            }
        }
        exit
    }

    /// Reads the output and writes the events beside it. What goes wrong with the events changes
    /// nothing of what is understood.
    fn read(&self, output: &Path, now: Timestamp) -> Summary {
        let mut summary = Summary::default();
        let mut events = Events::create(self, output);
        let parsed = self.parse(output, now, |record| {
            summary.take(&record);
            events.write(&record);
        });
        if let Err(error) = parsed.and(events.finish()) {
            tracing::warn!(task = %self.task, %error, "its events can't be kept");
        }
        summary
    }

    fn parse(
        &self,
        output: &Path,
        now: Timestamp,
        mut take: impl FnMut(crate::event::Record),
    ) -> io::Result<()> {
        let mut parser = Parser::new(&self.record.dialect());
        let mut file = File::open(output)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => parser.push(&buffer[..n], now, &mut take),
            }
        }
        parser.finish(now, take);
        Ok(())
    }
}

/// The file with the events of an attempt. It is there as a whole, or as it was.
struct Events {
    path: PathBuf,
    file: io::Result<BufWriter<File>>,
}

impl Events {
    fn create(attempt: &Ended, output: &Path) -> Self {
        let path = output.with_extension("events.jsonl");
        let mut events = Self { file: File::create(new(&path)).map(BufWriter::new), path };
        events.write(&Header {
            v: EVENTS_VERSION,
            kind: attempt.record.kind,
            task: attempt.task.to_string(),
            attempt: attempt.attempt,
        });
        events
    }

    fn write(&mut self, line: &impl serde::Serialize) {
        let Ok(file) = &mut self.file else { return };
        let written = serde_json::to_writer(&mut *file, line).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
            self.file = Err(error);
        }
    }

    fn finish(self) -> io::Result<()> {
        let file = self.file?;
        let flush = || file.into_inner().map_err(io::IntoInnerError::into_error);
        point!("agent_events::write", flush())?;
        point!("agent_events::rename", fs::rename(new(&self.path), &self.path))
    }
}

fn new(path: &Path) -> PathBuf {
    path.with_extension("jsonl~")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
