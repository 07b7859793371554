//! How things end: an agent, an attempt.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    budget::BudgetScope,
    conflict::Hunk,
    time::{Span, Timestamp},
    usage::Usage,
};

mod policy;

pub use policy::FailurePolicy;

/// How an agent's process ended, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentExit {
    /// How it ended.
    pub status: ExitStatus,
    /// The last part of its output, at most some kilobytes, as valid UTF-8.
    pub output_tail: String,
    /// How many bytes of output it wrote in all.
    pub output_bytes: u64,
    /// Whether a process that it left behind still held its output open, and was cut off.
    pub leaked_output: bool,
    /// What it used, where it says so.
    pub usage: Option<Usage>,
    /// The model that answered it, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How many processes it left behind that had to be ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_behind: usize,
    /// Why it failed, where the runner knows more than the status tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The agent said that its work is done, which counts more than the status.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_done: bool,
    /// Why the agent says that there is nothing to change, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_change: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl AgentExit {
    /// An exit with this status and nothing else to tell.
    #[must_use]
    pub const fn new(status: ExitStatus) -> Self {
        Self {
            status,
            output_tail: String::new(),
            output_bytes: 0,
            leaked_output: false,
            usage: None,
            model: None,
            left_behind: 0,
            failure: None,
            is_done: false,
            no_change: None,
        }
    }

    /// Whether it ended with success. One that is ended for its silence, for one, may do so with the
    /// exit code of success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.failure.is_none() && (self.is_done || self.status.is_success())
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal with this number ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it exited with code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Why a running agent is being ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// It ran longer than its task allows.
    Timeout {
        /// The limit.
        after: Span,
    },
    /// Its task or the run was cancelled.
    Cancelled,
    /// The run is being stopped and will be resumed later.
    Interrupted,
    /// What it used brought a budget to its limit.
    Budget {
        /// Whose.
        scope: BudgetScope,
    },
}

/// Why an attempt failed; what that means is in one table, [`Failure::policy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// The agent ended without success.
    Agent {
        /// How.
        exit: ExitStatus,
        /// The end of its output.
        output_tail: String,
    },
    /// The agent ran longer than allowed.
    Timeout {
        /// The limit.
        after: Span,
    },
    /// The agent did nothing for longer than allowed.
    Silent {
        /// The limit.
        after: Span,
    },
    /// The agent could not be started.
    Spawn {
        /// What the system said.
        message: String,
    },
    /// A verification command failed.
    Verification {
        /// Which.
        command: String,
        /// How.
        exit: ExitStatus,
        /// The end of its output.
        output_tail: String,
    },
    /// A verification of the merged result failed: the work passes alone, and not together with what
    /// was merged before it.
    MergedVerification {
        /// Which command.
        command: String,
        /// How.
        exit: ExitStatus,
        /// The end of its output.
        output_tail: String,
    },
    /// The task had to leave a commit or a change and left none.
    NoChanges,
    /// The run was stopped, or the orchestrator died, while the attempt was under way. Not charged to the task.
    Interrupted {
        /// What happened.
        message: String,
    },
    /// The worktree, the merge or the engine failed.
    Infrastructure {
        /// What happened.
        message: String,
    },
    /// Whoever the agent asks took no more requests for now.
    RateLimit {
        /// From when on it does again, where that is known.
        reset: Option<Timestamp>,
        /// What it said.
        message: String,
    },
    /// What the agent may use is used up.
    Quota {
        /// From when on there is more, where that is known.
        reset: Option<Timestamp>,
        /// What was said.
        message: String,
    },
    /// The agent is not logged in, or not allowed.
    Authentication {
        /// What was said.
        message: String,
    },
    /// The agent needed a person's consent or answer, and nobody is there to give it.
    NeedsInput {
        /// What it needed.
        message: String,
    },
    /// Its work and what was merged meanwhile change the same places.
    Conflict {
        /// The branch that keeps the work.
        branch: String,
        /// The files, relative to the repository.
        files: Vec<String>,
        /// Where in them, as far as that is kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hunks: Vec<Hunk>,
    },
    /// What it left can't be taken over: unresolved conflicts, a repository in the worktree.
    Unusable {
        /// What is in the way, and the cure.
        message: String,
    },
    /// While it ran, something was changed that makes git run programs, or leads it elsewhere.
    Tampered {
        /// What, each as a sentence.
        changes: Vec<String>,
    },
    /// It did not get a lock in time, or at all, as that would have been a deadlock.
    LockTimeout {
        /// Which.
        message: String,
    },
    /// The machine has too little memory, disk space, processes or open files.
    ResourceShortage {
        /// Of what.
        message: String,
    },
    /// It was ended because a budget was used up.
    Budget {
        /// Whose.
        scope: BudgetScope,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// How it ended is not known.
    Unknown {
        /// What is known.
        message: String,
    },
}

impl Failure {
    /// Whether a further attempt may end otherwise, so that the task's retries apply.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.policy().bound > 1
    }

    /// Whether the attempt was only held up, so that the next one goes on with what it had done.
    #[must_use]
    pub const fn is_hold_up(&self) -> bool {
        matches!(self, Self::RateLimit { .. } | Self::Quota { .. })
    }

    /// Whether the attempt counts against the task's retries.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.policy().is_charged
    }

    /// From when on an attempt may succeed, where that is known.
    #[must_use]
    pub const fn reset(&self) -> Option<Timestamp> {
        match self {
            Self::RateLimit { reset, .. } | Self::Quota { reset, .. } => *reset,
            _ => None,
        }
    }

    /// The name of the class, as stored files write it.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Agent { .. } => "agent",
            Self::Timeout { .. } => "timeout",
            Self::Silent { .. } => "silent",
            Self::Spawn { .. } => "spawn",
            Self::Verification { .. } => "verification",
            Self::MergedVerification { .. } => "merged_verification",
            Self::NoChanges => "no_changes",
            Self::Interrupted { .. } => "interrupted",
            Self::Infrastructure { .. } => "infrastructure",
            Self::RateLimit { .. } => "rate_limit",
            Self::Quota { .. } => "quota",
            Self::Authentication { .. } => "authentication",
            Self::NeedsInput { .. } => "needs_input",
            Self::Conflict { .. } => "conflict",
            Self::Unusable { .. } => "unusable",
            Self::Tampered { .. } => "tampered",
            Self::LockTimeout { .. } => "lock_timeout",
            Self::ResourceShortage { .. } => "resource_shortage",
            Self::Budget { .. } => "budget",
            Self::Cancelled => "cancelled",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The end of the output that belongs to the failure; empty where there is none.
    #[must_use]
    pub fn output_tail(&self) -> &str {
        match self {
            Self::Agent { output_tail, .. }
            | Self::Verification { output_tail, .. }
            | Self::MergedVerification { output_tail, .. } => output_tail,
            _ => "",
        }
    }
}

/// What was changed, in one sentence.
pub(crate) fn tampered(changes: &[String]) -> String {
    format!("what makes git run programs or leads it elsewhere was changed: {}", changes.join("; "))
}

/// One line, without the output.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { exit, .. } => write!(f, "ended with {exit}"),
            Self::Timeout { after } => write!(f, "ran longer than {after}"),
            Self::Silent { after } => {
                write!(f, "printed nothing and computed nothing for {after}")
            }
            Self::Spawn { message } => write!(f, "could not be started: {message}"),
            Self::Verification { command, exit, .. } => {
                write!(f, "verification `{command}` ended with {exit}")
            }
            Self::MergedVerification { command, exit, .. } => {
                write!(f, "verification `{command}` of the merged result ended with {exit}")
            }
            Self::NoChanges => {
                f.write_str("left no commit and no change, and the plan expects changes")
            }
            Self::Interrupted { message }
            | Self::Infrastructure { message }
            | Self::Unusable { message }
            | Self::Unknown { message } => f.write_str(message),
            Self::RateLimit { message, .. } => write!(f, "rate limited: {message}"),
            Self::Quota { message, .. } => write!(f, "quota used up: {message}"),
            Self::Authentication { message } => write!(f, "not logged in: {message}"),
            Self::NeedsInput { message } => write!(f, "waited for a person: {message}"),
            Self::Conflict { files, .. } => {
                write!(f, "conflicts with the target in {}", files.join(", "))
            }
            Self::Tampered { changes } => f.write_str(&tampered(changes)),
            Self::LockTimeout { message } => write!(f, "no lock: {message}"),
            Self::ResourceShortage { message } => {
                write!(f, "the machine has too little: {message}")
            }
            Self::Budget { scope } => write!(f, "the budget of {} is used up", scope.name()),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}
