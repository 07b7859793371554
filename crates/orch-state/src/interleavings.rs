//! Locks and journals under the scheduler `shuttle`: processes that come, go and are killed at any step.
//!
//! The code is that which ships, on real files; see [`orch_faults::interleave`]. What is checked is not taken from
//! the code under test, but noted by the processes themselves.

mod hand_over;
mod journal;
mod leases;
mod published;

use std::{future::Future, mem::ManuallyDrop, path::Path};

use orch_faults::interleave::explore;
use tempfile::TempDir;

/// A folder for one schedule, in memory where there is a file system for that.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.unwrap()
}

/// Waits for a future as a simulated process does.
fn wait<T>(future: impl Future<Output = T>) -> T {
    shuttle::future::block_on(future)
}

/// Some time at work, in steps.
fn work(steps: u32) {
    for _ in 0..steps {
        orch_faults::step("at work").unwrap();
    }
}

/// One of these, as the schedule says.
fn any<T: Clone>(of: &[T]) -> T {
    use shuttle::rand::{Rng, thread_rng};
    of[thread_rng().gen_range(0..of.len())].clone()
}

/// Explores a world in which no time passes: what is waited for must come by itself.
fn without_time(name: &str, usual: u64, world: impl Fn() + Send + Sync + 'static) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    // It is never shut down: it would wake those that a failed schedule leaves behind.
    let runtime = ManuallyDrop::new(runtime);
    let _inside = runtime.enter();
    explore(name, usual, world);
}
