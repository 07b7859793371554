//! What a protocol between processes does besides its operations: it looks, waits, locks and asks who is alive.
//!
//! Without the feature `interleave` each of these is the plain call. With it, and inside of
//! `interleave::explore`, it is a step of a simulated process.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "interleave")]
use crate::interleave;

/// A look at what other processes change, or a lock: others may come before it.
///
/// # Errors
/// Where this simulated process was killed and is on its way out: the operation must not be done. Never without
/// the feature `interleave`.
#[inline(always)]
pub fn step(name: &str) -> io::Result<()> {
    #[cfg(feature = "interleave")]
    interleave::step(name)?;
    let _ = name;
    Ok(())
}

/// Sleeps for a while, unless the deadline is over; whether it wasn't.
#[inline(always)]
pub fn pause(pause: Duration, deadline: Instant) -> bool {
    #[cfg(feature = "interleave")]
    if let Some(goes_on) = interleave::pause() {
        return goes_on;
    }
    if Instant::now() >= deadline {
        return false;
    }
    thread::sleep(pause);
    true
}

/// Locks a mutex whose content a panic leaves as it should be.
#[inline(always)]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(feature = "interleave")]
    if let Some(guard) = interleave::lock(mutex) {
        return guard;
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pid of the simulated process that asks; `None` in a real one.
#[inline(always)]
#[must_use]
pub fn own_pid() -> Option<u32> {
    #[cfg(feature = "interleave")]
    if let Some(pid) = interleave::own_pid() {
        return Some(pid);
    }
    None
}

/// Whether a simulated process has ended; `None` for a real one.
#[inline(always)]
#[must_use]
pub fn is_dead(pid: u32) -> Option<bool> {
    #[cfg(feature = "interleave")]
    if let Some(is_dead) = interleave::is_dead(pid) {
        return Some(is_dead);
    }
    let _ = pid;
    None
}

/// Whether the caller is a step of simulated processes: it must not leave its thread.
#[inline(always)]
#[must_use]
pub fn is_interleaved() -> bool {
    #[cfg(feature = "interleave")]
    return interleave::is_on();
    #[cfg(not(feature = "interleave"))]
    false
}
