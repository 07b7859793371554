//! What each attempt of a run used, as its events tell: the rows that costs are summed up from.

use std::collections::HashMap;

use crate::{
    event::{Event, EventKind, TaskChange},
    id::{EpicId, TaskId},
    plan::TaskIndex,
    run::{ApplyError, RunState},
    spending::Worker,
    state::Attempt,
    time::Timestamp,
    usage::Usage,
};

/// What one worker used in one attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expense {
    /// The task.
    pub task: TaskId,
    /// Its epic.
    pub epic: Option<EpicId>,
    /// The attempt.
    pub attempt: Attempt,
    /// Who: the task's agent, or one that resolved its conflicts.
    pub worker: Worker,
    /// The model: the one that answered, as far as the agent says so, or that of the worker.
    pub model: Option<String>,
    /// Whether the attempt is its own; what resolves conflicts is part of somebody else's.
    pub is_attempt: bool,
    /// When it was told last.
    pub at: Timestamp,
    /// What was used, as far as it has come.
    pub usage: Usage,
}

/// Takes the events of a run in, from the first on, and tells what was used. The sum of all is what the
/// run's state says.
#[derive(Debug, Default)]
pub struct Expenses {
    state: Option<RunState>,
    all: Vec<Expense>,
    known: HashMap<(TaskIndex, Attempt, Worker), usize>,
}

impl Expenses {
    /// Takes the next event in.
    ///
    /// # Errors
    /// Where it can't follow those before it.
    pub fn see(&mut self, event: &Event) -> Result<(), ApplyError> {
        let subject = self.state.as_ref().and_then(|state| match &event.kind {
            EventKind::Task { task, change } => {
                let index = state.index_of(task)?;
                let run = state.task(index);
                let (attempt, by) = match change {
                    TaskChange::Leased { attempt, by } => (*attempt, by),
                    _ => (run.attempts, &run.by),
                };
                let worker = Worker::of(&state.header.plan, index, &run.state, by.as_deref());
                Some((index, attempt, worker, run.used(), change))
            }
            _ => None,
        });
        RunState::follow(&mut self.state, event)?;
        let (Some((index, attempt, worker, before, change)), Some(state)) =
            (subject, self.state.as_ref())
        else {
            return Ok(());
        };
        let run = state.task(index);
        let after = run.used();
        let is_attempt = matches!(change, TaskChange::Leased { .. });
        let ends = matches!(change, TaskChange::AgentEnded { .. });
        if !is_attempt && !ends && before == after {
            return Ok(());
        }
        let next = self.all.len();
        let at = *self.known.entry((index, attempt, worker.clone())).or_insert(next);
        if at == next {
            self.all.push(Expense {
                task: run.id.clone(),
                epic: state.header.plan.tasks[index.get()].epic.clone(),
                attempt,
                model: worker.model.clone(),
                worker,
                is_attempt: false,
                at: event.at,
                usage: Usage::default(),
            });
        }
        let expense = &mut self.all[at];
        expense.is_attempt |= is_attempt;
        expense.at = event.at;
        if let TaskChange::AgentEnded { model: Some(model), .. } = change {
            expense.model = Some(model.clone());
        }
        // In this order: what was used before may be that of other attempts.
        expense.usage += after;
        expense.usage -= before;
        Ok(())
    }

    /// What was used so far, in the order in which it began.
    #[must_use]
    pub fn into_all(self) -> Vec<Expense> {
        self.all
    }
}

#[cfg(test)]
mod tests;
