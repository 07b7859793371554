//! Agents whose work a budget of money can't count, as far as that is known before anything is started.

use std::collections::BTreeSet;

use orch_model::{
    TaskState, ValidPlan,
    plan::{
        Agent,
        spec::{AgentKind, EventKind},
    },
    spending::Worker,
};

use crate::Prices;

/// Why nobody will know what an agent costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It does not tell what it uses.
    Usage,
    /// It tells what it uses, and nobody knows the price of its model.
    Price,
}

/// Those of a plan, each with the reason. A run with a budget of money stops when one of them has worked.
#[must_use]
pub fn uncounted(plan: &ValidPlan, prices: &Prices) -> Vec<(Worker, Unknown)> {
    let of = |task| Worker::of(plan.spec(), task, &TaskState::Queued, None);
    let workers: BTreeSet<Worker> = plan.indices().map(of).collect();
    let why = |worker: &Worker| {
        let agent = plan.agents().get(worker.agent.as_ref()?)?;
        unknown(agent, worker.model.as_deref(), prices)
    };
    workers.into_iter().filter_map(|worker| Some((worker.clone(), why(&worker)?))).collect()
}

/// `None` where somebody will know what an agent costs, or may.
fn unknown(agent: &Agent, model: Option<&str>, prices: &Prices) -> Option<Unknown> {
    let is_usage = |event| matches!(event, EventKind::Usage | EventKind::UsageSoFar);
    let rules: Vec<_> = agent.events.iter().filter(|rule| is_usage(rule.event)).collect();
    match agent.kind {
        AgentKind::Command if rules.is_empty() => Some(Unknown::Usage),
        AgentKind::Command if rules.iter().any(|rule| rule.take.contains_key("cost")) => None,
        // They tell their costs.
        AgentKind::Claude | AgentKind::Opencode => None,
        // The model that it takes by itself may have a price.
        _ if model.is_none_or(|model| prices.of(model).is_some()) => None,
        _ => Some(Unknown::Price),
    }
}

#[cfg(test)]
mod tests {
    use orch_model::plan::{Format, parse};

    use super::*;

    #[test]
    fn agents_that_nobody_can_count_are_named() {
        let text = r#"
            version = 1
            [agents]
            mute = { command = ["a"] }
            odd = { kind = "codex", model = "nobody-knows-me" }
            known = { kind = "codex", model = "claude-sonnet-4-5" }
            own = { kind = "gemini" }
            told = { command = ["b"], output = "jsonl", events = [{ event = "usage", take = { cost = "/c" } }] }
            [[task]]
            id = "t1"
            prompt = "p"
            agent = "mute"
            [[task]]
            id = "t2"
            prompt = "p"
            agent = "odd"
            [[task]]
            id = "t3"
            prompt = "p"
            agent = "known"
            [[task]]
            id = "t4"
            prompt = "p"
            agent = "own"
            [[task]]
            id = "t5"
            prompt = "p"
            agent = "told"
            [[task]]
            id = "t6"
            run = "make"
        "#;
        let plan = parse(text, Format::Toml).unwrap();
        let found = uncounted(&plan, &Prices::built_in());
        let found: Vec<_> = found.iter().map(|(worker, why)| (worker.to_string(), *why)).collect();
        let expected = [("mute", Unknown::Usage), ("odd (nobody-knows-me)", Unknown::Price)];
        assert_eq!(found, expected.map(|(worker, why)| (worker.to_owned(), why)));
    }
}
