//! The contract of `ResourceLock`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orch_model::{
    id::{LockName, RunId, TaskId},
    plan::{LockClaim, LockMode},
    ports::{Acquired, Lease, LockHolder, LockRequest, ResourceLock},
};
use tokio::time::timeout;

/// Long beyond what any wake-up may take, and short enough to see a hang as a failure.
const LONG: Duration = Duration::from_secs(60);

/// Checks locks. `make` gives new ones, all free, at each call.
///
/// # Panics
/// Where the locks break the contract.
pub async fn lock_contract(make: impl Fn() -> Arc<dyn ResourceLock>) {
    modes_exclude_each_other(make()).await;
    all_or_nothing(make()).await;
    leases_are_freed(make()).await;
    tokens_grow(make()).await;
    waiters_are_woken(make()).await;
    contention_keeps_the_bounds(make()).await;
}

fn claim(name: &str, mode: LockMode) -> LockClaim {
    LockClaim::new(LockName::new(name).expect("a good name"), mode)
}

fn counted(name: &str, count: u32, of: u32) -> LockClaim {
    claim(name, LockMode::Counted { count, of })
}

fn exclusive(name: &str) -> LockClaim {
    claim(name, LockMode::Exclusive)
}

fn shared(name: &str) -> LockClaim {
    claim(name, LockMode::Shared)
}

fn request(task: &str, claims: &[LockClaim]) -> LockRequest {
    LockRequest::new(holder(task), claims.to_vec())
}

fn holder(task: &str) -> LockHolder {
    LockHolder::Attempt {
        run: RunId::new("r1").expect("a good id"),
        task: TaskId::new(task).expect("a good id"),
        attempt: 1,
    }
}

fn task_of(holder: &LockHolder) -> String {
    match holder {
        LockHolder::Attempt { task, .. } => task.to_string(),
        other => other.to_string(),
    }
}

async fn acquire(locks: &dyn ResourceLock, task: &str, claims: &[LockClaim]) -> Acquired {
    locks.try_acquire(request(task, claims)).await.expect("the locks can be looked at")
}

async fn granted(locks: &dyn ResourceLock, task: &str, claims: &[LockClaim]) -> Box<dyn Lease> {
    match acquire(locks, task, claims).await {
        Acquired::Granted(lease) => lease,
        Acquired::Busy { lock, holder } => panic!("{task}: {lock} is held by {holder:?}"),
    }
}

/// The lock that is in the way, and the task that holds it as far as that is known.
async fn busy(
    locks: &dyn ResourceLock,
    task: &str,
    claims: &[LockClaim],
) -> (String, Option<String>) {
    match acquire(locks, task, claims).await {
        Acquired::Granted(_) => panic!("{task} was granted {claims:?}"),
        Acquired::Busy { lock, holder } => (lock.to_string(), holder.map(|h| task_of(&h))),
    }
}

async fn modes_exclude_each_other(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    assert!(!locks.name().is_empty());
    let alone = granted(locks, "alone", &[exclusive("db")]).await;
    for other in [exclusive("db"), shared("db"), counted("db", 1, 4)] {
        assert_eq!(busy(locks, "other", &[other]).await, ("db".into(), Some("alone".into())));
    }
    let elsewhere = granted(locks, "other", &[exclusive("db.0"), exclusive("d")]).await;
    alone.release().await.expect("a release");
    elsewhere.release().await.expect("a release");

    let readers =
        [granted(locks, "a", &[shared("db")]).await, granted(locks, "b", &[shared("db")]).await];
    assert_eq!(busy(locks, "c", &[exclusive("db")]).await.0, "db");
    let [a, b] = readers;
    a.release().await.expect("a release");
    assert_eq!(busy(locks, "c", &[exclusive("db")]).await.0, "db");
    b.release().await.expect("a release");
    granted(locks, "c", &[exclusive("db")]).await.release().await.expect("a release");

    let two = granted(locks, "two", &[counted("gpu", 2, 3)]).await;
    assert_eq!(
        busy(locks, "more", &[counted("gpu", 2, 3)]).await,
        ("gpu".into(), Some("two".into()))
    );
    let one = granted(locks, "one", &[counted("gpu", 1, 3)]).await;
    assert_eq!(busy(locks, "more", &[counted("gpu", 1, 3)]).await.0, "gpu");
    assert_eq!(busy(locks, "all", &[exclusive("gpu")]).await.0, "gpu");
    two.release().await.expect("a release");
    let again = granted(locks, "more", &[counted("gpu", 2, 3)]).await;
    drop((one, again));
    drop(granted(locks, "all", &[exclusive("gpu")]).await);
}

async fn all_or_nothing(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    let b = granted(locks, "b", &[exclusive("b")]).await;
    let all = [exclusive("a"), exclusive("b"), exclusive("c")];
    assert_eq!(busy(locks, "all", &all).await, ("b".into(), Some("b".into())));
    let rest = granted(locks, "rest", &[exclusive("a"), exclusive("c")]).await;
    rest.release().await.expect("a release");
    b.release().await.expect("a release");

    let units = granted(locks, "units", &[counted("u", 2, 3)]).await;
    let too_many = [exclusive("a"), counted("u", 2, 3)];
    assert_eq!(busy(locks, "all", &too_many).await.0, "u");
    drop(granted(locks, "rest", &[exclusive("a"), counted("u", 1, 3)]).await);
    drop(units);
    drop(granted(locks, "all", &all).await);
    granted(locks, "none", &[]).await.release().await.expect("a release");
}

async fn leases_are_freed(locks: Arc<dyn ResourceLock>) {
    let claims = [exclusive("a"), shared("b"), counted("c", 1, 1)];
    for _ in 0..100 {
        drop(granted(&*locks, "dropped", &claims).await);
        granted(&*locks, "released", &claims).await.release().await.expect("a release");
    }
    let dropped = Box::pin(locks.try_acquire(request("never", &claims)));
    drop(dropped);
    drop(granted(&*locks, "after", &claims).await);
}

async fn tokens_grow(locks: Arc<dyn ResourceLock>) {
    let mut last = 0;
    let mut kept = Vec::new();
    for turn in 0..50 {
        let lease = granted(&*locks, &format!("t{turn}"), &[shared("a")]).await;
        assert!(lease.fence() > last, "{} after {last}", lease.fence());
        last = lease.fence();
        if turn % 2 == 0 {
            kept.push(lease);
        }
    }
}

async fn waiters_are_woken(locks: Arc<dyn ResourceLock>) {
    locks
        .released(&request("w", &[exclusive("free")]))
        .await
        .expect("a free lock is not waited for");
    for (held, wanted) in [
        (exclusive("a"), exclusive("a")),
        (shared("a"), exclusive("a")),
        (exclusive("a"), shared("a")),
        (counted("a", 2, 2), counted("a", 1, 2)),
    ] {
        let lease = granted(&*locks, "holder", &[held]).await;
        let claims = [exclusive("0"), wanted];
        let waiter = {
            let (locks, claims) = (Arc::clone(&locks), claims.clone());
            tokio::spawn(async move {
                loop {
                    match acquire(&*locks, "waiter", &claims).await {
                        Acquired::Granted(lease) => return lease,
                        Acquired::Busy { .. } => {
                            let request = request("waiter", &claims);
                            locks.released(&request).await.expect("a watch");
                        }
                    }
                }
            })
        };
        tokio::task::yield_now().await;
        lease.release().await.expect("a release");
        let lease = timeout(LONG, waiter).await.expect("the waiter is woken").expect("no panic");
        lease.release().await.expect("a release");
    }
}

/// Who holds what, as those who hold it say.
#[derive(Debug, Default)]
struct Holders {
    exclusive: u32,
    shared: u32,
    units: u32,
}

async fn contention_keeps_the_bounds(locks: Arc<dyn ResourceLock>) {
    const WORKERS: usize = 8;
    const TURNS: usize = 15;
    const OF: u32 = 3;
    let holders: Arc<Mutex<HashMap<String, Holders>>> = Arc::default();
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (locks, holders) = (Arc::clone(&locks), Arc::clone(&holders));
            tokio::spawn(async move {
                let me = format!("w{worker}");
                for turn in 0..TURNS {
                    let claims = match (worker + turn) % 4 {
                        0 => vec![exclusive("a"), exclusive("b")],
                        1 => vec![shared("a"), counted("u", 2, OF)],
                        2 => vec![exclusive("b"), counted("u", 1, OF)],
                        _ => vec![shared("a"), shared("b")],
                    };
                    let lease = loop {
                        match acquire(&*locks, &me, &claims).await {
                            Acquired::Granted(lease) => break lease,
                            Acquired::Busy { .. } => {
                                locks.released(&request(&me, &claims)).await.expect("a watch");
                            }
                        }
                    };
                    count(&holders, &claims, 1);
                    tokio::task::yield_now().await;
                    count(&holders, &claims, -1);
                    lease.release().await.expect("a release");
                }
            })
        })
        .collect();
    for worker in workers {
        timeout(LONG, worker).await.expect("nobody starves").expect("the bounds are kept");
    }
    drop(granted(&*locks, "last", &[exclusive("a"), exclusive("b"), exclusive("u")]).await);

    fn count(holders: &Mutex<HashMap<String, Holders>>, claims: &[LockClaim], change: i32) {
        let mut holders = holders.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in claims {
            let holders = holders.entry(claim.name.to_string()).or_default();
            let (number, by) = match claim.mode {
                LockMode::Shared => (&mut holders.shared, change),
                LockMode::Counted { count, .. } => (&mut holders.units, change * count as i32),
                _ => (&mut holders.exclusive, change),
            };
            *number = number.checked_add_signed(by).expect("what is freed was held");
            let Holders { exclusive, shared, units } = *holders;
            assert!(units <= OF, "{}: {units} units of {OF}", claim.name);
            assert!(
                exclusive == 0 || (exclusive, shared, units) == (1, 0, 0),
                "{}: {holders:?}",
                claim.name
            );
        }
    }
}
