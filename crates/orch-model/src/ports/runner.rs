//! `AgentRunner`: starts agents and commands.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BoxError, ModelPrice};
use crate::{
    event::AgentIdentity,
    id::{AgentName, RunId, TaskId},
    outcome::AgentExit,
    plan::{Agent, Work},
    prompt::PromptContext,
    size::ByteSize,
    state::Attempt,
    time::Timestamp,
    usage::Usage,
};

/// Starts agents and commands.
///
/// # Contract
/// - A started agent gets exactly the variables of [`AgentRequest::env`] on top of what the runner
///   lets through of its own environment, runs in [`AgentRequest::directory`], and finds its
///   standard input at its end (or the prompt, then the end).
/// - Run, task, attempt and purpose name an agent. The engine starts none twice, but for a verification
///   whose end nobody saw, once nothing of the first is left.
/// - What is asked of one purpose ([`AgentRunner::adopt`]) changes nothing for agents of another, but that asking for
///   the work may end what verifies it. The stock runners tell them apart by a variable of their own, `ORCH_PURPOSE`.
/// - An agent that ends without success is an [`AgentExit`], not an error.
/// - After [`RunningAgent::wait`] has returned, no process that belongs to the agent's group is left.
#[async_trait]
pub trait AgentRunner: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// Starts an agent.
    ///
    /// # Errors
    /// Where nothing was started.
    ///
    /// # Cancel safety
    /// A dropped future leaves no agent behind.
    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError>;

    /// Takes up what an earlier orchestrator, which is dead, started for an attempt. After
    /// [`Adopted::Gone`] none of its processes is left.
    ///
    /// # Errors
    /// Where that can't be found out yet, and a repetition may find it out.
    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError>;

    /// The file with the output of an attempt that has ended, where there is one: the next attempt is
    /// told of it.
    fn output(&self, _run: &RunId, _task: &TaskId, _attempt: Attempt) -> Option<PathBuf> {
        None
    }

    /// Which of these agents can't be started here, and why, with the cure: there is no such program, or it is
    /// too old. Asked at the beginning of a run; what it does not know of is there.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    async fn missing(&self, _agents: &BTreeMap<AgentName, Agent>) -> BTreeMap<AgentName, String> {
        BTreeMap::new()
    }

    /// What a model costs; `None` where that is not known.
    fn price(&self, _model: &str) -> Option<ModelPrice> {
        None
    }

    /// The process that agents are given into the hands of, started where there is none: it goes on
    /// with them where this process dies, and what they need has to last as long. `None`: they end
    /// with this process.
    ///
    /// # Errors
    /// Where it can't be started.
    async fn guardian(&self, _run: &RunId) -> Result<Option<AgentIdentity>, RunnerError> {
        Ok(None)
    }

    /// Whether the machine was started again since this agent was: what it wrote last may be lost, in part
    /// or altogether, however well it ended.
    fn is_of_earlier_boot(&self, _agent: &AgentIdentity) -> bool {
        false
    }

    /// Waits for something that people should know of how the agents of a run are looked after, as opposed to
    /// one of them; for ever where there is nothing. Called by one at a time for a run.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    async fn notice(&self, _run: &RunId) -> String {
        std::future::pending().await
    }

    /// Told at the end of a run: nothing more will be started for it.
    async fn finish(&self, _run: &RunId) {}
}

/// What an earlier orchestrator started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptRequest {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// What it was started for.
    pub purpose: Purpose,
    /// The process, where that was recorded.
    pub identity: Option<AgentIdentity>,
}

/// What became of an agent whose orchestrator died.
#[derive(Debug)]
#[non_exhaustive]
pub enum Adopted {
    /// It runs, or has ended meanwhile: [`RunningAgent::wait`] tells.
    Agent(Box<dyn RunningAgent>),
    /// It was never started, or its end was not observed; nothing of it runs any more.
    Gone,
    /// It can't be known, or it runs and can't be ended.
    Unknown {
        /// What is known, for people.
        known: String,
    },
}

/// An agent that was started. Dropping it kills what is left of it.
#[async_trait]
pub trait RunningAgent: Debug + Send + Sync {
    /// Which process it is; `None` where the runner has no process.
    fn identity(&self) -> Option<AgentIdentity>;

    /// Waits until it has ended and nothing of its group is left.
    ///
    /// # Errors
    /// Where its end can't be observed.
    ///
    /// # Cancel safety
    /// May be dropped and called again; after the end it gives the same answer each time.
    async fn wait(&self) -> Result<AgentExit, RunnerError>;

    /// Waits for something that should be known of it while it runs; for ever where there is nothing.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    async fn notice(&self) -> AgentNotice {
        std::future::pending().await
    }

    /// Ends it: asks it politely, waits for `grace`, then kills its whole group. Returns when
    /// nothing is left. May be called again with a shorter grace while an earlier call waits.
    ///
    /// How it ended then says [`Failure::Interrupted`], whatever its status: an orchestrator that takes
    /// it up later and can't know why it was ended does not blame the task.
    ///
    /// [`Failure::Interrupted`]: crate::outcome::Failure::Interrupted
    ///
    /// # Errors
    /// Where it can't be ended.
    ///
    /// # Cancel safety
    /// A dropped call has asked politely, and has not killed unless the grace was over.
    async fn stop(&self, grace: Duration) -> Result<(), RunnerError>;

    /// Stops its processes without ending them.
    ///
    /// # Errors
    /// Where that is not possible.
    async fn freeze(&self) -> Result<(), RunnerError>;

    /// Lets its processes go on after [`RunningAgent::freeze`].
    ///
    /// # Errors
    /// Where that is not possible.
    async fn thaw(&self) -> Result<(), RunnerError>;

    /// For how long it has worked, without the time for which it was frozen. `None` where that is not known to whoever
    /// looks after it: then an orchestrator that takes it up goes by its journal, in which the time for which it stood still
    /// while nobody was there is missing.
    async fn age(&self) -> Option<Duration> {
        None
    }
}

/// What is seen of an agent while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentNotice {
    /// Something that people should know.
    Warning(String),
    /// What it used so far in this attempt, where that has become more.
    Used(Usage),
    /// Whoever it asks has answered, for the first time or again after a limit.
    Answered,
    /// What it needs a person for, who would have to act; `None`: it goes on after all.
    Waiting(Option<String>),
    /// Whoever it asks takes no more requests for now. It waits, or is ended for that.
    RateLimited {
        /// From when on requests are taken again, where that is known.
        reset: Option<Timestamp>,
        /// What was said.
        message: String,
    },
}

/// What an agent is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRequest {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// Whether this is the task's work or a verification of it.
    pub purpose: Purpose,
    /// What is to be done.
    pub work: Work,
    /// How the plan says that the agent is called; `None` for a command.
    pub agent: Option<Agent>,
    /// What the agent can be told beside the prompt of [`AgentRequest::work`]; `None` for a command. A
    /// runner that makes nothing of it gives the agent that prompt.
    pub context: Option<Box<PromptContext>>,
    /// Where it runs.
    pub directory: PathBuf,
    /// The top folder of the user's repository.
    pub repository: PathBuf,
    /// Variables on top of what the runner lets through.
    pub env: BTreeMap<String, String>,
    /// How long it may do nothing before the runner ends it, with [`Failure::Silent`] as the
    /// [`AgentExit::failure`]; `None`: for ever. A runner that can't see that ignores it.
    ///
    /// [`Failure::Silent`]: crate::outcome::Failure::Silent
    pub silence_timeout: Option<Duration>,
    /// How much of its output is kept; beyond it the middle is cut.
    pub max_output: ByteSize,
    /// How much output of all agents of the run is kept together; beyond it the runner keeps little of
    /// each.
    pub max_total_output: ByteSize,
}

/// What an agent is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// The task's work.
    Work,
    /// A verification of it.
    Verify {
        /// Which of the task's verification commands, from 0.
        index: usize,
    },
    /// The resolution of conflicts of its work.
    Resolve {
        /// How often it was for this attempt, from 1.
        round: u32,
    },
    /// A verification of that.
    VerifyResolved {
        /// As in [`Purpose::Resolve`].
        round: u32,
        /// Which of the task's verification commands, from 0.
        index: usize,
    },
    /// A verification of what merging the task, perhaps with others before it, gives.
    Candidate {
        /// Which candidate of the run, from 1.
        number: u64,
        /// Which of the plan's commands for that, from 0.
        index: usize,
    },
}

/// Short, for the names of files and for `ORCH_PURPOSE`: `work`, `verify-0`, `resolve-1`, `resolve-1-0` (a verification
/// of the first resolution), `merge-3-0` (one of the third candidate).
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work => f.write_str("work"),
            Self::Verify { index } => write!(f, "verify-{index}"),
            Self::Resolve { round } => write!(f, "resolve-{round}"),
            Self::VerifyResolved { round, index } => write!(f, "resolve-{round}-{index}"),
            Self::Candidate { number, index } => write!(f, "merge-{number}-{index}"),
        }
    }
}

impl Purpose {
    /// The name of what is kept of an agent with this purpose: `TASK.ATTEMPT` for the work itself,
    /// `TASK.ATTEMPT.PURPOSE` otherwise.
    #[must_use]
    pub fn name(self, task: &TaskId, attempt: Attempt) -> String {
        match self {
            Self::Work => format!("{task}.{attempt}"),
            _ => format!("{task}.{attempt}.{self}"),
        }
    }
}

/// Why an agent could not be started or watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The program does not exist or may not be executed.
    #[error("can't start `{program}`: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// What watched the agent is gone, and so is the agent; how it ended is not known.
    #[error("{0}")]
    Lost(String),
    /// The request itself can't be carried out, and a repetition would end the same way.
    #[error("{0}")]
    Unsupported(String),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error of a foreign implementation.
    #[error(transparent)]
    Other {
        /// The error.
        source: BoxError,
    },
}
