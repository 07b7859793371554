//! Waiting for real agents, which take longer than what other tests wait for.

use std::{
    thread,
    time::{Duration, Instant},
};

use orch_tests::{Outcome, RunningOrch};

/// How long agents may take on a machine of two cores that has other work.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until something is so.
///
/// # Panics
/// After 300 s.
#[track_caller]
pub fn patiently(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for the end of an `orch`.
///
/// # Panics
/// After 300 s, with what it has said.
#[must_use]
pub fn ended(mut run: RunningOrch<'_>) -> Outcome {
    let end = Instant::now() + PATIENCE;
    while !run.has_ended() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    run.wait()
}
