//! Who used what in a run: by epic, agent and model.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    budget::{BudgetScope, Totals},
    event::TaskChange,
    id::{AgentName, EpicId},
    money::Money,
    plan::{AgentChoice, PlanSpec, TaskIndex},
    run::RunState,
    state::TaskState,
    usage::Usage,
};

/// Who works: an agent with a model. Neither, where a task runs a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Worker {
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The model, where the plan names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Worker {
    /// Who works on a task while it is in this state: who was given the attempt, or while it is being merged
    /// the resolver of its conflicts. `by` is [`TaskRun::by`](crate::run::TaskRun::by); where that is not
    /// recorded, as before the first attempt, it is who comes first by what the plan names.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn of(
        plan: &PlanSpec,
        task: TaskIndex,
        state: &TaskState,
        by: Option<&AgentChoice>,
    ) -> Self {
        if matches!(state, TaskState::Merging { .. }) {
            let agent = plan.merge.resolver.clone();
            return Self { model: Self::usual_model(plan, agent.as_ref()), agent };
        }
        if let Some(by) = by {
            return Self { agent: Some(by.agent.clone()), model: by.model.clone() };
        }
        let task = &plan.tasks[task.get()];
        if task.prompt.is_none() && task.prompt_file.is_none() {
            return Self::default();
        }
        let agent = task.agent.clone().or_else(|| plan.defaults.agent.clone());
        let model = task.model.clone().or_else(|| Self::usual_model(plan, agent.as_ref()));
        Self { agent, model }
    }

    fn usual_model(plan: &PlanSpec, agent: Option<&AgentName>) -> Option<String> {
        let of_agent = agent.and_then(|agent| plan.agents.get(agent)?.model.clone());
        agent.and_then(|_| of_agent.or_else(|| plan.defaults.model.clone()))
    }
}

/// `coder (gpt-5)`, `coder`, `a command`.
impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.agent, &self.model) {
            (Some(agent), Some(model)) => write!(f, "{agent} ({model})"),
            (Some(agent), None) => agent.fmt(f),
            (None, _) => f.write_str("a command"),
        }
    }
}

/// What one worker used for one epic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spending {
    /// The epic; `None` for tasks of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epic: Option<EpicId>,
    /// Who.
    #[serde(flatten)]
    pub worker: Worker,
    /// How many attempts have begun.
    pub attempts: u64,
    /// What they used, those at work included.
    pub usage: Usage,
    /// What the attempt cost that cost most, of those that have ended and whose cost is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_usd: Option<Money>,
    /// How many tokens the attempt used that used most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_tokens: Option<u64>,
    /// Whether an attempt ended well and did not tell what it used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_silent: bool,
}

impl Spending {
    /// What was used, for budgets.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        Totals::of(&self.usage, self.attempts)
    }

    /// Takes in what a change of a task means for it: what the task had used before the change and after
    /// it, and what its agent had used that was at work.
    pub(crate) fn see(
        &mut self,
        change: &TaskChange,
        (before, after): (Usage, Usage),
        at_work: Option<Usage>,
    ) {
        // In this order: what was used before may be somebody else's.
        self.usage += after;
        self.usage -= before;
        match change {
            TaskChange::Leased { .. } => self.attempts += 1,
            TaskChange::AgentEnded { exit, usage, .. } => match usage.or(at_work) {
                Some(usage) => {
                    let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
                    if usage.unpriced_tokens == 0 {
                        self.most_usd = self.most_usd.max(Some(Money(usage.cost_micro_usd)));
                    }
                    if tokens > 0 {
                        self.most_tokens = self.most_tokens.max(Some(tokens));
                    }
                }
                None => self.is_silent |= exit.is_success() && self.worker.agent.is_some(),
            },
            _ => {}
        }
    }
}

impl RunState {
    /// What was spent of a budget so far, with what agents at work have used. O(1) for a task, and otherwise
    /// O(epics, agents and models).
    #[must_use]
    pub fn spent(&self, scope: &BudgetScope) -> Totals {
        let is_covered = |entry: &&Spending| match scope {
            BudgetScope::Run => true,
            BudgetScope::Epic(epic) => entry.epic.as_ref() == Some(epic),
            BudgetScope::Agent(agent) => entry.worker.agent.as_ref() == Some(agent),
            BudgetScope::Task(_) => false,
        };
        if let BudgetScope::Task(task) = scope {
            let run = self.index_of(task).map(|index| self.task(index));
            return run.map_or_else(Totals::default, |run| {
                Totals::of(&run.used(), u64::from(run.attempts))
            });
        }
        let mut spent = Totals::default();
        self.spending.iter().filter(is_covered).for_each(|entry| spent += entry.totals());
        spent
    }
}

/// What an attempt of a worker is expected to take, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<Money>,
    /// Tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl Estimate {
    /// The larger of two, each for itself.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { usd: self.usd.max(other.usd), tokens: self.tokens.max(other.tokens) }
    }

    /// What is known here, and the rest from another one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { usd: self.usd.or(other.usd), tokens: self.tokens.or(other.tokens) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ExitStatus;

    #[test]
    fn the_worker_is_the_one_of_the_task_the_agent_or_the_defaults() {
        let text = r#"
            version = 1
            [defaults]
            agent = "a"
            model = "d"
            [merge]
            resolver = "b"
            on_conflict = "resolver"
            [agents.a]
            command = ["a", "{prompt}", "{model}"]
            [agents.b]
            command = ["b", "{prompt}", "{model}"]
            model = "m"
            [[task]]
            id = "t0"
            prompt = "p"
            [[task]]
            id = "t1"
            prompt = "p"
            agent = "b"
            [[task]]
            id = "t2"
            prompt = "p"
            agent = "b"
            model = "x"
            [[task]]
            id = "t3"
            run = "true"
        "#;
        let plan = crate::plan::parse(text, crate::plan::Format::Toml).unwrap();
        let who = |task, state| Worker::of(plan.spec(), TaskIndex(task), &state, None).to_string();
        let running = || TaskState::Running { attempt: 1 };
        let shown: Vec<_> = (0..4).map(|task| who(task, running())).collect();
        assert_eq!(shown, ["a (d)", "b (m)", "b (x)", "a command"]);
        assert_eq!(who(0, TaskState::Merging { attempt: 1, commit: None }), "b (m)");
        // What is validated agrees.
        for task in plan.indices() {
            if let crate::plan::Work::Prompt { agent, model, .. } = &plan.task(task).work {
                let worker = Worker::of(plan.spec(), task, &running(), None);
                assert_eq!((worker.agent.as_ref(), &worker.model), (Some(agent), model));
            }
        }
    }

    #[test]
    fn what_is_not_told_is_not_taken_for_nothing() {
        let mut spending = Spending::default();
        spending.worker.agent = Some(AgentName::new("a").unwrap());
        let usage = |cost, unpriced| Usage {
            output_tokens: 10,
            cost_micro_usd: cost,
            unpriced_tokens: unpriced,
            ..Usage::default()
        };
        let ended = |code, usage| TaskChange::AgentEnded {
            exit: ExitStatus::Code(code),
            usage,
            model: None,
        };
        let nothing = (Usage::default(), Usage::default());
        spending.see(&ended(1, None), nothing, None);
        assert!(!spending.is_silent, "an agent that fails at once may tell nothing");
        spending.see(&ended(0, Some(usage(7, 0))), (Usage::default(), usage(7, 0)), None);
        spending.see(&ended(0, Some(usage(0, 10))), (usage(7, 0), usage(7, 10)), None);
        assert_eq!((spending.most_usd, spending.most_tokens), (Some(Money(7)), Some(10)));
        spending.see(&ended(0, None), (usage(9, 0), usage(9, 0)), Some(usage(9, 0)));
        assert_eq!(spending.most_usd, Some(Money(9)), "its last word counts");
        spending.see(&ended(0, None), nothing, None);
        assert!(spending.is_silent);
    }
}
