//! `ResourceLock`: leases that last for as long as those live who they depend on.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use orch_exec::model::{
    LockName,
    event::AgentIdentity,
    plan::{LockClaim, LockMode},
    ports::{Acquired, Lease, LockError, LockHolder, LockOverview, LockRequest, ResourceLock},
};

use crate::world::{Inner, Part};

/// Who holds what.
#[derive(Debug, Default)]
pub(crate) struct Table {
    leases: BTreeMap<u64, Entry>,
    fence: u64,
}

#[derive(Debug)]
struct Entry {
    holder: LockHolder,
    claims: Vec<LockClaim>,
    /// The orchestrator that asked for it, until it leaves it to others.
    life: Option<u32>,
    pids: Vec<u32>,
}

impl Inner {
    /// The leases that somebody lives for.
    pub(crate) fn held(&mut self) -> usize {
        let dead: Vec<u64> = self
            .locks
            .leases
            .iter()
            .filter(|(_, lease)| {
                let of_orchestrator = self.is_alive && lease.life == Some(self.life);
                !of_orchestrator && !lease.pids.iter().any(|pid| self.is_process_alive(*pid))
            })
            .map(|(fence, _)| *fence)
            .collect();
        for fence in dead {
            self.locks.leases.remove(&fence);
        }
        self.locks.leases.len()
    }

    /// The first of these that can't be had, and who has it.
    fn taken(&self, request: &LockRequest) -> Option<(LockName, LockHolder)> {
        for wanted in &request.claims {
            let mut units = 0;
            for lease in self.locks.leases.values().filter(|l| l.holder != request.holder) {
                for held in lease.claims.iter().filter(|held| held.name == wanted.name) {
                    let is_taken = match (wanted.mode, held.mode) {
                        (LockMode::Shared, LockMode::Shared) => false,
                        (
                            LockMode::Counted { count, of },
                            LockMode::Counted { count: some, .. },
                        ) => {
                            units += some;
                            units + count > of
                        }
                        _ => true,
                    };
                    if is_taken {
                        return Some((wanted.name.clone(), lease.holder.clone()));
                    }
                }
            }
        }
        None
    }

    fn lease(&mut self, request: LockRequest, life: u32) -> u64 {
        self.locks.fence += 1;
        let LockRequest { holder, claims, takes_over, .. } = request;
        let mut pids = Vec::new();
        if takes_over {
            self.locks.leases.retain(|_, lease| {
                let is_mine = lease.holder == holder;
                if is_mine {
                    pids.append(&mut lease.pids);
                }
                !is_mine
            });
        }
        let entry = Entry { holder, claims, life: Some(life), pids };
        self.locks.leases.insert(self.locks.fence, entry);
        self.locks.fence
    }
}

#[async_trait]
impl ResourceLock for Part {
    fn name(&self) -> &str {
        "simulated"
    }

    async fn try_acquire(&self, request: LockRequest) -> Result<Acquired, LockError> {
        self.act(&format!("lock for {}", request.holder), |world| {
            if world.goes_wrong("locks can't be read", 2) {
                let source = std::io::ErrorKind::StorageFull.into();
                return Err(LockError::Io { path: "locks".into(), doing: "reading", source });
            }
            world.held();
            Ok(match world.taken(&request) {
                Some((lock, holder)) => Acquired::Busy { lock, holder: Some(holder) },
                None => {
                    // Who gives the request up in this moment drops the lease with it.
                    let fence = world.lease(request, self.life);
                    let env = BTreeMap::new();
                    Acquired::Granted(Box::new(OpenLease { part: self.clone(), fence, env }))
                }
            })
        })
        .await
    }

    async fn released(&self, _: &LockRequest) -> Result<(), LockError> {
        self.wait(Duration::from_secs(5)).await;
        Ok(())
    }

    async fn overview(&self) -> Result<LockOverview, LockError> {
        Ok(LockOverview::default())
    }
}

#[derive(Debug)]
struct OpenLease {
    part: Part,
    fence: u64,
    env: BTreeMap<String, String>,
}

#[async_trait]
impl Lease for OpenLease {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    async fn bind(&self, process: &AgentIdentity) -> Result<(), LockError> {
        self.part
            .act("bind the lease", |world| {
                if let Some(lease) = world.locks.leases.get_mut(&self.fence) {
                    lease.pids.push(process.pid);
                }
            })
            .await;
        Ok(())
    }

    async fn keep(self: Box<Self>, processes: Vec<AgentIdentity>) -> Result<(), LockError> {
        self.part
            .act("keep the lease", |world| {
                if let Some(lease) = world.locks.leases.get_mut(&self.fence) {
                    lease.life = None;
                    lease.pids = processes.iter().map(|process| process.pid).collect();
                }
            })
            .await;
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<(), LockError> {
        self.part
            .act("release the lease", |world| {
                world.locks.leases.remove(&self.fence);
                self.part.world.changed.notify_waiters();
            })
            .await;
        Ok(())
    }
}

impl Drop for OpenLease {
    fn drop(&mut self) {
        if self.part.is_alive() {
            self.part.world.lock().locks.leases.remove(&self.fence);
            self.part.world.changed.notify_waiters();
        }
    }
}
