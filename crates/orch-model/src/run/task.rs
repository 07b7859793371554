//! The state of one task of a run.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    conflict::Conflict,
    event::{AgentIdentity, Place, TaskChange},
    id::{AgentName, TaskId},
    outcome::Failure,
    plan::AgentChoice,
    state::{Attempt, TaskState},
    time::{Span, Timestamp},
    transition::{self, IllegalTransition},
    usage::Usage,
};

/// The state of one task of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Its id.
    pub id: TaskId,
    /// Where it stands.
    #[serde(flatten)]
    pub state: TaskState,
    /// When it came to stand there.
    pub entered_at: Timestamp,
    /// How many attempts have begun.
    pub attempts: Attempt,
    /// How many of them count against its retries.
    pub charged: u32,
    /// How many failed by each class, [`Failure::class`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u32>,
    /// Why its last attempt failed, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Box<LastFailure>>,
    /// When its first agent was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Where its last attempt worked, where it has a place of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Place>>,
    /// Who was given its last attempt; `None` for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<AgentChoice>>,
    /// Agents that turned out not to be able to do it, and why: they are not started for it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfit: BTreeMap<AgentName, String>,
    /// The process of its last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentIdentity>,
    /// When the agent of its last attempt was started, until its end is recorded; later by the time for
    /// which it was frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_since: Option<Timestamp>,
    /// What all attempts used together, also those that failed, but for the agent that is at work.
    #[serde(default)]
    pub usage: Usage,
    /// What the agent that is at work used so far, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<Box<Usage>>,
    /// How long the agents of all attempts ran together, as far as their ends were seen.
    #[serde(default)]
    pub agent_time: Span,
}

/// Why an attempt failed, in short: what the next one is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// The attempt.
    pub attempt: Attempt,
    /// [`Failure::class`].
    pub class: String,
    /// What went wrong, in one line of at most 500 characters.
    pub message: String,
    /// Where it conflicted, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
    /// Where it worked, where it was only held up: the next attempt goes on there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Place>>,
}

impl LastFailure {
    const LONGEST: usize = 500;

    fn new(attempt: Attempt, failure: &Failure) -> Self {
        let message = failure.to_string();
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            attempt,
            class: failure.class().to_owned(),
            message: line.chars().take(Self::LONGEST).collect(),
            conflict: match failure {
                Failure::Conflict { files, hunks, .. } => {
                    Some(Conflict { files: files.clone(), hunks: hunks.clone() })
                }
                _ => None,
            },
            place: None,
        }
    }
}

/// One line: class and message.
impl fmt::Display for LastFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl TaskRun {
    /// What it used, with what its agent at work used so far.
    #[must_use]
    pub fn used(&self) -> Usage {
        let mut usage = self.usage;
        usage += self.in_flight.as_deref().copied().unwrap_or_default();
        usage
    }

    /// An agent is no longer at work: adds what it used to the rest, by its last word where its end tells
    /// nothing.
    fn settle(&mut self, usage: Option<Usage>) {
        let in_flight = self.in_flight.take().map(|usage| *usage);
        self.usage += usage.or(in_flight).unwrap_or_default();
    }

    pub(super) fn apply(
        &mut self,
        change: &TaskChange,
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let state = transition::next(&self.state, change)?;
        match change {
            TaskChange::Leased { attempt, by } => {
                self.settle(None);
                self.attempts = *attempt;
                self.by.clone_from(by);
                self.place = None;
                self.agent = None;
                self.agent_since = None;
            }
            TaskChange::Prepared { place } => self.place = Some(Box::new(place.clone())),
            TaskChange::Started { agent } => {
                self.started_at.get_or_insert(at);
                self.agent_since = Some(at);
                self.agent.clone_from(agent);
            }
            // Only once: an orchestrator that takes the attempt up may see the same end again.
            TaskChange::AgentEnded { usage, .. } => {
                if let Some(since) = self.agent_since.take() {
                    self.settle(*usage);
                    self.agent_time = Span(self.agent_time.0 + at.since(since));
                }
            }
            TaskChange::AgentUsed { usage } => self.in_flight = Some(Box::new(*usage)),
            TaskChange::ResolvingEnded { usage, .. } => self.settle(*usage),
            TaskChange::Retry { failure, .. } | TaskChange::Failed { failure } => {
                self.settle(None);
                // The same agent would end the same way again: another one is given the next attempt, which
                // the task can't help.
                let moves_on =
                    failure.policy().tries_fallback && matches!(change, TaskChange::Retry { .. });
                if moves_on && let Some(by) = &self.by {
                    self.unfit.insert(by.agent.clone(), failure.to_string());
                }
                self.charged += u32::from(failure.is_charged() && !moves_on);
                *self.failures.entry(failure.class().to_owned()).or_default() += 1;
                let mut last = LastFailure::new(self.attempts, failure);
                last.place = self.place.clone().filter(|_| failure.is_hold_up());
                self.last_failure = Some(Box::new(last));
            }
            _ => {}
        }
        if state.name() != self.state.name() {
            self.entered_at = at;
        }
        self.state = state;
        Ok(())
    }
}
