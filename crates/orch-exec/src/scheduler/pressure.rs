//! How the machine does: whether tasks may be started at all, and how many at a time.
//!
//! **Floors.** Below a floor of free disk space or available memory nothing is started. Starts go on
//! when there is somewhat more than the floor, an eighth or 256 MiB, so that they don't begin and cease
//! from second to second.
//!
//! **Pressure.** The number of tasks at a time gives way to pressure as it does to a rate limit (see
//! `breaker.rs`): it is halved, and raised by one again and again while all is calm. What keeps it from
//! swinging:
//!
//! - What raises it is far below what lowers it; in between nothing changes.
//! - The averages are over ten seconds, so the effect of a change is waited for as long before the next.
//! - It is halved from what runs, not from what might run, and not again before so many have ended that
//!   the last decrease is in force. It is raised only where as many run as may (*congestion window
//!   validation*, RFC 7661). One task alone is never too many.
//!
//! **Where the thresholds come from.** Memory: Android's `lmkd` acts where some process waits for memory
//! 7 to 20 % of the time (`psi_partial_stall_ms`), `systemd-oomd` kills at 60 %
//! (`DefaultMemoryPressureLimit`); to start fewer tasks costs less than to kill, so 20 %. Disks:
//! a single process that syncs has *some* at 100 % on an idle machine, so what counts is *full*, the time in
//! which nobody got anything done, and of that the half. Processors: a build that uses them all
//! is as it should be, so they count only where the settings say so.

use std::time::Duration;

use orch_model::{
    EventKind, RunStatus, Shortage, Timestamp, event::RunSettings, resources::Contended,
};

use super::Scheduler;
use crate::resources::{Reading, Stall};

/// How long the effect of a change is waited for: the window of the averages.
const WINDOW: Duration = Duration::from_secs(10);

/// How much more than a floor is waited for at most, in bytes.
const MOST_SLACK: u64 = 256 << 20;

/// Memory is scarce below so many times the floor, and is not above so many times.
const SCARCE: (u64, u64) = (2, 3);

/// What a scheduler knows of its machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    shortage: Option<Shortage>,
    load: Load,
    /// Since when it is calm.
    calm_since: Option<Timestamp>,
    /// When the number of tasks at a time was changed last because of it.
    changed_at: Option<Timestamp>,
    /// It is the machine because of which fewer tasks run at a time than the settings allow.
    is_cause: bool,
}

/// How much the machine has to bear.
#[derive(Debug, Clone, PartialEq, Default)]
enum Load {
    #[default]
    Calm,
    /// As much as it can.
    Busy,
    /// Too much: why.
    Pressed(String),
}

impl Machine {
    /// What there is too little of for anything to be started.
    pub(super) const fn shortage(&self) -> Option<&Shortage> {
        self.shortage.as_ref()
    }

    /// Whether it could take more.
    pub(super) fn is_calm(&self) -> bool {
        self.load == Load::Calm
    }

    /// Somebody else has lowered the number of tasks at a time, and says when it rises again.
    pub(super) const fn limited_by_others(&mut self) {
        self.is_cause = false;
    }
}

impl Scheduler {
    /// Takes in what the machine has left.
    pub(super) fn resources(&mut self, reading: &Reading, now: Timestamp) {
        let status = self.state.status;
        if !matches!(status, RunStatus::Running | RunStatus::Paused | RunStatus::Frozen) {
            return;
        }
        let found = shortage(self.settings(), reading, self.machine.shortage());
        let kind = |shortage: &Option<Shortage>| shortage.as_ref().map(std::mem::discriminant);
        let is_news = kind(&found) != kind(&self.machine.shortage);
        self.machine.shortage = found;
        if is_news {
            self.record(
                match self.machine.shortage.clone() {
                    Some(shortage) => EventKind::StartsHeld { shortage },
                    None => EventKind::StartsResumed,
                },
                now,
            );
        }
        self.machine.load = load(self.settings(), reading);
        let since = self.machine.calm_since.unwrap_or(now);
        self.machine.calm_since = self.machine.is_calm().then_some(since);
        if status == RunStatus::Running {
            self.adapt(now);
        }
    }

    fn adapt(&mut self, now: Timestamp) {
        let full = self.settings().max_concurrency;
        let limit = self.state.concurrency.unwrap_or(full);
        let running = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let settled = |since: Option<Timestamp>| since.is_none_or(|at| now.since(at) >= WINDOW);
        let is_settled = settled(self.machine.changed_at);
        match &self.machine.load {
            Load::Pressed(why) if is_settled && running > 1 && running <= limit => {
                let reason = why.clone();
                self.machine.is_cause = true;
                self.machine.changed_at = Some(now);
                self.limit(running / 2, reason, now);
            }
            Load::Calm
                if self.machine.is_cause
                    && is_settled
                    && settled(self.machine.calm_since)
                    && running >= limit =>
            {
                self.machine.is_cause = limit + 1 < full;
                self.machine.changed_at = Some(now);
                self.limit(limit + 1, "the machine could take more".into(), now);
            }
            _ => {}
        }
    }
}

/// What there is too little of; `held` is what there was too little of before.
fn shortage(
    settings: &RunSettings,
    reading: &Reading,
    held: Option<&Shortage>,
) -> Option<Shortage> {
    let enough = |floor: u64| floor.saturating_add((floor / 8).min(MOST_SLACK));
    let is_short = |free: u64, floor: u64, was_short: bool| {
        free < if was_short { enough(floor) } else { floor }
    };
    let disk = reading.disk.as_ref().and_then(|space| {
        let (free_bytes, floor) = (space.bytes, settings.min_free_disk.0);
        let was_short = matches!(held, Some(Shortage::Disk { .. }));
        is_short(free_bytes, floor, was_short).then(|| Shortage::Disk {
            path: space.path.clone(),
            free_bytes,
            wanted_bytes: enough(floor),
        })
    });
    disk.or_else(|| {
        let (free_bytes, floor) = (reading.memory?, settings.min_free_memory.0);
        let was_short = matches!(held, Some(Shortage::Memory { .. }));
        is_short(free_bytes, floor, was_short)
            .then(|| Shortage::Memory { free_bytes, wanted_bytes: enough(floor) })
    })
}

/// How much the machine has to bear, of what the settings look at.
fn load(settings: &RunSettings, reading: &Reading) -> Load {
    let looked_at = |stall: &&Stall| settings.pressure.contains(&stall.of);
    let stalls = reading.stalls.iter().filter(looked_at).map(|stall| {
        let (percent, high, low) = match stall.of {
            Contended::Cpu => (stall.some, 80.0, 50.0),
            Contended::Io => (stall.full, 50.0, 20.0),
            _ => (stall.some, 20.0, 5.0),
        };
        if percent >= high {
            Load::Pressed(format!("processes wait for {} {percent:.0} % of the time", stall.of))
        } else if percent > low {
            Load::Busy
        } else {
            Load::Calm
        }
    });
    let floor = settings.min_free_memory.0;
    let memory = settings.pressure.contains(&Contended::Memory).then_some(reading.memory).flatten();
    let memory = memory.map(|free| {
        if free < floor.saturating_mul(SCARCE.0) {
            let free = orch_model::ByteSize(free).rounded();
            Load::Pressed(format!("only {free} of memory is available"))
        } else if free < floor.saturating_mul(SCARCE.1) {
            Load::Busy
        } else {
            Load::Calm
        }
    });
    let rank = |load: &Load| match load {
        Load::Calm => 0,
        Load::Busy => 1,
        Load::Pressed(_) => 2,
    };
    stalls.chain(memory).max_by_key(rank).unwrap_or_default()
}
