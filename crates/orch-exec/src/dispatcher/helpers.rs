//! What goes on beside the turns of a dispatcher, and tells it by messages.

use std::sync::Arc;

use orch_model::plan::{Task, spec::Isolation};

use super::{Dispatcher, Message, SYNC_EVERY};
use crate::{foresight, internal::Input, resources};

impl Dispatcher {
    pub(super) fn spawn_committer(&mut self) {
        let journal = Arc::clone(&self.journal);
        let commit = Arc::clone(&self.commit);
        let hurry = Arc::clone(&self.hurry);
        let messages = self.messages.clone();
        self.helpers.spawn(async move {
            loop {
                commit.notified().await;
                let result = journal.sync().await;
                let failed = result.is_err();
                if messages.send(Message::Durable(result)).is_err() || failed {
                    return;
                }
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(SYNC_EVERY) => {}
                    () = hurry.notified() => {}
                }
            }
        });
    }

    /// Tells observers of deadlocks between locks in which this run had a part.
    pub(super) fn watch_for_deadlocks(&mut self) {
        let (locks, run) = (Arc::clone(&self.ports.locks), self.run.clone());
        let messages = self.messages.clone();
        self.helpers.spawn(async move {
            let mut last = match locks.overview().await {
                Ok(overview) => overview.deadlocks.last().map_or(0, |deadlock| deadlock.number),
                Err(_) => 0,
            };
            loop {
                let deadlock = match locks.next_deadlock(last).await {
                    Ok(deadlock) => deadlock,
                    // Who asks for a lock is told of it.
                    Err(error) => return tracing::debug!(%error, "deadlocks can't be watched for"),
                };
                last = deadlock.number;
                if deadlock.concerns(&run) {
                    let victim = &deadlock.victim;
                    let message =
                        format!("deadlock: {deadlock}; the request of {victim} was refused");
                    let _ = messages.send(Message::Input(Input::Warning(message), None));
                }
            }
        });
    }

    /// Tells observers what the runner has to say of the run.
    pub(super) fn watch_runner(&mut self) {
        let (runner, run) = (Arc::clone(&self.ports.runner), self.run.clone());
        let messages = self.messages.clone();
        self.helpers.spawn(async move {
            loop {
                let message = runner.notice(&run).await;
                if messages.send(Message::Input(Input::Warning(message), None)).is_err() {
                    return;
                }
            }
        });
    }

    /// Tells the scheduler again and again how the machine does. The kernel tells nobody when a disk
    /// fills up, so it has to be looked at.
    pub(super) fn watch_resources(&mut self) {
        let Some(resources) = self.ports.resources.clone() else { return };
        let messages = self.messages.clone();
        self.helpers.spawn(async move {
            loop {
                tokio::time::sleep(resources::LOOK_EVERY).await;
                let reading = resources.look().await;
                if messages.send(Message::Input(Input::Resources(reading), None)).is_err() {
                    return;
                }
            }
        });
    }

    /// Tells observers of conflicts between tasks at work. Where no two can be, it costs nothing.
    pub(super) fn foresee_conflicts(&mut self) {
        let in_git = |task: &&Task| task.isolation != Isolation::None;
        let alone = self.scheduler.state().header.settings.max_concurrency < 2
            || self.plan.tasks().iter().filter(in_git).count() < 2;
        let Some(worktrees) = self.ports.worktrees.clone().filter(|_| !alone) else { return };
        self.helpers.spawn(foresight::watch(worktrees, self.messages.clone()));
    }
}
