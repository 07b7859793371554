//! One time that an agent, or a command, was at work.

use std::{fmt, str::FromStr};

use orch_model::{RunId, Span, TaskId, Timestamp, state::Attempt, usage::Usage};
use serde::{Deserialize, Serialize};

use orch_model::DomainName;

/// What an attempt of an agent or a command came to. Run, task, attempt and part name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// What it did for the attempt.
    pub part: Part,
    /// The name of the agent in its plan; `None` for a command.
    pub agent: Option<String>,
    /// The kind of agent, as plans write it; `command` for commands too.
    pub kind: String,
    /// The model that answered, else the one that was asked for.
    pub model: Option<String>,
    /// What the task was about.
    pub domain: DomainName,
    /// What came of it.
    pub status: SessionStatus,
    /// The class of the failure, where it failed; see [`orch_model::outcome::Failure::class`].
    pub class: Option<String>,
    /// A failure that counts against the task; others (a limit of the service, a crash of the
    /// orchestrator) say nothing of the agent.
    pub charged: bool,
    /// When it got its slot.
    pub began_at: Timestamp,
    /// When its agent was started.
    pub started_at: Option<Timestamp>,
    /// When it was over, with what followed (verification, merge).
    pub ended_at: Option<Timestamp>,
    /// How long its agent ran, as far as its end was seen.
    pub agent_time: Option<Span>,
    /// How many messages the agent wrote, its thoughts not counted; 0 for commands.
    pub messages: u64,
    /// How many tools it called.
    pub tool_calls: u64,
    /// The agent's own name of the session, which may span several attempts.
    pub session: Option<String>,
    /// What it used in this attempt alone; `None` where nobody says.
    pub usage: Option<Usage>,
}

impl Session {
    /// From the start of the agent to the end of the attempt: what a dependent task waits for.
    #[must_use]
    pub fn duration(&self) -> Option<std::time::Duration> {
        Some(self.ended_at?.since(self.started_at?))
    }

    /// Whether it says something of how well its agent works, and what: `Some(true)` for work that was
    /// taken over, `Some(false)` for a failure of its own.
    #[must_use]
    pub const fn verdict(&self) -> Option<bool> {
        match self.status {
            SessionStatus::Succeeded => Some(true),
            SessionStatus::Failed if self.charged => Some(false),
            _ => None,
        }
    }

    /// Who worked, as statistics count it: the kind of a coding agent; the name of an agent that the plan
    /// describes itself; `command` for commands.
    #[must_use]
    pub fn who(&self) -> &str {
        match &self.agent {
            Some(agent) if self.kind == "command" => agent,
            _ => &self.kind,
        }
    }
}

/// What an agent did for an attempt; written `work`, `resolve-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Part {
    /// The task's work.
    Work,
    /// Resolved conflicts of that, for the time with this number, from 1.
    Resolve(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work => f.pad("work"),
            Self::Resolve(round) => write!(f, "resolve-{round}"),
        }
    }
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "work" {
            return Ok(Self::Work);
        }
        let round = text.strip_prefix("resolve-").and_then(|round| round.parse().ok());
        round.map(Self::Resolve).ok_or_else(|| format!("`{text}` is no part of an attempt"))
    }
}

impl TryFrom<String> for Part {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.to_string()
    }
}

/// What came of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionStatus {
    /// It goes on, or its orchestrator was killed and the run not resumed.
    Open,
    /// Its work was taken over.
    Succeeded,
    /// Its work was good and could not be merged.
    Conflicted,
    /// It failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// What became of it can't be known.
    Lost,
}

impl SessionStatus {
    const ALL: [Self; 6] =
        [Self::Open, Self::Succeeded, Self::Conflicted, Self::Failed, Self::Cancelled, Self::Lost];

    /// The name, as stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Succeeded => "succeeded",
            Self::Conflicted => "conflicted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

impl FromStr for SessionStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.name() == text);
        found.ok_or_else(|| format!("`{text}` is no status of a session"))
    }
}
