//! What happens where work conflicts.

use super::Checker;
use crate::plan::{
    path::Path,
    problem::Finding,
    spec::{OnConflict, TaskSpec},
};

impl Checker<'_> {
    /// What a task's conflicts lead to.
    pub(super) fn on_conflict(&self, task: &TaskSpec) -> OnConflict {
        task.on_conflict.or(self.spec.merge.on_conflict).unwrap_or_default()
    }

    /// Whoever is to resolve conflicts has to be there, and where somebody is named there has to be
    /// something for him to do.
    pub(super) fn resolver(&mut self, merge: &Path) {
        let spec = self.spec;
        let is_wanted = |policy: Option<OnConflict>| policy == Some(OnConflict::Resolver);
        let place = if is_wanted(spec.merge.on_conflict) {
            Some(merge.then("on_conflict"))
        } else {
            let task = spec.tasks.iter().position(|task| is_wanted(task.on_conflict));
            task.map(|index| self.task_spec(index).1.then("on_conflict"))
        };
        let key = merge.then("resolver");
        match (&spec.merge.resolver, place) {
            (Some(agent), Some(_)) => self.agent_exists(agent, &key),
            (None, Some(place)) if !self.origin.is_damaged(&key) => {
                let finding = Finding::new(place, "nobody is named who resolves conflicts");
                self.report(finding.help("write `resolver = \"AGENT\"` in `[merge]`"));
            }
            (Some(_), None) => {
                let finding =
                    Finding::new(key, "`resolver` has no effect: no task's conflicts go to it");
                let help = "write `on_conflict = \"resolver\"` in `[merge]` or in a task";
                self.report(finding.on_key().help(help));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        TaskId, ValidPlan,
        plan::spec::{AgentKind, AgentSpec, OnConflict, PlanSpec, TaskSpec},
    };

    fn plan() -> PlanSpec {
        let task = |id| TaskSpec::new(TaskId::new(id).unwrap()).run("x");
        PlanSpec::new().task(task("a")).task(task("b"))
    }

    fn with_agent(mut plan: PlanSpec) -> PlanSpec {
        let agent = AgentSpec { command: vec!["x".into()], ..AgentSpec::new(AgentKind::Command) };
        plan.agents.insert("fixer".parse().unwrap(), agent);
        plan.merge.resolver = Some("fixer".parse().unwrap());
        plan
    }

    fn problem(plan: PlanSpec) -> String {
        ValidPlan::new(plan).expect_err("a mistake").to_string()
    }

    #[test]
    fn a_task_has_its_own_policy_or_that_of_the_plan() {
        let mut spec = plan();
        spec.merge.on_conflict = Some(OnConflict::Manual);
        spec.tasks[1].on_conflict = Some(OnConflict::RebaseRetry);
        let valid = ValidPlan::new(spec).unwrap();
        let policies: Vec<_> = valid.tasks().iter().map(|task| task.on_conflict).collect();
        assert_eq!(policies, [OnConflict::Manual, OnConflict::RebaseRetry]);
        assert_eq!(ValidPlan::new(plan()).unwrap().tasks()[0].on_conflict, OnConflict::Fail);
    }

    #[test]
    fn a_resolver_is_there_where_one_is_wanted() {
        let mut spec = plan();
        spec.tasks[1].on_conflict = Some(OnConflict::Resolver);
        assert!(problem(spec.clone()).contains("nobody is named who resolves conflicts"));
        let mut known = with_agent(spec);
        assert!(ValidPlan::new(known.clone()).is_ok());
        known.agents.clear();
        assert!(problem(known).contains("fixer"));
        assert!(problem(with_agent(plan())).contains("`resolver` has no effect"));
    }
}
