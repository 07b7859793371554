//! What each class of failures means.

use std::time::Duration;

use super::Failure;

/// What an attempt that fails like this means; see [`Failure::policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailurePolicy {
    /// Whether it counts against the task's retries.
    pub is_charged: bool,
    /// How many attempts of a task may fail like this before it has failed, besides what its retries
    /// allow: nothing is repeated for ever. Counted over the whole run, also one that is resumed.
    pub bound: u32,
    /// How long the next attempt, or the breaker, waits at least where nothing says until when. Longer
    /// with each failure, see `orch_exec::backoff`.
    pub least_pause: Duration,
    /// Whether nothing more of the same kind is started until it is over.
    pub opens_breaker: bool,
    /// Whether a task that has `fallback_agents` goes on with the next of them, uncharged: this agent would
    /// end the same way again.
    pub tries_fallback: bool,
    /// Whether fewer tasks run at a time from then on.
    pub slows_down: bool,
    /// What a person can do about it; empty where that needs no saying.
    pub hint: &'static str,
}

/// The task pays with its retries, which alone bound it.
const CHARGED: FailurePolicy = FailurePolicy {
    is_charged: true,
    bound: u32::MAX,
    least_pause: Duration::ZERO,
    opens_breaker: false,
    tries_fallback: false,
    slows_down: false,
    hint: "",
};

/// It would end the same way again.
const HOPELESS: FailurePolicy = FailurePolicy { bound: 1, ..CHARGED };

/// The task can't help it: it has a budget of its own for that.
const fn free(bound: u32, hint: &'static str) -> FailurePolicy {
    FailurePolicy { is_charged: false, bound, hint, ..CHARGED }
}

/// Whoever the agent asks wants to be left alone.
const fn limited(bound: u32, hint: &'static str) -> FailurePolicy {
    FailurePolicy { opens_breaker: true, slows_down: true, ..free(bound, hint) }
}

impl Failure {
    /// What it means: the one table of all classes.
    #[must_use]
    pub const fn policy(&self) -> FailurePolicy {
        const fn charged(hint: &'static str) -> FailurePolicy {
            FailurePolicy { hint, ..CHARGED }
        }
        const fn hopeless(hint: &'static str) -> FailurePolicy {
            FailurePolicy { hint, ..HOPELESS }
        }
        match self {
            Self::Agent { .. } => charged("look at its output"),
            Self::Timeout { .. } => charged("give it a longer `timeout`, or less to do"),
            Self::Silent { .. } => {
                charged("look at what it waits for, or give it a longer `silence_timeout`")
            }
            Self::MergedVerification { .. } => {
                charged("it passes alone: look at what was merged before it")
            }
            Self::Verification { .. } => charged("look at the output of the verification"),
            Self::NoChanges => charged("look at its output, or drop `expects`"),
            Self::Unusable { .. } => charged("put its worktree right and merge its branch by hand"),
            Self::Unknown { .. } => charged("look at its output; `orch doctor` may tell more"),
            Self::Spawn { .. } => FailurePolicy {
                tries_fallback: true,
                ..hopeless("install the program, or mend its name in the plan")
            },
            Self::Authentication { .. } => FailurePolicy {
                tries_fallback: true,
                ..hopeless("log the agent in, then run the plan again")
            },
            Self::NeedsInput { .. } => {
                hopeless("allow it in the settings of the agent, or say in the prompt what to do")
            }
            Self::Tampered { .. } => hopeless(
                "its work waits in its worktree: look at what was changed, put it back (or keep it, where it was you), then run the plan again",
            ),
            Self::Cancelled => hopeless(""),
            Self::Interrupted { .. } => free(20, "run the plan again: something kept ending it"),
            Self::Budget { .. } => free(50, "give it a larger `budget`, or less to do"),
            // Only where the plan says that it is to be tried again.
            Self::Conflict { .. } => free(5, "`orch conflicts` shows where, and what to type"),
            Self::Infrastructure { .. } => free(5, "`orch doctor` may tell more"),
            Self::LockTimeout { .. } => free(10, "see who holds it with `orch lock list`"),
            Self::ResourceShortage { .. } => FailurePolicy {
                slows_down: true,
                least_pause: Duration::from_secs(5),
                ..free(10, "free memory or disk space, or lower `max_concurrency`")
            },
            Self::RateLimit { .. } => limited(50, "try later, or lower `max_concurrency`"),
            Self::Quota { .. } => FailurePolicy {
                least_pause: Duration::from_secs(15 * 60),
                ..limited(10, "wait for the reset, or buy more")
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::outcome::ExitStatus;

    fn every_class() -> Vec<Failure> {
        let (message, exit) = (String::new, ExitStatus::Code(1));
        vec![
            Failure::Agent { exit, output_tail: message() },
            Failure::Timeout { after: crate::Span::from_secs(1) },
            Failure::Spawn { message: message() },
            Failure::Verification { command: message(), exit, output_tail: message() },
            Failure::NoChanges,
            Failure::Interrupted { message: message() },
            Failure::Infrastructure { message: message() },
            Failure::RateLimit { reset: None, message: message() },
            Failure::Quota { reset: None, message: message() },
            Failure::Authentication { message: message() },
            Failure::NeedsInput { message: message() },
            Failure::Conflict { branch: message(), files: Vec::new(), hunks: Vec::new() },
            Failure::Unusable { message: message() },
            Failure::Tampered { changes: vec![message()] },
            Failure::LockTimeout { message: message() },
            Failure::ResourceShortage { message: message() },
            Failure::Budget { scope: crate::BudgetScope::Run },
            Failure::Cancelled,
            Failure::Unknown { message: message() },
        ]
    }

    #[test]
    fn nothing_is_repeated_for_ever_and_everything_has_a_cure() {
        for failure in every_class() {
            let policy = failure.policy();
            let class = failure.class();
            assert!(policy.is_charged || policy.bound <= 50, "{class}");
            assert!(!policy.opens_breaker || !policy.is_charged, "{class}: a limit is no fault");
            assert_eq!(policy.hint.is_empty(), class == "cancelled", "{class}");
        }
    }

    #[test]
    fn a_class_is_written_as_it_is_named() {
        let classes: BTreeSet<_> = every_class().iter().map(Failure::class).collect();
        assert_eq!(classes.len(), every_class().len(), "{classes:?}");
        for failure in every_class() {
            let value = serde_json::to_value(&failure).unwrap();
            assert_eq!(value["class"], failure.class());
            assert_eq!(serde_json::from_value::<Failure>(value).unwrap(), failure);
        }
    }
}
