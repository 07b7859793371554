//! The processes of a run, for editors and scripts: `processes.json` beside its journal.
//!
//! The supervisor writes it: at most once a second while agents start and end, and every
//! [`HEARTBEAT`] while any runs.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use orch_faults::point;
use orch_model::{TaskId, Timestamp, event::AgentIdentity, ports::Purpose, state::Attempt};
use serde::{Deserialize, Serialize};

use super::NAME_OF_SUPERVISOR;
use crate::process::identity::{self, Use};

/// The version of the format.
pub const PROCESSES_VERSION: u32 = 1;

/// How often a supervisor looks at its agents.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long an agent whose last line is open must be idle to seem to wait for an answer.
const WAITING_AFTER: Duration = Duration::from_secs(15);

const NAME: &str = "processes.json";

/// The agents of a run that are at work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Processes {
    /// The version of the format, [`PROCESSES_VERSION`].
    pub version: u32,
    /// The supervisor.
    pub supervisor: u32,
    /// When it looked last.
    pub last_heartbeat: Timestamp,
    /// The agents, by task.
    pub processes: Vec<Process>,
}

impl Processes {
    /// Whether the supervisor exists and does not look after its agents: it was stopped, or hangs.
    #[must_use]
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        let is_needed = self.processes.iter().any(|process| process.status != Health::Gone);
        let is_late = now.since(self.last_heartbeat) > 3 * HEARTBEAT;
        let name = || fs::read(format!("/proc/{}/cmdline", self.supervisor)).unwrap_or_default();
        is_needed
            && (is_late || identity::is_stopped(self.supervisor))
            && name().starts_with(NAME_OF_SUPERVISOR.as_bytes())
    }
}

/// An agent that is at work, or one of its verifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// What it was started for.
    pub purpose: Purpose,
    /// Which process leads its group.
    #[serde(flatten)]
    pub identity: Option<AgentIdentity>,
    /// What was started.
    pub command: String,
    /// When.
    pub started: Timestamp,
    /// When it last printed something; `None`: never.
    pub last_output: Option<Timestamp>,
    /// How much it has printed, in bytes.
    pub output_bytes: u64,
    /// The time that those of its processes that are alive have computed, in milliseconds.
    pub cpu_ms: u64,
    /// The resident memory of its processes, in bytes; what they share counts for each.
    pub memory_bytes: u64,
    /// How many processes its group has.
    pub processes: u32,
    /// How it does.
    pub status: Health,
}

/// How an agent does, from its output, what it computes, reads and writes, and what its processes do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Health {
    /// It prints, computes, reads or writes, or starts and ends processes.
    Running,
    /// It has done nothing of that for a long time.
    Silent,
    /// It does nothing, and its last line has no end: it seems to wait for an answer.
    WaitingForInput,
    /// Its processes were stopped.
    Frozen,
    /// It hangs in the kernel and can't be ended.
    Unresponsive,
    /// Its leader is gone, and its end is being taken in.
    Gone,
}

/// Reads the processes of a run; `None` where it has no supervisor and had none.
///
/// # Errors
/// Where the file can't be read or is of another version.
pub fn read(state_dir: &Path, run: &orch_model::RunId) -> io::Result<Option<Processes>> {
    let path = state_dir.join("runs").join(run.as_str()).join(NAME);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let mut read: Processes = serde_json::from_slice(&bytes)?;
    if read.version > PROCESSES_VERSION {
        return Err(io::Error::other(format!(
            "{} has format {}, and this program knows formats up to {PROCESSES_VERSION}",
            path.display(),
            read.version
        )));
    }
    // A supervisor that was killed leaves its last list.
    for process in &mut read.processes {
        if !process.identity.as_ref().is_some_and(identity::is_alive) {
            process.status = Health::Gone;
        }
    }
    Ok(Some(read))
}

/// Replaces the file as a whole. It tells of processes, so it need not survive a power cut.
pub(super) fn write(run_dir: &Path, processes: &Processes) -> io::Result<()> {
    let temporary = run_dir.join(".processes.json.new");
    let text = serde_json::to_vec_pretty(processes)?;
    point!("supervisor::processes.write", fs::write(&temporary, text))?;
    point!("supervisor::processes.rename", fs::rename(temporary, run_dir.join(NAME)))
}

/// Watches one agent over time.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Use,
    bytes: u64,
    last_output: Option<Timestamp>,
    active: Instant,
    /// Whether its silence was told.
    told: bool,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            seen: Use::default(),
            bytes: 0,
            last_output: None,
            active: Instant::now(),
            told: false,
        }
    }

    /// Looks at it; gives how it does, and whether it has just become silent.
    pub(super) fn look(
        &mut self,
        seen: Use,
        (bytes, is_line_open): (u64, bool),
        (now, at): (Instant, Timestamp),
        silence: Duration,
    ) -> (Health, bool) {
        if bytes != self.bytes {
            self.last_output = Some(at);
        }
        let worked =
            seen.cpu_ticks != self.seen.cpu_ticks || seen.transferred != self.seen.transferred;
        if worked || bytes != self.bytes || seen.processes != self.seen.processes {
            self.active = now;
            self.told = false;
        }
        (self.seen, self.bytes) = (seen, bytes);
        // Who is kept from working is not silent, nor when it is let go on.
        if matches!(seen.leader, 'T' | 't') {
            self.active = now;
        }
        let idle = self.idle(now);
        let health = match seen.leader {
            'T' | 't' => Health::Frozen,
            'D' if idle > WAITING_AFTER => Health::Unresponsive,
            '\0' => Health::Gone,
            _ if idle >= silence => Health::Silent,
            _ if is_line_open && idle >= WAITING_AFTER => Health::WaitingForInput,
            _ => Health::Running,
        };
        let becomes_silent = health == Health::Silent && !std::mem::replace(&mut self.told, true);
        (health, becomes_silent)
    }

    /// For how long it has done nothing.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.active)
    }

    pub(super) const fn last_output(&self) -> Option<Timestamp> {
        self.last_output
    }
}

/// Clock ticks as milliseconds.
pub(super) fn milliseconds(ticks: u64) -> u64 {
    ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)
}

/// Pages as bytes.
pub(super) fn bytes(pages: u64) -> u64 {
    pages * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(600);

    fn looks(steps: &[(u64, u64, bool, char, u64)]) -> Vec<(Health, bool)> {
        let begin = Instant::now();
        let mut watch = Watch { active: begin, ..Watch::new() };
        steps
            .iter()
            .map(|(second, bytes, open, leader, cpu_ticks)| {
                let seen =
                    Use { processes: 1, cpu_ticks: *cpu_ticks, leader: *leader, ..Use::default() };
                let at = Timestamp::from_millis(second * 1000);
                let now = begin + Duration::from_secs(*second);
                watch.look(seen, (*bytes, *open), (now, at), SILENCE)
            })
            .collect()
    }

    #[test]
    fn silence_is_told_once_and_computing_breaks_it() {
        use Health::{Running, Silent};
        let steps = [
            (0, 5, false, 'S', 1),
            (599, 5, false, 'S', 1),
            (600, 5, false, 'S', 1),
            (605, 5, false, 'S', 1),
            (610, 5, false, 'R', 2),
            (1300, 5, false, 'S', 2),
            (1301, 9, false, 'S', 2),
        ];
        let expected = [
            (Running, false),
            (Running, false),
            (Silent, true),
            (Silent, false),
            (Running, false),
            (Silent, true),
            (Running, false),
        ];
        assert_eq!(looks(&steps), expected);
    }

    #[test]
    fn reading_and_writing_breaks_silence() {
        let begin = Instant::now();
        let mut watch = Watch { active: begin, ..Watch::new() };
        let mut look = |second, transferred| {
            let seen = Use { processes: 1, leader: 'S', transferred, ..Use::default() };
            let now = (begin + Duration::from_secs(second), Timestamp::from_millis(second * 1000));
            watch.look(seen, (0, false), now, SILENCE).0
        };
        assert_eq!(look(0, 10), Health::Running);
        assert_eq!(look(590, 20), Health::Running);
        assert_eq!(look(1180, 20), Health::Running);
        assert_eq!(look(1190, 20), Health::Silent);
    }

    #[test]
    fn what_else_can_be_seen() {
        let steps = [
            (0, 5, true, 'S', 1),
            (16, 5, true, 'S', 1),
            (17, 5, true, 'D', 1),
            (18, 5, true, 'T', 1),
            (900, 5, true, 'T', 1),
            (901, 5, true, 'S', 1),
            (902, 5, true, '\0', 1),
            (903, 6, true, 'D', 1),
        ];
        let health: Vec<_> = looks(&steps).into_iter().map(|(health, _)| health).collect();
        assert_eq!(
            health,
            [
                Health::Running,
                Health::WaitingForInput,
                Health::Unresponsive,
                Health::Frozen,
                Health::Frozen,
                Health::Running,
                Health::Gone,
                Health::Running,
            ]
        );
    }
}
