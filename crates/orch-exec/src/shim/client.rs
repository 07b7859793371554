//! [`SupervisedRunner`]: the orchestrator's side.

use std::{
    collections::HashMap,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use orch_faults::point;
use orch_model::{
    RunId, TaskId,
    event::AgentIdentity,
    ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, RunnerError, RunningAgent},
    state::Attempt,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
    time::timeout,
};

use super::{
    ARGUMENT, NAME_OF_SUPERVISOR,
    agent::{Attempted, Finished, Left, SupervisedAgent},
    connection::Connection,
    protocol::Order,
};
use crate::{
    logs,
    process::{Patterns, cgroup, environment::Environment, identity, launch::Launch, leftovers},
    socket,
};

/// How long a supervisor may take to begin.
const BEGIN: Duration = Duration::from_secs(30);

/// How long one that runs may take to answer: it has nothing else to do.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the end of a run waits for that of its supervisor, which mostly takes some milliseconds.
const END: Duration = Duration::from_millis(500);

/// How long an agent may do nothing before that is told. The longest healthy silence that was
/// measured elsewhere is 390 s.
const SILENCE: Duration = Duration::from_secs(600);

/// How often one is started: the one before may be about to end and still hold its place.
const ATTEMPTS: u32 = 20;

/// Where the supervisor of a run listens.
pub(super) fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("supervisor.sock")
}

/// Starts agents through a supervisor process per run, which outlives the orchestrator.
///
/// The program must call [`run_if_requested`](super::run_if_requested) first in `main`.
#[derive(Debug)]
pub struct SupervisedRunner {
    state_dir: PathBuf,
    environment: Environment,
    silence: Duration,
    program: PathBuf,
    connections: tokio::sync::Mutex<HashMap<RunId, Arc<Connection>>>,
    notices: Mutex<HashMap<RunId, Arc<Notices>>>,
}

/// What is to be known of the supervisors of a run.
#[derive(Debug)]
struct Notices {
    tell: mpsc::UnboundedSender<String>,
    told: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

impl SupervisedRunner {
    /// A runner that keeps output, prompts and what its supervisors write under
    /// `<state_dir>/runs/<run>/`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            environment: Environment::inherited(&[]),
            silence: SILENCE,
            program: "/proc/self/exe".into(),
            connections: tokio::sync::Mutex::default(),
            notices: Mutex::default(),
        }
    }

    /// Sets how long an agent may do nothing before that is told. Default: 10 minutes.
    #[must_use]
    pub const fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Sets which variables of this process agents inherit, besides those that programs commonly
    /// need. A `*` at the end of a name stands for any rest.
    #[must_use]
    pub fn pass_env(mut self, names: &[String]) -> Self {
        self.environment = self.environment.passing(names);
        self
    }

    /// Sets what is taken out of output before it is written, besides the values of variables.
    #[must_use]
    pub fn redact(mut self, patterns: Patterns) -> Self {
        self.environment = self.environment.redact(patterns);
        self
    }

    /// Sets the program that supervises, which must call
    /// [`run_if_requested`](super::run_if_requested). Default: the one that runs.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    fn run_dir(&self, run: &RunId) -> PathBuf {
        self.state_dir.join("runs").join(run.as_str())
    }

    /// The supervisor of a run; where there is none, one is started if `start` is set.
    async fn connection(
        &self,
        run: &RunId,
        start: bool,
    ) -> Result<Option<Arc<Connection>>, RunnerError> {
        let mut connections = self.connections.lock().await;
        if let Some(connection) = connections.get(run).filter(|connection| !connection.is_lost()) {
            return Ok(Some(Arc::clone(connection)));
        }
        let run_dir = self.run_dir(run);
        let connection = self.reach(run, &run_dir, start).await.map_err(|source| {
            RunnerError::Io { doing: format!("reaching the supervisor of run {run}"), source }
        })?;
        if let Some(connection) = &connection {
            connections.insert(run.clone(), Arc::clone(connection));
        }
        Ok(connection)
    }

    fn notices(&self, run: &RunId) -> Arc<Notices> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let (tell, told) = mpsc::unbounded_channel();
            Arc::new(Notices { tell, told: tokio::sync::Mutex::new(told) })
        };
        Arc::clone(notices.entry(run.clone()).or_insert_with(new))
    }

    async fn reach(
        &self,
        run: &RunId,
        run_dir: &Path,
        start: bool,
    ) -> io::Result<Option<Arc<Connection>>> {
        let mut begun = Ok(());
        for _ in 0..ATTEMPTS {
            if let Some(stream) = socket::connect(&socket_path(run_dir)).await? {
                let pid = stream.peer_cred()?.pid();
                let open = Connection::open(
                    stream,
                    &self.environment,
                    self.silence,
                    self.notices(run).tell.clone(),
                );
                match timeout(ANSWER, open).await {
                    // It was about to end, for want of something to do.
                    Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    Ok(connection) => return connection.map(Some),
                    Err(_) => return Err(silent(pid)),
                }
            }
            if !start {
                return Ok(None);
            }
            begun = begin(&self.program, run_dir).await;
        }
        begun.and(Err(io::ErrorKind::NotConnected.into()))
    }
}

/// A supervisor is there and does not answer. It is not ended: its agents go on.
fn silent(pid: Option<i32>) -> io::Error {
    let pid = pid.map_or_else(|| "PID".into(), |pid| pid.to_string());
    let message = format!(
        "the supervisor (process {pid}) does not answer; if somebody stopped it, `kill -CONT {pid}` lets it go on"
    );
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Starts a supervisor and waits until it listens.
async fn begin(program: &Path, run_dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(run_dir)?;
    let mut command = Command::new(program);
    command
        .arg0(NAME_OF_SUPERVISOR)
        .arg(ARGUMENT)
        .arg(run_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = point!("supervisor::spawn", command.spawn())?;
    let said = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut said = BufReader::new(tokio::net::unix::pipe::Receiver::from_owned_fd(said.into())?);
    // Reaped when it ends; where this process ends first, somebody else does it.
    std::thread::Builder::new().name("orch-reaper".into()).spawn(move || child.wait())?;
    let mut line = String::new();
    timeout(BEGIN, said.read_line(&mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    match line.trim() {
        "ready" => Ok(()),
        "" => Err(io::Error::other(
            "it ended at once; does the program call `orch_exec::shim::run_if_requested`?",
        )),
        why => Err(io::Error::other(why.to_owned())),
    }
}

#[async_trait]
impl AgentRunner for SupervisedRunner {
    fn name(&self) -> &str {
        "supervised"
    }

    fn output(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<PathBuf> {
        logs::output_of(&self.state_dir, run, task, attempt)
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let launch = Box::new(Launch::of(&request, &self.state_dir)?);
        let gone = || RunnerError::Lost("its supervisor is gone".into());
        let connection = self.connection(&request.run, true).await?.ok_or_else(gone)?;
        let attempt = self.of(&request);
        let order = Order::Start(launch);
        if let Some(agent) = SupervisedAgent::take(&connection, attempt.clone(), order).await? {
            return Ok(Box::new(agent));
        }
        // It may have been started all the same, and would work beside the next attempt.
        match attempt.without_supervisor().await? {
            Left::Ended(exit) => Ok(Box::new(Finished(*exit))),
            Left::Unknown(known) => Err(RunnerError::Lost(known)),
            Left::Gone => Err(gone()),
        }
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        let attempt = Attempted { run_dir: self.run_dir(&request.run), request };
        if let Some(connection) = self.connection(&attempt.request.run, false).await?
            && let Some(agent) =
                SupervisedAgent::take(&connection, attempt.clone(), Order::Adopt).await?
        {
            return Ok(Adopted::Agent(Box::new(agent)));
        }
        Ok(match attempt.without_supervisor().await? {
            Left::Ended(exit) => Adopted::Agent(Box::new(Finished(*exit))),
            Left::Gone => Adopted::Gone,
            Left::Unknown(known) => Adopted::Unknown { known },
        })
    }

    async fn guardian(&self, run: &RunId) -> Result<Option<AgentIdentity>, RunnerError> {
        let connection = self.connection(run, true).await?;
        Ok(connection.and_then(|connection| identity::of(connection.supervisor())))
    }

    fn is_of_earlier_boot(&self, agent: &AgentIdentity) -> bool {
        identity::is_of_earlier_boot(agent)
    }

    async fn notice(&self, run: &RunId) -> String {
        let notices = self.notices(run);
        let mut told = notices.told.lock().await;
        match told.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    async fn finish(&self, run: &RunId) {
        let connection = self.connections.lock().await.remove(run);
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
        let Some(supervisor) = connection.map(|connection| connection.supervisor()) else { return };
        // One that is killed in this moment leaves a control group, and nobody takes the run up to see to that.
        if leftovers::ends_within(supervisor, END).await
            && let Err(error) = cgroup::sweep(&self.run_dir(run)).await
        {
            tracing::warn!(%error, "a control group of the run is left");
        }
    }
}

impl SupervisedRunner {
    fn of(&self, request: &AgentRequest) -> Attempted {
        let request = AdoptRequest {
            run: request.run.clone(),
            task: request.task.clone(),
            attempt: request.attempt,
            purpose: request.purpose,
            identity: None,
        };
        Attempted { run_dir: self.run_dir(&request.run), request }
    }
}
