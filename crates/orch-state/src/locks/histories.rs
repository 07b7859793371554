//! The table against a slow model, by random histories of processes that take, hand on, keep and free locks and
//! die. Nobody waits in line here: [`simulation`](super::simulation) is about that.

use std::collections::BTreeSet;

use orch_model::{
    event::AgentIdentity,
    id::LockName,
    plan::{LockClaim, LockMode, Pool, PoolValues},
    ports::{LockHolder, LockRequest},
    time::Timestamp,
};
use proptest::prelude::*;

use super::table::{Answer, Now, Table};
use crate::process::Life;

const PROCESSES: u32 = 5;
const HOLDERS: u32 = 3;
/// Units of the counted lock, and values of the pool.
const OF: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    Acquire {
        holder: u32,
        process: u32,
        claims: Vec<LockClaim>,
        takes_over: bool,
    },
    /// By the handle that came so many grants ago.
    Free(usize),
    Bind(usize, u32),
    Keep(usize, Vec<u32>),
    FreeKept {
        holder: u32,
        lock: Option<&'static str>,
    },
    Die(u32),
}

/// A lease as the model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    fence: u64,
    holder: u32,
    claims: Vec<LockClaim>,
    processes: BTreeSet<u32>,
    is_kept: bool,
}

fn name(name: &str) -> LockName {
    LockName::new(name).unwrap()
}

fn all_claims() -> Vec<LockClaim> {
    let counted = |count| LockMode::Counted { count, of: OF };
    let pooled = |count| {
        let values = PoolValues::Range("1-3".parse().unwrap());
        LockClaim::pooled(name("v"), count, Pool { values, env: None })
    };
    let mut claims: Vec<_> = [
        ("a", LockMode::Exclusive),
        ("a", LockMode::Shared),
        ("b", LockMode::Exclusive),
        ("b", LockMode::Shared),
        ("u", counted(1)),
        ("u", counted(2)),
        ("u", LockMode::Exclusive),
    ]
    .map(|(lock, mode)| LockClaim::new(name(lock), mode))
    .into();
    claims.extend([pooled(1), pooled(2)]);
    claims
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let claims =
        prop::collection::vec(prop::sample::select(all_claims()), 1..4).prop_map(|mut claims| {
            claims.sort_by(|a, b| a.name.cmp(&b.name));
            claims.dedup_by(|a, b| a.name == b.name);
            claims
        });
    let acquire = (0..HOLDERS, 0..PROCESSES, claims, any::<bool>()).prop_map(
        |(holder, process, claims, takes_over)| Step::Acquire {
            holder,
            process,
            claims,
            takes_over,
        },
    );
    let processes = prop::collection::vec(0..PROCESSES, 0..3);
    let lock = prop::option::of(prop::sample::select(vec!["a", "b", "u", "v"]));
    let step = prop_oneof![
        6 => acquire,
        3 => (0..8_usize).prop_map(Step::Free),
        2 => (0..8_usize, 0..PROCESSES).prop_map(|(lease, process)| Step::Bind(lease, process)),
        1 => (0..8_usize, processes).prop_map(|(lease, processes)| Step::Keep(lease, processes)),
        1 => (0..HOLDERS, lock).prop_map(|(holder, lock)| Step::FreeKept { holder, lock }),
        2 => (0..PROCESSES).prop_map(Step::Die),
    ];
    prop::collection::vec(step, 1..50)
}

/// The model: what is held, written down in full at each step.
#[derive(Debug, Default)]
struct Model {
    held: Vec<Held>,
    /// How often each process has died: the next one of its number is another one.
    deaths: [u32; PROCESSES as usize],
    last_fence: u64,
    grants: Vec<u64>,
}

impl Model {
    fn pid(&self, process: u32) -> u32 {
        process + PROCESSES * self.deaths[process as usize] + 1
    }

    /// Whether a claim can be held beside all others.
    fn fits(&self, holder: u32, claim: &LockClaim) -> bool {
        let same: Vec<_> = self
            .held
            .iter()
            .flat_map(|held| held.claims.iter().map(|claim| (held.holder, claim.mode, &claim.name)))
            .filter(|(_, _, name)| **name == claim.name)
            .collect();
        let mut others = same.iter().filter(|(by, ..)| *by != holder);
        match claim.mode {
            LockMode::Shared => others.all(|(_, mode, _)| *mode != LockMode::Exclusive),
            LockMode::Counted { count, of } => {
                let units = |mode: LockMode| match mode {
                    LockMode::Counted { count, .. } => count,
                    _ => 0,
                };
                let taken: u32 = same.iter().map(|(_, mode, _)| units(*mode)).sum();
                others.all(|(_, mode, _)| *mode != LockMode::Exclusive) && taken + count <= of
            }
            _ => others.next().is_none(),
        }
    }

    fn position(&self, back: usize) -> Option<u64> {
        self.grants.iter().rev().nth(back).copied()
    }

    fn find(&mut self, fence: u64) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.fence == fence)
    }
}

struct World {
    table: Table,
    model: Model,
}

fn holder(number: u32) -> LockHolder {
    LockHolder::Process { pid: number }
}

fn life(pid: u32) -> Life {
    Life::of(AgentIdentity { pid, start_ticks: 1, boot_id: "this".into() })
}

impl World {
    fn new() -> Self {
        Self { table: Table::new(), model: Model::default() }
    }

    fn take(&mut self, step: Step) {
        let model = &mut self.model;
        self.table.changes = super::table::Changes::default();
        let before = model.held.len();
        match step {
            Step::Acquire { holder, process, claims, takes_over } => {
                self.acquire(holder, process, claims, takes_over);
                return;
            }
            Step::Free(back) => {
                let Some(fence) = model.position(back) else { return };
                self.table.free(fence);
                model.held.retain(|held| held.fence != fence);
            }
            Step::Bind(back, process) => {
                let pid = model.pid(process);
                let Some(fence) = model.position(back) else { return };
                let is_there = self.table.bind(fence, life(pid));
                let found = model.find(fence).map(|held| held.processes.insert(pid));
                assert_eq!(is_there, found.is_some());
            }
            Step::Keep(back, processes) => {
                let pids: BTreeSet<_> = processes.iter().map(|one| model.pid(*one)).collect();
                let Some(fence) = model.position(back) else { return };
                let is_there = self.table.keep(fence, pids.iter().map(|pid| life(*pid)).collect());
                let found =
                    model.find(fence).map(|held| (held.processes, held.is_kept) = (pids, true));
                assert_eq!(is_there, found.is_some());
            }
            Step::FreeKept { holder, lock } => {
                let lock = lock.map(name);
                let freed = self.table.free_kept(&self::holder(holder), lock.as_ref());
                model.held.retain(|held| {
                    let is_meant =
                        |claim: &LockClaim| lock.as_ref().is_none_or(|l| claim.name == *l);
                    !(held.is_kept && held.holder == holder && held.claims.iter().any(is_meant))
                });
                assert_eq!(freed, before - model.held.len());
            }
            Step::Die(process) => {
                let pid = model.pid(process);
                model.deaths[process as usize] += 1;
                for held in &mut model.held {
                    held.processes.remove(&pid);
                }
            }
        }
        // Those who wait are told of what is freed, and of nothing else.
        assert_eq!(self.table.changes.freed, self.model.held.len() < before);
        self.sweep();
    }

    /// What the next look does first: it frees what depends on nobody who lives.
    fn sweep(&mut self) {
        let deaths = self.model.deaths;
        let is_dead = |life: &Life| {
            let (index, generation) =
                ((life.process.pid - 1) % PROCESSES, (life.process.pid - 1) / PROCESSES);
            generation < deaths[index as usize]
        };
        let now = Now { steady: 0, wall: Timestamp::from_millis(0) };
        let before = self.model.held.len();
        self.table.changes = super::table::Changes::default();
        self.table.sweep(now, is_dead);
        self.model.held.retain(|held| !held.processes.is_empty());
        assert_eq!(self.table.changes.freed, self.model.held.len() < before);
    }

    fn acquire(&mut self, holder: u32, process: u32, claims: Vec<LockClaim>, takes_over: bool) {
        let model = &mut self.model;
        let pid = model.pid(process);
        let mut request = LockRequest::new(self::holder(holder), claims.clone());
        request.takes_over = takes_over;
        let mut last = model.last_fence;
        let mut next = || {
            last += 1;
            Ok(last)
        };
        let now = Now { steady: 0, wall: Timestamp::from_millis(0) };
        let answer = self.table.acquire(&request, &life(pid), now, &mut next).unwrap();
        let is_successor = |held: &&mut Held| {
            takes_over && !held.is_kept && held.holder == holder && held.claims == claims
        };
        if let Some(held) = model.held.iter_mut().find(is_successor) {
            let Answer::Granted(grant) = answer else { panic!("{answer:?} to its successor") };
            assert!(grant.fence > model.last_fence, "tokens grow");
            held.fence = grant.fence;
            held.processes.insert(pid);
            model.last_fence = grant.fence;
            model.grants.push(grant.fence);
            return;
        }
        let obstacle = claims.iter().find(|claim| !model.fits(holder, claim));
        match (answer, obstacle) {
            (Answer::Granted(grant), None) => {
                assert!(grant.fence > model.last_fence, "tokens grow");
                model.last_fence = grant.fence;
                model.grants.push(grant.fence);
                let processes = BTreeSet::from([pid]);
                model.held.push(Held {
                    fence: grant.fence,
                    holder,
                    claims,
                    processes,
                    is_kept: false,
                });
            }
            (Answer::Busy(found), Some(obstacle)) => {
                assert_eq!(found.lock, obstacle.name);
                assert_eq!(last, model.last_fence, "a token for nothing");
                assert!(!self.table.changes.any, "a refusal changes nothing");
            }
            (answer, obstacle) => panic!("{answer:?}, where {obstacle:?} is in the way: {model:?}"),
        }
    }

    /// The table says what the model says.
    fn check(&self) {
        let mut leases = self.table.overview().leases;
        leases.sort_by_key(|lease| lease.fence);
        let mut held = self.model.held.clone();
        held.sort_by_key(|held| held.fence);
        assert_eq!(leases.len(), held.len(), "{leases:?} against {held:?}");
        let mut values = BTreeSet::new();
        for (lease, held) in leases.iter().zip(&held) {
            assert_eq!((lease.fence, &lease.holder), (held.fence, &holder(held.holder)));
            assert_eq!(lease.pids.iter().copied().collect::<BTreeSet<_>>(), held.processes);
            assert!(lease.locks.iter().map(|lock| &lock.claim).eq(&held.claims));
            for lock in &lease.locks {
                let due = match (&lock.claim.pool, lock.claim.mode) {
                    (Some(_), LockMode::Counted { count, .. }) => count as usize,
                    _ => 0,
                };
                assert_eq!(lock.values.len(), due);
                assert!(lock.values.iter().all(|value| values.insert(value.clone())), "{leases:?}");
            }
        }
        for number in 0..HOLDERS {
            let keeps = held.iter().any(|held| held.is_kept && held.holder == number);
            assert_eq!(self.table.keeps(&holder(number)), keeps);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_model_does(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
    }
}
