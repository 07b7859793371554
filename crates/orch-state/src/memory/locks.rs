//! `MemoryLocks`: locks among the tasks of one process.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use orch_model::{
    id::LockName,
    plan::{LockClaim, LockMode},
    ports::{Acquired, Lease, LockError, LockHolder, LockRequest, ResourceLock},
};
use tokio::sync::Notify;

/// Locks in memory, with the meaning of [`FileLocks`](crate::FileLocks). Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryLocks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    fence: u64,
    locks: HashMap<LockName, Entry>,
}

/// Who holds one lock.
#[derive(Debug, Default)]
struct Entry {
    exclusive: Option<LockHolder>,
    shared: u32,
    units: BTreeMap<u32, LockHolder>,
}

/// What a lease holds of one lock.
#[derive(Debug)]
enum Part {
    Exclusive,
    Shared,
    Units(Vec<u32>),
}

impl MemoryLocks {
    /// Locks that are all free.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_free(&self) -> bool {
        self.exclusive.is_none() && self.shared == 0 && self.units.is_empty()
    }

    /// What a claim would get; or who is in its way, where that is known.
    fn part(&self, mode: LockMode) -> Result<Part, Option<LockHolder>> {
        if let Some(holder) = &self.exclusive {
            return Err(Some(holder.clone()));
        }
        match mode {
            LockMode::Exclusive if self.is_free() => Ok(Part::Exclusive),
            LockMode::Shared => Ok(Part::Shared),
            LockMode::Counted { count, of } => {
                let free = (0..of).filter(|unit| !self.units.contains_key(unit));
                let units: Vec<u32> = free.take(count as usize).collect();
                if units.len() < count as usize {
                    return Err(self.units.values().next().cloned());
                }
                Ok(Part::Units(units))
            }
            // Also a mode that a later version knows: nobody else, to be safe.
            _ if self.is_free() => Ok(Part::Exclusive),
            _ => Err(None),
        }
    }
}

impl Table {
    fn parts(&self, claims: &[LockClaim]) -> Result<Vec<(LockName, Part)>, Acquired> {
        let nobody = Entry::default();
        claims
            .iter()
            .map(|claim| {
                let entry = self.locks.get(&claim.name).unwrap_or(&nobody);
                match entry.part(claim.mode) {
                    Ok(part) => Ok((claim.name.clone(), part)),
                    Err(holder) => Err(Acquired::Busy { lock: claim.name.clone(), holder }),
                }
            })
            .collect()
    }
}

#[async_trait]
impl ResourceLock for MemoryLocks {
    fn name(&self) -> &str {
        "memory"
    }

    async fn try_acquire(&self, request: LockRequest) -> Result<Acquired, LockError> {
        let mut table = self.inner.table();
        let parts = match table.parts(&request.claims) {
            Ok(parts) => parts,
            Err(busy) => return Ok(busy),
        };
        for (name, part) in &parts {
            let entry = table.locks.entry(name.clone()).or_default();
            match part {
                Part::Exclusive => entry.exclusive = Some(request.holder.clone()),
                Part::Shared => entry.shared += 1,
                Part::Units(units) => {
                    entry.units.extend(units.iter().map(|unit| (*unit, request.holder.clone())));
                }
            }
        }
        table.fence += 1;
        let inner = Arc::clone(&self.inner);
        Ok(Acquired::Granted(Box::new(MemoryLease { fence: table.fence, parts, inner })))
    }

    async fn released(&self, claims: &[LockClaim]) -> Result<(), LockError> {
        let mut freed = pin!(self.inner.freed.notified());
        // Registered before the look, so that nothing freed in between is missed.
        freed.as_mut().enable();
        if self.inner.table().parts(claims).is_err() {
            freed.await;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLease {
    fence: u64,
    parts: Vec<(LockName, Part)>,
    inner: Arc<Inner>,
}

#[async_trait]
impl Lease for MemoryLease {
    fn fence(&self) -> u64 {
        self.fence
    }

    async fn release(self: Box<Self>) -> Result<(), LockError> {
        drop(self);
        Ok(())
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let mut table = self.inner.table();
        for (name, part) in &self.parts {
            let Some(entry) = table.locks.get_mut(name) else { continue };
            match part {
                Part::Exclusive => entry.exclusive = None,
                Part::Shared => entry.shared -= 1,
                Part::Units(units) => entry.units.retain(|unit, _| !units.contains(unit)),
            }
            if entry.is_free() {
                table.locks.remove(name);
            }
        }
        drop(table);
        self.inner.freed.notify_waiters();
    }
}
