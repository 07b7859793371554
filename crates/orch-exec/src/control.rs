//! How other processes reach a running orchestrator: a Unix socket in the folder of its run that
//! only its owner may open. One line of JSON asks, one line of JSON answers.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use orch_faults::point;
use orch_model::{BudgetChange, Progress, RunId, TaskId};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use crate::{error::EngineError, orchestrator::Run, socket};

/// The version of the protocol.
pub const CONTROL_VERSION: u32 = 1;

/// How long an orchestrator that works may take to answer: it does so between two turns.
const ANSWER: Duration = Duration::from_secs(10);

/// What is asked of an orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Where does the run stand?
    Status,
    /// Start nothing new.
    Pause {
        /// Stop running agents too.
        freeze: bool,
    },
    /// Go on.
    Resume,
    /// Go on with other budgets.
    ResumeWith {
        /// Those.
        budgets: Vec<BudgetChange>,
    },
    /// Cancel a task, or everything.
    Cancel {
        /// The task.
        task: Option<TaskId>,
    },
    /// Cancel a task without grace for its agent.
    Kill {
        /// The task.
        task: TaskId,
    },
}

/// What an orchestrator answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Response {
    /// Where the run stands.
    Status {
        /// At this moment.
        progress: Box<Progress>,
    },
    /// It is done.
    Done {
        /// The run that it was done to.
        run: RunId,
    },
    /// It can't be done.
    Refused {
        /// Why.
        message: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// Where the socket of a run is.
#[must_use]
pub fn socket_path(state_dir: &Path, run: &RunId) -> PathBuf {
    state_dir.join("runs").join(run.as_str()).join(SOCKET)
}

const SOCKET: &str = "control.sock";

/// Answers requests for a run until it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    accepting: AbortHandle,
}

impl Server {
    /// Begins to answer. A socket that is there already was left behind by an orchestrator that
    /// died: `run` holds its journal, so no other one is alive.
    ///
    /// # Errors
    /// Where the socket can't be made.
    pub fn bind(state_dir: &Path, run: Run) -> Result<Self, EngineError> {
        let path = socket_path(state_dir, run.id());
        let failed = |source| EngineError::Io {
            doing: format!("making the control socket {}", path.display()),
            source,
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let (_folder, short) = socket::address(&path).map_err(failed)?;
        let listener = point!("control::bind", UnixListener::bind(short)).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let accepting = tokio::spawn(accept(listener, run)).abort_handle();
        Ok(Self { path, accepting })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, run: Run) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let run = run.clone();
                    connections.spawn(async move {
                        if let Err(error) = serve(stream, &run).await {
                            tracing::debug!(%error, "a control connection ended early");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, for one: it passes when a connection ends.
                    tracing::warn!(%error, "a control connection can't be accepted");
                    if connections.join_next().await.is_none() {
                        tokio::task::yield_now().await;
                    }
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve(stream: UnixStream, run: &Run) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(line) = socket::read_line(&mut stream).await? {
        let response = match serde_json::from_slice::<Envelope<Request>>(&line) {
            Ok(envelope) if envelope.version == CONTROL_VERSION => answer(envelope.body, run).await,
            Ok(envelope) => Response::Refused {
                message: format!(
                    "the orchestrator speaks version {CONTROL_VERSION}, and the request has \
                     version {}; use the same orch for both",
                    envelope.version
                ),
            },
            Err(error) => Response::Refused { message: format!("not a request: {error}") },
        };
        write_line(stream.get_mut(), response).await?;
    }
    Ok(())
}

async fn answer(request: Request, run: &Run) -> Response {
    let result = match request {
        Request::Status => {
            // After the end the last one stands.
            let progress = run.refresh_progress().await.unwrap_or_else(|_| run.progress());
            return Response::Status { progress: Box::new((*progress).clone()) };
        }
        Request::Pause { freeze: false } => run.pause().await,
        Request::Pause { freeze: true } => run.freeze().await,
        Request::Resume => run.resume().await,
        Request::ResumeWith { budgets } => run.resume_with(budgets).await,
        Request::Cancel { task: None } => run.cancel().await,
        Request::Cancel { task: Some(task) } => run.cancel_task(&task).await,
        Request::Kill { task } => run.kill_task(&task).await,
    };
    match result {
        Ok(()) => Response::Done { run: run.id().clone() },
        Err(error) => Response::Refused { message: error.to_string() },
    }
}

/// A connection to a running orchestrator.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the orchestrator that is at work on a run; `None` where none is.
    ///
    /// # Errors
    /// Where there is one that can't be reached.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn connect(state_dir: &Path, run: &RunId) -> Result<Option<Self>, EngineError> {
        let path = socket_path(state_dir, run);
        match socket::connect(&path).await {
            Ok(stream) => Ok(stream.map(|stream| Self { stream: BufReader::new(stream) })),
            Err(source) => {
                Err(EngineError::Io { doing: format!("connecting to {}", path.display()), source })
            }
        }
    }

    /// Asks and waits for the answer, for 10 s at most.
    ///
    /// # Errors
    /// [`EngineError::NoAnswer`] where none came in time: the orchestrator was stopped, and does what it was asked when it goes
    /// on; [`EngineError::Ended`] where it ended meanwhile; and where the connection breaks otherwise.
    ///
    /// # Cancel safety
    /// After a dropped call the client must not be used again.
    pub async fn request(&mut self, request: &Request) -> Result<Response, EngineError> {
        let exchange = async {
            write_line(self.stream.get_mut(), request).await?;
            let line = socket::read_line(&mut self.stream).await?;
            let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
            let envelope: Envelope<Response> = serde_json::from_slice(&line)?;
            Ok(envelope.body)
        };
        let outcome = timeout(ANSWER, exchange).await.map_err(|_| EngineError::NoAnswer)?;
        outcome.map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => EngineError::Ended,
            _ => EngineError::Io { doing: "asking the running orchestrator".into(), source },
        })
    }
}

async fn write_line(stream: &mut UnixStream, body: impl Serialize) -> io::Result<()> {
    let line = socket::line(&Envelope { version: CONTROL_VERSION, body })?;
    stream.write_all(&line).await
}
