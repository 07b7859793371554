//! An agent at work: its time limit, what its unit is told meanwhile, and its end.

use std::time::Duration;

use orch_model::{
    BudgetScope, Span,
    event::AgentIdentity,
    outcome::{AgentExit, Failure, StopReason},
    ports::{AgentNotice, Lease, RunningAgent},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Control, Exit, Unit};
use crate::internal::UnitReport;

/// How long an agent whose budget is used up may take to end by itself: its last answer may have been the
/// one that brought it there, and its work be done. Much less than another answer takes.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Unit {
    /// Like [`Unit::watch`], for the agent that works on the task: it is ended when its budget is used up.
    pub(super) async fn watch_work(
        &mut self,
        agent: &dyn RunningAgent,
        elapsed: Duration,
    ) -> Result<Watched, Exit> {
        let mut control = self.control.clone();
        let scope = tokio::select! {
            biased;
            watched = self.watch(agent, elapsed) => return watched,
            scope = out_of_budget(&mut control) => scope,
        };
        // Nothing is lost by a watch that is given up and begun again, but the time that it has taken.
        let reason = StopReason::Budget { scope };
        let last_words = tokio::time::timeout(LAST_WORDS, self.watch(agent, Duration::ZERO));
        if let Ok(watched) = last_words.await {
            return watched;
        }
        self.reporter.tell(UnitReport::Stopping(reason.clone()));
        self.stop(agent, Exit::Stopped(reason)).await
    }

    /// Sees an agent to its end, under the task's time limit, of which some has gone by, and the
    /// dispatcher's control.
    pub(super) async fn watch(
        &mut self,
        agent: &dyn RunningAgent,
        elapsed: Duration,
    ) -> Result<Watched, Exit> {
        self.bind_locks(agent).await;
        let limit = self.task().timeout;
        let mut watch = Stopwatch::new(limit.saturating_sub(elapsed));
        // What was said to an earlier agent of this unit holds for this one too.
        self.control.mark_changed();
        loop {
            let deadline = watch.deadline();
            tokio::select! {
                biased;
                // First, so that what was said before the end is not lost.
                notice = agent.notice() => self.noticed(notice),
                exit = agent.wait() => {
                    let exit = exit?;
                    if exit.left_behind > 0 {
                        self.warn(format!(
                            "processes that it left behind were ended: {}",
                            exit.left_behind
                        ));
                    }
                    if exit.leaked_output {
                        self.warn(
                            "a process that it left behind held its output open and was cut off"
                                .into(),
                        );
                    }
                    return Ok(Watched { exit, stopped: None });
                }
                () = reached(deadline) => {
                    let after = Span(limit);
                    self.reporter.tell(UnitReport::Stopping(StopReason::Timeout { after }));
                    return self.stop(agent, Exit::Failed(Failure::Timeout { after })).await;
                }
                changed = self.control.changed() => {
                    let control = match changed {
                        Ok(()) => self.control.borrow_and_update().clone(),
                        // The dispatcher is gone: nobody would hear of the result.
                        Err(_) => Control {
                            stop: Some(StopReason::Interrupted),
                            out_of_budget: None,
                            kill: true,
                            frozen: false,
                        },
                    };
                    if let Some(reason) = control.stop {
                        return self.stop(agent, why_stopped(reason)).await;
                    }
                    if watch.set_frozen(control.frozen) {
                        if control.frozen { agent.freeze().await? } else { agent.thaw().await? }
                    }
                }
            }
        }
    }

    fn noticed(&self, notice: AgentNotice) {
        match notice {
            AgentNotice::Warning(message) => self.warn(message),
            AgentNotice::Used(usage) => self.reporter.tell(UnitReport::Used(usage)),
            AgentNotice::RateLimited { reset, message } => {
                self.reporter.tell(UnitReport::RateLimited { reset, message });
            }
            _ => {}
        }
    }

    /// Has the locks last for as long as the agent lives, should this process die before it.
    async fn bind_locks(&self, agent: &dyn RunningAgent) {
        if let (Some(lease), Some(process)) = (&self.lease, agent.identity()) {
            self.bind(lease.as_ref(), &process).await;
        }
    }

    pub(super) async fn bind(&self, lease: &dyn Lease, process: &AgentIdentity) {
        if let Err(error) = lease.bind(process).await {
            self.warn(format!("its locks: {error}"));
        }
    }

    /// Ends an agent; without grace once that is asked for.
    async fn stop(&mut self, agent: &dyn RunningAgent, why: Exit) -> Result<Watched, Exit> {
        let polite = agent.stop(self.grace);
        tokio::pin!(polite);
        let no_grace = async {
            while !self.control.borrow_and_update().kill {
                if self.control.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            ended = &mut polite => ended?,
            () = no_grace => agent.stop(Duration::ZERO).await?,
        }
        match agent.wait().await {
            Ok(exit) => Ok(Watched { exit, stopped: Some(why) }),
            Err(_) => Err(why),
        }
    }
}

/// Waits until a budget is used up, and says which.
async fn out_of_budget(control: &mut watch::Receiver<Control>) -> BudgetScope {
    let told = control.wait_for(|control| control.out_of_budget.is_some()).await;
    match told.ok().and_then(|control| control.out_of_budget.clone()) {
        Some(scope) => scope,
        // The dispatcher is gone: the watch sees to that.
        None => std::future::pending().await,
    }
}

/// What the end of an agent that was told to stop means.
pub(super) fn why_stopped(reason: StopReason) -> Exit {
    match reason {
        // An earlier orchestrator found it late.
        StopReason::Timeout { after } => Exit::Failed(Failure::Timeout { after }),
        reason => Exit::Stopped(reason),
    }
}

/// How an agent ended.
pub(super) struct Watched {
    pub(super) exit: AgentExit,
    /// Why it was ended; `None` where it did so by itself.
    pub(super) stopped: Option<Exit>,
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A time limit that stands still while the agent is frozen.
#[derive(Debug)]
enum Stopwatch {
    Running { deadline: Option<Instant> },
    Frozen { left: Option<Duration> },
}

impl Stopwatch {
    fn new(limit: Duration) -> Self {
        Self::Running { deadline: Instant::now().checked_add(limit) }
    }

    const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running { deadline } => *deadline,
            Self::Frozen { .. } => None,
        }
    }

    /// Whether that changed anything.
    fn set_frozen(&mut self, frozen: bool) -> bool {
        match (&*self, frozen) {
            (Self::Running { deadline }, true) => {
                let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                *self = Self::Frozen { left };
                true
            }
            (Self::Frozen { left }, false) => {
                let deadline = left.and_then(|left| Instant::now().checked_add(left));
                *self = Self::Running { deadline };
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frozen_limit_stands_still() {
        let mut watch = Stopwatch::new(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(watch.set_frozen(true));
        assert!(!watch.set_frozen(true));
        assert_eq!(watch.deadline(), None);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(watch.set_frozen(false));
        assert_eq!(watch.deadline(), Some(Instant::now() + Duration::from_secs(6)));
        reached(watch.deadline()).await;
    }
}
