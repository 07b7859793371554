//! What holds when a run has ended, whatever went wrong on the way. What holds at every moment is
//! checked where it happens: no agent is started twice, none beside too many others or without its
//! locks, no work is thrown away, nobody is told of what may be lost.

use orch_exec::model::{
    Report, RunState, TaskState, Timestamp, plan::spec::Isolation, state::Merged,
};

use crate::world::Inner;

/// Checks the world at the end of a run.
pub(crate) fn check(world: &mut Inner, report: &Report, now: Timestamp) {
    world.settle(now);
    let found = violations(world, report);
    world.violations.extend(found);
}

fn violations(world: &mut Inner, report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let Some((run, journal)) = world.journals.current() else { return vec!["no journal".into()] };
    let state = match RunState::replay(&journal.events) {
        Ok(Some(state)) => state,
        other => return vec![format!("the journal of {run} does not add up: {other:?}")],
    };
    if Report::of(&state) != *report {
        found.push("the journal and the report differ".into());
    }
    for task in &state.tasks {
        let id = &task.id;
        let merges = world.repository.merge_commits(id);
        let index = world.case.plan.index_of(id).expect("it is in the plan");
        let spec = world.case.plan.task(index);
        match &task.state {
            TaskState::Merged { result: Merged::Commit { merge_commit, .. }, .. } => {
                if merges != [merge_commit.clone()] {
                    found.push(format!("{id} was merged by {merge_commit}, and is by {merges:?}"));
                }
                let files = world.repository.files_of(id);
                let own = &world.case.scripts[id].files[0];
                if !files.contains(own.as_str()) {
                    found.push(format!("{id} is merged, and {own} is not: {files:?}"));
                }
            }
            TaskState::Merged { .. } if spec.isolation != Isolation::None || !merges.is_empty() => {
                found.push(format!("{id} left nothing, and was to leave something"));
            }
            TaskState::Merged { .. } => {}
            state if !state.is_terminal() => found.push(format!("{id} is {}", state.name())),
            TaskState::NeedsAttention { known, .. } => {
                found.push(format!("{id} needs attention: {known}"));
            }
            other if !merges.is_empty() => {
                found.push(format!("{id} is {}, and it is merged", other.name()));
            }
            _ => {}
        }
        // Whoever was started for its last attempt is who is recorded, whoever recorded it.
        if let (Some((attempt, agent)), Some(by)) = (world.chosen(id), &task.by)
            && *attempt == task.attempts
            && *agent != by.agent
        {
            found.push(format!("{agent} was given {id}, and {by} is recorded"));
        }
        if task.charged > spec.retries + 1 {
            found.push(format!("{id} was charged {} times", task.charged));
        }
        let is_merged = matches!(task.state, TaskState::Merged { .. });
        if world.case.is_calm && is_merged != world.case.succeeds(id) {
            found.push(format!("{id} is {}, which can't be", task.state.name()));
        }
        if is_merged && world.repository.trees().any(|of| of == id) {
            found.push(format!("{id} is merged, and its tree is left"));
        }
    }
    let running: Vec<_> = world.running().map(|(name, _)| format!("{name:?}")).collect();
    found.extend(running.into_iter().map(|name| format!("{name} still runs")));
    found.extend(world.repository.homeless().iter().cloned());
    if world.repository.results_hold_both(&world.case.poison) {
        found.push(format!("the results hold {:?}, which fail together", world.case.poison));
    }
    let torn = world.repository.torn();
    if !torn.is_empty() {
        found.push(format!("the results hold what a power cut left of {torn:?}"));
    }
    if !world.repository.is_delivered() {
        found.push("the results were not delivered".into());
    }
    let held = world.held();
    if held > 0 {
        found.push(format!("{held} leases are left"));
    }
    found
}
