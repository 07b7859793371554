//! Which class of failures an error of a port is.

use std::{error::Error, io};

use orch_model::{
    outcome::Failure,
    ports::{LockError, RunnerError, WorktreeError},
};

use super::Exit;

/// What git and the system say where something is short, in lower case.
const SHORT: &[&str] = &[
    "no space left on device",
    "disk quota exceeded",
    "cannot allocate memory",
    "out of memory",
    "too many open files",
    "resource temporarily unavailable",
    // Of a full disk git often says no more than that, without the reason.
    "unable to write",
    "couldn't write",
    "could not write",
    "couldn't close",
];

/// `ENFILE` and `EMFILE`, which have no [`io::ErrorKind`].
const TOO_MANY_FILES: [i32; 2] = [23, 24];

/// Of the disk, which also has no [`io::ErrorKind`].
const EIO: i32 = 5;

/// Whether the system has too little of something; a repetition may find more.
fn is_short(error: &io::Error) -> bool {
    use io::ErrorKind as K;

    // `WouldBlock` is `EAGAIN`: of `fork` it says that there are too many processes.
    matches!(error.kind(), K::OutOfMemory | K::StorageFull | K::QuotaExceeded | K::WouldBlock)
        || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

/// The failure of something that the task can't help.
fn engine(error: &(impl Error + 'static), source: Option<&io::Error>) -> Failure {
    let message = error.to_string();
    if source.is_some_and(is_short) {
        Failure::ResourceShortage { message }
    } else {
        Failure::Infrastructure { message }
    }
}

impl From<WorktreeError> for Exit {
    fn from(error: WorktreeError) -> Self {
        Self::Failed(match &error {
            WorktreeError::WouldLoseWork { .. } => Failure::Unusable { message: error.to_string() },
            WorktreeError::Tampered { changes } => Failure::Tampered { changes: changes.clone() },
            WorktreeError::Io { source, .. } | WorktreeError::NoGit { source } => {
                engine(&error, Some(source))
            }
            WorktreeError::Git { stderr, .. } => {
                let stderr = stderr.to_lowercase();
                let message = error.to_string();
                if SHORT.iter().any(|words| stderr.contains(words)) {
                    Failure::ResourceShortage { message }
                } else {
                    Failure::Infrastructure { message }
                }
            }
            _ => engine(&error, None),
        })
    }
}

impl From<RunnerError> for Exit {
    fn from(error: RunnerError) -> Self {
        let message = error.to_string();
        Self::Failed(match &error {
            RunnerError::Spawn { source, .. } if is_short(source) => engine(&error, Some(source)),
            // It is being written, and soon will have been; or the disk failed to read it.
            RunnerError::Spawn { source, .. }
                if source.kind() == io::ErrorKind::ExecutableFileBusy
                    || source.raw_os_error() == Some(EIO) =>
            {
                Failure::Infrastructure { message }
            }
            RunnerError::Spawn { .. } | RunnerError::Unsupported(_) => Failure::Spawn { message },
            RunnerError::Lost(_) => Failure::Interrupted { message },
            RunnerError::Io { source, .. } => engine(&error, Some(source)),
            _ => Failure::Unknown { message },
        })
    }
}

impl From<LockError> for Exit {
    fn from(error: LockError) -> Self {
        Self::Failed(match &error {
            LockError::Deadlock { .. } => Failure::LockTimeout { message: error.to_string() },
            LockError::Io { source, .. } => engine(&error, Some(source)),
            _ => engine(&error, None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(exit: impl Into<Exit>) -> &'static str {
        match exit.into() {
            Exit::Failed(failure) => failure.class(),
            Exit::Stopped(reason) => panic!("{reason:?}"),
        }
    }

    #[test]
    fn what_is_short_is_told_from_what_is_wrong() {
        let spawn = |code| RunnerError::Spawn {
            program: "agent".into(),
            source: io::Error::from_raw_os_error(code),
        };
        // EAGAIN, ENOMEM, ENFILE, EMFILE, ENOSPC on Linux.
        for code in [11, 12, 23, 24, 28] {
            assert_eq!(class(spawn(code)), "resource_shortage", "{code}");
        }
        // ETXTBSY and EIO, then ENOENT and EACCES.
        for code in [26, EIO] {
            assert_eq!(class(spawn(code)), "infrastructure", "{code}");
        }
        for code in [2, 13] {
            assert_eq!(class(spawn(code)), "spawn", "{code}");
        }
    }

    #[test]
    fn git_tells_by_what_it_prints() {
        let git = |stderr: &str| WorktreeError::Git {
            command: "commit".into(),
            status: "exit code 128".into(),
            stderr: stderr.into(),
        };
        let full = "error: unable to write file: No space left on device\nfatal: ...";
        assert_eq!(class(git(full)), "resource_shortage");
        for full in [
            "error: unable to write file work/a.txt",
            "fatal: unable to write new index file",
            "error: couldn't close 'refs/heads/a.lock'",
            "error: could not write config file .git/config",
        ] {
            assert_eq!(class(git(full)), "resource_shortage", "{full}");
        }
        assert_eq!(class(git("fatal: bad object HEAD")), "infrastructure");
        let left = WorktreeError::WouldLoseWork {
            path: "w".into(),
            reason: "files with unresolved conflicts: a".into(),
        };
        assert_eq!(class(left), "unusable");
    }

    #[test]
    fn what_nobody_knows_is_unknown() {
        assert_eq!(class(RunnerError::Other { source: "a foreign error".into() }), "unknown");
        assert_eq!(class(RunnerError::Lost("it is gone".into())), "interrupted");
    }
}
