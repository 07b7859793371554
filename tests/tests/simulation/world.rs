//! The world around the engine. It goes on where an orchestrator dies.

use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use orch_exec::{
    model::{Timestamp, resources::Contended},
    resources::{FreeSpace, Reading, Resources, Stall},
    time::{Clock, TokioClock},
};
use tokio::sync::Notify;

use crate::{
    case::Case, journal::Journals, locks::Table, processes::Processes, repository::Repository,
};

/// Everything that may go wrong.
pub(crate) const FAULTS: &[&str] = &[
    "agent can't be started",
    "agent is not logged in",
    "append fails",
    "append is torn",
    "disk is full",
    "git fails",
    "kill -9 before a sync",
    "kill -9 of the orchestrator",
    "kill -9 while it recovers",
    "locks can't be read",
    "merged results fail by chance",
    "people cancel a task",
    "people commit to the target",
    "people freeze",
    "people interrupt",
    "people pause",
    "power cut",
    "power cut right after a merge",
    "second orchestrator",
    "supervisor is killed",
    "sync fails",
];

/// The world.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    /// Told when anything changes that somebody may wait for.
    pub(crate) changed: Arc<Notify>,
    /// Told when the orchestrator is killed.
    pub(crate) killed: Arc<Notify>,
}

/// What there is.
pub(crate) struct Inner {
    pub(crate) case: Case,
    pub(crate) rng: Rng,
    pub(crate) journals: Journals,
    pub(crate) processes: Processes,
    pub(crate) repository: Repository,
    pub(crate) locks: Table,
    pub(crate) violations: Vec<String>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Which orchestrator is at work, from 1.
    pub(crate) life: u32,
    /// Whether it lives.
    pub(crate) is_alive: bool,
    /// Whether it was killed by a power cut.
    pub(crate) is_cut: bool,
    pub(crate) steps: u64,
    /// The step of this life before which it is killed.
    kill_at: Option<u64>,
    steps_of_life: u64,
    /// Whether this life has got as far as running.
    pub(crate) is_running: bool,
    /// How many more things may go wrong that a task's budget for infrastructure pays for.
    trouble_left: u32,
    /// How much the engine had going on, from time to time.
    pub(crate) going_on: Vec<usize>,
    trace: u64,
    tells: bool,
}

impl World {
    pub(crate) fn new(case: Case, rng: Rng, tells: bool) -> Self {
        let inner = Inner {
            case,
            rng,
            journals: Journals::default(),
            processes: Processes::default(),
            repository: Repository::new(),
            locks: Table::default(),
            violations: Vec::new(),
            faults: BTreeMap::new(),
            life: 0,
            is_alive: false,
            is_cut: false,
            steps: 0,
            kill_at: None,
            steps_of_life: 0,
            is_running: false,
            trouble_left: 3,
            going_on: Vec::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            tells,
        };
        let inner = Arc::new(Mutex::new(inner));
        Self { inner, changed: Arc::default(), killed: Arc::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new orchestrator begins. `kill_at`: before which of its steps it is killed.
    pub(crate) fn begin_life(&self, kill_at: Option<u64>) -> u32 {
        let mut inner = self.lock();
        inner.life += 1;
        inner.is_alive = true;
        inner.is_running = false;
        inner.steps_of_life = 0;
        inner.kill_at = kill_at;
        inner.life
    }

    /// The orchestrator has ended, however it did.
    pub(crate) fn end_life(&self) {
        self.lock().is_alive = false;
    }
}

impl Inner {
    /// Takes down what happened, for the comparison of two replays and for who reads along.
    pub(crate) fn note(&mut self, now: Timestamp, what: &str) {
        // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv
        let time = now.as_millis().to_le_bytes();
        for byte in time.iter().chain(what.as_bytes()) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.tells {
            println!("{:>3} {now} {what}", self.life);
        }
    }

    pub(crate) fn count(&mut self, fault: &'static str) {
        debug_assert!(FAULTS.contains(&fault), "{fault} is not among the faults");
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Whether this goes wrong now, `chance` times of 256; it is rare enough not to be the end of a task.
    pub(crate) fn goes_wrong(&mut self, fault: &'static str, chance: u8) -> bool {
        if self.trouble_left == 0 || self.rng.u8(..) >= chance {
            return false;
        }
        self.trouble_left -= 1;
        self.count(fault);
        true
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }
}

impl Part {
    /// The results were moved: a moment that a power cut likes.
    pub(crate) fn moved(&self, world: &mut Inner) {
        // A recovery acts upon what its predecessor may not have synced.
        let chance = if world.is_running { 3 } else { 60 };
        if world.goes_wrong("power cut right after a merge", chance) {
            (world.is_alive, world.is_cut) = (false, true);
            self.world.killed.notify_one();
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// What the ports of one orchestrator are made of: once that is dead they do nothing any more.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) world: World,
    pub(crate) life: u32,
    pub(crate) clock: TokioClock,
}

impl Part {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn is_alive(&self) -> bool {
        let inner = self.world.lock();
        inner.is_alive && inner.life == self.life
    }

    /// Does something in the world as one step. The orchestrator may be killed before it and after it,
    /// and others may do something in between.
    pub(crate) async fn act<T>(&self, what: &str, act: impl FnOnce(&mut Inner) -> T) -> T {
        self.step(what).await;
        let result = {
            let mut inner = self.world.lock();
            let now = self.now();
            inner.settle(now);
            act(&mut inner)
        };
        self.step("done").await;
        result
    }

    /// A moment at which the orchestrator may be killed.
    async fn step(&self, what: &str) {
        if let Some(pause) = self.take_step(what) {
            tokio::time::sleep(pause).await;
        }
        if !self.is_alive() {
            pending::<()>().await;
        }
    }

    fn take_step(&self, what: &str) -> Option<Duration> {
        let mut inner = self.world.lock();
        if !inner.is_alive || inner.life != self.life {
            return None;
        }
        inner.steps += 1;
        inner.steps_of_life += 1;
        inner.note(self.now(), what);
        if inner.kill_at == Some(inner.steps_of_life) {
            inner.is_alive = false;
            let recovers = inner.life > 1 && !inner.is_running;
            inner.count(if recovers {
                "kill -9 while it recovers"
            } else {
                "kill -9 of the orchestrator"
            });
            self.world.killed.notify_one();
            return None;
        }
        (inner.rng.u8(..) < 100).then(|| Duration::from_millis(inner.rng.u64(0..30)))
    }

    /// Waits until something has changed, or for this long.
    pub(crate) async fn wait(&self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.world.changed.notified()).await;
        if !self.is_alive() {
            pending::<()>().await;
        }
    }
}

/// The machine: its disk is full at times.
#[async_trait::async_trait]
impl Resources for Part {
    async fn look(&self) -> Reading {
        let is_full = {
            let mut inner = self.world.lock();
            let is_full = inner.rng.u16(..) < 150;
            if is_full {
                inner.count("disk is full");
            }
            is_full
        };
        let mut reading = Reading::default();
        let bytes = if is_full { 0 } else { 1 << 40 };
        reading.disk = Some(FreeSpace { path: "/sim".into(), bytes });
        reading.stalls = vec![Stall { of: Contended::ALL[0], some: 0.0, full: 0.0 }];
        reading
    }
}
