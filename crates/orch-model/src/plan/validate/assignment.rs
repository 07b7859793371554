//! Who is given the prompt of a task: what the task, its epic and `[defaults]` name, else what its
//! description speaks for.

use super::Checker;
use crate::{
    id::AgentName,
    plan::{
        AgentOrigin, Assignment, Candidate, Complexity, complexity::Described, detect::Pattern,
        path::Path, problem::Finding, spec::TaskSpec,
    },
};

/// What a task, an epic or `[defaults]` says of agents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) agent: Option<&'a AgentName>,
    pub(super) fallbacks: Option<&'a Vec<AgentName>>,
    pub(super) model: Option<&'a String>,
}

impl<'a> Checker<'a> {
    /// Checks what one place says.
    pub(super) fn named(&mut self, named: Named<'_>, path: &Path) {
        if let Some(agent) = named.agent {
            self.agent_exists(agent, &path.then("agent"));
        }
        if let Some(model) = named.model {
            self.text(model, "model", path);
        }
        let fallbacks = named.fallbacks.map_or(&[][..], Vec::as_slice);
        for (at, fallback) in fallbacks.iter().enumerate() {
            let here = path.then("fallback_agents").then(at);
            if named.agent == Some(fallback) {
                self.falls_back_to_itself(fallback, here);
            } else if let Some(first) = fallbacks[..at].iter().position(|other| other == fallback) {
                let first = path.then("fallback_agents").then(first);
                let finding = Finding::new(here, format!("`{fallback}` is named twice"));
                self.report(
                    finding.help("remove one of them").related(first, "already named here"),
                );
            } else {
                self.agent_exists(fallback, &here);
            }
        }
    }

    fn falls_back_to_itself(&mut self, agent: &AgentName, place: Path) {
        let finding = Finding::new(place, format!("agent `{agent}` can't stand in for itself"));
        self.report(finding.help("remove it from `fallback_agents`"));
    }

    /// `[detect]`.
    pub(super) fn detection(&mut self) {
        for (agent, patterns) in &self.spec.detect {
            let path = Path::from("detect").then(String::from(agent.clone()));
            if !patterns.is_empty() {
                self.agent_exists(agent, &path);
            }
            for (at, pattern) in patterns.iter().enumerate() {
                if Pattern::parse(pattern).is_none() {
                    let finding =
                        Finding::new(path.then(at), format!("there is no word in `{pattern}`"));
                    self.report(
                        finding
                            .help("write words, as `API` or `data base`; `*` stands for letters"),
                    );
                }
            }
        }
    }

    /// What the epic of a task says.
    fn epic_names(&self, task: &TaskSpec) -> Named<'a> {
        let epic = task.epic.as_ref().and_then(|id| self.epics.get(id));
        match epic.map(|index| &self.spec.epics[index.get()]) {
            Some(epic) => Named {
                agent: epic.agent.as_ref(),
                fallbacks: epic.fallback_agents.as_ref(),
                model: epic.model.as_ref(),
            },
            None => Named { agent: None, fallbacks: None, model: None },
        }
    }

    pub(super) fn defaults_name(&self) -> Named<'a> {
        let defaults = &self.spec.defaults;
        Named {
            agent: defaults.agent.as_ref(),
            fallbacks: defaults.fallback_agents.as_ref(),
            model: defaults.model.as_ref(),
        }
    }

    /// Who may be given the prompt of a task: who comes first, and the rest. `None` where that can't be
    /// told, which is reported.
    pub(super) fn assignment(
        &mut self,
        task: &'a TaskSpec,
        path: &Path,
    ) -> Option<(Candidate, Assignment)> {
        let (epic, defaults) = (self.epic_names(task), self.defaults_name());
        let title = task.title.as_deref().unwrap_or_default();
        let prompt = task.prompt.as_ref().or(task.prompt_file.as_ref());
        let prompt = prompt.map_or("", String::as_str);
        let detected = self.detector.detect(title, prompt);
        let kind = detected.first().map(|first| first.agent.clone());
        let patterns = detected.iter().map(crate::plan::Detection::count).sum();
        let complexity = Complexity::of(Described {
            title,
            prompt,
            files: &task.files,
            needs: task.needs.len(),
            patterns,
        });
        let mut detected = detected.into_iter();
        let (agent, origin) = if let Some(agent) = &task.agent {
            (agent, AgentOrigin::Task)
        } else if let Some(agent) = epic.agent {
            (agent, AgentOrigin::Epic)
        } else if let Some(agent) = defaults.agent {
            (agent, AgentOrigin::Defaults)
        } else if self.may_name_an_agent(task, path) {
            return None;
        } else if let Some((agent, detection)) = detected.find_map(|detection| {
            let (agent, _) = self.spec.agents.get_key_value(&detection.agent)?;
            Some((agent, detection))
        }) {
            (agent, AgentOrigin::Detected(detection))
        } else if let (Some(agent), 1) = (self.spec.agents.keys().next(), self.spec.agents.len()) {
            (agent, AgentOrigin::Only)
        } else {
            self.no_agent(task, path, (title, prompt));
            return None;
        };
        let own = task.fallback_agents.as_ref();
        let is_inherited = matches!(origin, AgentOrigin::Epic | AgentOrigin::Defaults);
        if let Some(at) = own
            .filter(|_| is_inherited)
            .and_then(|own| own.iter().position(|fallback| fallback == agent))
        {
            self.falls_back_to_itself(agent, path.then("fallback_agents").then(at));
        }
        let fallbacks = own.or(epic.fallbacks).or(defaults.fallbacks);
        let candidate = |name: &AgentName| Candidate {
            agent: name.clone(),
            model: self.model_for(name, agent, task, (epic, defaults)).cloned(),
        };
        let assignment = Assignment {
            origin,
            fallbacks: fallbacks
                .into_iter()
                .flatten()
                .filter(|fallback| *fallback != agent)
                .map(&candidate)
                .collect(),
            kind,
            complexity,
            critical: task.critical,
        };
        Some((candidate(agent), assignment))
    }

    /// The model that the plan names for one of the agents of a task: that of the task, of its epic, of the
    /// agent, of `[defaults]`. One that was named for an agent of one kind means nothing to an agent of
    /// another kind.
    fn model_for(
        &self,
        agent: &AgentName,
        first: &AgentName,
        task: &'a TaskSpec,
        (epic, defaults): (Named<'a>, Named<'a>),
    ) -> Option<&'a String> {
        let spec = self.spec;
        let kind = |name: &AgentName| spec.agents.get(name).map(|agent| agent.kind);
        let meant_for = |named: Option<&AgentName>| kind(named.unwrap_or(first)) == kind(agent);
        let of_agent = spec.agents.get(agent);
        let chooses = of_agent.is_some_and(|agent| agent.models.is_some());
        task.model
            .as_ref()
            .filter(|_| kind(first) == kind(agent))
            .or(epic.model.filter(|_| meant_for(epic.agent)))
            .or(of_agent.and_then(|agent| agent.model.as_ref()))
            .or(defaults.model.filter(|_| !chooses && meant_for(defaults.agent)))
    }

    /// Whether an agent seems to be named, in what could not be read.
    fn may_name_an_agent(&self, task: &TaskSpec, path: &Path) -> bool {
        let epic = task.epic.as_ref().and_then(|id| self.epics.get(id));
        let epic = epic.map(|index| Path::element("epic", index.get()).then("agent"));
        [path.then("agent"), Path::from("defaults").then("agent")]
            .iter()
            .chain(&epic)
            .any(|place| self.origin.is_damaged(place))
    }

    fn no_agent(&mut self, task: &TaskSpec, path: &Path, (title, prompt): (&str, &str)) {
        let would_be = self.detector.detect(title, prompt).into_iter().next();
        let help = match (would_be, self.spec.agents.keys().next()) {
            (Some(detection), _) => format!(
                "add `agent = \"NAME\"` to the task or to `[defaults]`, or `[agents.{}]`, for which {detection} speaks",
                detection.agent
            ),
            (None, Some(name)) => {
                format!("add `agent = \"{name}\"` to the task or to `[defaults]`")
            }
            (None, None) => {
                "add `[agents.NAME]` with its `command`, and `agent = \"NAME\"` to the task".into()
            }
        };
        let message = format!("task `{}` has a prompt and no agent", task.id);
        self.report(Finding::new(path.then("id"), message).help(help));
    }
}

#[cfg(test)]
mod tests;
