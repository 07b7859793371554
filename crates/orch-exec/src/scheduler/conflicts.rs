//! Tasks whose conflicts wait for a person, and conflicts that are foreseen.

use orch_deps::Rank;
use orch_model::{
    EventKind, TaskState, Timestamp,
    plan::{
        TaskIndex,
        spec::{OnConflict, Schedule},
    },
};

use super::Scheduler;

impl Scheduler {
    /// Whether it can go on when a person has resolved its conflicts.
    pub(super) fn waits_for_person(&self, task: TaskIndex) -> bool {
        matches!(self.state.task(task).state, TaskState::Conflicted { .. })
            && self.plan.task(task).on_conflict == OnConflict::Manual
    }

    /// Whether all that is left to do has to wait for a person.
    pub(super) fn is_held_up(&self) -> bool {
        if self.on_hold.is_empty() {
            return false;
        }
        // A wave does not end while a task of it waits for one that is on hold.
        let in_waves = self.settings().schedule == Schedule::Waves;
        let is_behind = |rank: &Rank| self.waves.wave_of(self.ranks.task(*rank)) > self.wave;
        let waits_for_nobody_else = self.pauses.is_empty()
            && self.foreign.is_empty()
            && self.queue.iter().all(|rank| in_waves && is_behind(rank));
        waits_for_nobody_else || self.frontier.unresolved() == self.on_hold.len()
    }

    pub(super) fn conflict_expected(
        &mut self,
        tasks: [TaskIndex; 2],
        files: Vec<String>,
        now: Timestamp,
    ) {
        // One of them may have ended while it was found out.
        if tasks.iter().any(|task| !self.slots.contains_key(task)) {
            return;
        }
        let tasks = tasks.map(|task| self.plan.task(task).id.clone());
        let mut known = self.state.expected_conflicts.iter();
        let known = known.find(|known| known.tasks == tasks);
        if known.map_or(&[][..], |known| &known.files[..]) != files {
            self.record(EventKind::ConflictExpected { tasks, files }, now);
        }
    }
}
