//! Budgets of the run, of epics, tasks and agents.

use std::collections::BTreeMap;

use super::Checker;
use crate::{
    budget::{Budget, BudgetScope},
    money::Money,
    plan::{path::Path, problem::Finding},
};

impl Checker<'_> {
    /// All budgets of the plan.
    pub(super) fn budgets(&mut self) -> BTreeMap<BudgetScope, Budget> {
        let spec = self.spec;
        let run = std::iter::once((BudgetScope::Run, Path::from("run"), spec.run.budget));
        let epics = spec.epics.iter().enumerate().map(|(at, epic)| {
            (BudgetScope::Epic(epic.id.clone()), Path::element("epic", at), epic.budget)
        });
        let tasks = spec.tasks.iter().enumerate().map(|(at, task)| {
            (BudgetScope::Task(task.id.clone()), Path::element("task", at), task.budget)
        });
        let agents = spec.agents.iter().map(|(name, agent)| {
            let path = Path::from("agents").then(String::from(name.clone()));
            (BudgetScope::Agent(name.clone()), path, agent.budget)
        });
        let mut budgets = BTreeMap::new();
        for (scope, path, budget) in run.chain(epics).chain(tasks).chain(agents) {
            if let Some(budget) = budget {
                self.budget(budget, &path.then("budget"));
                budgets.insert(scope, budget);
            }
        }
        budgets
    }

    fn budget(&mut self, budget: Budget, path: &Path) {
        if budget == Budget::default() && !self.origin.is_damaged(path) {
            let finding = Finding::new(path.clone(), "the budget limits nothing");
            self.report(finding.help("write for example `{ usd = \"1.00\" }`, or remove it"));
        }
        for (key, is_zero) in [
            ("usd", budget.usd == Some(Money::ZERO)),
            ("tokens", budget.tokens == Some(0)),
            ("attempts", budget.attempts == Some(0)),
        ] {
            if is_zero {
                let message = format!("with a budget of 0 {key} nothing could run");
                let finding = Finding::new(path.then(key), message);
                self.report(finding.help("write more, or leave it out"));
            }
        }
    }
}
