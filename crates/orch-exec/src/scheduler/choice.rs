//! Who is given an attempt: the first of a task's agents that can be, and the model that it is told to use.
//!
//! An agent is passed over for good where it is missing on this machine, or turned out not to be able to do
//! this task (it is not logged in, it can't be started); for now, while the breaker of its service is open or a
//! budget has no room for it.
//! A task waits only where an agent that is left is held up. Where none is left at all, the first one is asked
//! all the same: the task then fails with the reason, and does not wait for what never comes.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use orch_model::{
    AgentName, Timestamp,
    outcome::Failure,
    plan::{AgentChoice, Service, TaskIndex, Work},
    ports::{ModelOffer, ModelPrice, ModelRecords, ModelRequest, ModelSelector},
    progress::WaitReason,
    state::TaskState,
    tiers::Tiers,
};

use super::{Scheduler, budget::Books};

/// What is known of agents and models when a scheduler is made.
#[derive(Debug, Clone)]
pub struct Choosing {
    /// Agents that can't be started here, and why.
    pub missing: BTreeMap<AgentName, String>,
    /// Chooses models where the plan names none.
    pub selector: Arc<dyn ModelSelector>,
    /// What models cost, as far as that is known.
    pub prices: BTreeMap<String, ModelPrice>,
    /// What came of models before.
    pub records: Arc<ModelRecords>,
}

impl Default for Choosing {
    fn default() -> Self {
        Self {
            missing: BTreeMap::new(),
            selector: Arc::new(Tiers),
            prices: BTreeMap::new(),
            records: Arc::default(),
        }
    }
}

impl Scheduler {
    /// Sets what is known of agents and models.
    #[must_use]
    pub fn choosing(mut self, choosing: Choosing) -> Self {
        self.choosing = choosing;
        self
    }

    /// Who was given the last attempt at a task; `None` for a command, and before the first.
    #[must_use]
    pub fn chosen(&self, task: TaskIndex) -> Option<&AgentChoice> {
        let recorded = || self.state.task(task).by.as_deref();
        self.chosen.get(&task).map(|choice| &**choice).or_else(recorded)
    }

    /// The agent at a place of a task's list, with the model that the plan names for it; `None` for a
    /// command.
    pub(super) fn candidate(
        &self,
        task: TaskIndex,
        at: usize,
    ) -> Option<(&AgentName, Option<&str>)> {
        let planned = self.plan.task(task);
        match (&planned.work, at) {
            (Work::Prompt { agent, model, .. }, 0) => Some((agent, model.as_deref())),
            (Work::Prompt { .. }, at) => {
                let fallback = planned.assignment.as_ref()?.fallbacks.get(at - 1)?;
                Some((&fallback.agent, fallback.model.as_deref()))
            }
            _ => None,
        }
    }

    /// How many there are; a command is its own.
    fn candidates(&self, task: TaskIndex) -> usize {
        1 + self.plan.task(task).assignment.as_ref().map_or(0, |one| one.fallbacks.len())
    }

    /// Which of its agents a task can be given now; `None` where it has to wait.
    pub(super) fn startable(
        &self,
        task: TaskIndex,
        books: Option<&Books>,
        now: Timestamp,
    ) -> Option<usize> {
        self.asked(task).find(|at| self.held_up(task, *at, books, now).is_none())
    }

    /// Who may be asked to do a task: those of its agents that are left, else the first.
    pub(super) fn asked(&self, task: TaskIndex) -> impl Iterator<Item = usize> + '_ {
        let is_left = move |at: usize| self.ruled_out(task, at).is_none();
        let all = 0..self.candidates(task);
        let any_left = all.clone().any(is_left);
        all.filter(move |at| if any_left { is_left(*at) } else { *at == 0 })
    }

    /// Why a task waits for its agents; `None` where it does not.
    pub(super) fn waits_for_agents(
        &self,
        task: TaskIndex,
        books: Option<&Books>,
        now: Timestamp,
    ) -> Option<WaitReason> {
        if self.startable(task, books, now).is_some() {
            return None;
        }
        if self.candidates(task) == 1 {
            return self.held_up(task, 0, books, now);
        }
        let agents = (0..self.candidates(task)).filter_map(|at| self.why_not(task, at, books, now));
        Some(WaitReason::Agents { agents: agents.collect() })
    }

    /// Why an agent is never given a task; `None` where it may be.
    fn ruled_out(&self, task: TaskIndex, at: usize) -> Option<&String> {
        let (agent, _) = self.candidate(task, at)?;
        self.state.task(task).unfit.get(agent).or_else(|| self.choosing.missing.get(agent))
    }

    /// Why an agent is not given a task for now; `None` where it may be.
    fn held_up(
        &self,
        task: TaskIndex,
        at: usize,
        books: Option<&Books>,
        now: Timestamp,
    ) -> Option<WaitReason> {
        let breaker = if self.state.breakers.is_empty() {
            None
        } else {
            self.breaker(&self.service_at(task, at), now)
        };
        breaker.or_else(|| self.no_room_at(books, task, at))
    }

    /// Why an agent is passed over, with its name.
    fn why_not(
        &self,
        task: TaskIndex,
        at: usize,
        books: Option<&Books>,
        now: Timestamp,
    ) -> Option<String> {
        let (agent, _) = self.candidate(task, at)?;
        if let Some(why) = self.ruled_out(task, at) {
            return Some(format!("{agent}: {why}"));
        }
        let why = self.held_up(task, at, books, now)?;
        Some(format!("{agent} waits for {why}"))
    }

    /// Decides on the one at this place; `None` for a command.
    pub(super) fn choose(
        &self,
        task: TaskIndex,
        at: usize,
        books: Option<&Books>,
        now: Timestamp,
    ) -> Option<Box<AgentChoice>> {
        let (agent, _) = self.candidate(task, at)?;
        let assignment = self.plan.task(task).assignment.as_deref()?;
        let mut reason = match at {
            0 => assignment.origin.to_string(),
            _ => {
                let passed = (0..at).filter_map(|earlier| self.why_not(task, earlier, books, now));
                format!("fallback; {}", passed.collect::<Vec<_>>().join("; "))
            }
        };
        let (model, why) = self.model(task, at);
        if let Some(why) = why {
            reason = format!("{reason}; {why}");
        }
        Some(Box::new(AgentChoice {
            agent: agent.clone(),
            model: model.map(Cow::into_owned),
            is_fallback: at > 0,
            reason,
        }))
    }

    /// The model for an agent, and why, where it was chosen.
    pub(super) fn model(
        &self,
        task: TaskIndex,
        at: usize,
    ) -> (Option<Cow<'_, str>>, Option<String>) {
        let Some((agent, named)) = self.candidate(task, at) else { return (None, None) };
        if let Some(named) = named {
            return (Some(Cow::Borrowed(named)), None);
        }
        let (Some(called), Some(assignment)) =
            (self.plan.agents().get(agent), self.plan.task(task).assignment.as_deref())
        else {
            return (None, None);
        };
        let offers = ModelOffer::of(called, |model| self.choosing.prices.get(model).copied());
        let request = ModelRequest {
            attempt: self.state.task(task).attempts + 1,
            budget: self.budget_left(),
            ..ModelRequest::new(agent, called, assignment, (&offers, &self.choosing.records))
        };
        match self.choosing.selector.select(&request) {
            Some(choice) => {
                let why = choice.why();
                (Some(Cow::Owned(choice.model)), Some(why))
            }
            None => (None, None),
        }
    }

    /// Whom the limits of an agent at a place of a task's list concern.
    fn service_at(&self, task: TaskIndex, at: usize) -> Cow<'_, Service> {
        let Some((agent, named)) = self.candidate(task, at) else {
            return Cow::Borrowed(&self.services(task)[0]);
        };
        match self.model(task, at).0 {
            Some(model) if named.is_none() => {
                Cow::Owned(self.plan.service_of(task, agent, Some(&model)))
            }
            _ => Cow::Borrowed(&self.services(task)[at]),
        }
    }

    /// Whom the limits of the last attempt at a task concern.
    pub(super) fn service(&self, task: TaskIndex) -> Cow<'_, Service> {
        let Some(choice) = self.chosen(task) else {
            return Cow::Borrowed(&self.services(task)[0]);
        };
        let is_it = |at: &usize| {
            let (agent, model) = (&choice.agent, choice.model.as_deref());
            self.candidate(task, *at) == Some((agent, model))
        };
        match (0..self.candidates(task)).find(is_it) {
            Some(at) => Cow::Borrowed(&self.services(task)[at]),
            None => Cow::Owned(self.plan.service_of(task, &choice.agent, choice.model.as_deref())),
        }
    }

    /// Whom the limits of each agent of a task concern, as far as the plan names models.
    fn services(&self, task: TaskIndex) -> &[Service] {
        let of_task = |task: TaskIndex| -> Vec<Service> {
            let own = |at| {
                self.candidate(task, at).map_or_else(
                    || self.plan.service(task),
                    |(agent, model)| self.plan.service_of(task, agent, model),
                )
            };
            (0..self.candidates(task)).map(own).collect()
        };
        let of_all = || self.plan.indices().map(of_task).collect();
        let services: &Vec<Vec<Service>> = self.services.get_or_init(of_all);
        &services[task.get()]
    }

    /// Whether another agent is left for a task whose own can't do it: this failure would come again.
    pub(super) fn has_stand_in(&self, task: TaskIndex, failure: &Failure) -> bool {
        let run = self.state.task(task);
        let Some(by) = run.by.as_ref().filter(|_| failure.policy().tries_fallback) else {
            return false;
        };
        // What could not be started may have been a verification.
        let is_verified =
            matches!(run.state, TaskState::Verifying { .. } | TaskState::Merging { .. });
        if is_verified && matches!(failure, Failure::Spawn { .. }) {
            return false;
        }
        (0..self.candidates(task)).any(|at| {
            self.candidate(task, at).is_some_and(|(agent, _)| *agent != by.agent)
                && self.ruled_out(task, at).is_none()
        })
    }

    /// Whether a task that met a limit can be given to somebody whom that does not concern.
    pub(super) fn evades(&self, task: TaskIndex, now: Timestamp) -> bool {
        let (limited, books) = (self.service(task), self.books());
        self.startable(task, books.as_ref(), now)
            .is_some_and(|at| self.service_at(task, at).key != limited.key)
    }
}
