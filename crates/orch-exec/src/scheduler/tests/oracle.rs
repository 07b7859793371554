//! What the plan says of a task, worked out the slow way.

use std::collections::BTreeSet;

use crate::scheduler::Scheduler;
use orch_model::{
    RunState, TaskState, ValidPlan,
    plan::{
        Candidate, LockMode, Task, TaskIndex,
        spec::{Isolation, OnConflict},
    },
};

/// Tasks that must have been merged before this one starts.
pub(super) fn hard(plan: &ValidPlan, task: TaskIndex) -> BTreeSet<TaskIndex> {
    let task = plan.task(task);
    let epics = task.epic.iter().flat_map(|epic| &plan.epics()[epic.get()].needs);
    let by_epic = epics.flat_map(|epic| &plan.epics()[epic.get()].tasks);
    task.needs.iter().chain(by_epic).copied().collect()
}

/// The length of the longest chain of tasks before this one.
pub(super) fn level(plan: &ValidPlan, task: TaskIndex) -> usize {
    let before = hard(plan, task).into_iter().chain(plan.task(task).after.iter().copied());
    before.map(|before| level(plan, before) + 1).max().unwrap_or(0)
}

/// Whether all that the task waits for has ended as it must.
pub(super) fn may_start(plan: &ValidPlan, state: &RunState, task: TaskIndex) -> bool {
    let merged = |task: &TaskIndex| matches!(state.task(*task).state, TaskState::Merged { .. });
    hard(plan, task).iter().all(merged)
        && plan.task(task).after.iter().all(|task| has_ended(plan, state, *task))
}

/// Whether a task has ended for good: one whose conflicts a person may resolve has not.
pub(super) fn has_ended(plan: &ValidPlan, state: &RunState, task: TaskIndex) -> bool {
    state.task(task).state.is_terminal() && !is_on_hold(plan, state, task)
}

/// Whether a person has to resolve its conflicts.
pub(super) fn is_on_hold(plan: &ValidPlan, state: &RunState, task: TaskIndex) -> bool {
    matches!(state.task(task).state, TaskState::Conflicted { .. })
        && plan.task(task).on_conflict == OnConflict::Manual
}

/// Whether two tasks exclude each other, by locks that aren't counted, files or worktrees.
pub(super) fn exclude(a: &Task, b: &Task) -> bool {
    let locks = a.locks.iter().any(|mine| {
        b.locks.iter().any(|theirs| {
            mine.name == theirs.name
                && (mine.mode == LockMode::Exclusive || theirs.mode == LockMode::Exclusive)
        })
    });
    let files = a.files.iter().any(|mine| b.files.iter().any(|theirs| overlap(mine, theirs)));
    let in_epic = |task: &Task| task.isolation == Isolation::Epic;
    locks || files || (in_epic(a) && in_epic(b) && a.epic == b.epic)
}

/// Whether a task may run beside these.
pub(super) fn fits<'a>(task: &Task, beside: impl Iterator<Item = &'a Task> + Clone) -> bool {
    let counted = task.locks.iter().all(|claim| {
        let LockMode::Counted { count, of } = claim.mode else { return true };
        let taken = beside.clone().flat_map(|other| &other.locks).filter_map(|other| {
            match (other.name == claim.name, other.mode) {
                (true, LockMode::Counted { count, .. }) => Some(count),
                _ => None,
            }
        });
        taken.sum::<u32>() + count <= of
    });
    counted && !beside.clone().any(|other| exclude(task, other))
}

/// The globs that the simulated plans use.
pub(super) const GLOBS: [&str; 5] = ["src/**", "src/a.rs", "src/*.md", "docs/*", "docs/b.md"];

fn overlap(a: &str, b: &str) -> bool {
    let pair = [a, b];
    a == b
        || (pair.contains(&"src/**") && a.starts_with("src/") && b.starts_with("src/"))
        || (pair.contains(&"docs/*") && pair.contains(&"docs/b.md"))
}

/// Who may do a task, in order, and whether anything rules each of them out: it is not there, or can't do it.
fn agents(plan: &ValidPlan, state: &RunState, task: TaskIndex) -> Vec<(Candidate, bool)> {
    let unfit = &state.task(task).unfit;
    let agents = plan.task(task).candidates().map(|candidate| {
        let out = candidate.agent.as_str() == "gone" || unfit.contains_key(&candidate.agent);
        (candidate, out)
    });
    agents.collect()
}

fn is_limited(plan: &ValidPlan, state: &RunState, task: TaskIndex, one: &Candidate) -> bool {
    let service = plan.service_of(task, &one.agent, one.model.as_deref());
    [&service.key, &service.account].into_iter().any(|key| state.breakers.contains_key(key))
}

/// Whether somebody is there for a task whom no limit concerns.
pub(super) fn has_free_agent(plan: &ValidPlan, state: &RunState, task: TaskIndex) -> bool {
    let agents = agents(plan, state, task);
    if agents.is_empty() {
        return !state.breakers.contains_key(&plan.service(task).key);
    }
    let nobody = agents.iter().all(|(_, out)| *out);
    let asked = |at: usize, out: bool| if nobody { at == 0 } else { !out };
    agents
        .iter()
        .enumerate()
        .any(|(at, (one, out))| asked(at, *out) && !is_limited(plan, state, task, one))
}

/// The first one does it who can: whoever comes before is ruled out or limited.
pub(super) fn check_agent(scheduler: &Scheduler, plan: &ValidPlan, task: TaskIndex) {
    let state = scheduler.state();
    let agents = agents(plan, state, task);
    let Some(choice) = scheduler.chosen(task) else {
        return assert!(agents.is_empty(), "nobody was chosen for {task:?}");
    };
    if agents.iter().all(|(_, out)| *out) {
        return assert_eq!(choice.agent, agents[0].0.agent, "{task:?}");
    }
    for (one, out) in agents {
        if one.agent == choice.agent {
            return assert!(!out, "{task:?} is given to {one}");
        }
        assert!(out || is_limited(plan, state, task, &one), "{task:?} passes {one} over");
    }
    panic!("{task:?} is given to {choice}, who is none of its agents");
}
