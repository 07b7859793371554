//! Which process a pid speaks of: pids are reused, so a pid alone names nothing.

use std::{collections::HashMap, fs, io::Read, sync::OnceLock};

use orch_model::event::AgentIdentity;
use procfs_core::{
    FromRead,
    process::{Io, Stat},
};

/// The identity of a process that exists now; `None` where it does not.
pub(crate) fn of(pid: u32) -> Option<AgentIdentity> {
    Some(AgentIdentity { pid, start_ticks: stat(pid)?.starttime, boot_id: boot_id().to_owned() })
}

/// Whether that very process still runs; a zombie does not.
pub(crate) fn is_alive(identity: &AgentIdentity) -> bool {
    identity.boot_id == boot_id()
        && stat(identity.pid)
            .is_some_and(|stat| stat.starttime == identity.start_ticks && !is_over(&stat))
}

/// Whether a process of this group exists that is no zombie. Walks `/proc`: rarely called.
pub(super) fn group_is_alive(group_number: u32) -> bool {
    stats().any(|(_, stat)| group_of(&stat) == group_number)
}

/// The processes of this machine that are no zombies.
pub(super) fn living() -> impl Iterator<Item = u32> {
    stats().map(|(pid, _)| pid)
}

fn stats() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, stat(pid)?))
        })
        .filter(|(_, stat)| !is_over(stat))
}

/// The number of a process's group.
pub(super) fn group(pid: u32) -> Option<u32> {
    stat(pid).as_ref().map(group_of)
}

/// Whether a process was stopped by a signal.
pub(crate) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'))
}

/// What a group of processes takes of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// How many they are.
    pub(crate) processes: u32,
    /// The time that those alive have computed, in clock ticks.
    pub(crate) cpu_ticks: u64,
    /// How much those alive have read and written, files, pipes and sockets together, in bytes.
    pub(crate) transferred: u64,
    /// Their resident memory, in pages; what they share counts for each.
    pub(crate) memory_pages: u64,
    /// Whether their leader is stopped, or waits for the kernel and can't be interrupted.
    pub(crate) leader: char,
}

/// What these groups of processes take.
pub(crate) fn use_by_group(groups: impl IntoIterator<Item = u32>) -> HashMap<u32, Use> {
    let mut groups: HashMap<u32, Use> =
        groups.into_iter().map(|group| (group, Use::default())).collect();
    for (pid, stat) in stats() {
        let Some(group) = groups.get_mut(&group_of(&stat)) else { continue };
        group.processes += 1;
        group.transferred += transferred(pid).unwrap_or(0);
        group.cpu_ticks += stat.utime + stat.stime;
        group.memory_pages += stat.rss;
        if pid == group_of(&stat) {
            group.leader = stat.state;
        }
    }
    groups
}

/// More than the 52 fields of `/proc/PID/stat` take, in bytes.
const LONGEST_STAT: usize = 2048;

fn stat(pid: u32) -> Option<Stat> {
    // One read: the file tells no size, and reading it to its end takes five.
    let mut text = [0; LONGEST_STAT];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    Stat::from_read(&text[..length]).ok()
}

/// `rchar` and `wchar` of `/proc/PID/io`, proc_pid_io(5); the process of another user tells nothing.
fn transferred(pid: u32) -> Option<u64> {
    let io = Io::from_file(format!("/proc/{pid}/io")).ok()?;
    Some(io.rchar.saturating_add(io.wchar))
}

/// Whether a process has ended. A zombie with further threads has not: its first thread has ended,
/// and the others go on.
fn is_over(stat: &Stat) -> bool {
    stat.state == 'X' || (stat.state == 'Z' && stat.num_threads <= 1)
}

fn group_of(stat: &Stat) -> u32 {
    stat.pgrp.unsigned_abs()
}

/// Whether the machine was started again since this process was.
pub(crate) fn is_of_earlier_boot(identity: &AgentIdentity) -> bool {
    identity.boot_id != boot_id()
}

pub(crate) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_pid_is_not() {
        let me = of(std::process::id()).unwrap();
        assert!(is_alive(&me));
        assert!(!is_alive(&AgentIdentity { start_ticks: me.start_ticks - 1, ..me.clone() }));
        assert!(!is_alive(&AgentIdentity { boot_id: "other".into(), ..me }));
        assert!(of(u32::MAX).is_none());
    }

    #[test]
    fn what_a_process_reads_and_writes_is_seen() {
        let own = group(std::process::id()).unwrap();
        let before = use_by_group([own])[&own];
        assert!(before.processes >= 1);
        fs::read("/proc/self/status").unwrap();
        let after = use_by_group([own])[&own];
        assert!(after.transferred > before.transferred, "{before:?} {after:?}");
        assert_eq!(use_by_group([u32::MAX])[&u32::MAX], Use::default());
    }
}
