//! Deadlocks: who can never go on unless somebody gives up.
//!
//! The graph is reduced: whoever waits for nothing is taken to end and to free what he holds, then
//! those whose requests are granted by that, and so on; who is left is in a deadlock or waits for
//! one. (R. C. Holt, Some Deadlock Properties of Computer Systems, ACM Computing Surveys 4(3), 1972.)
//! So a holder of some units of a counted lock blocks only where the others don't free enough.

use orch_model::ports::{Deadlock, DeadlockStep, LockError, LockHolder};

use super::table::{LeaseRecord, NextFence, Now, Table, Waiter, blockers};

impl Table {
    /// Finds deadlocks and breaks each: the request of the lowest priority in the circle, among
    /// these the youngest, is refused.
    pub(super) fn find_deadlocks(
        &mut self,
        now: Now,
        fence: NextFence<'_>,
    ) -> Result<(), LockError> {
        while let Some(cycle) = self.cycle() {
            let of_cycle = |waiter: &&mut Waiter| {
                let mut steps = cycle.iter();
                waiter.refused.is_none()
                    && steps.any(|step| {
                        step.holder == waiter.holder
                            && waiter.claims.iter().any(|claim| claim.name == step.wants)
                    })
            };
            let victims = self.waiters.iter_mut().filter(of_cycle);
            let Some(victim) = victims.max_by_key(|waiter| (waiter.priority, waiter.ticket)) else {
                return Ok(());
            };
            let deadlock =
                Deadlock { number: fence()?, at: now.wall, victim: victim.holder.clone(), cycle };
            victim.refused = Some(deadlock.clone());
            self.remember(deadlock);
        }
        Ok(())
    }

    /// A circle of holders each of whom waits for the next one.
    fn cycle(&self) -> Option<Vec<DeadlockStep>> {
        let waiting: Vec<&Waiter> =
            self.waiters.iter().filter(|waiter| waiter.refused.is_none()).collect();
        let stuck = self.stuck(&waiting);
        let leases: Vec<_> =
            self.leases.iter().filter(|lease| stuck.contains(&&lease.holder)).collect();
        let mut path: Vec<DeadlockStep> = Vec::new();
        let mut at = *stuck.first()?;
        loop {
            if let Some(begin) = path.iter().position(|step| step.holder == *at) {
                return Some(path.split_off(begin));
            }
            let claims = waiting.iter().filter(|waiter| waiter.holder == *at);
            let (wants, next) = claims.flat_map(|waiter| &waiter.claims).find_map(|claim| {
                let next = *blockers(at, claim, &leases, &[]).first()?;
                Some((claim.name.clone(), next))
            })?;
            path.push(DeadlockStep { holder: at.clone(), wants });
            at = next;
        }
    }

    /// The holders that can't go on however everybody else ends.
    fn stuck<'a>(&'a self, waiting: &[&'a Waiter]) -> Vec<&'a LockHolder> {
        let mut stuck: Vec<&LockHolder> = waiting.iter().map(|waiter| &waiter.holder).collect();
        stuck.sort_unstable();
        stuck.dedup();
        loop {
            let leases: Vec<&LeaseRecord> =
                self.leases.iter().filter(|lease| stuck.contains(&&lease.holder)).collect();
            let can_go_on = |holder: &LockHolder| {
                let own = waiting.iter().filter(|waiter| waiter.holder == *holder);
                own.flat_map(|waiter| &waiter.claims)
                    .all(|claim| blockers(holder, claim, &leases, &[]).is_empty())
            };
            let before = stuck.len();
            stuck = stuck.iter().copied().filter(|holder| !can_go_on(holder)).collect();
            if stuck.len() == before {
                return stuck;
            }
        }
    }
}
