//! Which process a pid speaks of, and whether it is dead for certain.

use std::{fs, os::unix::fs::MetadataExt, sync::OnceLock};

use orch_model::event::AgentIdentity;
use procfs_core::{FromRead, process::Stat};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// A process that something depends on. The pid alone names nothing: it is reused, and another
/// namespace gives it to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    #[serde(flatten)]
    pub(crate) process: AgentIdentity,
    /// The inode of the pid namespace in which the pid has its meaning, pid_namespaces(7).
    namespace: u64,
}

impl Life {
    /// A process as this one sees it.
    pub(crate) fn of(process: AgentIdentity) -> Self {
        Self { process, namespace: namespace() }
    }

    /// This process.
    pub(crate) fn own() -> Self {
        match orch_faults::own_pid() {
            Some(pid) => Self::simulated(pid),
            None => own().clone(),
        }
    }

    /// A process of the tests that is none of the system.
    fn simulated(pid: u32) -> Self {
        Self::of(AgentIdentity { pid, start_ticks: 0, boot_id: boot_id().to_owned() })
    }

    /// Whether it can still be watched from here.
    pub(crate) fn is_visible(&self) -> bool {
        self.namespace == namespace()
    }

    /// Whether it is dead for certain. A process that can't be seen, as in another namespace, isn't.
    pub(crate) fn is_dead(&self) -> bool {
        if let Some(is_dead) = orch_faults::is_dead(self.process.pid) {
            return is_dead;
        }
        if *self == *own() {
            return false;
        }
        if self.process.boot_id != boot_id() {
            return true;
        }
        if !self.is_visible() {
            return false;
        }
        match stat(self.process.pid) {
            Some(stat) if orch_faults::planted("bare-pid") => is_over(&stat),
            Some(stat) => stat.starttime != self.process.start_ticks || is_over(&stat),
            // A process of another user may be hidden, proc(5), but answers to the signal 0.
            None => {
                let pid = i32::try_from(self.process.pid).ok().and_then(Pid::from_raw);
                pid.is_none_or(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
            }
        }
    }
}

fn own() -> &'static Life {
    static OWN: OnceLock<Life> = OnceLock::new();
    OWN.get_or_init(|| {
        let pid = std::process::id();
        let start_ticks = stat(pid).map_or(0, |stat| stat.starttime);
        Life::of(AgentIdentity { pid, start_ticks, boot_id: boot_id().to_owned() })
    })
}

/// The pid of this process.
pub(crate) fn own_pid() -> u32 {
    orch_faults::own_pid().unwrap_or_else(std::process::id)
}

/// The process with this pid; `None` where there is none.
pub(crate) fn identify(pid: u32) -> Option<AgentIdentity> {
    let stat = stat(pid)?;
    Some(AgentIdentity { pid, start_ticks: stat.starttime, boot_id: boot_id().to_owned() })
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::from_file(format!("/proc/{pid}/stat")).ok()
}

/// Whether a process has ended. A zombie with further threads has not: its first thread has ended,
/// and the others go on.
fn is_over(stat: &Stat) -> bool {
    stat.state == 'X' || (stat.state == 'Z' && stat.num_threads <= 1)
}

/// Names this boot of the machine.
pub(crate) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
}

fn namespace() -> u64 {
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    *NAMESPACE.get_or_init(|| fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_dead_for_certain_is_dead() {
        let own = Life::own();
        assert!(!own.is_dead());
        assert_eq!(identify(std::process::id()), Some(own.process.clone()));
        let other = |change: fn(&mut Life)| {
            let mut life = own.clone();
            change(&mut life);
            life.is_dead()
        };
        assert!(other(|life| life.process.start_ticks -= 1), "the pid was given anew");
        assert!(other(|life| life.process.boot_id = "another".into()));
        assert!(other(|life| life.process.pid = i32::MAX as u32));
        assert!(other(|life| life.process.pid = 0));
        assert!(!other(|life| {
            life.namespace += 1;
            life.process.start_ticks += 1;
        }));
        assert_eq!(identify(u32::MAX), None);
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let life = Life::of(identify(child.id()).unwrap());
        assert!(!life.is_dead());
        child.kill().unwrap();
        let pid = Pid::from_child(&child);
        let exited =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), exited).unwrap();
        assert!(life.is_dead(), "nobody has reaped it");
        child.wait().unwrap();
        assert!(life.is_dead());
    }

    #[test]
    fn one_whose_first_thread_has_ended_is_alive() {
        // Fields 3, 20 and 22 of proc_pid_stat(5); the name is a hostile one.
        let of = |threads| {
            let rest = " 0".repeat(29);
            let line = format!(
                "12 (a) R 1) Z 1 34 34 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 {threads} 0 987654 1{rest}"
            );
            Stat::from_read(line.as_bytes()).unwrap()
        };
        assert_eq!(of(1).starttime, 987_654);
        assert!(is_over(&of(1)));
        assert!(!is_over(&of(2)));
    }
}
