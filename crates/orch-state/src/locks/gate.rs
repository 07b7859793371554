//! The gate: one process at a time looks at the table of leases and changes it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use orch_faults::{planted, point};
use orch_model::ports::LockError;
use rustix::fs::OFlags;

use super::io_error;
use crate::held::{HeldFile, Mode, open_shared_file};

/// How long to wait before the gate. Behind it one only reads and writes a small file, so that
/// whoever stays longer is suspended.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The right to decide, until it is dropped.
#[derive(Debug)]
pub(super) struct Gate {
    path: PathBuf,
    held: HeldFile,
}

impl Gate {
    /// Goes in; `None` where the gate stays shut. Blocks for as long as `patience` at most.
    pub(super) fn enter(dir: &Path, patience: Duration) -> Result<Option<Self>, LockError> {
        let path = dir.join("@gate");
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(20);
        loop {
            let file = open_shared_file(&path, OFlags::RDWR).map_err(io_error(&path, "opening"))?;
            match HeldFile::try_lock(file, Mode::Exclusive).map_err(io_error(&path, "locking"))? {
                Some(held) => return Ok(Some(Self { path, held })),
                None if orch_faults::pause(pause, deadline) => {}
                None => return Ok(None),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Counts one further.
    pub(super) fn next_fence(&self) -> Result<u64, LockError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.held.with_file(|file| count(file, now)).map_err(io_error(&self.path, "counting"))
    }
}

/// Writes and gives the number after the one in the file, or `least` where that is more. Twenty
/// digits in one write: it is there as a whole or not at all when this process is killed. What is
/// no number, as after a power cut, counts as none.
fn count(file: &File, least: u64) -> io::Result<u64> {
    let mut digits = [0; 20];
    let read = file.read_at(&mut digits, 0)?;
    let last = str::from_utf8(&digits[..read]).ok().and_then(|text| text.parse::<u64>().ok());
    let step = u64::from(!planted("fence-stands-still"));
    let next = last.map_or(0, |last| last.saturating_add(step)).max(least);
    point!("locks::fence.write", file.write_all_at(format!("{next:020}\n").as_bytes(), 0))?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_grow_whatever_the_clock_and_the_file_say() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Gate::enter(dir.path(), Duration::from_millis(5)).unwrap().unwrap();
        let first = gate.next_fence().unwrap();
        assert!(first > 1_600_000_000_000, "it begins with the time");
        gate.held.with_file(|file| {
            assert_eq!(count(file, 5).unwrap(), first + 1, "the clock went back");
            assert_eq!(count(file, first + 1000).unwrap(), first + 1000);
            file.write_all_at(&[0; 20], 0).unwrap();
            assert_eq!(count(file, first + 2000).unwrap(), first + 2000, "the count was lost");
        });
    }

    #[test]
    fn a_gate_that_stays_shut_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Gate::enter(dir.path(), Duration::from_millis(5)).unwrap().unwrap();
        assert!(Gate::enter(dir.path(), Duration::from_millis(5)).unwrap().is_none());
        drop(gate);
        assert!(Gate::enter(dir.path(), Duration::from_millis(5)).unwrap().is_some());
        assert!(Gate::enter(Path::new("/proc/nonexistent"), PATIENCE).is_err());
    }
}
