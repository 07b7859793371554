//! Who holds what, and who waits for what: the rules of locks, as a pure function of a table.
//!
//! The table knows no clock, no process and no file; [`FileLocks`](crate::FileLocks) keeps it in a
//! file and [`MemoryLocks`](crate::MemoryLocks) in memory.

use std::collections::HashSet;

use orch_model::{
    event::AgentIdentity,
    id::LockName,
    plan::{LockClaim, LockMode},
    ports::{
        Deadlock, HeldLock, LeaseInfo, LockError, LockHolder, LockOverview, LockRequest, WaiterInfo,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::process::Life;

/// The version of the table's format.
pub(crate) const VERSION: u32 = 1;
/// For how long, in milliseconds, a request that isn't renewed stays in line: one whose process is
/// suspended, or that the engine has given up.
pub(crate) const IN_LINE: u64 = 3_000;
/// After how many milliseconds a request keeps all of its locks from those who came later, not only
/// those that it waits for at the moment.
const AGED: u64 = 10_000;
/// How many deadlocks are remembered.
const REMEMBERED: usize = 16;

/// The moment at which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds of a clock that only goes forward.
    pub(crate) steady: u64,
    /// For people.
    pub(crate) wall: Timestamp,
}

/// Gives the next fencing token.
pub(crate) type NextFence<'a> = &'a mut dyn FnMut() -> Result<u64, LockError>;

/// All leases and waiting requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) version: u32,
    ticket: u64,
    pub(super) leases: Vec<LeaseRecord>,
    /// In the order in which they came.
    pub(super) waiters: Vec<Waiter>,
    deadlocks: Vec<Deadlock>,
    /// What was changed since it was read.
    #[serde(skip)]
    pub(crate) changes: Changes,
}

/// What was changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Anything.
    pub(crate) any: bool,
    /// Something that others may wait for.
    pub(crate) freed: bool,
    /// A deadlock was broken.
    pub(crate) deadlock: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    fence: u64,
    pub(super) holder: LockHolder,
    locks: Vec<HeldLock>,
    /// It lasts for as long as one of these lives.
    lives: Vec<Life>,
    /// It was left by [`orch_model::ports::Lease::keep`].
    #[serde(default)]
    kept: bool,
    since: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) holder: LockHolder,
    pub(super) claims: Vec<LockClaim>,
    pub(super) priority: u8,
    /// The process that waits.
    life: Life,
    since: Timestamp,
    /// Since when it waits, and until when it is in line if it isn't renewed.
    steady_since: u64,
    until: u64,
    /// It was chosen to break this deadlock, and hasn't been told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<Deadlock>,
}

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) fence: u64,
    pub(crate) locks: Vec<HeldLock>,
}

/// What is in the way of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) lock: LockName,
    pub(crate) holder: Option<LockHolder>,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    Granted(T),
    Busy(Obstacle),
    Refused(Deadlock),
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    /// Drops what depended on processes that are dead, and requests that weren't renewed.
    pub(crate) fn sweep(&mut self, now: Now, mut is_dead: impl FnMut(&Life) -> bool) {
        let before = (self.leases.len(), self.waiters.len());
        for lease in &mut self.leases {
            lease.lives.retain(|life| !is_dead(life));
        }
        self.leases.retain(|lease| !lease.lives.is_empty());
        self.waiters.retain(|waiter| waiter.until > now.steady && !is_dead(&waiter.life));
        if before != (self.leases.len(), self.waiters.len()) {
            self.freed();
        }
    }

    /// Grants a request as a whole, or not at all.
    pub(crate) fn acquire(
        &mut self,
        request: &LockRequest,
        asks: &Life,
        now: Now,
        fence: NextFence<'_>,
    ) -> Result<Answer<Grant>, LockError> {
        if let Some(deadlock) = self.take_refusal(request) {
            return Ok(Answer::Refused(deadlock));
        }
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.is_answer_to(request)) {
            // The orchestrator before this one died, and what it asked for goes on.
            lease.fence = fence()?;
            lease.depend_on(asks.clone());
            let grant = Grant { fence: lease.fence, locks: lease.locks.clone() };
            self.changes.any = true;
            return Ok(Answer::Granted(grant));
        }
        if let Some(obstacle) = self.obstacle(request, now) {
            return Ok(Answer::Busy(obstacle));
        }
        let locks: Vec<HeldLock> = request.claims.iter().map(|claim| self.held(claim)).collect();
        let grant = Grant { fence: fence()?, locks: locks.clone() };
        self.waiters.retain(|waiter| !waiter.is_for(request));
        self.leases.push(LeaseRecord {
            fence: grant.fence,
            holder: request.holder.clone(),
            locks,
            lives: vec![asks.clone()],
            kept: false,
            since: now.wall,
        });
        self.changes.any = true;
        if self.waiters.iter().any(|waiter| waiter.holder == request.holder) {
            // It waits for something else at the same time, so that others may now wait in a circle.
            self.find_deadlocks(now, fence)?;
        }
        Ok(Answer::Granted(grant))
    }

    /// Says whether a request could be granted now, and keeps its place in line where it can't.
    pub(crate) fn look(
        &mut self,
        request: &LockRequest,
        waits: &Life,
        now: Now,
        fence: NextFence<'_>,
    ) -> Result<Answer<()>, LockError> {
        if let Some(deadlock) = self.take_refusal(request) {
            return Ok(Answer::Refused(deadlock));
        }
        let Some(obstacle) = self.obstacle(request, now) else { return Ok(Answer::Granted(())) };
        let is_new = self.wait(request, waits, now);
        // A circle closes only where somebody begins to wait who holds what others wait for.
        if is_new && self.holds_something(&request.holder) {
            self.find_deadlocks(now, fence)?;
            if let Some(deadlock) = self.take_refusal(request) {
                return Ok(Answer::Refused(deadlock));
            }
        }
        Ok(Answer::Busy(obstacle))
    }

    /// Frees a lease.
    pub(crate) fn free(&mut self, fence: u64) {
        self.free_where(|lease| lease.fence == fence);
    }

    /// Frees what a holder keeps: the leases with this lock, or all.
    pub(crate) fn free_kept(&mut self, holder: &LockHolder, lock: Option<&LockName>) -> usize {
        self.free_where(|lease| {
            let is_meant = |held: &HeldLock| lock.is_none_or(|lock| held.claim.name == *lock);
            lease.kept && lease.holder == *holder && lease.locks.iter().any(is_meant)
        })
    }

    /// Whether the holder keeps anything.
    pub(crate) fn keeps(&self, holder: &LockHolder) -> bool {
        self.leases.iter().any(|lease| lease.kept && lease.holder == *holder)
    }

    fn free_where(&mut self, is_meant: impl Fn(&LeaseRecord) -> bool) -> usize {
        let before = self.leases.len();
        self.leases.retain(|lease| !is_meant(lease));
        let freed = before - self.leases.len();
        if freed > 0 {
            self.freed();
        }
        freed
    }

    /// Has a lease depend on a further process. Whether the lease is there.
    pub(crate) fn bind(&mut self, fence: u64, life: Life) -> bool {
        self.change(fence, |lease| lease.depend_on(life))
    }

    /// Notes that a lease is no longer freed by a handle, and what it depends on from now on.
    /// Whether the lease is there.
    pub(crate) fn keep(&mut self, fence: u64, lives: Vec<Life>) -> bool {
        self.change(fence, |lease| (lease.kept, lease.lives) = (true, lives))
    }

    fn change(&mut self, fence: u64, change: impl FnOnce(&mut LeaseRecord)) -> bool {
        let lease = self.leases.iter_mut().find(|lease| lease.fence == fence);
        self.changes.any |= lease.is_some();
        lease.map(change).is_some()
    }

    pub(crate) fn overview(&self) -> LockOverview {
        let leases = self.leases.iter().map(LeaseRecord::info);
        let waiting = self.waiters.iter().filter(|waiter| waiter.refused.is_none());
        let waiters = waiting.map(|waiter| WaiterInfo {
            holder: waiter.holder.clone(),
            claims: waiter.claims.clone(),
            priority: waiter.priority,
            since: waiter.since,
        });
        LockOverview {
            leases: leases.collect(),
            waiters: waiters.collect(),
            deadlocks: self.deadlocks.clone(),
        }
    }

    /// The leases all of whose processes are dead, as they were left.
    pub(super) fn dead(&self, mut is_dead: impl FnMut(&Life) -> bool) -> Vec<LeaseInfo> {
        let dead = self.leases.iter().filter(|lease| lease.lives.iter().all(&mut is_dead));
        dead.map(LeaseRecord::info).collect()
    }

    /// The first deadlock with a greater number.
    pub(crate) fn deadlock_after(&self, number: u64) -> Option<&Deadlock> {
        self.deadlocks.iter().find(|deadlock| deadlock.number > number)
    }

    /// The processes whose death may free something.
    pub(super) fn processes(&self) -> Vec<AgentIdentity> {
        let lives = self.leases.iter().flat_map(|lease| &lease.lives);
        let lives = lives.chain(self.waiters.iter().map(|waiter| &waiter.life));
        lives.filter(|life| life.is_visible()).map(|life| life.process.clone()).collect()
    }

    pub(super) fn remember(&mut self, deadlock: Deadlock) {
        self.deadlocks.push(deadlock);
        let surplus = self.deadlocks.len().saturating_sub(REMEMBERED);
        self.deadlocks.drain(..surplus);
        (self.changes.deadlock, self.changes.freed, self.changes.any) = (true, true, true);
    }

    fn freed(&mut self) {
        (self.changes.any, self.changes.freed) = (true, true);
    }

    /// Puts a request in line, or renews its place. Whether it is new there.
    fn wait(&mut self, request: &LockRequest, waits: &Life, now: Now) -> bool {
        let until = now.steady + IN_LINE;
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.is_for(request)) {
            // Not at each look: every change of the table is a file written.
            if waiter.until < now.steady + IN_LINE / 2 || waiter.life != *waits {
                (waiter.until, waiter.life) = (until, waits.clone());
                self.changes.any = true;
            }
            return false;
        }
        self.ticket += 1;
        self.waiters.push(Waiter {
            ticket: self.ticket,
            holder: request.holder.clone(),
            claims: request.claims.clone(),
            priority: request.priority,
            life: waits.clone(),
            since: now.wall,
            steady_since: now.steady,
            until,
            refused: None,
        });
        self.changes.any = true;
        true
    }

    fn take_refusal(&mut self, request: &LockRequest) -> Option<Deadlock> {
        let is_refused = |waiter: &Waiter| waiter.is_for(request) && waiter.refused.is_some();
        let at = self.waiters.iter().position(is_refused)?;
        self.changes.any = true;
        self.waiters.remove(at).refused
    }

    pub(super) fn holds_something(&self, holder: &LockHolder) -> bool {
        self.leases.iter().any(|lease| lease.holder == *holder)
    }

    /// What keeps a request from being granted now.
    fn obstacle(&self, request: &LockRequest, now: Now) -> Option<Obstacle> {
        let reserved = if self.holds_something(&request.holder) {
            // Who holds something waits for holders only: were he to wait in line, too, those
            // before him might wait for what he holds.
            Vec::new()
        } else {
            self.reserved(request, now)
        };
        let leases: Vec<_> = self.leases.iter().collect();
        let most = if orch_faults::planted("one-lock-is-enough") { 1 } else { usize::MAX };
        request.claims.iter().take(most).find_map(|claim| {
            let blockers = blockers(&request.holder, claim, &leases, &reserved);
            let holder = blockers.first().map(|holder| (*holder).clone());
            (!blockers.is_empty()).then(|| Obstacle { lock: claim.name.clone(), holder })
        })
    }

    /// What those who came before a request keep from it.
    fn reserved(&self, request: &LockRequest, now: Now) -> Vec<(&LockHolder, &LockClaim)> {
        let leases: Vec<_> = self.leases.iter().collect();
        let mut reserved = Vec::new();
        for waiter in &self.waiters {
            if waiter.is_for(request) {
                break;
            }
            if waiter.refused.is_some() || waiter.holder == request.holder {
                continue;
            }
            let is_aged = now.steady.saturating_sub(waiter.steady_since) >= AGED;
            let is_blocked = |claim: &&LockClaim| {
                !blockers(&waiter.holder, claim, &leases, &reserved).is_empty()
            };
            let blocked: Vec<_> = waiter.claims.iter().filter(is_blocked).collect();
            // Where nothing is in its way, it is its turn.
            let kept_back = match blocked.is_empty() || is_aged {
                true => waiter.claims.iter().collect(),
                false => blocked,
            };
            reserved.extend(kept_back.into_iter().map(|claim| (&waiter.holder, claim)));
        }
        reserved
    }

    /// What a claim gets that nothing stands in the way of.
    fn held(&self, claim: &LockClaim) -> HeldLock {
        let values = match (&claim.pool, claim.mode) {
            (Some(pool), LockMode::Counted { count, .. }) => {
                let leases: Vec<_> = self.leases.iter().collect();
                let taken = taken_values(&leases, &claim.name);
                let free = pool.values.iter().filter(|value| !taken.contains(value.as_str()));
                free.take(count as usize).collect()
            }
            _ => Vec::new(),
        };
        HeldLock { claim: claim.clone(), values }
    }
}

impl LeaseRecord {
    fn info(&self) -> LeaseInfo {
        LeaseInfo {
            fence: self.fence,
            holder: self.holder.clone(),
            locks: self.locks.clone(),
            pids: self.lives.iter().map(|life| life.process.pid).collect(),
            since: self.since,
        }
    }

    fn depend_on(&mut self, life: Life) {
        if !self.lives.contains(&life) {
            self.lives.push(life);
        }
    }

    fn is_answer_to(&self, request: &LockRequest) -> bool {
        request.takes_over
            && !self.kept
            && self.holder == request.holder
            && self.locks.iter().map(|held| &held.claim).eq(&request.claims)
    }
}

impl Waiter {
    fn is_for(&self, request: &LockRequest) -> bool {
        self.holder == request.holder && self.claims == request.claims
    }
}

fn taken_values<'a>(leases: &[&'a LeaseRecord], name: &LockName) -> HashSet<&'a str> {
    let locks = leases.iter().flat_map(|lease| &lease.locks);
    let of_pool = locks.filter(|held| held.claim.name == *name);
    of_pool.flat_map(|held| &held.values).map(String::as_str).collect()
}

/// Who keeps a claim from being granted, given these leases and what is reserved for others; empty
/// where nobody does.
pub(super) fn blockers<'a>(
    holder: &'a LockHolder,
    claim: &LockClaim,
    leases: &[&'a LeaseRecord],
    reserved: &[(&'a LockHolder, &'a LockClaim)],
) -> Vec<&'a LockHolder> {
    let held = leases
        .iter()
        .flat_map(|lease| lease.locks.iter().map(move |held| (&lease.holder, &held.claim)));
    let claims: Vec<_> =
        held.chain(reserved.iter().copied()).filter(|(_, held)| held.name == claim.name).collect();
    let of_others = claims.iter().filter(|(by, _)| *by != holder);
    let (count, of) = match claim.mode {
        LockMode::Shared | LockMode::Counted { .. }
            if claims.iter().any(|(by, held)| *by != holder && is_exclusive(held.mode)) =>
        {
            let alone = of_others.filter(|(_, held)| is_exclusive(held.mode));
            return alone.map(|(by, _)| *by).collect();
        }
        LockMode::Shared => return Vec::new(),
        LockMode::Counted { count, of } => (count, of),
        // Also a mode that a later version knows: nobody else, to be safe.
        _ => return of_others.map(|(by, _)| *by).collect(),
    };
    let units = |claims: &[(&LockHolder, &LockClaim)]| {
        let counts = claims.iter().map(|(_, claim)| match claim.mode {
            LockMode::Counted { count, .. } => u64::from(count),
            _ => 0,
        });
        counts.sum::<u64>()
    };
    let is_free = match &claim.pool {
        None => units(&claims) + u64::from(count) <= u64::from(of),
        Some(pool) => {
            let taken = taken_values(leases, &claim.name);
            let kept_back: Vec<_> =
                reserved.iter().copied().filter(|(_, held)| held.name == claim.name).collect();
            let needed = usize::try_from(units(&kept_back)).unwrap_or(usize::MAX);
            let needed = needed.saturating_add(count as usize);
            let free = pool.values.iter().filter(|value| !taken.contains(value.as_str()));
            free.take(needed).count() == needed
        }
    };
    if is_free {
        return Vec::new();
    }
    let counted: Vec<_> = of_others
        .filter(|(_, held)| matches!(held.mode, LockMode::Counted { .. }))
        .map(|(by, _)| *by)
        .collect();
    // Its own units may be all that is in the way.
    if counted.is_empty() { vec![holder] } else { counted }
}

fn is_exclusive(mode: LockMode) -> bool {
    !matches!(mode, LockMode::Shared | LockMode::Counted { .. })
}
