//! Where the run stands, and why each waiting task waits.

use std::time::Duration;

use orch_model::{
    Progress, RunStatus, TaskState, Timestamp,
    plan::TaskIndex,
    progress::{Counts, RunningTask, WaitReason, WaitingTask},
};

use super::{Scheduler, budget::Books};

/// How many dependencies are named as the reason of a wait.
const NAMED_DEPENDENCIES: usize = 5;

/// How many dependencies are counted at most: a task may wait for thousands by way of its epic.
const COUNTED_DEPENDENCIES: usize = 100;

impl Scheduler {
    /// Where the run stands. O(tasks + dependencies).
    #[must_use]
    pub fn progress(&self, now: Timestamp) -> Progress {
        let mut counts = Counts { total: self.state.tasks.len(), ..Counts::default() };
        let mut waiting = Vec::new();
        let books = self.books();
        for index in self.plan.indices() {
            let task = self.state.task(index);
            match &task.state {
                TaskState::Merged { .. } => counts.merged += 1,
                TaskState::Failed { .. } => counts.failed += 1,
                TaskState::Conflicted { .. } => counts.conflicted += 1,
                TaskState::Skipped { .. } => counts.skipped += 1,
                TaskState::Cancelled { .. } => counts.cancelled += 1,
                TaskState::NeedsAttention { .. } => counts.needs_attention += 1,
                _ if self.slots.contains_key(&index) => counts.active += 1,
                _ => {
                    counts.waiting += 1;
                    let reason = self.why_waiting(index, books.as_ref(), now);
                    waiting.push(WaitingTask { task: task.id.clone(), reason });
                }
            }
        }
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_by_key(|(task, since)| (**since, **task));
        let running = slots
            .into_iter()
            .map(|(index, _)| {
                let task = self.state.task(*index);
                RunningTask {
                    task: task.id.clone(),
                    title: self.plan.task(*index).name().to_owned(),
                    state: task.state.name().to_owned(),
                    attempt: task.state.attempt().unwrap_or(task.attempts + 1),
                    since: task.entered_at,
                    by: self.chosen(*index).cloned().map(Box::new),
                    pid: task.agent.as_ref().map(|agent| agent.pid),
                }
            })
            .collect();
        Progress {
            run: self.state.run().clone(),
            status: self.state.status,
            at: now,
            seq: self.state.seq,
            started_at: self.state.started_at,
            counts,
            max_concurrency: self
                .state
                .concurrency
                .unwrap_or(self.state.header.settings.max_concurrency),
            slowdown: self.state.concurrency.and(self.state.slowdown.clone()),
            breakers: self.state.breakers.clone(),
            current_wave: (self.wave + 1).min(self.waves.len()),
            waves: self.waves.len(),
            budget_stops: self.state.budget_stops.clone(),
            running,
            waiting,
            eta: self.eta(now),
        }
    }

    fn why_waiting(&self, task: TaskIndex, books: Option<&Books>, now: Timestamp) -> WaitReason {
        if matches!(self.state.status, RunStatus::Cancelling | RunStatus::Interrupting) {
            return WaitReason::Stopping;
        }
        match &self.state.task(task).state {
            TaskState::Backoff { until, failure, .. } => {
                WaitReason::Backoff { until: *until, failure: failure.to_string() }
            }
            TaskState::Blocked => {
                let all = self.frontier.unresolved_dependencies(task, COUNTED_DEPENDENCIES);
                let tasks = all
                    .iter()
                    .take(NAMED_DEPENDENCIES)
                    .map(|task| self.plan.task(*task).id.clone())
                    .collect();
                WaitReason::Tasks { tasks, total: all.len() }
            }
            _ if self.is_paused() => {
                let books = books.filter(|_| !self.state.budget_stops.is_empty());
                self.no_room(books, task).unwrap_or(WaitReason::Paused)
            }
            _ => self
                .foreign
                .get(&task)
                .cloned()
                .or_else(|| {
                    self.is_behind_wave(task, now)
                        .then(|| WaitReason::Wave { wave: self.waves.wave_of(task) + 1 })
                })
                .or_else(|| self.waits_for_agents(task, None, now))
                .or_else(|| self.holdings.obstacle(task))
                .or_else(|| {
                    let shortage = self.machine.shortage()?.clone();
                    Some(WaitReason::Shortage { shortage })
                })
                .or_else(|| self.waits_for_agents(task, books, now))
                .unwrap_or(WaitReason::Slot),
        }
    }

    /// How long the rest takes at least, by the bounds on the makespan: each task counts what was
    /// recorded or estimated for it, else the mean of what ended in this run.
    fn eta(&self, now: Timestamp) -> Option<Duration> {
        let durations = self.ranks.durations();
        let (count, sum) = self.observed;
        if count == 0 && durations.known_count() == 0 {
            return None;
        }
        let mean = if count > 0 { sum / count } else { durations.assumed() };
        let rest = |task: TaskIndex| {
            if self.frontier.is_resolved(task) {
                return Duration::ZERO;
            }
            let whole = durations.known(task).unwrap_or(mean);
            let spent = self.slots.get(&task).map_or(Duration::ZERO, |since| now.since(*since));
            whole.saturating_sub(spent)
        };
        let width = self.state.header.settings.max_concurrency as usize;
        Some(self.graph.bounds(rest, width).lower)
    }
}
