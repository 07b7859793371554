//! What happens at a fail point.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use fail::{FailScenario, fail_point};
use rustix::{
    io::Errno,
    process::{Signal, getpid, kill_process},
};

/// What an operation fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    errno: Errno,
    /// What becomes of a write that is done by half; other operations are not done.
    half: Option<Half>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// It fails.
    Short,
    /// The process is killed.
    Torn,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        fault.errno.into()
    }
}

/// The rules of this process. They hold as long as it lives.
struct Rules {
    log: Option<Mutex<File>>,
    only_while: Option<PathBuf>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    // It would clear what `FAILPOINTS` says when it is dropped.
    std::mem::forget(FailScenario::setup());
    let open = |path: PathBuf| {
        let log = OpenOptions::new().create(true).append(true).open(&path);
        Mutex::new(log.unwrap_or_else(|error| panic!("can't open {}: {error}", path.display())))
    };
    Rules {
        log: env::var_os("ORCH_FAULTS_LOG").map(PathBuf::from).map(open),
        only_while: env::var_os("ORCH_FAULTS_WHILE").map(PathBuf::from),
    }
});

/// The point before an operation.
///
/// # Errors
/// Where the operation is to fail; it is not done.
pub(crate) fn before(name: &str) -> Result<(), Fault> {
    match pass(name, "before") {
        Err(Fault { half: Some(Half::Torn), .. }) => die(),
        passed => passed,
    }
}

/// The point after an operation that succeeded.
///
/// # Errors
/// Where it is to fail all the same.
pub(crate) fn after(name: &str) -> Result<(), Fault> {
    match pass(name, "after") {
        Err(Fault { half: Some(Half::Torn), .. }) => die(),
        passed => passed,
    }
}

/// Writes between two fail points: it can be done by half.
///
/// # Errors
/// Where it fails, or is to fail.
pub(crate) fn write_all(name: &str, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if let Err(fault) = pass(name, "before") {
        if let Some(half) = fault.half {
            out.write_all(&bytes[..bytes.len() / 2])?;
            out.flush()?;
            if half == Half::Torn {
                die();
            }
        }
        return Err(fault.into());
    }
    out.write_all(bytes)?;
    after(name).map_err(Into::into)
}

/// Whether this bug is planted: whether `ORCH_PLANTED_BUG` names it.
#[must_use]
pub fn planted(bug: &str) -> bool {
    static BUG: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("ORCH_PLANTED_BUG"));
    BUG.as_deref() == Some(OsStr::new(bug))
}

/// Whether a file was not changed for a minute: what a planted bug takes for proof that nobody holds it.
#[must_use]
pub fn is_old(file: &Path) -> bool {
    let changed = fs::metadata(file).and_then(|found| found.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > Duration::from_secs(60)))
}

fn pass(name: &str, side: &str) -> Result<(), Fault> {
    let Rules { log, only_while } = &*RULES;
    let point = format!("{name}.{side}");
    if let Some(log) = log {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let line = format!("{} {thread} {point}\n", std::process::id());
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.write_all(line.as_bytes()).expect("the log of fail points can be written");
    }
    if only_while.as_ref().is_some_and(|file| !file.exists()) {
        return Ok(());
    }
    evaluate(&point)?;
    evaluate(&format!("any.{side}"))
}

fn evaluate(point: &str) -> Result<(), Fault> {
    fail_point!(point, |action| Err(fault(point, action.as_deref().unwrap_or_default())));
    Ok(())
}

fn fault(point: &str, action: &str) -> Fault {
    let once = action.strip_prefix("once ");
    if once.is_some() {
        end_faults();
    }
    let (errno, half) = match once.unwrap_or(action) {
        "kill" => die(),
        "EIO" => (Errno::IO, None),
        "ENOSPC" => (Errno::NOSPC, None),
        "short" => (Errno::NOSPC, Some(Half::Short)),
        "torn" => (Errno::IO, Some(Half::Torn)),
        other => panic!("the fail point {point} can't do `{other}`"),
    };
    Fault { errno, half }
}

/// Nothing more happens in any process of the test.
fn end_faults() {
    if let Some(file) = &RULES.only_while {
        // Where it is gone already, another process of the same test was quicker.
        let _ = fs::remove_file(file);
    }
}

/// The end, as `kill -9` makes it: nothing is flushed and no destructor runs.
fn die() -> ! {
    end_faults();
    let killed = kill_process(getpid(), Signal::KILL);
    unreachable!("a process can kill itself: {killed:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point;

    /// The file system full, or the disk broken, at a point.
    fn at(point: &str, action: &str) {
        // `FAILPOINTS` is read when the first point is passed, and replaces what was said before.
        before("of no interest").unwrap();
        fail::cfg(point, action).unwrap();
    }

    #[test]
    fn an_operation_fails_before_it_is_done_or_after() {
        let mut done = 0;
        let mut operate = |name: &str| -> io::Result<()> {
            point!(name, {
                done += 1;
                Ok::<(), io::Error>(())
            })
        };
        operate("plain").unwrap();
        at("early.before", "1*return(EIO)");
        assert_eq!(operate("early").unwrap_err().raw_os_error(), Some(5));
        operate("early").unwrap();
        at("late.after", "return(ENOSPC)");
        assert_eq!(operate("late").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(done, 3);
    }

    #[test]
    fn a_write_is_done_by_half() {
        let mut out = Vec::new();
        at("write.before", "1*return(short)");
        let error = write_all("write", &mut out, b"0123456789").unwrap_err();
        assert_eq!((error.kind(), &*out), (io::ErrorKind::StorageFull, &b"01234"[..]));
        write_all("write", &mut out, b"!").unwrap();
        assert_eq!(out, b"01234!");
    }

    #[test]
    fn no_bug_is_planted_that_is_not_named() {
        assert!(!planted("none that there is"));
    }
}
