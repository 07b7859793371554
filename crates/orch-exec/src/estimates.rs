//! What work is expected to take, from what it took in the last runs of the repository.

use std::collections::BTreeMap;

use orch_model::{
    Money, RunState, TaskId, TaskState, ValidPlan,
    budget::grouped,
    plan::{TaskIndex, Work},
    ports::{StateStore, StoreError},
    spending::{Estimate, Worker},
    tiers::Tiers,
    usage::Usage,
};

/// How many runs are looked at: prices and models change.
const RUNS: usize = 5;

/// Who does a task first, as far as the plan tells.
fn first_worker(plan: &ValidPlan, task: TaskIndex) -> Worker {
    let choice = plan.task(task).first_choice(plan.agents(), &Tiers);
    choice.map_or_else(Worker::default, |by| Worker { agent: Some(by.agent), model: by.model })
}

/// What the last runs used.
#[derive(Debug, Default)]
pub struct Past {
    workers: BTreeMap<Worker, Share>,
    /// By task that was merged: what all attempts at it used, the last time.
    tasks: BTreeMap<TaskId, Usage>,
}

#[derive(Debug, Default)]
struct Share {
    attempts: u64,
    usage: Usage,
    most: Estimate,
}

/// What a plan is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forecast {
    /// How many of its tasks are for agents.
    pub tasks: usize,
    /// Of how many of these something is known.
    pub known: usize,
    /// What these are expected to use.
    pub usage: Usage,
}

impl Past {
    /// Reads the last runs.
    ///
    /// # Errors
    /// Where the runs can't be listed. One that can't be read counts for nothing.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn read(store: &dyn StateStore) -> Result<Self, StoreError> {
        let mut past = Self::default();
        for run in store.list().await?.into_iter().take(RUNS) {
            match store.state(&run.run).await {
                Ok(Some(state)) => past.see(&state),
                Ok(None) => {}
                Err(error) => tracing::warn!(run = %run.run, %error, "its costs can't be read"),
            }
        }
        Ok(past)
    }

    /// Takes a run in; the newest comes first.
    pub fn see(&mut self, state: &RunState) {
        for entry in state.spending.iter().filter(|entry| entry.worker.agent.is_some()) {
            let share = self.workers.entry(entry.worker.clone()).or_default();
            share.attempts += entry.attempts;
            share.usage += entry.usage;
            let most = Estimate { usd: entry.most_usd, tokens: entry.most_tokens };
            share.most = share.most.max(most);
        }
        for task in &state.tasks {
            let usage = task.used();
            if matches!(task.state, TaskState::Merged { .. }) && usage != Usage::default() {
                self.tasks.entry(task.id.clone()).or_insert(usage);
            }
        }
    }

    /// What the largest attempt of a worker took.
    #[must_use]
    pub fn most(&self, worker: &Worker) -> Option<Estimate> {
        self.workers.get(worker).map(|share| share.most)
    }

    /// What a plan is expected to take: each task as it did the last time, or else as an attempt of its
    /// agent and model does on average. `None` where nothing is known.
    #[must_use]
    pub fn forecast(&self, plan: &ValidPlan) -> Option<Forecast> {
        let mut forecast = Forecast { tasks: 0, known: 0, usage: Usage::default() };
        for index in plan.indices() {
            if !matches!(plan.task(index).work, Work::Prompt { .. }) {
                continue;
            }
            forecast.tasks += 1;
            if let Some(usage) = self.usual(plan, index) {
                forecast.known += 1;
                forecast.usage += usage;
            }
        }
        (forecast.known > 0).then_some(forecast)
    }

    fn usual(&self, plan: &ValidPlan, task: TaskIndex) -> Option<Usage> {
        if let Some(usage) = self.tasks.get(&plan.task(task).id) {
            return Some(*usage);
        }
        let share = self.workers.get(&first_worker(plan, task))?;
        let mean = |sum: u64| sum / share.attempts.max(1);
        let usage = Usage {
            input_tokens: mean(share.usage.input_tokens),
            cached_input_tokens: mean(share.usage.cached_input_tokens),
            output_tokens: mean(share.usage.output_tokens),
            reasoning_tokens: mean(share.usage.reasoning_tokens),
            cost_micro_usd: mean(share.usage.cost_micro_usd),
            unpriced_tokens: mean(share.usage.unpriced_tokens),
        };
        (usage != Usage::default()).then_some(usage)
    }
}

/// One sentence without its end, for people.
impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let usage = &self.usage;
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        let dollars = Money(usage.cost_micro_usd);
        match (usage.unpriced_tokens, usage.cost_micro_usd) {
            (0, _) => write!(f, "about {dollars:.2}")?,
            (_, 0) => f.write_str("an unknown cost")?,
            (unpriced, _) => {
                write!(f, "about {dollars:.2}, {} tokens of unknown price", grouped(unpriced))?;
            }
        }
        write!(f, " and {} tokens", grouped(tokens))?;
        let unknown = self.tasks - self.known;
        if unknown > 0 {
            write!(
                f,
                " for {} of {} tasks; of the others nothing is known",
                self.known, self.tasks
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use orch_model::{
        AgentName, Event, EventKind, RunId, TaskChange, Timestamp,
        event::{EVENT_VERSION, RunHeader, RunSettings},
        outcome::ExitStatus,
        plan::spec::{AgentKind, AgentSpec, PlanSpec, TaskSpec},
        state::Merged,
    };

    use super::*;

    fn plan(tasks: &[&str]) -> ValidPlan {
        let name = AgentName::new("a").unwrap();
        let agent = AgentSpec { command: vec!["a".into()], ..AgentSpec::new(AgentKind::Command) };
        let mut spec = PlanSpec::new();
        spec.agents.insert(name.clone(), agent);
        for id in tasks {
            let mut task = TaskSpec::new(TaskId::new(*id).unwrap());
            (task.prompt, task.agent) = (Some("p".into()), Some(name.clone()));
            spec.tasks.push(task);
        }
        spec.validate().unwrap()
    }

    #[test]
    fn tasks_take_what_they_took_and_others_what_their_agent_takes_on_average() {
        let old = plan(&["t1", "t2"]);
        let header = RunHeader {
            run: RunId::new("r1").unwrap(),
            version: EVENT_VERSION,
            plan: std::sync::Arc::clone(old.spec()),
            settings: RunSettings::default(),
            repository: "/repo".into(),
            base: None,
            pid: 7,
        };
        let mut kinds = vec![EventKind::RunStarted { header: Box::new(header) }];
        for (task, cost) in [("t1", 300_000), ("t2", 100_000)] {
            let usage = Usage {
                input_tokens: 900,
                output_tokens: 100,
                cost_micro_usd: cost,
                ..Usage::default()
            };
            kinds.extend(
                [
                    TaskChange::Unblocked,
                    TaskChange::Queued,
                    TaskChange::Leased { attempt: 1, by: None },
                    TaskChange::Preparing,
                    TaskChange::Started { agent: None },
                    TaskChange::AgentEnded {
                        exit: ExitStatus::Code(0),
                        usage: Some(usage),
                        model: None,
                    },
                    TaskChange::Verified { commit: None },
                    TaskChange::Merged { result: Merged::Nothing },
                ]
                .map(|change| EventKind::Task { task: TaskId::new(task).unwrap(), change }),
            );
        }
        let at = Timestamp::from_millis(0);
        let events: Vec<_> = (1..).zip(kinds).map(|(seq, kind)| Event { seq, at, kind }).collect();
        let mut past = Past::default();
        assert_eq!(past.forecast(&old), None);
        past.see(&RunState::replay(&events).unwrap().unwrap());
        let said = |tasks| past.forecast(&plan(tasks)).map(|forecast| forecast.to_string());
        assert_eq!(said(&["t1"]).unwrap(), "about $0.30 and 1,000 tokens");
        assert_eq!(said(&["t2", "new"]).unwrap(), "about $0.30 and 2,000 tokens");
        let worker = first_worker(&old, TaskIndex(0));
        assert_eq!(past.most(&worker).unwrap().usd, Some(Money(300_000)));
        assert_eq!(past.most(&Worker::default()), None);
    }
}
