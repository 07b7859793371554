//! The supervisor of a run: starts agents, takes their output, writes down how they ended.
//!
//! It is in a session of its own, so that no signal of the orchestrator's terminal reaches it, and
//! the *child subreaper*: what agents leave behind becomes its child and is ended with them. It ends
//! when it has no agent and no orchestrator, or is asked to by SIGTERM.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use orch_faults::{planted, point};
use orch_model::{Span, Timestamp, outcome::Failure, ports::RunnerError};
use rustix::process::{
    Resource, Signal, getpid, getrlimit, set_child_subreaper, setrlimit, setsid,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Notify, mpsc},
};

use super::{
    processes::{self, HEARTBEAT, PROCESSES_VERSION, Process, Processes, Watch},
    protocol::{Answer, Hello, Key, Order, Reply, Request, VERSION, Welcome},
    record::{Entry, Fact, RECORD_VERSION, Record},
};
use crate::{
    process::{
        budget::Budget,
        cgroup::{self, Cgroups},
        child::ChildGroup,
        environment::Environment,
        identity,
        launch::Launch,
        orphans::Orphanage,
        redact::Redactor,
    },
    socket,
};

/// How long it waits for its first orchestrator.
const LONELY: Duration = Duration::from_secs(10);

/// The shortest time between two looks.
const LEAST: Duration = Duration::from_millis(100);

/// How often the list of processes is written, at most.
const PROCESSES_EVERY: Duration = Duration::from_secs(1);

/// How long agents have to end when the supervisor is asked to end, or where they were silent for too long.
const GRACE: Duration = Duration::from_secs(5);

/// The program of a supervisor; gives its exit code.
pub(super) fn main(run_dir: &Path) -> i32 {
    let run = || -> io::Result<()> {
        // A leader of a group can't make a session; it is one where it was started by hand.
        let _ = setsid();
        if !planted("no-subreaper") {
            set_child_subreaper(Some(getpid()))?;
        }
        raise_file_limit();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(supervise(run_dir));
        runtime.shutdown_background();
        result
    };
    match run() {
        Ok(()) => 0,
        Err(error) => {
            // The orchestrator that started it reads this.
            let _ = io::Write::write_all(&mut io::stdout(), format!("{error}\n").as_bytes());
            1
        }
    }
}

/// Each agent takes two descriptors, and the usual soft limit is 1,024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

async fn supervise(run_dir: &Path) -> io::Result<()> {
    // Held for its whole life: there is one supervisor per run.
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(run_dir.join("supervisor.lock"))?;
    lock.try_lock().map_err(|_| io::Error::other("the run has a supervisor already"))?;
    let path = super::client::socket_path(run_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_folder, short) = socket::address(&path)?;
    let listener = point!("supervisor::socket.bind", UnixListener::bind(short))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let orphanage = Arc::new(Orphanage::open()?);
    tokio::spawn(Arc::clone(&orphanage).reap());
    // Nobody takes up what the supervisor before this one had there.
    if let Err(error) = cgroup::sweep(run_dir).await {
        tracing::warn!(%error, "a control group of the run is left");
    }
    let agents = Arc::new(Agents {
        run_dir: run_dir.to_owned(),
        silence: Mutex::new(Duration::MAX),
        changed: Notify::new(),
        table: Mutex::new(HashMap::new()),
        record: Mutex::new(Record::open(run_dir)?),
        orphanage: Arc::clone(&orphanage),
        budget: OnceLock::new(),
        cgroups: OnceLock::new(),
    });
    // The orchestrator that started it waits for this line.
    tokio::io::stdout().write_all(b"ready\n").await?;
    let heart = tokio::spawn(Arc::clone(&agents).beat());
    serve(&listener, &agents).await;
    heart.abort();
    agents.look();
    if let Some(Some(cgroups)) = agents.cgroups.get() {
        cgroups.close();
    }
    let _ = fs::remove_file(&path);
    Ok(())
}

/// Serves orchestrators, one after the other, until nobody needs it any more.
async fn serve(listener: &UnixListener, agents: &Arc<Agents>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut served = false;
    let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        return;
    };
    loop {
        let alone = connections.is_empty();
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                served = true;
                connections.spawn(talk(stream, Arc::clone(agents)));
            },
            Some(_) = connections.join_next(), if !alone => {}
            // How agents ended is written down: nobody has to be there to tell it.
            () = agents.all_ended(), if alone && served => return,
            () = tokio::time::sleep(LONELY), if !served => return,
            _ = terminate.recv() => {
                agents.end_all().await;
                return;
            }
        }
    }
}

/// Serves one orchestrator until it is gone.
async fn talk(stream: UnixStream, agents: Arc<Agents>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let Some(Hello { environment, silence_ms, .. }) = greet(&mut read, &mut write).await else {
        return;
    };
    *agents.silence.lock().unwrap_or_else(PoisonError::into_inner) =
        Duration::from_millis(silence_ms);
    let (replies, outbox) = mpsc::unbounded_channel();
    let writing = tokio::spawn(write_out(write, outbox));
    while let Ok(Some(line)) = socket::read_line(&mut read).await {
        let Ok(request) = serde_json::from_slice::<Request>(&line) else { break };
        agents.take(request, &environment, &replies);
    }
    // What ends from now on is told to the next one.
    writing.abort();
}

async fn greet(
    read: &mut (impl tokio::io::AsyncBufRead + Unpin),
    write: &mut OwnedWriteHalf,
) -> Option<Hello> {
    let line = socket::read_line(read).await.ok()??;
    let hello = serde_json::from_slice::<Hello>(&line).ok()?;
    let welcome = Welcome { version: VERSION, pid: std::process::id() };
    write.write_all(&socket::line(&welcome).ok()?).await.ok()?;
    (hello.version == VERSION).then_some(hello)
}

/// Writes replies, as many at once as there are.
async fn write_out(mut write: OwnedWriteHalf, mut outbox: mpsc::UnboundedReceiver<Reply>) {
    let mut replies = Vec::new();
    while outbox.recv_many(&mut replies, 64).await > 0 {
        let lines: io::Result<Vec<_>> =
            replies.drain(..).map(|reply| socket::line(&reply)).collect();
        let Ok(lines) = lines else { return };
        if write.write_all(&lines.concat()).await.is_err() {
            return;
        }
    }
}

type Replies = mpsc::UnboundedSender<Reply>;

/// The agents of the run.
#[derive(Debug)]
struct Agents {
    run_dir: PathBuf,
    silence: Mutex<Duration>,
    /// Told when an agent starts or ends.
    changed: Notify,
    table: Mutex<HashMap<Key, Agent>>,
    record: Mutex<Record>,
    orphanage: Arc<Orphanage>,
    /// What the output of the run may take, from the first agent on.
    budget: OnceLock<Arc<Budget>>,
    /// Where agents get control groups, from the first on that has a folder of its own.
    cgroups: OnceLock<Option<Cgroups>>,
}

#[derive(Debug)]
struct Agent {
    child: Arc<ChildGroup>,
    command: String,
    started: Timestamp,
    watch: Watch,
    /// How long it may do nothing.
    silence_timeout: Option<Duration>,
    /// It is being ended because it did nothing for so long.
    ended_after: Option<Duration>,
    /// Who hears of its end.
    listener: Replies,
    /// How it ended.
    exit: Option<Result<orch_model::outcome::AgentExit, String>>,
}

impl Agents {
    fn table(&self) -> MutexGuard<'_, HashMap<Key, Agent>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silence(&self) -> Duration {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &Key, fact: Fact) -> io::Result<()> {
        let boot_id = identity::boot_id().to_owned();
        let entry = Entry { v: RECORD_VERSION, at: now(), boot_id, key: key.clone(), fact };
        self.record.lock().unwrap_or_else(PoisonError::into_inner).write(&entry)
    }

    fn take(self: &Arc<Self>, request: Request, environment: &Environment, replies: &Replies) {
        let Request { seq, key, order } = request;
        let Some(key) = key else {
            return tell(replies, Reply::Answer { seq, answer: Answer::Done(None) });
        };
        let answer = match order {
            Order::Start(launch) => self.start(&key, &launch, environment, replies),
            Order::Adopt => self.adopt(&key, replies),
            Order::Stop { grace_ms } => {
                let child = self.table().get(&key).map(|agent| Arc::clone(&agent.child));
                let Some(child) = child else {
                    return tell(replies, Reply::Answer { seq, answer: Answer::Unknown });
                };
                let replies = replies.clone();
                tokio::spawn(async move {
                    let stopped = child.stop(Duration::from_millis(grace_ms)).await;
                    tell(&replies, Reply::Answer { seq, answer: answer_of(stopped) });
                });
                return;
            }
            Order::Age => match self.table().get(&key) {
                Some(agent) => Answer::Age(agent.child.age()),
                None => Answer::Unknown,
            },
            Order::Ping => Answer::Done(None),
            Order::Freeze => self.signal(&key, Signal::STOP),
            Order::Thaw => self.signal(&key, Signal::CONT),
            Order::Forget => {
                let forgotten = self.table().remove(&key);
                if let Some(Agent { child, exit: None, .. }) = forgotten {
                    tokio::spawn(async move { child.stop(Duration::ZERO).await });
                }
                return;
            }
        };
        tell(replies, Reply::Answer { seq, answer });
    }

    fn start(
        self: &Arc<Self>,
        key: &Key,
        launch: &Launch,
        environment: &Environment,
        replies: &Replies,
    ) -> Answer {
        if self.table().contains_key(key) {
            return self.adopt(key, replies);
        }
        let budget = self.budget.get_or_init(|| launch.budget().into());
        let (agents, told) = (Arc::clone(self), key.clone());
        let tell = move |message| agents.notice(&told, message);
        let orphanage = Some(&self.orphanage);
        let group = key.group();
        let cgroups = if launch.is_contained { self.cgroups() } else { None };
        let cgroups = cgroups.map(|cgroups| (cgroups, group.as_str()));
        let started = ChildGroup::start(launch, environment, orphanage, cgroups, budget, tell);
        let child = match started {
            Ok(child) => Arc::new(child),
            Err(error) => return Answer::Failed(error.into()),
        };
        let identity = child.identity().cloned();
        if let Err(source) = self.write(key, Fact::Started(identity.clone())) {
            // Nobody could take it up: it is not to run.
            let doing = "writing down what was started".into();
            return Answer::Failed(RunnerError::Io { doing, source }.into());
        }
        let agent = Agent {
            child: Arc::clone(&child),
            command: Redactor::new(environment, &launch.env).text(&launch.command()),
            started: now(),
            watch: Watch::new(),
            silence_timeout: launch.silence_timeout_ms.map(Duration::from_millis),
            ended_after: None,
            listener: replies.clone(),
            exit: None,
        };
        self.table().insert(key.clone(), agent);
        self.changed.notify_one();
        let (agents, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            let exit = child.wait().await.map_err(|error| error.to_string());
            drop(child);
            agents.ended(key, exit);
        });
        Answer::Done(identity)
    }

    fn cgroups(&self) -> Option<&Cgroups> {
        let open = || {
            let why = |why: &String| tracing::debug!(why, "agents get no control groups");
            Cgroups::open(&self.run_dir).inspect_err(why).ok()
        };
        self.cgroups.get_or_init(open).as_ref()
    }

    fn ended(&self, key: Key, mut exit: Result<orch_model::outcome::AgentExit, String>) {
        let ended_after = self.table().get(&key).and_then(|agent| agent.ended_after);
        if let (Ok(exit), Some(after)) = (&mut exit, ended_after) {
            exit.failure = Some(Failure::Silent { after: Span(after) });
        }
        if let Ok(exit) = &exit
            && !planted("end-not-recorded")
            && let Err(error) = self.write(&key, Fact::Ended(exit.clone()))
        {
            tracing::warn!(%error, "an end can't be written down");
        }
        self.changed.notify_one();
        if let Some(agent) = self.table().get_mut(&key) {
            agent.exit = Some(exit.clone());
            tell(&agent.listener, Reply::Ended { key, exit: Box::new(exit) });
        }
    }

    /// Tells what people should know of an agent.
    fn notice(&self, key: &Key, message: String) {
        if let Some(agent) = self.table().get(key) {
            tell(&agent.listener, Reply::Notice { key: key.clone(), message });
        }
    }

    fn adopt(&self, key: &Key, replies: &Replies) -> Answer {
        let mut table = self.table();
        let Some(agent) = table.get_mut(key) else { return Answer::Unknown };
        agent.listener = replies.clone();
        if let Some(exit) = &agent.exit {
            tell(replies, Reply::Ended { key: key.clone(), exit: Box::new(exit.clone()) });
        }
        Answer::Done(agent.child.identity().cloned())
    }

    fn signal(&self, key: &Key, signal: Signal) -> Answer {
        match self.table().get(key) {
            Some(agent) => answer_of(agent.child.signal(signal)),
            None => Answer::Unknown,
        }
    }

    /// Looks at the agents again and again.
    async fn beat(self: Arc<Self>) {
        loop {
            let works = self.table().values().any(|agent| agent.exit.is_none());
            // A short silence is met in time too.
            let shortest = self.table().values().filter_map(|agent| agent.silence_timeout).min();
            let shortest = shortest.unwrap_or(Duration::MAX).min(self.silence());
            let heartbeat = HEARTBEAT.min(shortest / 2).max(LEAST);
            let beat = async {
                if works {
                    tokio::time::sleep(heartbeat).await;
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = beat => {}
                () = self.changed.notified() => tokio::time::sleep(PROCESSES_EVERY).await,
            }
            self.look();
        }
    }

    /// Looks at the agents, writes down how they do, and tells who has become silent.
    fn look(&self) {
        let silence = self.silence();
        let (instant, at) = (std::time::Instant::now(), now());
        let mut list = Vec::new();
        let mut table = self.table();
        let at_work = table.values().filter(|agent| agent.exit.is_none());
        let leaders = at_work.filter_map(|agent| Some(agent.child.identity()?.pid));
        let seen = identity::use_by_group(leaders);
        for (key, agent) in &mut *table {
            if agent.exit.is_some() {
                continue;
            }
            let identity = agent.child.identity().cloned();
            let group = identity.as_ref().and_then(|identity| seen.get(&identity.pid));
            let group = group.copied().unwrap_or_default();
            let activity = agent.child.activity();
            let output = (activity.bytes(), activity.is_line_open());
            let (status, is_news) = agent.watch.look(group, output, (instant, at), silence);
            if is_news {
                let message = format!(
                    "it has printed nothing and computed nothing for {}; `orch logs {}` shows its \
                     output, `orch kill {}` ends it",
                    Span(silence),
                    key.task,
                    key.task
                );
                tell(&agent.listener, Reply::Notice { key: key.clone(), message });
            }
            let limit = agent.silence_timeout.filter(|limit| agent.watch.idle(instant) >= *limit);
            if let (Some(limit), None) = (limit, agent.ended_after) {
                agent.ended_after = Some(limit);
                let child = Arc::clone(&agent.child);
                tokio::spawn(async move {
                    if let Err(error) = child.stop(GRACE).await {
                        tracing::warn!(%error, "a silent agent can't be ended");
                    }
                });
            }
            list.push(Process {
                task: key.task.clone(),
                attempt: key.attempt,
                purpose: key.purpose,
                identity,
                command: agent.command.clone(),
                started: agent.started,
                last_output: agent.watch.last_output(),
                output_bytes: output.0,
                cpu_ms: processes::milliseconds(group.cpu_ticks),
                memory_bytes: processes::bytes(group.memory_pages),
                processes: group.processes,
                status,
            });
        }
        drop(table);
        list.sort_by(|a, b| a.task.cmp(&b.task));
        let processes = Processes {
            version: PROCESSES_VERSION,
            supervisor: std::process::id(),
            last_heartbeat: at,
            processes: list,
        };
        if let Err(error) = processes::write(&self.run_dir, &processes) {
            tracing::warn!(%error, "the list of processes can't be written");
        }
    }

    async fn all_ended(&self) {
        let children: Vec<_> =
            self.table().values().map(|agent| Arc::clone(&agent.child)).collect();
        for child in children {
            let _ = child.wait().await;
        }
    }

    async fn end_all(&self) {
        let children: Vec<_> =
            self.table().values().map(|agent| Arc::clone(&agent.child)).collect();
        let mut ending = tokio::task::JoinSet::new();
        for child in children {
            ending.spawn(async move { child.stop(GRACE).await });
        }
        while ending.join_next().await.is_some() {}
    }
}

fn tell(replies: &Replies, reply: Reply) {
    // Where the orchestrator is gone, the next one asks.
    let _ = replies.send(reply);
}

fn answer_of(result: Result<(), RunnerError>) -> Answer {
    match result {
        Ok(()) => Answer::Done(None),
        Err(error) => Answer::Failed(error.into()),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
