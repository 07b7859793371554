//! What an orchestrator and the supervisor of a run say to one another: lines of JSON.

use std::time::Duration;

use orch_model::{
    TaskId,
    event::AgentIdentity,
    outcome::AgentExit,
    ports::{Purpose, RunnerError},
    state::Attempt,
};
use serde::{Deserialize, Serialize};

use crate::process::{environment::Environment, launch::Launch};

/// The version of the protocol.
pub(super) const VERSION: u32 = 3;

/// The name of an agent within its run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) purpose: Purpose,
}

impl Key {
    /// What the control group of the agent is called.
    pub(super) fn group(&self) -> String {
        self.purpose.name(&self.task, self.attempt)
    }
}

/// A message to the supervisor; `seq` numbers those that are answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) seq: u64,
    /// The agent that it is about; `None` with [`Order::Ping`] only.
    pub(super) key: Option<Key>,
    pub(super) order: Order,
}

/// What the supervisor is to do with an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Start it. Repeated for one that was started, it changes nothing.
    Start(Box<Launch>),
    /// Tell how it ended when it has, to this connection from now on.
    Adopt,
    /// End it; the answer comes when nothing of it is left.
    Stop {
        grace_ms: u64,
    },
    Freeze,
    Thaw,
    /// Forget how it ended; end it where it has not.
    Forget,
    /// Say for how long it has worked.
    Age,
    /// Answer.
    Ping,
}

/// A message from the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// To a request.
    Answer { seq: u64, answer: Answer },
    /// Something that people should know of an agent.
    Notice { key: Key, message: String },
    /// An agent has ended.
    Ended { key: Key, exit: Box<Result<AgentExit, String>> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It is done; for an agent that was started or taken up, with its process.
    Done(Option<AgentIdentity>),
    /// For how long it has worked, without the time for which it was frozen.
    Age(Duration),
    /// There is no such agent.
    Unknown,
    Failed(Refusal),
}

/// A [`RunnerError`] on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refusal {
    Spawn { program: String, error: Errno },
    Io { doing: String, error: Errno },
    Other(String),
}

/// A [`std::io::Error`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Errno {
    code: Option<i32>,
    text: String,
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self { code: error.raw_os_error(), text: error.to_string() }
    }
}

impl From<Errno> for std::io::Error {
    fn from(error: Errno) -> Self {
        error.code.map_or_else(|| Self::other(error.text), Self::from_raw_os_error)
    }
}

impl From<RunnerError> for Refusal {
    fn from(error: RunnerError) -> Self {
        match error {
            RunnerError::Spawn { program, source } => Self::Spawn { program, error: source.into() },
            RunnerError::Io { doing, source } => Self::Io { doing, error: source.into() },
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<Refusal> for RunnerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Spawn { program, error } => Self::Spawn { program, source: error.into() },
            Refusal::Io { doing, error } => Self::Io { doing, source: error.into() },
            Refusal::Other(message) => Self::Unsupported(message),
        }
    }
}

/// The first line of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// What the agents that are started over this connection inherit.
    pub(super) environment: Environment,
    /// How long an agent may do nothing before that is told.
    pub(super) silence_ms: u64,
}

/// The supervisor's answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) version: u32,
    pub(super) pid: u32,
}
