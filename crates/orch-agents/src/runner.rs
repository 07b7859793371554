//! [`AgentAdapters`]: an `AgentRunner` for coding agents, around one that runs processes.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use orch_exec::logs;
use orch_model::{
    AgentName, RunId, TaskId,
    event::AgentIdentity,
    outcome::{AgentExit, ExitStatus, Failure},
    plan::{Agent, Work, spec::AgentKind},
    ports::{
        AdoptRequest, Adopted, AgentNotice, AgentRequest, AgentRunner, ModelPrice, Purpose,
        RunnerError, RunningAgent,
    },
    state::Attempt,
};
use tokio::sync::OnceCell;

use crate::{
    adapter,
    home::UserHome,
    prices::{self, Price, Prices},
    probe,
    prompt::Knowledge,
    session::{RunFolder, SessionRecord},
    summary::Summary,
    verdict::judge,
    watcher::{Watch, Watchers},
};

mod live;
mod prepare;
mod reading;
mod told;

use live::{Live, lock};
use reading::Reading;

/// How long an agent has to end that waits for a rate limit: claude, asked politely, would ask the service once
/// more before it has ended. There is nothing that it would lose.
const GRACE: Duration = Duration::ZERO;

/// Runs coding agents through another runner, which runs their processes.
///
/// What is no agent of a kind that orch knows goes to the other runner as it is. An agent gets a
/// private home, is called as its adapter says, and is judged by what its stream says; its events are
/// written beside its output, to `<task>.<attempt>.events.jsonl`, while it works. What it used so far and
/// limits that it meets are told at once; one that can be continued later does not wait for a limit, but is ended.
#[derive(Debug, Clone)]
pub struct AgentAdapters {
    inner: Arc<dyn AgentRunner>,
    state_dir: PathBuf,
    user: Arc<UserHome>,
    prices: Arc<Prices>,
    watchers: Watchers,
    knowledge: Option<Arc<dyn Knowledge>>,
}

impl AgentAdapters {
    /// Adapters around a runner that keeps its output under `<state_dir>/runs/<run>/`, for a user.
    #[must_use]
    pub fn new(inner: Arc<dyn AgentRunner>, state_dir: impl Into<PathBuf>, user: UserHome) -> Self {
        let prices = Arc::new(Prices::built_in());
        let (state_dir, user) = (state_dir.into(), Arc::new(user));
        Self { inner, state_dir, user, prices, watchers: Watchers::default(), knowledge: None }
    }

    /// Sets what tokens cost. Default: [`Prices::built_in`].
    #[must_use]
    pub fn prices(mut self, prices: Prices) -> Self {
        self.prices = Arc::new(prices);
        self
    }

    /// The output of an attempt.
    fn output_of(&self, request: &AdoptRequest) -> PathBuf {
        let name = request.purpose.name(&request.task, request.attempt);
        logs::folder(&self.state_dir, &request.run).join(format!("{name}.log"))
    }

    /// Watches the output of an attempt. Without that it is read when the agent has ended.
    fn watch(&self, request: &AdoptRequest) -> Option<Watch> {
        let unseen = |error: &io::Error| {
            tracing::warn!(task = %request.task, %error, "what its agent does is not seen before its end");
        };
        self.watchers.watch(&self.output_of(request)).inspect_err(unseen).ok()
    }

    /// Sets who knows something of the fields that tasks are about. Default: nobody.
    #[must_use]
    pub fn knowledge(mut self, knowledge: Arc<dyn Knowledge>) -> Self {
        self.knowledge = Some(knowledge);
        self
    }

    fn watched(
        &self,
        inner: Box<dyn RunningAgent>,
        request: &AdoptRequest,
        record: SessionRecord,
        watch: Option<Watch>,
    ) -> Box<dyn RunningAgent> {
        let (task, attempt, output) = (&request.task, request.attempt, self.output_of(request));
        let reading = Reading::new(output, task, attempt, record.clone(), Arc::clone(&self.prices));
        Box::new(Watched {
            inner,
            judged: OnceCell::new(),
            live: Live::new(reading, watch),
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
            let work = self.told(&request, false)?;
            return self.inner.start(AgentRequest { work, ..request }).await;
        }
        let name = AdoptRequest {
            run: request.run.clone(),
            task: request.task.clone(),
            attempt: request.attempt,
            purpose: request.purpose,
            identity: None,
        };
        let (request, record) = self.prepare(request)?;
        // From before its first word on.
        let watch = self.watch(&name);
        let agent = self.inner.start(request).await.map_err(|error| cure(error, record.kind))?;
        Ok(self.watched(agent, &name, record, watch))
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        let adopted = self.inner.adopt(request.clone()).await?;
        let Adopted::Agent(agent) = adopted else { return Ok(adopted) };
        let folder = RunFolder::new(&self.state_dir, &request.run);
        let record = match request.purpose {
            purpose if is_agents(purpose) => {
                folder.read_of(&purpose.name(&request.task, request.attempt)).map_err(|source| {
                    RunnerError::Io { doing: "reading the agent's session".into(), source }
                })?
            }
            _ => None,
        };
        Ok(Adopted::Agent(match record {
            Some(record) => self.watched(agent, &request, record, self.watch(&request)),
            None => agent,
        }))
    }

    fn output(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<PathBuf> {
        self.inner.output(run, task, attempt)
    }

    async fn missing(&self, agents: &BTreeMap<AgentName, Agent>) -> BTreeMap<AgentName, String> {
        probe::missing(agents, &self.user).await
    }

    fn price(&self, model: &str) -> Option<ModelPrice> {
        self.prices.of(model).map(Price::per_million)
    }

    async fn guardian(&self, run: &RunId) -> Result<Option<AgentIdentity>, RunnerError> {
        self.inner.guardian(run).await
    }

    fn is_of_earlier_boot(&self, agent: &AgentIdentity) -> bool {
        self.inner.is_of_earlier_boot(agent)
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

/// An agent whose stream is read while it works.
#[derive(Debug)]
struct Watched {
    inner: Box<dyn RunningAgent>,
    judged: OnceCell<AgentExit>,
    live: Live,
    attempt: Ended,
}

#[async_trait]
impl RunningAgent for Watched {
    fn identity(&self) -> Option<AgentIdentity> {
        self.inner.identity()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        let exit = tokio::select! {
            biased;
            exit = self.inner.wait() => exit?,
            () = self.live.limited() => {
                self.inner.stop(GRACE).await?;
                self.inner.wait().await?
            }
        };
        let judge = || async {
            let (attempt, reading) = (self.attempt.clone(), self.live.reading());
            let judge = move || attempt.judge(exit, &mut lock(&reading));
            let judged = tokio::task::spawn_blocking(judge).await;
            judged.map_err(|source| RunnerError::Other { source: source.into() })
        };
        self.judged.get_or_try_init(judge).await.cloned()
    }

    async fn notice(&self) -> AgentNotice {
        tokio::select! {
            notice = self.inner.notice() => notice,
            notice = self.live.notice() => notice,
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        self.inner.stop(grace).await
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.inner.freeze().await
    }

    async fn age(&self) -> Option<Duration> {
        self.inner.age().await
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
    /// Reads the rest of what the agent printed, and judges it. What goes wrong with its events changes
    /// nothing of what is understood.
    fn judge(mut self, mut exit: AgentExit, reading: &mut Reading) -> AgentExit {
        let dialect = self.record.dialect();
        let folder = RunFolder::new(&self.runner.state_dir, &self.run);
        let name = self.purpose.name(&self.task, self.attempt);
        let (summary, ended) = reading.finish(&self.task);
        let verdict = judge(&dialect, &summary, &exit, &self.record.earlier, ended);
        let model = summary.model.as_deref().or(self.record.model.as_deref());
        let is_lost = self.is_lost(&summary, verdict.failure.as_ref());
        exit.usage = prices::usage(verdict.tokens, verdict.cost, model, &self.runner.prices);
        exit.model = summary.model.clone();
        exit.is_done = verdict.failure.is_none() && dialect.tells_its_end();
        exit.failure = match verdict.failure {
            Some(Failure::Agent { output_tail, .. }) if is_lost => Some(Failure::Infrastructure {
                message: format!("its session can't be continued: {}", output_tail.trim()),
            }),
            failure => failure,
        };
        exit.no_change = verdict.no_change;

        self.record.is_begun |= has_begun(&summary);
        // The next attempt begins another one.
        self.record.is_begun &= !is_lost;
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

    /// Whether it was to go on in a session that its agent does not know any more: it ended at once, by itself, with
    /// nothing done. Gemini keeps no session of a turn that was cut off, for one.
    fn is_lost(&self, summary: &Summary, failure: Option<&Failure>) -> bool {
        let has_given_up =
            matches!(failure, Some(Failure::Agent { exit: ExitStatus::Code(1..), .. }));
        self.record.is_begun && has_given_up && !has_begun(summary)
    }
}

/// Whether anything was done in the session.
const fn has_begun(summary: &Summary) -> bool {
    summary.tool_calls > 0 || !summary.text.is_empty()
}
