//! The rules of the table against a slow oracle, by random histories; and what time does to a line.

use orch_model::{
    event::AgentIdentity,
    id::LockName,
    plan::{LockClaim, LockMode, Pool, PoolValues},
    ports::{LockHolder, LockRequest},
    time::Timestamp,
};
use proptest::prelude::*;

use super::table::{Answer, Grant, Now, Table};
use crate::process::Life;

const HOLDERS: u32 = 4;
/// Units of the counted lock, and values of the pool.
const OF: u32 = 3;

/// A table, a clock and holders who do one thing after the other.
struct World {
    table: Table,
    time: u64,
    fence: u64,
    /// By holder: what it was granted, and what it waits for.
    held: Vec<Vec<Grant>>,
    waits: Vec<Option<LockRequest>>,
}

fn claim(kind: u8) -> LockClaim {
    let counted = |count| LockMode::Counted { count, of: OF };
    let (name, mode) = match kind % 8 {
        0 => ("a", LockMode::Exclusive),
        1 => ("a", LockMode::Shared),
        2 => ("b", LockMode::Exclusive),
        3 => ("b", LockMode::Shared),
        4 => ("u", counted(1)),
        5 => ("u", counted(2)),
        kind => {
            let values = PoolValues::Range("1-3".parse().unwrap());
            let pool = Pool { values, env: None };
            return LockClaim::pooled(LockName::new("v").unwrap(), u32::from(kind) - 5, pool);
        }
    };
    LockClaim::new(LockName::new(name).unwrap(), mode)
}

fn request(holder: u32, claims: Vec<LockClaim>) -> LockRequest {
    LockRequest::new(LockHolder::Process { pid: holder }, claims)
}

fn life(holder: u32) -> Life {
    Life::of(AgentIdentity { pid: holder, start_ticks: 1, boot_id: "this".into() })
}

impl World {
    fn new() -> Self {
        let (held, waits) = (vec![Vec::new(); HOLDERS as usize], vec![None; HOLDERS as usize]);
        Self { table: Table::new(), time: 0, fence: 0, held, waits }
    }

    fn now(&self) -> Now {
        Now { steady: self.time, wall: Timestamp::from_millis(0) }
    }

    fn acquire(&mut self, holder: u32, request: &LockRequest) -> Answer<Grant> {
        let (now, fence) = (self.now(), &mut self.fence);
        let mut next = || {
            *fence += 1;
            Ok(*fence)
        };
        self.table.acquire(request, &life(holder), now, &mut next).unwrap()
    }

    fn look(&mut self, holder: u32, request: &LockRequest) -> Answer<()> {
        let (now, fence) = (self.now(), &mut self.fence);
        let mut next = || {
            *fence += 1;
            Ok(*fence)
        };
        self.table.look(request, &life(holder), now, &mut next).unwrap()
    }

    /// One who waits for nothing asks for more.
    fn ask(&mut self, holder: u32, claims: Vec<LockClaim>) {
        let request = request(holder, claims);
        match self.acquire(holder, &request) {
            Answer::Granted(grant) => self.held[holder as usize].push(grant),
            Answer::Refused(_) => panic!("a new request has not been refused yet"),
            Answer::Busy(_) => {
                self.waits[holder as usize] = Some(request);
                self.try_again(holder);
            }
        }
    }

    fn try_again(&mut self, holder: u32) {
        let Some(request) = self.waits[holder as usize].clone() else { return };
        match self.look(holder, &request) {
            Answer::Busy(_) => {}
            Answer::Refused(_) => {
                self.waits[holder as usize] = None;
                self.free(holder);
            }
            Answer::Granted(()) => {
                let Answer::Granted(grant) = self.acquire(holder, &request) else {
                    panic!("what is free at a look is granted in the same moment");
                };
                self.waits[holder as usize] = None;
                self.held[holder as usize].push(grant);
            }
        }
    }

    fn free(&mut self, holder: u32) {
        for grant in self.held[holder as usize].drain(..) {
            self.table.free(grant.fence);
        }
    }

    /// Time passes, and all who wait look again.
    fn pass(&mut self) {
        self.time += 500;
        let now = self.now();
        self.table.sweep(now, |_| false);
        (0..HOLDERS).for_each(|holder| self.try_again(holder));
    }

    fn claims_of(&self, holders: impl Iterator<Item = usize>) -> Vec<(usize, LockClaim)> {
        let of = |holder: usize| {
            let locks = self.held[holder].iter().flat_map(|grant| &grant.locks);
            locks.map(move |held| (holder, held.claim.clone()))
        };
        holders.flat_map(of).collect()
    }

    /// Whether these claims can be held at the same time, lock by lock.
    fn fit(claims: &[(usize, LockClaim)]) -> bool {
        ["a", "b", "u", "v"].iter().all(|name| {
            let of_lock: Vec<_> =
                claims.iter().filter(|(_, claim)| claim.name.as_str() == *name).collect();
            let owner = of_lock.iter().find(|(_, claim)| claim.mode == LockMode::Exclusive);
            let alone = owner.is_none_or(|owner| of_lock.iter().all(|other| other.0 == owner.0));
            let units: u32 = of_lock
                .iter()
                .map(|(_, claim)| match claim.mode {
                    LockMode::Counted { count, .. } => count,
                    _ => 0,
                })
                .sum();
            alone && units <= OF
        })
    }

    /// Whether all holders can end in some order: tried out.
    fn can_all_end(&self, left: &[usize]) -> bool {
        left.is_empty()
            || left.iter().any(|next| {
                let mut claims = self.claims_of(left.iter().copied());
                if let Some(request) = &self.waits[*next] {
                    claims.extend(request.claims.iter().map(|claim| (*next, claim.clone())));
                }
                let rest: Vec<_> = left.iter().copied().filter(|other| other != next).collect();
                // Who waits for nothing ends; who waits has to get it first.
                (self.waits[*next].is_none() || Self::fit(&claims)) && self.can_all_end(&rest)
            })
    }

    fn check(&self) {
        let all: Vec<usize> = (0..HOLDERS as usize).collect();
        assert!(Self::fit(&self.claims_of(all.iter().copied())), "{:?}", self.held);
        let mut values: Vec<_> = self
            .held
            .iter()
            .flatten()
            .flat_map(|grant| &grant.locks)
            .flat_map(|held| &held.values)
            .collect();
        let number = values.len();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), number, "a value was given twice: {:?}", self.held);
        assert!(self.can_all_end(&all), "a deadlock was not found: {:?}", self.table.overview());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bounds_are_kept_deadlocks_are_broken_and_nobody_starves(
        steps in prop::collection::vec((0..HOLDERS, 0..10_u8, 0..8_u8), 1..60),
    ) {
        let mut world = World::new();
        for (holder, what, also) in steps {
            let idle = world.waits[holder as usize].is_none();
            match what {
                8 | 9 if idle => world.free(holder),
                kind if idle => {
                    let mut claims = vec![claim(kind)];
                    if claim(also).name > claims[0].name {
                        claims.push(claim(also));
                    }
                    // Alone it must fit, or it would wait for itself only.
                    let could = claims.iter().map(|claim| (0, claim.clone())).collect::<Vec<_>>();
                    if World::fit(&could) {
                        world.ask(holder, claims);
                    }
                }
                _ => {}
            }
            world.pass();
            world.check();
        }
        // Whoever waits for nothing ends; then everybody gets what it waits for.
        for _ in 0..2 * HOLDERS {
            for holder in 0..HOLDERS {
                if world.waits[holder as usize].is_none() {
                    world.free(holder);
                }
            }
            world.pass();
            world.check();
        }
        prop_assert!(world.waits.iter().all(Option::is_none), "{:?}", world.table.overview());
        prop_assert_eq!(world.table.overview().waiters.len(), 0);
    }
}

#[test]
fn a_request_that_is_not_renewed_leaves_the_line() {
    let mut world = World::new();
    world.ask(0, vec![claim(1)]);
    world.ask(1, vec![claim(0)]);
    let reader = request(2, vec![claim(1)]);
    assert!(matches!(world.acquire(2, &reader), Answer::Busy(_)), "the writer came first");
    world.time += super::table::IN_LINE - 1;
    let now = world.now();
    world.table.sweep(now, |_| false);
    assert!(matches!(world.acquire(2, &reader), Answer::Busy(_)));
    world.time += 1;
    let now = world.now();
    world.table.sweep(now, |_| false);
    assert!(world.table.changes.freed, "those behind it are told");
    assert!(matches!(world.acquire(2, &reader), Answer::Granted(_)));
}

#[test]
fn a_request_keeps_what_it_waits_for_at_once_and_all_of_it_when_it_has_aged() {
    let mut world = World::new();
    world.ask(0, vec![claim(0)]);
    world.ask(1, vec![claim(0), claim(2)]);
    let wants_b = request(2, vec![claim(2)]);
    for _ in 0..19 {
        assert!(matches!(world.look(2, &wants_b), Answer::Granted(())), "nobody uses it");
        world.pass();
    }
    world.pass();
    let Answer::Busy(obstacle) = world.look(2, &wants_b) else { panic!("it is kept back") };
    assert_eq!(obstacle.holder, Some(LockHolder::Process { pid: 1 }));
    world.free(0);
    world.pass();
    assert!(world.waits[1].is_none(), "it has both");
}
