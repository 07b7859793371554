//! Who may be given a task, and why.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{Agent, Complexity, Detection, Task, Work};
use crate::{
    id::AgentName,
    ports::{ModelOffer, ModelRecords, ModelRequest, ModelSelector},
};

/// An agent that may be given a task, and the model that the plan names for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The agent, one of [`super::ValidPlan::agents`].
    pub agent: AgentName,
    /// The model; `None`: it is the agent's own business, or that of a
    /// [`ModelSelector`](crate::ports::ModelSelector).
    pub model: Option<String>,
}

/// The agent, with its model in brackets.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.agent, self.model.as_deref())
    }
}

/// Why a task has the agent that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentOrigin {
    /// The task names it.
    Task,
    /// Its epic does.
    Epic,
    /// `[defaults]` does.
    Defaults,
    /// Nothing names one, and the description of the task speaks for it.
    Detected(Detection),
    /// Nothing names one, and there is no other.
    Only,
}

/// One clause: "named by the task".
impl fmt::Display for AgentOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task => f.write_str("named by the task"),
            Self::Epic => f.write_str("named by its epic"),
            Self::Defaults => f.write_str("named by `[defaults]`"),
            Self::Detected(detection) => detection.fmt(f),
            Self::Only => f.write_str("the only agent of the plan"),
        }
    }
}

/// What bears on who does a task that gives a prompt; the agent that comes first stands in [`Work::Prompt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Why it has its agent.
    pub origin: AgentOrigin,
    /// Who does it where that one can't, in this order.
    pub fallbacks: Vec<Candidate>,
    /// What kind of task it is: the agent for which its description speaks most, be it in the plan or not.
    pub kind: Option<AgentName>,
    /// How much it asks of a model.
    pub complexity: Complexity,
    /// Whether the plan says that it must not be spoilt by too small a model.
    pub critical: bool,
}

impl Task {
    /// Who may be given its prompt, the agent that comes first at the front; nobody, for a command.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        let first = match &self.work {
            Work::Prompt { agent, model, .. } => {
                Some(Candidate { agent: agent.clone(), model: model.clone() })
            }
            Work::Command(_) => None,
        };
        let fallbacks = self.assignment.iter().flat_map(|assignment| &assignment.fallbacks);
        first.into_iter().chain(fallbacks.cloned())
    }

    /// Who is given its first attempt where all agents are there, nothing is limited and nothing is known of
    /// earlier runs; `None` for a command. `agents` are those of its plan.
    #[must_use]
    pub fn first_choice(
        &self,
        agents: &BTreeMap<AgentName, Agent>,
        selector: &dyn ModelSelector,
    ) -> Option<AgentChoice> {
        let assignment = self.assignment.as_deref()?;
        let Candidate { agent, model } = self.candidates().next()?;
        let mut reason = assignment.origin.to_string();
        let called = agents.get(&agent)?;
        let model = model.or_else(|| {
            let offers = ModelOffer::of(called, |_| None);
            let records = ModelRecords::default();
            let request = ModelRequest::new(&agent, called, assignment, (&offers, &records));
            let choice = selector.select(&request)?;
            reason = format!("{reason}; {}", choice.why());
            Some(choice.model)
        });
        Some(AgentChoice { agent, model, is_fallback: false, reason })
    }
}

/// Who was given an attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentChoice {
    /// The agent.
    pub agent: AgentName,
    /// The model that it was told to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it stands in for another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_fallback: bool,
    /// Why, in one line.
    pub reason: String,
}

impl AgentChoice {
    /// A task's work for this agent. A command stays as it is.
    #[must_use]
    pub fn of(&self, work: Work) -> Work {
        match work {
            Work::Prompt { prompt, .. } => {
                Work::Prompt { agent: self.agent.clone(), prompt, model: self.model.clone() }
            }
            work @ Work::Command(_) => work,
        }
    }
}

/// The agent, with its model in brackets.
impl fmt::Display for AgentChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.agent, self.model.as_deref())
    }
}

fn show(f: &mut fmt::Formatter<'_>, agent: &AgentName, model: Option<&str>) -> fmt::Result {
    match model {
        Some(model) => write!(f, "{agent} ({model})"),
        None => f.write_str(agent.as_str()),
    }
}
