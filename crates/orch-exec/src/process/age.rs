//! How long a process has worked.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A watch that stands still while its process does.
#[derive(Debug)]
pub(crate) struct Age(Mutex<Watch>);

#[derive(Debug)]
struct Watch {
    /// Until it went on last.
    before: Duration,
    /// When that was; `None` while it stands still.
    since: Option<Instant>,
}

impl Watch {
    fn now(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Age {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Watch { before: Duration::ZERO, since: Some(Instant::now()) }))
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    /// It stands still from now on, or goes on.
    pub(crate) fn set_still(&self, is_still: bool) {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *watch = Watch { before: watch.now(), since: (!is_still).then(Instant::now) };
    }
}
