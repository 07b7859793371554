//! The contract of `ResourceLock`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orch_model::{
    event::AgentIdentity,
    id::{LockName, RunId, TaskId},
    plan::{LockClaim, LockMode, Pool, PoolValues},
    ports::{Acquired, Lease, LockError, LockHolder, LockRequest, ResourceLock},
};
use tokio::{task::JoinHandle, time::timeout};

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
    nobody_is_in_his_own_way(make()).await;
    values_of_a_pool_are_told_apart(make()).await;
    an_attempt_takes_its_lease_over(make()).await;
    what_is_kept_outlives_its_handle(make()).await;
    a_lease_depends_on_its_processes(make()).await;
    a_stream_of_readers_starves_no_writer(make()).await;
    who_waits_first_is_served_first(make()).await;
    a_deadlock_is_broken(make()).await;
    who_goes_on_is_in_no_deadlock(make()).await;
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

async fn nobody_is_in_his_own_way(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    let first = granted(locks, "a", &[exclusive("db"), shared("s")]).await;
    let second = granted(locks, "a", &[exclusive("db")]).await;
    let raised = granted(locks, "a", &[exclusive("s")]).await;
    first.release().await.expect("a release");
    assert_eq!(busy(locks, "b", &[shared("db")]).await, ("db".into(), Some("a".into())));
    assert_eq!(busy(locks, "b", &[shared("s")]).await, ("s".into(), Some("a".into())));
    drop((second, raised));
    let units = granted(locks, "a", &[counted("u", 2, 3)]).await;
    assert_eq!(busy(locks, "a", &[counted("u", 1, 2)]).await.0, "u", "units add up");
    let further = granted(locks, "a", &[counted("u", 1, 3)]).await;
    drop((units, further));
    drop(granted(locks, "b", &[exclusive("db"), exclusive("s"), exclusive("u")]).await);
}

fn pool(name: &str, range: &str, count: u32) -> LockClaim {
    let values = PoolValues::Range(range.parse().expect("a range"));
    let name = LockName::new(name).expect("a good name");
    LockClaim::pooled(name, count, Pool { values, env: Some("PORT".into()) })
}

async fn values_of_a_pool_are_told_apart(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    let env = |lease: &dyn Lease| {
        let list: Vec<_> =
            lease.env().iter().map(|(name, value)| format!("{name}={value}")).collect();
        list.join(" ")
    };
    let one = granted(locks, "one", &[pool("ports", "1-5", 1)]).await;
    assert_eq!(env(&*one), "PORT=1");
    let two = granted(locks, "two", &[pool("ports", "1-5", 2)]).await;
    assert_eq!(env(&*two), "PORT=2 PORT_1=2 PORT_2=3");
    assert_eq!(
        busy(locks, "three", &[pool("ports", "1-5", 3)]).await,
        ("ports".into(), Some("one".into()))
    );
    // Other plans may see the pool differently: what is held is held.
    let other = granted(locks, "other", &[pool("ports", "3-9", 2)]).await;
    assert_eq!(env(&*other), "PORT=4 PORT_1=4 PORT_2=5");
    assert_eq!(busy(locks, "all", &[exclusive("ports")]).await.0, "ports");
    two.release().await.expect("a release");
    let again = granted(locks, "two", &[pool("ports", "1-5", 2)]).await;
    assert_eq!(env(&*again), "PORT=2 PORT_1=2 PORT_2=3");
    let elsewhere = granted(locks, "two", &[pool("more", "1-5", 1)]).await;
    assert_eq!(env(&*elsewhere), "PORT=1");
    drop((one, other, again, elsewhere));
    assert!(granted(locks, "none", &[exclusive("ports")]).await.env().is_empty());
}

async fn an_attempt_takes_its_lease_over(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    let claims = [pool("ports", "1-2", 1), exclusive("db")];
    let mut wanted = request("a", &claims);
    wanted.takes_over = true;
    let old = locks.acquire(wanted.clone()).await.expect("it is free");
    let new = locks.acquire(wanted).await.expect("it is theirs");
    assert!(new.fence() > old.fence(), "the old handle is superseded");
    assert_eq!(new.env(), old.env(), "the agent goes on with what it was given");
    drop(old);
    assert_eq!(busy(locks, "b", &[shared("db")]).await.1, Some("a".into()), "the new one holds");
    new.release().await.expect("a release");
    drop(granted(locks, "b", &claims).await);
}

async fn what_is_kept_outlives_its_handle(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    let free = |task: &'static str, lock: Option<&'static str>| async move {
        let lock = lock.map(|lock| LockName::new(lock).expect("a good name"));
        locks.release_kept(&holder(task), lock.as_ref()).await.expect("a release")
    };
    assert_eq!(free("a", None).await, 0);
    let by_plan = granted(locks, "a", &[exclusive("plan")]).await;
    for name in ["x", "y", "z"] {
        let lease = granted(locks, "a", &[exclusive(name)]).await;
        lease.keep(vec![this_process()]).await.expect("it is kept");
    }
    assert_eq!(busy(locks, "b", &[shared("x")]).await.1, Some("a".into()));
    assert_eq!(free("b", Some("x")).await, 0, "it isn't theirs");
    assert_eq!(free("a", Some("plan")).await, 0, "it has a handle");
    assert_eq!(free("a", Some("x")).await, 1);
    drop(granted(locks, "b", &[shared("x")]).await);
    assert_eq!(free("a", None).await, 2);
    let overview = locks.overview().await.expect("an overview");
    assert_eq!(overview.leases.len(), 1, "{overview:?}");
    assert_eq!(overview.leases[0].fence, by_plan.fence());
    assert_eq!(overview.leases[0].holder, holder("a"));
}

/// Another process, until it is dropped.
struct Living(std::process::Child);

impl Living {
    fn new() -> Self {
        let sleep = std::process::Command::new("sleep").arg("300").spawn();
        Self(sleep.expect("sleep can be started"))
    }

    fn identity(&self) -> AgentIdentity {
        crate::FileLocks::identify(self.0.id()).expect("it lives")
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn a_lease_depends_on_its_processes(locks: Arc<dyn ResourceLock>) {
    let locks = &*locks;
    let (first, second) = (Living::new(), Living::new());
    let lease = granted(locks, "a", &[exclusive("db")]).await;
    let other = granted(locks, "a", &[exclusive("net")]).await;
    lease.bind(&first.identity()).await.expect("it is noted");
    lease.keep(vec![first.identity(), second.identity()]).await.expect("it is noted");
    other.bind(&first.identity()).await.expect("it is noted");
    drop(first);
    assert_eq!(busy(locks, "b", &[shared("db")]).await.1, Some("a".into()), "one of them lives");
    assert_eq!(busy(locks, "b", &[shared("net")]).await.1, Some("a".into()), "so does this one");
    drop(second);
    let theirs = granted(locks, "b", &[exclusive("db")]).await;
    assert_eq!(locks.release_kept(&holder("a"), None).await.expect("nothing happens"), 0);
    assert_eq!(busy(locks, "c", &[shared("db")]).await.1, Some("b".into()));
    drop((theirs, other));
}

fn this_process() -> AgentIdentity {
    crate::FileLocks::identify(std::process::id()).expect("it lives")
}

/// Waits for locks in a task of its own.
fn waiting(
    locks: &Arc<dyn ResourceLock>,
    request: LockRequest,
) -> JoinHandle<Result<Box<dyn Lease>, LockError>> {
    let locks = Arc::clone(locks);
    tokio::spawn(async move { locks.acquire(request).await })
}

/// Waits until so many are in line.
async fn in_line(locks: &dyn ResourceLock, number: usize) {
    while locks.overview().await.expect("an overview").waiters.len() < number {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn lease_of(waiter: JoinHandle<Result<Box<dyn Lease>, LockError>>) -> Box<dyn Lease> {
    let lease = timeout(LONG, waiter).await.expect("it is woken").expect("no panic");
    lease.expect("it is granted")
}

async fn a_stream_of_readers_starves_no_writer(locks: Arc<dyn ResourceLock>) {
    let reader = granted(&*locks, "r0", &[shared("db")]).await;
    let writer = waiting(&locks, request("writer", &[exclusive("db")]));
    in_line(&*locks, 1).await;
    let late = granted(&*locks, "elsewhere", &[shared("other")]).await;
    assert_eq!(
        busy(&*locks, "r1", &[shared("db")]).await,
        ("db".into(), Some("writer".into())),
        "the writer came before"
    );
    // Those who hold something are let by: were they to wait, the writer might wait for them.
    let held = granted(&*locks, "elsewhere", &[shared("db")]).await;
    let next = waiting(&locks, request("r1", &[shared("db")]));
    in_line(&*locks, 2).await;
    drop((reader, held, late));
    let writer = lease_of(writer).await;
    assert_eq!(busy(&*locks, "r2", &[shared("db")]).await.1, Some("writer".into()));
    writer.release().await.expect("a release");
    drop(lease_of(next).await);
}

async fn who_waits_first_is_served_first(locks: Arc<dyn ResourceLock>) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = granted(&*locks, "w0", &[exclusive("db")]).await;
    let mut waiters = Vec::new();
    for number in 1..=5 {
        let task = format!("w{number}");
        let waiter = waiting(&locks, request(&task, &[exclusive("db")]));
        let order = Arc::clone(&order);
        waiters.push(tokio::spawn(async move {
            let lease = lease_of(waiter).await;
            order.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            lease.release().await.expect("a release");
        }));
        in_line(&*locks, number).await;
    }
    first.release().await.expect("a release");
    for waiter in waiters {
        timeout(LONG, waiter).await.expect("nobody starves").expect("no panic");
    }
    assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), [1, 2, 3, 4, 5]);
}

async fn a_deadlock_is_broken(locks: Arc<dyn ResourceLock>) {
    let names = ["a", "b", "c"];
    // (priorities, who is refused): the lowest priority, then the youngest.
    for (priorities, victim) in [([2, 2, 2], "c"), ([2, 4, 2], "b"), ([3, 0, 3], "c")] {
        let before = locks.overview().await.expect("an overview").deadlocks;
        let last = before.last().map_or(0, |deadlock| deadlock.number);
        let told = {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move { locks.next_deadlock(last).await })
        };
        let mut leases = Vec::new();
        let mut waiters = Vec::new();
        for task in names {
            leases.push(granted(&*locks, task, &[exclusive(task)]).await);
        }
        for (at, task) in names.into_iter().enumerate() {
            let mut wanted = request(task, &[exclusive(names[(at + 1) % 3])]);
            wanted.priority = priorities[at];
            waiters.push(waiting(&locks, wanted));
            if at < 2 {
                in_line(&*locks, at + 1).await;
            }
        }
        let told = timeout(LONG, told).await.expect("it is told of").expect("no panic");
        let deadlock = told.expect("it is watched");
        assert_eq!(deadlock.victim, holder(victim), "{deadlock}");
        assert_eq!(deadlock.cycle.len(), 3, "{deadlock}");
        assert!(deadlock.concerns(&RunId::new("r1").expect("a good id")));
        let at = names.iter().position(|name| *name == victim).expect("one of them");
        let refused = timeout(LONG, waiters.remove(at)).await.expect("it is woken");
        match refused.expect("no panic") {
            Err(LockError::Deadlock { deadlock: seen }) => assert_eq!(seen, deadlock),
            other => panic!("{victim}: {other:?}"),
        }
        // The victim gives way, and the others go on one after the other.
        drop(leases.remove(at));
        drop(leases);
        for waiter in waiters {
            drop(lease_of(waiter).await);
        }
    }
    let overview = locks.overview().await.expect("an overview");
    assert_eq!((overview.waiters.len(), overview.deadlocks.len()), (0, 3));
}

async fn who_goes_on_is_in_no_deadlock(locks: Arc<dyn ResourceLock>) {
    // Both wait for units, and a third holder will free enough of them.
    let a = granted(&*locks, "a", &[counted("u", 1, 3), exclusive("x")]).await;
    let b = granted(&*locks, "b", &[counted("u", 1, 3)]).await;
    let c = granted(&*locks, "c", &[counted("u", 1, 3)]).await;
    let wants_units = waiting(&locks, request("a", &[counted("u", 1, 3)]));
    in_line(&*locks, 1).await;
    let wants_x = waiting(&locks, request("b", &[exclusive("x")]));
    in_line(&*locks, 2).await;
    assert_eq!(locks.overview().await.expect("an overview").deadlocks, []);
    drop(c);
    drop((lease_of(wants_units).await, a));
    drop((lease_of(wants_x).await, b));
    assert_eq!(locks.overview().await.expect("an overview").deadlocks, []);
    // One who waits for himself is found, too.
    let all = granted(&*locks, "a", &[counted("u", 3, 3)]).await;
    let more = waiting(&locks, request("a", &[counted("u", 1, 3)]));
    let refused = timeout(LONG, more).await.expect("it is refused").expect("no panic");
    assert!(matches!(refused, Err(LockError::Deadlock { .. })), "{refused:?}");
    drop(all);
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
