//! Waiting for the outside world, with a deadline.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up: generous, so that a loaded machine is no
/// reason to fail.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives a value. For facts that nothing announces, such as the end of a
/// process that isn't a child; where an event or a [`crate::Signal`] can be awaited, do that.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
#[track_caller]
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process with this id exists and is more than a zombie.
#[must_use]
pub fn process_is_alive(pid: u32) -> bool {
    process_state(pid).is_some_and(|state| !['Z', 'X'].contains(&state))
}

/// Whether a process with this id exists and was stopped by a signal.
#[must_use]
pub fn process_is_stopped(pid: u32) -> bool {
    process_state(pid) == Some('T')
}

/// The letter that the kernel has for the state of a process.
fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}
