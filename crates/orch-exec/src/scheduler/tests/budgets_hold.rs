//! Whatever agents cost, in whatever order they answer, and whenever the orchestrator dies: a budget is
//! exceeded by no more than the answers that were under way, and with more money the run comes to its end.

use std::collections::BTreeMap;

use orch_model::{RunStatus, plan::spec::OnBudget};
use proptest::prelude::*;

use super::{
    budgets::{begin, cents, change},
    *,
};

/// What happens to an attempt at work.
#[derive(Debug, Clone, Default)]
struct Agent {
    answers: usize,
    cents: u64,
    told: bool,
    /// It was told and has answered since: that answer was under way.
    had_last_word: bool,
}

struct World {
    run: Drive,
    /// By task: what its answers cost, in cents.
    costs: BTreeMap<String, Vec<u64>>,
    at_work: BTreeMap<String, Agent>,
    /// What the dearest attempt that ended well cost.
    most: Option<u64>,
    /// In cents.
    limit: u64,
    spent: u64,
    /// What was answered at the limit and after it: the excess that is allowed.
    last_words: u64,
}

impl World {
    /// Does what the scheduler said.
    fn heed(&mut self, said: &str) {
        for word in said.split_whitespace() {
            if let Some(task) = word.strip_prefix("stop:") {
                self.at_work.get_mut(task).expect("who is ended works").told = true;
            } else if word.starts_with("adopt:") || word.starts_with("wake@") || word == "end" {
                continue;
            } else {
                let task = word.split('#').next().unwrap_or(word).to_owned();
                self.start(&task);
            }
        }
    }

    /// A start must have room.
    fn start(&mut self, task: &str) {
        assert!(self.spent < self.limit, "{task} starts with nothing left");
        match self.most {
            Some(most) => {
                let rest = self.at_work.values().map(|agent| most.saturating_sub(agent.cents));
                let taken = self.spent + rest.sum::<u64>();
                assert!(taken + most <= self.limit, "{task}: {taken} + {most} of {}", self.limit);
            }
            None => assert!(self.at_work.is_empty(), "{task} starts before a cost is known"),
        }
        self.at_work.insert(task.to_owned(), Agent::default());
        self.run.begun(task);
    }

    /// An agent answers, and ends after its last answer.
    fn answer(&mut self, task: &str) {
        let agent = self.at_work.get_mut(task).expect("it works");
        let cost = self.costs[task][agent.answers];
        agent.answers += 1;
        agent.cents += cost;
        agent.had_last_word = agent.told;
        self.spent += cost;
        if self.spent >= self.limit {
            self.last_words += cost;
        }
        let (all, usage) = (agent.answers == self.costs[task].len(), cents(agent.cents));
        let total = agent.cents;
        let mut said = self.run.used(task, usage);
        if all {
            // It has done its work, whether it was told meanwhile or not.
            self.heed(&said);
            self.most = self.most.max(Some(total));
            self.at_work.remove(task);
            said = self.run.finished(task, Some(usage));
        }
        self.heed(&said);
        self.check();
    }

    fn step(&mut self, chance: u16) {
        let task = self.at_work.keys().nth(usize::from(chance) % self.at_work.len());
        let task = task.expect("somebody works").clone();
        let agent = &self.at_work[&task];
        if agent.told && (agent.had_last_word || chance % 2 == 0) {
            self.at_work.remove(&task);
            let said = self.run.stopped(&task);
            self.heed(&said);
        } else {
            self.answer(&task);
        }
    }

    /// The orchestrator dies, or has ended, and another one takes the run up, perhaps with more money.
    fn reopen(&mut self, more: bool) {
        for agent in self.at_work.values_mut() {
            agent.told = false;
        }
        if more {
            self.limit *= 2;
            // More may still be too little.
            self.last_words = (self.spent + 1).saturating_sub(self.limit);
            let mut state = self.run.scheduler.state().clone();
            let change = change(&format!("{}.{:02}", self.limit / 100, self.limit % 100));
            for kind in [EventKind::RunReopened { pid: 3 }, EventKind::BudgetChanged { change }] {
                let event = Event { seq: state.seq + 1, at: time(0), kind };
                state.apply(&event).expect("a legal event");
                self.run.events.push(event);
            }
            let plan = Arc::clone(&self.run.plan);
            self.run.scheduler = Scheduler::new(plan, state, |_| None);
            let said = self.run.tell(Input::Begin);
            self.heed(&said);
        } else {
            let said = self.run.reopen();
            self.heed(&said);
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.run.spent().0, self.spent * 10_000, "nothing is lost or counted twice");
        assert!(
            self.spent < self.limit + self.last_words.max(1),
            "{} of {}",
            self.spent,
            self.limit
        );
        let over = self.spent >= self.limit;
        assert!(!over || self.at_work.values().all(|agent| agent.told), "they go on");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_budget_is_kept_to_the_last_answer(
        costs in prop::collection::vec(prop::collection::vec(1_u64..40, 1..5), 1..8),
        limit in 20_u64..300,
        max in 1_u32..5,
        chances in prop::collection::vec(any::<u16>(), 0..80),
    ) {
        let lines = vec!["a"; costs.len()];
        let budget = format!("{}.{:02}", limit / 100, limit % 100);
        let mut run = begin(&lines, &[&budget], max, OnBudget::Pause, None);
        let said = run.tell(Input::Begin);
        let names = (1..).map(|number| format!("t{number}"));
        let mut world = World {
            run,
            costs: names.zip(costs).collect(),
            at_work: BTreeMap::new(),
            most: None,
            limit,
            spent: 0,
            last_words: 0,
        };
        world.heed(&said);
        let mut chances = chances.into_iter();
        for _ in 0..2_000 {
            let chance = chances.next().unwrap_or(1);
            match world.run.status() {
                RunStatus::Succeeded => break,
                RunStatus::OutOfBudget => {
                    prop_assert!(world.at_work.is_empty());
                    prop_assert!(!world.run.scheduler.state().budget_stops.is_empty());
                    world.reopen(true);
                }
                _ if chance % 16 == 15 => world.reopen(false),
                _ => world.step(chance),
            }
        }
        prop_assert_eq!(world.run.status(), RunStatus::Succeeded);
    }
}
