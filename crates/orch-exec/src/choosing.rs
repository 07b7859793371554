//! What a run has to know of agents and models before it begins: who is missing, and what models cost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use orch_model::{
    AgentName, EventKind, RunState,
    event::Event,
    plan::{Agent, Task, ValidPlan, spec::AgentKind},
};

use crate::{error::EngineError, orchestrator::Ports, scheduler::Choosing};

/// Asks the runner who can't be started here, and what the models cost that the plan offers.
pub(crate) async fn look(plan: &ValidPlan, ports: &Ports) -> Choosing {
    let needed: BTreeSet<_> =
        plan.tasks().iter().flat_map(Task::candidates).map(|candidate| candidate.agent).collect();
    let of_plan = |name: &AgentName| Some((name.clone(), plan.agents().get(name)?.clone()));
    let needed: BTreeMap<AgentName, Agent> = needed.iter().filter_map(of_plan).collect();
    let missing =
        if needed.is_empty() { BTreeMap::new() } else { ports.runner.missing(&needed).await };
    let offered = needed.values().filter_map(|agent| agent.models.as_ref());
    let offered = offered.flat_map(|models| models.by_tier().map(|(_, model)| model.clone()));
    let price = |model: String| Some((model.clone(), ports.runner.price(&model)?));
    Choosing {
        missing,
        selector: Arc::clone(&ports.selector),
        prices: offered.flatten().filter_map(price).collect(),
        records: Arc::clone(&ports.records),
    }
}

/// Refuses a plan with a task that nobody can do. A program of the user's own may come to be while the run
/// goes on, so one that is not there is the task's business.
pub(crate) fn check(plan: &ValidPlan, choosing: &Choosing) -> Result<(), EngineError> {
    let is_known = |name: &AgentName| {
        plan.agents().get(name).is_some_and(|agent| agent.kind != AgentKind::Command)
    };
    let mut problems = BTreeMap::new();
    for task in plan.tasks() {
        let why: Option<Vec<_>> = task
            .candidates()
            .map(|candidate| choosing.missing.get_key_value(&candidate.agent))
            .collect();
        if let Some(why) = why.filter(|why| why.iter().any(|(name, _)| is_known(name))) {
            problems.extend(why);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let lines = problems.into_iter().map(|(name, why)| format!("agent `{name}`: {why}"));
    Err(EngineError::MissingAgents { problems: lines.collect::<Vec<_>>().join("\n") })
}

/// Tells of agents that others stand in for.
pub(crate) fn warnings(
    plan: &ValidPlan,
    choosing: &Choosing,
    state: &mut RunState,
) -> Result<Vec<Event>, EngineError> {
    let has_stand_in = |name: &AgentName| {
        plan.tasks().iter().any(|task| {
            let mut is_named = false;
            let mut is_left = false;
            for candidate in task.candidates() {
                is_named |= candidate.agent == *name;
                is_left |= !choosing.missing.contains_key(&candidate.agent);
            }
            is_named && is_left
        })
    };
    let mut events = Vec::new();
    for (name, why) in choosing.missing.iter().filter(|(name, _)| has_stand_in(name)) {
        let message = format!("agent `{name}` is not used, others do its tasks: {why}");
        let kind = EventKind::Warning { task: None, message };
        let event = Event { seq: state.seq + 1, at: state.updated_at, kind };
        state.apply(&event).map_err(|error| EngineError::Internal(error.to_string()))?;
        events.push(event);
    }
    Ok(events)
}
