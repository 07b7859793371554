//! Processes that take locks from each other: two of them are never at work under locks that exclude each other,
//! tokens grow, and whoever waits is woken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use orch_faults::interleave::{Fate, at_death, note, process};
use orch_model::{
    id::{LockName, RunId, TaskId},
    plan::{LockClaim, LockMode},
    ports::{Acquired, Lease, LockError, LockHolder, LockRequest, ResourceLock},
};

use super::{any, folder, wait, without_time, work};
use crate::{FileLocks, locks::simulated_watch};

/// What those who are at work say of themselves.
#[derive(Debug, Default)]
pub(super) struct Truth {
    at_work: Vec<(u32, u64, Vec<LockClaim>)>,
    /// The last token with which each lock was held alone.
    tokens: BTreeMap<LockName, u64>,
    grants: u64,
}

/// Shared by those who are watched.
pub(super) type Watched = Arc<Mutex<Truth>>;

impl Truth {
    /// One that forgets the processes that end.
    pub(super) fn watched() -> Watched {
        let truth = Watched::default();
        let dead = Arc::clone(&truth);
        simulated_watch::begin();
        at_death(move |pid| dead.lock().unwrap().at_work.retain(|(at_work, ..)| *at_work != pid));
        truth
    }

    /// Begins to work under locks.
    pub(super) fn enter(&mut self, pid: u32, fence: u64, claims: &[LockClaim]) {
        note(|| format!("enters with {fence} under {claims:?}"));
        self.grants += 1;
        for claim in claims {
            let others = self.at_work.iter().filter(|(other, ..)| *other != pid);
            let met = others.flat_map(|(_, _, claims)| claims).filter(|c| c.name == claim.name);
            let units = |mode| match mode {
                LockMode::Counted { count, .. } => count,
                _ => 0,
            };
            let (mut taken, mut modes) = (units(claim.mode), vec![claim.mode]);
            for met in met {
                taken += units(met.mode);
                modes.push(met.mode);
            }
            let is_alone = modes.len() == 1;
            let is_shared = modes.iter().all(|mode| *mode == LockMode::Shared);
            let fits = match claim.mode {
                LockMode::Counted { of, .. } => {
                    taken <= of && modes.iter().all(|mode| units(*mode) > 0)
                }
                _ => false,
            };
            assert!(
                is_alone || is_shared || fits,
                "{pid} is at {claim:?}, and so is another: {self:?}"
            );
            if claim.mode == LockMode::Exclusive {
                let last = self.tokens.insert(claim.name.clone(), fence);
                assert!(last.is_none_or(|last| last < fence), "{fence} comes after {last:?}");
            }
        }
        self.at_work.push((pid, fence, claims.to_vec()));
    }

    /// Ends the work that was begun with this token.
    pub(super) fn leave(&mut self, pid: u32, fence: u64) {
        note(|| format!("leaves with {fence}"));
        self.at_work.retain(|(at_work, with, _)| (*at_work, *with) != (pid, fence));
    }
}

pub(super) fn claim(name: &str, mode: LockMode) -> LockClaim {
    LockClaim::new(LockName::new(name).unwrap(), mode)
}

pub(super) fn attempt(task: &str, claims: &[LockClaim]) -> LockRequest {
    let (run, task) = (RunId::new("r1").unwrap(), TaskId::new(task).unwrap());
    LockRequest::new(LockHolder::Attempt { run, task, attempt: 1 }, claims.to_vec())
}

/// Waits for locks as the engine does; `None` where it has to give up what it holds.
pub(super) async fn acquire(locks: &FileLocks, request: &LockRequest) -> Option<Box<dyn Lease>> {
    loop {
        match locks.try_acquire(request.clone()).await {
            Ok(Acquired::Granted(lease)) => return Some(lease),
            Ok(Acquired::Busy { .. }) => {}
            Err(LockError::Deadlock { .. }) => return None,
            Err(error) => panic!("{error}"),
        }
        match locks.released(request).await {
            Ok(()) => {}
            Err(LockError::Deadlock { .. }) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) async fn give_back(lease: Box<dyn Lease>) {
    if any(&[true, false]) { lease.release().await.unwrap() } else { drop(lease) }
}

/// What one asks for, and what it may ask for in addition while it holds that.
fn wishes() -> Vec<Vec<LockClaim>> {
    let (alone, shared) = (LockMode::Exclusive, LockMode::Shared);
    let one = LockMode::Counted { count: 1, of: 2 };
    vec![
        vec![claim("a", alone)],
        vec![claim("b", alone)],
        vec![claim("a", alone), claim("b", alone)],
        vec![claim("a", shared), claim("u", one)],
        vec![claim("b", shared)],
        vec![claim("b", alone), claim("u", one)],
    ]
}

/// Takes locks, works under them, and gives them back.
async fn contend(locks: &FileLocks, task: &str, truth: &Watched) {
    let pid = orch_faults::own_pid().unwrap();
    let first = any(&wishes());
    let Some(lease) = acquire(locks, &attempt(task, &first)).await else { return };
    truth.lock().unwrap().enter(pid, lease.fence(), &first);
    work(2);
    let more: Vec<_> = any(&wishes())
        .into_iter()
        .filter(|more| first.iter().all(|claim| claim.name != more.name))
        .collect();
    if !more.is_empty() && any(&[true, false]) {
        // Where it meets one who does the same the other way round, one of them is told to give up.
        if let Some(second) = acquire(locks, &attempt(task, &more)).await {
            truth.lock().unwrap().enter(pid, second.fence(), &more);
            work(1);
            truth.lock().unwrap().leave(pid, second.fence());
            give_back(second).await;
        }
    }
    truth.lock().unwrap().leave(pid, lease.fence());
    give_back(lease).await;
}

#[test]
fn two_are_never_at_work_under_one_lock_and_all_come_to_their_turn() {
    without_time("leases", 600, || {
        let folder = folder();
        let truth = Truth::watched();
        let fates = [Fate::Lives, Fate::Lives, Fate::DiesWithin(60), Fate::DiesWithin(120)];
        let processes: Vec<_> = (0..)
            .zip(fates)
            .map(|(number, fate)| {
                let (dir, truth) = (folder.path().to_owned(), Arc::clone(&truth));
                process(fate, move || {
                    let locks = FileLocks::open(dir).unwrap();
                    wait(async {
                        for round in 0..2 {
                            contend(&locks, &format!("t{number}-{round}"), &truth).await;
                        }
                    });
                })
            })
            .collect();
        for (process, fate) in processes.into_iter().zip(fates) {
            let ended = process.join();
            assert!(ended.is_some() || fate != Fate::Lives);
        }
        nothing_is_left(folder.path(), &truth);
    });
}

/// Who comes after all have ended finds all locks free, and no trace of those who waited.
pub(super) fn nothing_is_left(dir: &std::path::Path, truth: &Watched) {
    let dir = dir.to_owned();
    assert!(truth.lock().unwrap().at_work.is_empty());
    let looked = process(Fate::Lives, move || {
        let locks = FileLocks::open(dir).unwrap();
        wait(async {
            let all = ["a", "b", "u"].map(|name| claim(name, LockMode::Exclusive));
            let free = locks.try_acquire(attempt("last", &all)).await.unwrap();
            assert!(matches!(free, Acquired::Granted(_)), "{free:?}");
            drop(free);
            let left = locks.overview().await.unwrap();
            assert!(left.leases.is_empty() && left.waiters.is_empty(), "{left:?}");
        });
    });
    looked.join().unwrap();
}
