//! Pausing, cancelling and interrupting.

use orch_model::{
    EventKind, RunStatus, TaskChange, TaskState, Timestamp, outcome::StopReason, plan::TaskIndex,
};

use super::Scheduler;
use crate::internal::Command;

impl Scheduler {
    fn stop(&mut self, task: TaskIndex, reason: StopReason, now: Timestamp) {
        // Who is cancelled stays cancelled.
        if self.told.get(&task) == Some(&StopReason::Cancelled) {
            return;
        }
        self.told.insert(task, reason.clone());
        match self.state.task(task).state {
            // In the merge queue it can be stopped; a merge itself is short and never broken off.
            TaskState::Queued | TaskState::Merging { .. } | TaskState::Stopping { .. } => {}
            _ => self.change(task, TaskChange::Stopping { reason: reason.clone() }, now),
        }
        self.out.commands.push(Command::Stop { task, reason });
    }

    fn stop_all(&mut self, reason: &StopReason, now: Timestamp) {
        let under_way: Vec<_> = self.slots.keys().copied().collect();
        for task in under_way {
            self.stop(task, reason.clone(), now);
        }
    }

    pub(super) fn pause(&mut self, freeze: bool, now: Timestamp) {
        if !matches!(self.state.status, RunStatus::Running | RunStatus::Paused | RunStatus::Frozen)
        {
            return;
        }
        if freeze || self.state.status == RunStatus::Frozen {
            self.out.commands.push(Command::Freeze(freeze));
        }
        self.record(EventKind::RunPaused { frozen: freeze }, now);
    }

    pub(super) fn cancel(&mut self, task: TaskIndex, now: Timestamp) {
        if self.slots.contains_key(&task) {
            self.stop(task, StopReason::Cancelled, now);
        } else if !self.state.task(task).state.is_terminal() {
            self.change(task, TaskChange::Cancelled, now);
        }
    }

    pub(super) fn cancel_all(&mut self, now: Timestamp) {
        if self.state.status == RunStatus::Cancelling || self.state.status.is_ended() {
            return;
        }
        if self.state.status == RunStatus::Frozen {
            self.out.commands.push(Command::Freeze(false));
        }
        self.record(EventKind::RunCancelling, now);
        for task in self.waiting() {
            if !self.state.task(task).state.is_terminal() {
                self.change(task, TaskChange::Cancelled, now);
            }
        }
        self.stop_all(&StopReason::Cancelled, now);
    }

    pub(super) fn interrupt(&mut self, now: Timestamp) {
        if matches!(self.state.status, RunStatus::Interrupting | RunStatus::Cancelling)
            || self.state.status.is_ended()
        {
            return;
        }
        if self.state.status == RunStatus::Frozen {
            self.out.commands.push(Command::Freeze(false));
        }
        self.record(EventKind::RunInterrupting, now);
        self.stop_all(&StopReason::Interrupted, now);
    }
}
