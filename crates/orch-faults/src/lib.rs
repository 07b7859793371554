//! Fail points and planted bugs: what the tests of orch need to break it on purpose.
//!
//! A **fail point** is an operation on the outside world (a write, a sync, a rename, a spawn, a kill, a
//! call of git) with a name. [`point!`] stands around it:
//!
//! ```
//! # use std::{fs::File, io};
//! # fn sync(file: &File) -> io::Result<()> {
//! orch_faults::point!("journal::sync", file.sync_data())
//! # }
//! # let _ = sync;
//! ```
//!
//! Without the feature `faults` that is `file.sync_data()` and nothing else. With it there are two points,
//! `journal::sync.before` and `journal::sync.after`, at which the variable `FAILPOINTS` can have things
//! happen, in the language of the crate `fail`:
//!
//! | action | what happens |
//! |---|---|
//! | `return(kill)` | the process is killed with SIGKILL |
//! | `return(EIO)`, `return(ENOSPC)` | the operation fails: it is not done, or is done and fails all the same |
//! | `return(short)` | half of what was to be written is, then the disk is full |
//! | `return(torn)` | half of what was to be written is, then the process is killed |
//! | `sleep(200)` | the operation is late |
//!
//! `16*off->1*return(EIO)` is its 17th time only. The points `any.before` and `any.after` are all of them:
//! `FAILPOINTS='any.before=16*off->return(kill)'` kills the process at its 17th operation. Where
//! `ORCH_FAULTS_LOG` names a file, each point that is passed is added to it, a line with the process id, the
//! thread and the name; where `ORCH_FAULTS_WHILE` does, nothing happens once that file is gone, and a kill
//! removes it: only one process of a test is killed. `return(once EIO)` removes it too, where a process is started again for
//! each that failed.
//!
//! A **planted bug** is a known mistake in the place where it would be made; it is there while
//! `ORCH_PLANTED_BUG` names it, see [`planted`].
//!
//! With the feature `interleave` a point is also a step after which another process of a test may go on, or at
//! which this one ends. See the module `interleave`. With the feature `campaign` there are the records of what long
//! campaigns did.
#![forbid(unsafe_code)]

#[cfg(not(feature = "faults"))]
mod absent;
#[cfg(feature = "faults")]
mod active;
#[cfg(feature = "campaign")]
pub mod campaign;
#[cfg(feature = "interleave")]
pub mod interleave;
#[cfg(any(feature = "faults", feature = "interleave"))]
mod passed;
mod steps;

#[cfg(not(any(feature = "faults", feature = "interleave")))]
pub use absent::write_all;
#[cfg(not(feature = "faults"))]
pub use absent::{is_old, planted};
#[cfg(feature = "faults")]
pub use active::{is_old, planted};
#[cfg(any(feature = "faults", feature = "interleave"))]
pub use passed::{after, before, file_point, git_point, write_all};
pub use steps::{is_dead, is_interleaved, lock, own_pid, pause, step};

/// Puts the fail points `<name>.before` and `<name>.after` around an operation, an expression that gives a
/// `Result` whose error can be made from an [`io::Error`](std::io::Error).
///
/// Without the features it is the operation alone, and the name is not evaluated.
#[cfg(any(feature = "faults", feature = "interleave"))]
#[macro_export]
macro_rules! point {
    ($name:expr, $operation:expr) => {
        match $crate::before($name) {
            Ok(()) => match $operation {
                Ok(done) => match $crate::after($name) {
                    Ok(()) => Ok(done),
                    Err(fault) => Err(fault.into()),
                },
                failed => failed,
            },
            Err(fault) => Err(fault.into()),
        }
    };
}

/// Puts the fail points `<name>.before` and `<name>.after` around an operation, an expression that gives a
/// `Result` whose error can be made from an [`io::Error`](std::io::Error).
///
/// Without the features it is the operation alone, and the name is not evaluated.
#[cfg(not(any(feature = "faults", feature = "interleave")))]
#[macro_export]
macro_rules! point {
    ($name:expr, $operation:expr) => {
        $operation
    };
}
