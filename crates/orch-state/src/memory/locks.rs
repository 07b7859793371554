//! `MemoryLocks`: locks among the tasks of one process.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    event::AgentIdentity,
    id::LockName,
    ports::{
        Acquired, Deadlock, Lease, LockError, LockHolder, LockOverview, LockRequest, ResourceLock,
    },
    time::Timestamp,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    locks::{
        table::{Answer, Now, Obstacle, Table},
        variables,
    },
    process::Life,
};

/// How often one who waits shows that he is still there.
const RENEWAL: Duration = Duration::from_secs(1);

/// Locks in memory, with the meaning of [`FileLocks`](crate::FileLocks), except that the death of
/// a process is noticed only when a lock is asked for. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryLocks {
    inner: Arc<Inner>,
}

impl Default for MemoryLocks {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    began: Mutex<Option<Instant>>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    table: Table,
    fence: u64,
}

impl MemoryLocks {
    /// Locks that are all free.
    #[must_use]
    pub fn new() -> Self {
        let state = Mutex::new(State { table: Table::new(), fence: 0 });
        Self { inner: Arc::new(Inner { state, began: Mutex::new(None), changed: Notify::new() }) }
    }
}

impl Inner {
    fn with_table<T>(
        &self,
        act: impl FnOnce(&mut Table, Now, &mut dyn FnMut() -> Result<u64, LockError>) -> T,
    ) -> T {
        let now = self.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { table, fence } = &mut *state;
        table.sweep(now, Life::is_dead);
        let result = act(table, now, &mut || {
            *fence += 1;
            Ok(*fence)
        });
        let changes = std::mem::take(&mut table.changes);
        drop(state);
        if changes.freed {
            self.changed.notify_waiters();
        }
        result
    }

    fn now(&self) -> Now {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        // Made when it is needed: the runtime's clock may stand still in tests.
        let began = *began.get_or_insert_with(Instant::now);
        let steady = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        Now { steady, wall: Timestamp::from_millis(millis.try_into().unwrap_or_default()) }
    }
}

#[async_trait]
impl ResourceLock for MemoryLocks {
    fn name(&self) -> &str {
        "memory"
    }

    async fn try_acquire(&self, mut request: LockRequest) -> Result<Acquired, LockError> {
        request.claims.sort_by(|a, b| a.name.cmp(&b.name));
        let answer = self
            .inner
            .with_table(|table, now, fence| table.acquire(&request, &Life::own(), now, fence));
        match answer? {
            Answer::Granted(grant) => Ok(Acquired::Granted(Box::new(MemoryLease {
                fence: grant.fence,
                env: variables(&grant.locks),
                inner: Arc::clone(&self.inner),
                is_kept: false,
            }))),
            Answer::Busy(Obstacle { lock, holder }) => Ok(Acquired::Busy { lock, holder }),
            Answer::Refused(deadlock) => Err(LockError::Deadlock { deadlock }),
        }
    }

    async fn released(&self, request: &LockRequest) -> Result<(), LockError> {
        loop {
            let mut changed = pin!(self.inner.changed.notified());
            // Registered before the look, so that nothing freed in between is missed.
            changed.as_mut().enable();
            let look = self
                .inner
                .with_table(|table, now, fence| table.look(request, &Life::own(), now, fence));
            match look? {
                Answer::Granted(()) => return Ok(()),
                Answer::Refused(deadlock) => return Err(LockError::Deadlock { deadlock }),
                Answer::Busy(_) => drop(timeout(RENEWAL, changed).await),
            }
        }
    }

    async fn release_kept(
        &self,
        holder: &LockHolder,
        lock: Option<&LockName>,
    ) -> Result<usize, LockError> {
        Ok(self.inner.with_table(|table, _, _| table.free_kept(holder, lock)))
    }

    async fn overview(&self) -> Result<LockOverview, LockError> {
        Ok(self.inner.with_table(|table, _, _| table.overview()))
    }

    async fn next_deadlock(&self, after: u64) -> Result<Deadlock, LockError> {
        loop {
            let mut changed = pin!(self.inner.changed.notified());
            changed.as_mut().enable();
            let found = self.inner.with_table(|table, _, _| table.deadlock_after(after).cloned());
            match found {
                Some(deadlock) => return Ok(deadlock),
                None => changed.await,
            }
        }
    }
}

#[derive(Debug)]
struct MemoryLease {
    fence: u64,
    env: BTreeMap<String, String>,
    inner: Arc<Inner>,
    is_kept: bool,
}

#[async_trait]
impl Lease for MemoryLease {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    async fn bind(&self, process: &AgentIdentity) -> Result<(), LockError> {
        self.inner.with_table(|table, _, _| table.bind(self.fence, Life::of(process.clone())));
        Ok(())
    }

    async fn keep(mut self: Box<Self>, processes: Vec<AgentIdentity>) -> Result<(), LockError> {
        self.is_kept = true;
        let lives = processes.into_iter().map(Life::of).collect();
        self.inner.with_table(|table, _, _| table.keep(self.fence, lives));
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<(), LockError> {
        drop(self);
        Ok(())
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        if !self.is_kept {
            self.inner.with_table(|table, _, _| table.free(self.fence));
        }
    }
}
