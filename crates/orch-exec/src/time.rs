//! The wall clock, behind a seam. Lengths of time are measured with tokio's clock.

use std::{fmt::Debug, time::SystemTime};

use orch_model::Timestamp;

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that follows tokio's, so that a test with paused time has a wall clock too.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    epoch: tokio::time::Instant,
    begin: Timestamp,
}

impl TokioClock {
    /// A clock that shows `begin` at this moment.
    #[must_use]
    pub fn starting_at(begin: Timestamp) -> Self {
        Self { epoch: tokio::time::Instant::now(), begin }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.begin + self.epoch.elapsed()
    }
}
