//! Rate limits: a circuit breaker per kind of agent, and a concurrency that gives way.
//!
//! A rate limit concerns a service with an account and a model, a used-up quota the account; see
//! [`orch_model::plan::Service`].
//!
//! A *circuit breaker* (M. Nygard, *Release It!*, 2007) is closed while all goes well. A rate limit opens
//! it: nothing of its kind is started until the limit's reset, or, where that is not known, for a pause
//! that doubles from time to time. Then it is half open: one task tries. Its success closes the breaker,
//! and another rate limit opens it again.
//!
//! The concurrency is halved at each limit that is news: of tasks that were started before it was
//! lowered last, the first one has spoken for all. It goes down to one, and is raised by one after as many successes as tasks
//! may run at a time: additive increase, multiplicative decrease, which converges on what is there
//! (D.-M. Chiu and R. Jain, *Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
//! Computer Networks*, 1989).

use std::time::Duration;

use orch_model::{
    EventKind, Timestamp,
    outcome::Failure,
    plan::{Service, TaskIndex},
    progress::WaitReason,
    run::Breaker,
};

use super::Scheduler;
use crate::{backoff, internal::Command};

/// However late a reset is said to be, it is tried again after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

impl Scheduler {
    /// The breakers that concern a service, with their keys.
    fn breakers<'a>(
        &'a self,
        service: &'a Service,
    ) -> impl Iterator<Item = (&'a String, &'a Breaker)> {
        let Service { account, key, .. } = service;
        let own = (key != account).then_some(key);
        let keys = [Some(account), own].into_iter().flatten();
        keys.filter_map(|key| self.state.breakers.get_key_value(key))
    }

    /// Why a service may not be asked now, for a rate limit's sake; `None` where it may.
    pub(super) fn breaker(&self, service: &Service, now: Timestamp) -> Option<WaitReason> {
        let is_probed = |key| self.probes.iter().any(|(_, probed)| probed == key);
        let mut breakers = self.breakers(service);
        let (key, breaker) = breakers.find(|(key, open)| now < open.until || is_probed(*key))?;
        let (key, reason) = (key.clone(), breaker.reason.clone());
        Some(WaitReason::Breaker { key, until: breaker.until, reason })
    }

    /// A task at work tells by its end, or by an answer that it gets, whether the trouble of its kind is over.
    pub(super) fn probe(&mut self, task: TaskIndex) {
        if !self.state.breakers.is_empty() {
            let service = self.service(task);
            let keys: Vec<_> =
                self.breakers(&service).map(|(key, _)| (task, key.clone())).collect();
            self.probes.extend(keys);
        }
    }

    /// What a failure of a task that got its slot `since` means for the others: more like it are not
    /// started, or fewer at a time.
    pub(super) fn rate_limited(
        &mut self,
        task: TaskIndex,
        failure: &Failure,
        since: Timestamp,
        now: Timestamp,
    ) {
        let policy = failure.policy();
        if policy.opens_breaker {
            self.open_breaker(task, failure, now);
        }
        if policy.slows_down {
            let reason = format!("{}: {failure}", self.service(task).key);
            self.slow_down(reason, since, now);
        }
    }

    /// Opens the breaker of a task's kind, or keeps it open for longer.
    fn open_breaker(&mut self, task: TaskIndex, failure: &Failure, now: Timestamp) {
        let service = self.service(task);
        let is_of_account = matches!(failure, Failure::Quota { .. });
        let key = if is_of_account { &service.account } else { &service.key }.clone();
        let known = self.state.breakers.get(&key);
        // What was started before the breaker opened tells nothing new, unless the reset is later.
        let is_news = known.is_none_or(|breaker| {
            now >= breaker.until || failure.reset().is_some_and(|reset| reset > breaker.until)
        });
        if !is_news {
            return;
        }
        let reset = failure.reset().filter(|reset| *reset > now);
        let until = match (known.filter(|breaker| now >= breaker.until), reset) {
            (None, Some(reset)) => reset,
            // Who was told when to come back and is refused again does not believe the next time too.
            (Some(tried), reset) => {
                let failures = tried.opened + u32::from(reset.is_none());
                (now + self.patience(task, failure, failures)).max(reset.unwrap_or(now))
            }
            (None, None) => now + self.patience(task, failure, 1),
        };
        let until = until.min(now + LONGEST_PAUSE);
        let reason = failure.to_string();
        // Who tries is older than this, and the next one is to try after it.
        self.probes.retain(|(_, probed)| *probed != key);
        self.record(EventKind::BreakerOpened { key: key.clone(), until, reason }, now);
    }

    /// How long it is waited where nobody says until when: longer each time.
    fn patience(&self, task: TaskIndex, failure: &Failure, failures: u32) -> Duration {
        let (settings, id) = (self.settings(), &self.state.task(task).id);
        let least = failure.policy().least_pause;
        let doubled = least.saturating_mul(1 << failures.saturating_sub(1).min(31));
        let longest = settings.backoff_max.0.max(least);
        backoff::pause(settings, id, failures).max(doubled.min(longest))
    }

    /// Has the scheduler look again when a breaker is half open.
    pub(super) fn wake_for_breakers(&mut self, now: Timestamp) {
        let closed = self.state.breakers.values().filter(|breaker| breaker.until > now);
        let wakes: Vec<_> = closed.map(|breaker| Command::WakeAt(breaker.until)).collect();
        self.out.commands.extend(wakes);
    }

    /// A service has answered an agent: its kind is no longer limited, if that was the one that tried.
    pub(super) fn answered(&mut self, task: TaskIndex, now: Timestamp) {
        let tried = self.probes.iter().filter(|(probing, _)| *probing == task);
        let keys: Vec<_> = tried.map(|(_, key)| key.clone()).collect();
        for key in keys {
            self.probes.retain(|(_, probed)| *probed != key);
            self.record(EventKind::BreakerClosed { key }, now);
        }
    }

    /// An agent has ended well: its kind is no longer limited, if it was the one that tried.
    pub(super) fn agent_succeeded(&mut self, task: TaskIndex, now: Timestamp) {
        if self.state.breakers.is_empty() && self.state.concurrency.is_none() {
            return;
        }
        self.answered(task, now);
        if let Some(limit) = self.state.concurrency
            && self.machine.is_calm()
        {
            self.successes += 1;
            if self.successes >= limit {
                let reason = format!("{} agents succeeded in a row", self.successes);
                self.limit(limit + 1, reason, now);
            }
        }
    }

    /// Halves how many tasks run at a time, unless a task that was started `since` tells nothing new.
    pub(super) fn slow_down(&mut self, reason: String, since: Timestamp, now: Timestamp) {
        if self.state.slowdown.as_ref().is_some_and(|last| since <= last.at) {
            return;
        }
        let limit = self.state.concurrency.unwrap_or(self.settings().max_concurrency);
        if limit > 1 {
            self.limit(limit / 2, reason, now);
        }
        self.successes = 0;
        self.machine.limited_by_others();
    }

    pub(super) fn limit(&mut self, limit: u32, reason: String, now: Timestamp) {
        self.successes = 0;
        self.record(EventKind::ConcurrencyChanged { limit, reason }, now);
    }
}
