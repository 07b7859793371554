//! Ownership and locks between real processes, which are killed.
//!
//! The other processes are this test program again: it runs [`other_process`], told by the
//! environment what to do, says so when it has done it, and stays until its input is closed.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use crate::common::{Workspace, events, run};
use orch_model::{
    event::{Event, EventKind},
    id::{LockName, TaskId},
    plan::{LockClaim, LockMode},
    ports::{Acquired, Lease, LockHolder, LockRequest, ResourceLock, StateStore, StoreError},
    time::Timestamp,
};
use orch_state::{FileLocks, FileStore};
use tokio::time::timeout;

/// Long beyond what any wake-up may take, and short enough to see a hang as a failure.
const LONG: Duration = Duration::from_secs(60);
/// How often each of the contending processes takes the lock.
const TURNS: usize = 20;
const DEED: &str = "ORCH_STATE_TEST_DEED";
const PLACE: &str = "ORCH_STATE_TEST_PLACE";
/// The process that a lease is bound to.
const BIND: &str = "ORCH_STATE_TEST_BIND";
const DONE: &str = "it is done: ";

struct Other {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(deed: &str, place: &Path) -> Self {
        Self::start_bound(deed, place, None)
    }

    /// Its lease is bound to a further process.
    fn start_bound(deed: &str, place: &Path, bind: Option<u32>) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .envs(bind.map(|pid| (BIND, pid.to_string())))
            .args([
                "--exact",
                "processes::other_process",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DEED, deed)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Waits until the deed is done and gives what was said of it.
    fn done(&mut self) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, said)) = line.split_once(DONE) {
                return said.trim().into();
            }
            line.clear();
        }
        panic!("the other process ended before it was done");
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets it end by itself.
    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

fn say(what: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{DONE}{what}").unwrap();
    output.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the part of another process, run by the other tests"]
async fn other_process() {
    let (Ok(deed), Some(place)) = (env::var(DEED), env::var_os(PLACE)) else { return };
    let place = Path::new(&place);
    match deed.as_str() {
        "write" => {
            let journal = FileStore::open(place).unwrap().create(&run("r1")).await.unwrap();
            let events = events("r1", 50);
            journal.append(&events).await.unwrap();
            say("written");
            wait_for_the_end();
            drop(journal);
        }
        "write on" => {
            let store = FileStore::open(place).unwrap();
            let journal = store.open(&run("r1")).await.unwrap();
            let held = store.read(&run("r1"), 1).await.unwrap().rest().await.unwrap();
            let first = held.len() as u64 + 1;
            say("opened");
            for seq in first.. {
                journal.append(&[line(seq)]).await.unwrap();
            }
        }
        "lock" => {
            let locks = FileLocks::open(place).unwrap();
            let lease = acquire(&locks, "other").await.expect("the locks are free");
            if let Ok(pid) = env::var(BIND) {
                let process = FileLocks::identify(pid.parse().unwrap()).unwrap();
                lease.bind(&process).await.unwrap();
            }
            say(&lease.fence().to_string());
            wait_for_the_end();
            lease.release().await.unwrap();
        }
        "stay" => {
            say("here");
            wait_for_the_end();
        }
        "contend" => {
            let locks = FileLocks::open(place.join("locks")).unwrap();
            for _ in 0..TURNS {
                let lease = wait_for(&locks, "other").await;
                take_the_place(place);
                lease.release().await.unwrap();
            }
            say("twenty times");
        }
        other => panic!("{other}?"),
    }
}

/// An event of no consequence, of a length that differs from that of its neighbours.
fn line(seq: u64) -> Event {
    let message = "x".repeat(usize::try_from(seq * 97 % 5000).unwrap());
    let kind = EventKind::Warning { task: None, message };
    Event { seq, at: Timestamp::from_millis(seq), kind }
}

fn wait_for_the_end() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Makes and removes a folder that is there only while somebody holds the lock.
fn take_the_place(place: &Path) {
    std::fs::create_dir(place.join("taken")).expect("nobody else holds the lock");
    std::thread::yield_now();
    std::fs::remove_dir(place.join("taken")).unwrap();
}

fn claims() -> Vec<LockClaim> {
    let claim = |name, mode| LockClaim::new(LockName::new(name).unwrap(), mode);
    vec![
        claim("db", LockMode::Exclusive),
        claim("gpu", LockMode::Counted { count: 1, of: 1 }),
        claim("net", LockMode::Shared),
    ]
}

fn request(task: &str) -> LockRequest {
    let task = TaskId::new(task).unwrap();
    // Those who contend are attempts of their own; those who are told whom to follow aren't.
    let attempt = if env::var_os(BIND).is_some() { 1 } else { std::process::id() };
    let holder = LockHolder::Attempt { run: run("r1"), task, attempt };
    let mut request = LockRequest::new(holder, claims());
    request.takes_over = true;
    request
}

async fn acquire(locks: &FileLocks, task: &str) -> Result<Box<dyn Lease>, Option<LockHolder>> {
    match locks.try_acquire(request(task)).await.unwrap() {
        Acquired::Granted(lease) => Ok(lease),
        Acquired::Busy { holder, .. } => Err(holder),
    }
}

async fn wait_for(locks: &FileLocks, task: &str) -> Box<dyn Lease> {
    locks.acquire(request(task)).await.unwrap()
}

#[tokio::test]
async fn a_killed_orchestrator_leaves_its_events_and_its_place() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    let mut other = Other::start("write", store.dir());
    other.done();
    let pid = other.process.id();
    let error = store.open(&run("r1")).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Busy { pid: busy } if busy == pid), "{error}");
    drop(store.create(&run("r2")).await.expect("another run beside it"));
    assert_eq!(store.list().await.unwrap()[0].owner, Some(pid));
    other.kill();
    assert_eq!(store.list().await.unwrap()[0].owner, None);
    let journal = store.open(&run("r1")).await.unwrap();
    assert_eq!(workspace.read("r1").await.unwrap(), events("r1", 50));
    assert_eq!(journal.sync().await.unwrap(), 50, "what the other did not sync is synced");
}

#[tokio::test]
async fn a_writer_that_is_killed_at_any_moment_leaves_a_prefix() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    workspace.write("r1", &[]).await;
    let mut before = 0;
    for round in 0..12 {
        let mut other = Other::start("write on", store.dir());
        other.done();
        let enough = before + 1 + 13 * round;
        let mut reader = store.read(&run("r1"), enough).await.unwrap();
        while reader.next().await.unwrap().is_empty() {}
        other.kill();
        let journal = store.open(&run("r1")).await.unwrap();
        let held = workspace.read("r1").await.unwrap();
        assert!(held.len() as u64 >= enough);
        for (seq, event) in (1..).zip(&held) {
            assert_eq!(*event, line(seq));
        }
        before = held.len() as u64 + 1;
        journal.append(&[line(before)]).await.unwrap();
    }
    assert_eq!(workspace.read("r1").await.unwrap().last(), Some(&line(before)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_ends_or_is_killed_wakes_the_waiter() {
    for killed in [false, true, true, true, true, true] {
        let dir = tempfile::tempdir().unwrap();
        // Nothing but the wake-up may end the waiting.
        let locks = FileLocks::open(dir.path()).unwrap().with_safety_net(2 * LONG);
        let locks = Arc::new(locks);
        let mut other = Other::start("lock", dir.path());
        let fence: u64 = other.done().parse().unwrap();
        let holder = acquire(&locks, "mine").await.expect_err("the other holds it").unwrap();
        assert_eq!(holder.to_string(), "task other of run r1");
        let waiter = {
            let locks = Arc::clone(&locks);
            tokio::spawn(async move { wait_for(&locks, "mine").await })
        };
        if killed {
            other.kill();
        } else {
            other.end();
        }
        let lease = timeout(LONG, waiter).await.expect("it is woken").unwrap();
        assert!(lease.fence() > fence, "{} after {fence}", lease.fence());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let locks = FileLocks::open(dir.path().join("locks")).unwrap();
    let mut others: Vec<Other> = (0..3).map(|_| Other::start("contend", dir.path())).collect();
    for _ in 0..TURNS {
        let lease = timeout(LONG, wait_for(&locks, "mine")).await.expect("nobody starves");
        take_the_place(dir.path());
        lease.release().await.unwrap();
    }
    for other in &mut others {
        assert_eq!(other.done(), "twenty times");
    }
    for other in others {
        other.end();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_suspended_keeps_its_locks() {
    let dir = tempfile::tempdir().unwrap();
    let locks = FileLocks::open(dir.path()).unwrap();
    let mut other = Other::start("lock", dir.path());
    let fence: u64 = other.done().parse().unwrap();
    let pid = rustix::process::Pid::from_child(&other.process);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let waiting = timeout(Duration::from_millis(1500), wait_for(&locks, "mine")).await;
    assert!(waiting.is_err(), "it was taken from a living holder");
    let overview = locks.overview().await.unwrap();
    assert_eq!(overview.leases.len(), 1);
    assert_eq!(
        (overview.leases[0].fence, &overview.leases[0].pids[..]),
        (fence, &[other.process.id()][..])
    );
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    other.end();
    timeout(LONG, wait_for(&locks, "mine")).await.expect("it was released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_passes_from_one_process_to_the_next_and_ends_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let locks = FileLocks::open(dir.path()).unwrap();
    let mut agent = Other::start("stay", dir.path());
    agent.done();
    // An orchestrator takes the locks, and binds them to its agent before it dies.
    let mut first = Other::start_bound("lock", dir.path(), Some(agent.process.id()));
    let fence: u64 = first.done().parse().unwrap();
    first.kill();
    let holder = acquire(&locks, "mine").await.expect_err("the agent lives").unwrap();
    assert_eq!(holder.to_string(), "task other of run r1");
    // Its successor goes on with them, also when the agent is gone.
    let mut second = Other::start_bound("lock", dir.path(), Some(agent.process.id()));
    assert!(second.done().parse::<u64>().unwrap() > fence);
    agent.kill();
    assert!(acquire(&locks, "mine").await.is_err());
    second.kill();
    acquire(&locks, "mine").await.expect("nobody is left who could hold it");
}
