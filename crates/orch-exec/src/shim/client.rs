//! [`SupervisedRunner`]: the orchestrator's side.

use std::{
    collections::HashMap,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    RunId,
    event::AgentIdentity,
    outcome::AgentExit,
    ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, RunnerError, RunningAgent},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    ARGUMENT,
    protocol::{Answer, Hello, Key, Order, Reply, Request, VERSION, Welcome},
    record::{self, Fact},
};
use crate::{
    process::{environment::Environment, launch::Launch, leftovers},
    socket,
};

/// How long a supervisor may take to begin.
const BEGIN: Duration = Duration::from_secs(30);

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
        self.environment = Environment::inherited(names);
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
        let connection = self.reach(&run_dir, start).await.map_err(|source| RunnerError::Io {
            doing: format!("reaching the supervisor of run {run}"),
            source,
        })?;
        if let Some(connection) = &connection {
            connections.insert(run.clone(), Arc::clone(connection));
        }
        Ok(connection)
    }

    async fn reach(&self, run_dir: &Path, start: bool) -> io::Result<Option<Arc<Connection>>> {
        let mut begun = Ok(());
        for _ in 0..ATTEMPTS {
            if let Some(stream) = connect(run_dir).await? {
                match Connection::open(stream, &self.environment, self.silence).await {
                    // It was about to end, for want of something to do.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    connection => return connection.map(Some),
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

async fn connect(run_dir: &Path) -> io::Result<Option<UnixStream>> {
    let path = socket_path(run_dir);
    let connect = async {
        let (_folder, short) = socket::address(&path)?;
        UnixStream::connect(short).await
    };
    match connect.await {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Starts a supervisor and waits until it listens.
async fn begin(program: &Path, run_dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(run_dir)?;
    let mut child = Command::new(program)
        .arg0("orch-supervisor")
        .arg(ARGUMENT)
        .arg(run_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
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

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let launch = Box::new(Launch::of(&request, &self.state_dir)?);
        let gone = || RunnerError::Lost("its supervisor is gone".into());
        let connection = self.connection(&request.run, true).await?.ok_or_else(gone)?;
        let agent = connection.take(self.of(&request), Order::Start(launch)).await?;
        agent.map(|agent| Box::new(agent) as _).ok_or_else(gone)
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        let attempt = Attempted { run_dir: self.run_dir(&request.run), request };
        if let Some(connection) = self.connection(&attempt.request.run, false).await?
            && let Some(agent) = connection.take(attempt.clone(), Order::Adopt).await?
        {
            return Ok(Adopted::Agent(Box::new(agent)));
        }
        Ok(match attempt.without_supervisor().await? {
            Left::Ended(exit) => Adopted::Agent(Box::new(Finished(exit))),
            Left::Gone => Adopted::Gone,
            Left::Unknown(known) => Adopted::Unknown { known },
        })
    }

    async fn finish(&self, run: &RunId) {
        self.connections.lock().await.remove(run);
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

/// An attempt, and where its supervisor writes.
#[derive(Debug, Clone)]
struct Attempted {
    run_dir: PathBuf,
    request: AdoptRequest,
}

/// What is left of an attempt whose supervisor is dead.
enum Left {
    Ended(AgentExit),
    Gone,
    Unknown(String),
}

impl Attempted {
    fn key(&self) -> Key {
        Key {
            task: self.request.task.clone(),
            attempt: self.request.attempt,
            purpose: self.request.purpose,
        }
    }

    /// Ends what still runs, and finds out how it had ended.
    async fn without_supervisor(&self) -> Result<Left, RunnerError> {
        let last = record::last(&self.run_dir, &self.key()).map_err(|source| RunnerError::Io {
            doing: "reading what the supervisor wrote down".into(),
            source,
        })?;
        let mut request = self.request.clone();
        let exit = match last {
            Some(Fact::Ended(exit)) => Some(exit),
            Some(Fact::Started(identity)) => {
                request.identity = request.identity.or(identity);
                None
            }
            None => None,
        };
        Ok(match (leftovers::end(&request).await?, exit) {
            (Adopted::Unknown { known }, _) => Left::Unknown(known),
            (_, Some(exit)) => Left::Ended(exit),
            _ => Left::Gone,
        })
    }
}

/// How an agent ended.
type Exit = Option<Result<AgentExit, String>>;

/// A connection to a supervisor.
#[derive(Debug)]
struct Connection {
    outbox: mpsc::UnboundedSender<Request>,
    seq: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
}

/// Where it is told what becomes of an agent.
#[derive(Debug)]
struct Listener {
    exit: watch::Sender<Exit>,
    notices: mpsc::UnboundedSender<String>,
}

/// Who waits for what the supervisor says.
#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    agents: HashMap<Key, Listener>,
    /// The connection is lost: nobody is told anything any more.
    lost: bool,
}

impl Connection {
    async fn open(
        stream: UnixStream,
        environment: &Environment,
        silence: Duration,
    ) -> io::Result<Arc<Self>> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let silence_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        let hello = Hello { version: VERSION, environment: environment.clone(), silence_ms };
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        write.write_all(&socket::line(&hello)?).await.map_err(|_| eof())?;
        let line = socket::read_line(&mut read).await.map_err(|_| eof())?.ok_or_else(eof)?;
        let welcome: Welcome = serde_json::from_slice(&line)?;
        if welcome.version != VERSION {
            return Err(io::Error::other(format!(
                "the supervisor (process {}) was started by another version of this program and \
                 speaks version {}, not {VERSION}; wait until its agents have ended",
                welcome.pid, welcome.version
            )));
        }
        let (outbox, mut orders) = mpsc::unbounded_channel::<Request>();
        let waiting = Arc::<Mutex<Waiting>>::default();
        tokio::spawn(listen(read, Arc::clone(&waiting)));
        tokio::spawn(async move {
            let mut requests = Vec::new();
            while orders.recv_many(&mut requests, 64).await > 0 {
                let lines: io::Result<Vec<_>> =
                    requests.drain(..).map(|request| socket::line(&request)).collect();
                let Ok(lines) = lines else { return };
                if write.write_all(&lines.concat()).await.is_err() {
                    return;
                }
            }
        });
        Ok(Arc::new(Self { outbox, seq: AtomicU64::new(0), waiting }))
    }

    fn is_lost(&self) -> bool {
        lock(&self.waiting).lost
    }

    /// Gives an order; `None` where the connection is lost before the answer.
    async fn ask(&self, key: Key, order: Order) -> Option<Answer> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.lost {
                return None;
            }
            waiting.answers.insert(seq, reply);
        }
        self.outbox.send(Request { seq, key, order }).ok()?;
        answer.await.ok()
    }

    /// Starts an agent or takes it up; `None` where there is none.
    async fn take(
        self: &Arc<Self>,
        attempt: Attempted,
        order: Order,
    ) -> Result<Option<SupervisedAgent>, RunnerError> {
        let key = attempt.key();
        let (ended, exit) = watch::channel(None);
        let (told, notices) = mpsc::unbounded_channel();
        let listener = Listener { exit: ended, notices: told };
        lock(&self.waiting).agents.insert(key.clone(), listener);
        // From here on, dropping it ends what was started.
        let mut agent = SupervisedAgent {
            connection: Arc::clone(self),
            key: key.clone(),
            attempt,
            identity: None,
            exit,
            notices: tokio::sync::Mutex::new(notices),
            is_known: true,
        };
        match self.ask(key, order).await {
            Some(Answer::Done(identity)) => {
                agent.identity = identity;
                Ok(Some(agent))
            }
            Some(Answer::Failed(refusal)) => {
                agent.is_known = false;
                Err(refusal.into())
            }
            Some(Answer::Unknown) | None => {
                agent.is_known = false;
                Ok(None)
            }
        }
    }
}

/// Passes on what the supervisor says, until it is gone.
async fn listen(mut read: BufReader<OwnedReadHalf>, waiting: Arc<Mutex<Waiting>>) {
    while let Ok(Some(line)) = socket::read_line(&mut read).await {
        let Ok(reply) = serde_json::from_slice::<Reply>(&line) else { break };
        let mut waiting = lock(&waiting);
        match reply {
            Reply::Answer { seq, answer } => {
                if let Some(reply) = waiting.answers.remove(&seq) {
                    let _ = reply.send(answer);
                }
            }
            Reply::Ended { key, exit } => {
                if let Some(listener) = waiting.agents.get(&key) {
                    listener.exit.send_replace(Some(exit));
                }
            }
            Reply::Notice { key, message } => {
                if let Some(listener) = waiting.agents.get(&key) {
                    let _ = listener.notices.send(message);
                }
            }
        }
    }
    *lock(&waiting) = Waiting { lost: true, ..Waiting::default() };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct SupervisedAgent {
    connection: Arc<Connection>,
    key: Key,
    attempt: Attempted,
    identity: Option<AgentIdentity>,
    exit: watch::Receiver<Exit>,
    notices: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    /// The supervisor has it.
    is_known: bool,
}

impl SupervisedAgent {
    async fn order(&self, order: Order) -> Result<(), RunnerError> {
        match self.connection.ask(self.key.clone(), order).await {
            Some(Answer::Failed(refusal)) => Err(refusal.into()),
            // Where the supervisor is gone, `wait` ends what it left.
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl RunningAgent for SupervisedAgent {
    fn identity(&self) -> Option<AgentIdentity> {
        self.identity.clone()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        let mut exit = self.exit.clone();
        if let Ok(exit) = exit.wait_for(Option::is_some).await
            && let Some(exit) = &*exit
        {
            return exit.clone().map_err(RunnerError::Lost);
        }
        match self.attempt.without_supervisor().await? {
            Left::Ended(exit) => Ok(exit),
            Left::Gone => Err(RunnerError::Lost("its supervisor was killed".into())),
            Left::Unknown(known) => Err(RunnerError::Lost(known)),
        }
    }

    async fn notice(&self) -> String {
        match self.notices.lock().await.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.order(Order::Stop { grace_ms }).await?;
        match self.wait().await {
            Err(RunnerError::Lost(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.order(Order::Freeze).await
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        self.order(Order::Thaw).await
    }
}

impl Drop for SupervisedAgent {
    fn drop(&mut self) {
        lock(&self.connection.waiting).agents.remove(&self.key);
        if self.is_known {
            let (seq, order) = (u64::MAX, Order::Forget);
            let _ = self.connection.outbox.send(Request { seq, key: self.key.clone(), order });
        }
    }
}

/// An agent whose end was written down.
#[derive(Debug)]
struct Finished(AgentExit);

#[async_trait]
impl RunningAgent for Finished {
    fn identity(&self) -> Option<AgentIdentity> {
        None
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        Ok(self.0.clone())
    }

    async fn stop(&self, _: Duration) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        Ok(())
    }
}
