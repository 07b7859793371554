//! What the plan says of a task, worked out the slow way.

use std::collections::BTreeSet;

use orch_model::{
    RunState, TaskState, ValidPlan,
    plan::{
        LockMode, Task, TaskIndex,
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
