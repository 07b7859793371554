//! Locks that are handed over: from an orchestrator to the processes that do the work, and to the orchestrator that takes
//! the work over.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use orch_faults::interleave::{Fate, process};
use orch_model::{event::AgentIdentity, plan::LockMode};

use super::{
    any, folder,
    leases::{Truth, acquire, attempt, claim, give_back, nothing_is_left},
    wait, without_time, work,
};
use crate::{FileLocks, process::Life};

const IDLE: u32 = 0;
const AT_WORK: u32 = 1;
const DONE: u32 = 2;

fn identity(pid: u32) -> AgentIdentity {
    AgentIdentity { pid, ..Life::own().process }
}

/// Looks again and again, as one who waits for a process does.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        orch_faults::pause(std::time::Duration::ZERO, std::time::Instant::now());
    }
}

#[test]
fn a_lock_stays_with_the_work_when_its_orchestrator_is_killed_or_followed() {
    without_time("hand-over of leases", 400, || {
        let folder = folder();
        let truth = Truth::watched();
        let task = Arc::new(AtomicU32::new(IDLE));
        let token = Arc::new(AtomicU64::new(0));
        let claims = [claim("a", LockMode::Exclusive), claim("b", LockMode::Exclusive)];

        // It does the work of the task, once it is told to.
        let supervisor = {
            let (task, token, truth) = (Arc::clone(&task), Arc::clone(&token), Arc::clone(&truth));
            let claims = claims.clone();
            process(Fate::Lives, move || {
                until(|| task.load(SeqCst) != IDLE);
                if task.load(SeqCst) == AT_WORK {
                    let pid = orch_faults::own_pid().unwrap();
                    truth.lock().unwrap().enter(pid, token.load(SeqCst), &claims);
                    work(6);
                    truth.lock().unwrap().leave(pid, token.load(SeqCst));
                    task.store(DONE, SeqCst);
                }
            })
        };
        let working = supervisor.pid();

        let first = {
            let (dir, claims) = (folder.path().to_owned(), claims.clone());
            let (task, token) = (Arc::clone(&task), Arc::clone(&token));
            process(Fate::DiesWithin(60), move || {
                let locks = FileLocks::open(dir).unwrap();
                wait(async {
                    let lease = acquire(&locks, &attempt("t", &claims)).await.unwrap();
                    token.store(lease.fence(), SeqCst);
                    lease.bind(&identity(working)).await.unwrap();
                    // Nothing comes between: the work begins when it is safe from this one's end.
                    task.store(AT_WORK, SeqCst);
                    until(|| task.load(SeqCst) == DONE);
                    if any(&[true, false]) {
                        lease.keep(vec![identity(working)]).await.unwrap();
                    } else {
                        give_back(lease).await;
                    }
                });
            })
        };

        let second = {
            let (dir, claims) = (folder.path().to_owned(), claims.clone());
            let (task, token) = (Arc::clone(&task), Arc::clone(&token));
            process(Fate::Lives, move || {
                let is_cut_off = first.join().is_none();
                if is_cut_off {
                    let locks = FileLocks::open(dir).unwrap();
                    wait(async {
                        let mut request = attempt("t", &claims);
                        request.takes_over = true;
                        let lease = acquire(&locks, &request).await.unwrap();
                        assert!(
                            lease.fence() > token.load(SeqCst),
                            "the handle before is still good"
                        );
                        let _ = task.compare_exchange(IDLE, DONE, SeqCst, SeqCst);
                        until(|| task.load(SeqCst) == DONE);
                        give_back(lease).await;
                    });
                }
            })
        };

        let others = ["u", "v"].map(|name| {
            let (dir, truth) = (folder.path().to_owned(), Arc::clone(&truth));
            let claims = [claim("a", any(&[LockMode::Exclusive, LockMode::Shared]))];
            process(any(&[Fate::Lives, Fate::DiesWithin(60)]), move || {
                let locks = FileLocks::open(dir).unwrap();
                let pid = orch_faults::own_pid().unwrap();
                wait(async {
                    let lease = acquire(&locks, &attempt(name, &claims)).await.unwrap();
                    truth.lock().unwrap().enter(pid, lease.fence(), &claims);
                    work(3);
                    truth.lock().unwrap().leave(pid, lease.fence());
                    give_back(lease).await;
                });
            })
        });

        second.join().unwrap();
        supervisor.join().unwrap();
        for other in others {
            other.join();
        }
        nothing_is_left(folder.path(), &truth);
    });
}
