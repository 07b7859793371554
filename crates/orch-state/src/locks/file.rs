//! The table of leases as a file.
//!
//! It is only changed behind the gate, by a rename, so that whoever is killed leaves the old or the
//! new one, and it can be read at any time. Its name holds the id of the boot: after a power cut,
//! which may leave any file empty, all that it spoke of is dead, and it is never looked at again.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use orch_faults::{planted, point};
use orch_model::{ports::LockError, time::Timestamp};
use rustix::{
    fs::OFlags,
    time::{ClockId, clock_gettime},
};
use serde::Deserialize;

use super::{
    gate::Gate,
    io_error,
    table::{NextFence, Now, Table, VERSION},
    watch::{DEADLOCK, FREED},
};
use crate::process::{Life, boot_id};

const PREFIX: &str = "@leases.";
/// Where a new table is written before it replaces the old one.
const DRAFT: &str = "@draft";

/// Looks at the table, or changes it; `None` where the gate stays shut.
pub(super) fn with_table<T>(
    dir: &Path,
    patience: Duration,
    act: impl FnOnce(&mut Table, Now, NextFence<'_>) -> Result<T, LockError>,
) -> Result<Option<T>, LockError> {
    std::fs::create_dir_all(dir).map_err(io_error(dir, "making the folder"))?;
    let early = if planted("read-before-gate") { read(dir)? } else { None };
    let Some(gate) = Gate::enter(dir, patience)? else { return Ok(None) };
    let table = if early.is_some() { early } else { read(dir)? };
    let mut table = table.unwrap_or_else(Table::new);
    let now = now();
    table.sweep(now, Life::is_dead);
    let result = act(&mut table, now, &mut || gate.next_fence())?;
    if table.changes.any {
        write(dir, &table)?;
    }
    drop(gate);
    if table.changes.freed {
        signal(dir, FREED);
    }
    if table.changes.deadlock {
        signal(dir, DEADLOCK);
    }
    Ok(Some(result))
}

/// Reads the table as it was left by whoever changed it last; `None` where there is none.
pub(super) fn read(dir: &Path) -> Result<Option<Table>, LockError> {
    let path = path(dir);
    orch_faults::step("leases::read").map_err(io_error(&path, "reading"))?;
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path, "reading")(error)),
    };
    decode(&bytes).map(Some).map_err(|reason| LockError::Damaged { path, reason })
}

/// Reads a table; the error says what is wrong with it, and what to do.
pub(crate) fn decode(bytes: &[u8]) -> Result<Table, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let unreadable = |error: serde_json::Error| {
        format!("who holds which locks can't be read ({error}); delete it when no run is going on")
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if version != VERSION {
        let reason = format!("it is of version {version}, and this orch reads version {VERSION}");
        return Err(format!("{reason}; use the orch that the other runs use"));
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// Now, by a clock that all processes of this boot share.
pub(super) fn now() -> Now {
    let time = clock_gettime(ClockId::Boottime);
    let millis = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    Now { steady: u64::try_from(millis).unwrap_or(0), wall: wall() }
}

fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Timestamp::from_millis(millis.try_into().unwrap_or_default())
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(format!("{PREFIX}{}", boot_id()))
}

/// Replaces the table. Nothing is synced: it has no meaning after this boot.
fn write(dir: &Path, table: &Table) -> Result<(), LockError> {
    let (path, draft) = (path(dir), dir.join(DRAFT));
    let bytes =
        serde_json::to_vec(table).map_err(|error| io_error(&path, "writing")(error.into()))?;
    let is_first = !path.exists();
    // What somebody left who was killed, perhaps another user, whose file can't be written to.
    match point!("leases::draft.remove", std::fs::remove_file(&draft)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&draft, "removing")(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&draft)
        .map_err(io_error(&draft, "making"))?;
    crate::held::share(&file, dir).map_err(io_error(&draft, "sharing"))?;
    orch_faults::write_all("leases::write", &mut file, &bytes)
        .map_err(io_error(&draft, "writing"))?;
    drop(file);
    point!("leases::rename", std::fs::rename(&draft, &path))
        .map_err(io_error(&path, "replacing"))?;
    if is_first {
        remove_those_of_earlier_boots(dir);
    }
    Ok(())
}

/// Nobody reads them any more: they only take up room.
pub(super) fn remove_those_of_earlier_boots(dir: &Path) {
    for path in of_earlier_boots(dir) {
        let _ = std::fs::remove_file(path);
    }
}

/// The tables of earlier boots.
pub(super) fn of_earlier_boots(dir: &Path) -> Vec<PathBuf> {
    let own = path(dir);
    let is_old = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX) && *path != own
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_old).collect()
}

/// Wakes those who watch the folder: the kernel tells them of the close of a file that was open for
/// writing. Where that fails, they look by themselves after a while.
fn signal(dir: &Path, name: &str) {
    let path = dir.join(name);
    let woken = point!("leases::signal", crate::held::open_shared_file(&path, OFlags::WRONLY));
    #[cfg(test)]
    super::watch::simulated::tell(dir, name);
    if let Err(error) = woken {
        tracing::debug!(path = %path.display(), %error, "those who wait for locks aren't woken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::gate::PATIENCE;

    fn change(dir: &Path) -> Result<Option<()>, LockError> {
        with_table(dir, PATIENCE, |table, _, _| {
            table.changes.any = true;
            Ok(())
        })
    }

    #[test]
    fn a_table_that_can_t_be_read_is_refused_and_left() {
        let dir = tempfile::tempdir().unwrap();
        change(dir.path()).unwrap().unwrap();
        let table = path(dir.path());
        let good = std::fs::read(&table).unwrap();
        for (content, expected) in [
            (&b""[..], "can't be read"),
            (b"{\"version\":1,\"leases\":", "can't be read"),
            (b"\xff\xfe", "can't be read"),
            (b"{\"version\":2,\"new\":{}}", "it is of version 2, and this orch reads version 1"),
            (b"[]", "can't be read"),
            (b"{\"version\":1}", "can't be read"),
            (&good[..good.len() / 2], "can't be read"),
        ] {
            std::fs::write(&table, content).unwrap();
            let error = change(dir.path()).unwrap_err();
            assert!(matches!(error, LockError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(std::fs::read(&table).unwrap(), content, "it was touched");
        }
        std::fs::write(&table, good).unwrap();
        change(dir.path()).unwrap().unwrap();
    }

    #[test]
    fn tables_of_earlier_boots_are_never_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("@leases.00000000");
        std::fs::write(&old, "damaged by a power cut").unwrap();
        std::fs::write(dir.path().join(DRAFT), "left by a killed writer").unwrap();
        change(dir.path()).unwrap().unwrap();
        assert!(!old.exists());
        assert!(!dir.path().join(DRAFT).exists());
        assert!(read(dir.path()).unwrap().is_some());
    }

    #[test]
    fn the_clock_only_goes_forward() {
        let (first, second) = (now(), now());
        assert!(second.steady >= first.steady && first.steady > 0);
        assert!(first.wall > Timestamp::from_millis(0));
    }
}
