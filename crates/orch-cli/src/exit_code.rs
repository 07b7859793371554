//! What the exit code says.

use std::process::ExitCode;

use orch_model::RunStatus;

/// How `orch` ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for a run: every task was merged.
    Success = 0,
    /// Some task failed, conflicted, was cancelled or skipped, or needs attention.
    Unsuccessful = 1,
    /// The input is wrong: the arguments, the plan, the configuration, the repository. Nothing was started.
    Input = 2,
    /// The engine could not do its job.
    Engine = 3,
    /// `orch lock acquire`: the lock was not free in time.
    Busy = 4,
    /// `orch lock acquire`: refused, because requests waited for one another.
    Deadlock = 5,
    /// A budget is used up; `orch resume --budget` continues the run.
    OutOfBudget = 6,
    /// Stopped by Ctrl-C or SIGTERM; `orch resume` continues the run.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// What the end of a run says.
    #[must_use]
    pub fn of_run(status: RunStatus) -> Self {
        match status {
            RunStatus::Succeeded => Self::Success,
            RunStatus::Interrupted => Self::Interrupted,
            RunStatus::OutOfBudget => Self::OutOfBudget,
            _ => Self::Unsuccessful,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_that_are_documented() {
        let codes = [
            (RunStatus::Succeeded, 0),
            (RunStatus::Failed, 1),
            (RunStatus::Cancelled, 1),
            (RunStatus::Interrupted, 130),
            (RunStatus::OutOfBudget, 6),
        ];
        for (status, code) in codes {
            assert_eq!(Exit::of_run(status) as u8, code, "{status:?}");
        }
        assert_eq!((Exit::Input as u8, Exit::Engine as u8), (2, 3));
        assert_eq!((Exit::Busy as u8, Exit::Deadlock as u8), (4, 5));
    }
}
