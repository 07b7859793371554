//! Which process a pid speaks of: pids are reused, so a pid alone names nothing.

use std::{fs, io::Read, sync::OnceLock};

use orch_model::event::AgentIdentity;

/// The identity of a process that exists now; `None` where it does not.
pub(crate) fn of(pid: u32) -> Option<AgentIdentity> {
    Some(AgentIdentity { pid, start_ticks: stat(pid)?.start_ticks, boot_id: boot_id().to_owned() })
}

/// Whether that very process still runs; a zombie does not.
pub(crate) fn is_alive(identity: &AgentIdentity) -> bool {
    identity.boot_id == boot_id()
        && stat(identity.pid).is_some_and(|stat| {
            stat.start_ticks == identity.start_ticks && !matches!(stat.state, 'Z' | 'X')
        })
}

/// Whether a process of this group exists that is no zombie. Walks `/proc`: rarely called.
pub(super) fn group_is_alive(group_number: u32) -> bool {
    stats().any(|(_, stat)| stat.group == group_number)
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
        .filter(|(_, stat)| !matches!(stat.state, 'Z' | 'X'))
}

/// The number of a process's group.
pub(super) fn group(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.group)
}

/// What a group of processes takes of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// How many they are.
    pub(crate) processes: u32,
    /// The time that those alive have computed, in clock ticks.
    pub(crate) cpu_ticks: u64,
    /// Their resident memory, in pages; what they share counts for each.
    pub(crate) memory_pages: u64,
    /// Whether their leader is stopped, or waits for the kernel and can't be interrupted.
    pub(crate) leader: char,
}

/// What each group of processes of this machine takes.
pub(crate) fn use_by_group() -> std::collections::HashMap<u32, Use> {
    let mut groups = std::collections::HashMap::<u32, Use>::new();
    for (pid, stat) in stats() {
        let group = groups.entry(stat.group).or_default();
        group.processes += 1;
        group.cpu_ticks += stat.cpu_ticks;
        group.memory_pages += stat.memory_pages;
        if pid == stat.group {
            group.leader = stat.state;
        }
    }
    groups
}

/// More than the 52 fields of `/proc/PID/stat` take, in bytes.
const LONGEST_STAT: usize = 2048;

struct Stat {
    state: char,
    group: u32,
    cpu_ticks: u64,
    start_ticks: u64,
    memory_pages: u64,
}

/// Fields 3, 5, 14 and 15, 22 and 24 of `/proc/PID/stat`, proc_pid_stat(5).
fn stat(pid: u32) -> Option<Stat> {
    // One read: the file tells no size, and reading it to its end takes five.
    let mut text = [0; LONGEST_STAT];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    parse(&String::from_utf8_lossy(&text[..length]))
}

fn parse(stat: &str) -> Option<Stat> {
    // Field 2 is the command in parentheses and may hold blanks and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(22).collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: u32::try_from(number(5)?).ok()?,
        cpu_ticks: number(14)? + number(15)?,
        start_ticks: number(22)?,
        memory_pages: number(24)?,
    })
}

fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_is_read_over() {
        let line = "12 (a) R 1) S 1 34 34 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = parse(line).unwrap();
        assert_eq!((stat.state, stat.group, stat.start_ticks), ('S', 34, 987_654));
        assert_eq!((stat.cpu_ticks, stat.memory_pages), (11, 2));
        assert!(parse("12 (a").is_none());
    }

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_pid_is_not() {
        let me = of(std::process::id()).unwrap();
        assert!(is_alive(&me));
        assert!(!is_alive(&AgentIdentity { start_ticks: me.start_ticks - 1, ..me.clone() }));
        assert!(!is_alive(&AgentIdentity { boot_id: "other".into(), ..me }));
        assert!(of(u32::MAX).is_none());
    }
}
