//! An orchestrator's connection to the supervisor of a run.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use orch_model::outcome::AgentExit;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::{mpsc, oneshot, watch},
};

use super::{
    heartbeat,
    protocol::{Answer, Hello, Key, Order, Reply, Request, VERSION, Welcome},
};
use crate::{process::environment::Environment, socket};

/// How an agent ended.
pub(super) type Exit = Option<Result<AgentExit, String>>;

/// A connection to a supervisor.
#[derive(Debug)]
pub(super) struct Connection {
    /// The supervisor's process.
    supervisor: u32,
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
    pub(super) async fn open(
        stream: UnixStream,
        environment: &Environment,
        silence: Duration,
        tell: mpsc::UnboundedSender<String>,
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
        let supervisor = welcome.pid;
        let connection = Arc::new(Self { supervisor, outbox, seq: AtomicU64::new(0), waiting });
        tokio::spawn(heartbeat::beat(Arc::downgrade(&connection), tell));
        Ok(connection)
    }

    pub(super) const fn supervisor(&self) -> u32 {
        self.supervisor
    }

    pub(super) fn is_lost(&self) -> bool {
        lock(&self.waiting).lost
    }

    /// Whether somebody waits for something that the supervisor will say.
    pub(super) fn is_awaited(&self) -> bool {
        let waiting = lock(&self.waiting);
        !(waiting.agents.is_empty() && waiting.answers.is_empty())
    }

    /// Asks whether it is there; `None` where the connection is lost before the answer.
    pub(super) async fn ping(&self) -> Option<Answer> {
        self.request(None, Order::Ping).await
    }

    /// Gives an order; `None` where the connection is lost before the answer.
    pub(super) async fn ask(&self, key: Key, order: Order) -> Option<Answer> {
        self.request(Some(key), order).await
    }

    async fn request(&self, key: Option<Key>, order: Order) -> Option<Answer> {
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

    /// Hears from now on how an agent ended, and what is to be known of it.
    pub(super) fn listen(
        &self,
        key: Key,
    ) -> (watch::Receiver<Exit>, mpsc::UnboundedReceiver<String>) {
        let (ended, exit) = watch::channel(None);
        let (told, notices) = mpsc::unbounded_channel();
        lock(&self.waiting).agents.insert(key, Listener { exit: ended, notices: told });
        (exit, notices)
    }

    /// Hears no more of an agent, and has the supervisor forget it where that has it.
    pub(super) fn forget(&self, key: &Key, is_known: bool) {
        lock(&self.waiting).agents.remove(key);
        if is_known {
            let (seq, order) = (u64::MAX, Order::Forget);
            let _ = self.outbox.send(Request { seq, key: Some(key.clone()), order });
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
                    listener.exit.send_replace(Some(*exit));
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
