//! What agents leave behind outside of their process groups.
//!
//! A process whose parent dies becomes the child of the nearest *child subreaper* above it
//! (`PR_SET_CHILD_SUBREAPER`, prctl(2)), which the supervisor of a run is. So every such process shows
//! among its children, and its environment tells which attempt it belongs to.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::FileExt,
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orch_faults::point;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// How often an attempt's orphans are looked for: killing one makes orphans of its children.
const ROUNDS: u32 = 200;

/// The orphans of a process that is a child subreaper.
#[derive(Debug)]
pub(crate) struct Orphanage {
    /// Children that were started by this process. Whoever started them reaps them.
    own: Mutex<HashSet<u32>>,
    /// The children of its first thread, which is the one that orphans are given to.
    children: fs::File,
}

impl Orphanage {
    /// Of this process, which must be a child subreaper.
    pub(crate) fn open() -> io::Result<Self> {
        let thread = process::id();
        let children = fs::File::open(format!("/proc/{thread}/task/{thread}/children"))?;
        Ok(Self { own: Mutex::default(), children })
    }

    fn own(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that starts a child, which is not taken for an orphan.
    pub(crate) fn exempt<E>(
        &self,
        start: impl FnOnce() -> Result<std::process::Child, E>,
    ) -> Result<std::process::Child, E> {
        let mut own = self.own();
        let child = start()?;
        own.insert(child.id());
        Ok(child)
    }

    /// Notes that a child was reaped.
    pub(crate) fn reaped(&self, pid: u32) {
        self.own().remove(&pid);
    }

    /// Reaps orphans as they end. Does not return.
    pub(crate) async fn reap(self: std::sync::Arc<Self>) {
        let Ok(mut ended) = signal(SignalKind::child()) else { return };
        while ended.recv().await.is_some() {
            self.reap_now();
        }
    }

    fn reap_now(&self) {
        for pid in self.orphans() {
            // A child's pid means that child until it has been reaped.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    /// Ends the orphans that carry these variables. Gives their number.
    pub(crate) async fn end(&self, variables: &BTreeMap<String, String>) -> usize {
        let mut ended = HashSet::new();
        for _ in 0..ROUNDS {
            // Mostly there is none, and looking is all it costs.
            let orphans = self.orphans();
            let found: Vec<Pid> = orphans
                .into_iter()
                .filter(|pid| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)))
                .filter(|pid| carries(*pid, variables))
                .collect();
            if found.is_empty() {
                break;
            }
            for signal in [Signal::STOP, Signal::KILL] {
                for pid in &found {
                    let kill = || kill_process(*pid, signal).map_err(std::io::Error::from);
                    let _ = point!("orphans::kill", kill());
                }
            }
            ended.extend(found);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ended.len()
    }

    fn orphans(&self) -> Vec<Pid> {
        let own = self.own();
        let children = self.children();
        let pids = children.split(|byte| *byte == b' ').filter_map(|pid| {
            let pid: u32 = std::str::from_utf8(pid).ok()?.trim().parse().ok()?;
            (!own.contains(&pid)).then(|| Pid::from_raw(i32::try_from(pid).ok()?)).flatten()
        });
        pids.collect()
    }

    /// The pids of the children, each with a blank after it.
    fn children(&self) -> Vec<u8> {
        let mut list = vec![0; 4096];
        let mut length = 0;
        // Mostly one read and one that finds the end.
        while let Ok(read @ 1..) = self.children.read_at(&mut list[length..], length as u64) {
            length += read;
            if length == list.len() {
                list.resize(2 * length, 0);
            }
        }
        list.truncate(length);
        list
    }
}

fn carries(pid: Pid, variables: &BTreeMap<String, String>) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else {
        return false;
    };
    ["ORCH_RUN_ID", "ORCH_TASK_ID", "ORCH_ATTEMPT"].iter().all(|name| {
        variables.get(*name).is_some_and(|value| {
            let wanted = format!("{name}={value}");
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
    })
}
