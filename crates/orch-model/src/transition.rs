//! The one function through which every task's state changes, live and in recovery.

use crate::{
    event::TaskChange,
    state::{Attempt, TaskState},
};

/// A change that the state does not allow: a mistake in the engine or a damaged journal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a task that is {state} can't become {change}")]
pub struct IllegalTransition {
    /// The name of the state.
    pub state: &'static str,
    /// The name of the change.
    pub change: &'static str,
}

/// The state that follows `state` when `change` happens.
///
/// # Errors
/// Where the change is not possible in that state.
pub fn next(state: &TaskState, change: &TaskChange) -> Result<TaskState, IllegalTransition> {
    use TaskChange as C;
    use TaskState as S;

    let illegal = || IllegalTransition { state: state.name(), change: change.name() };
    let active = || active_attempt(state).ok_or_else(illegal);

    Ok(match (state, change) {
        (S::Blocked, C::Unblocked) => S::Ready,
        (S::Ready | S::Backoff { .. }, C::Queued) => S::Queued,
        (S::Queued, C::Leased { attempt, .. }) => S::Leased { attempt: *attempt },
        (S::Leased { attempt }, C::Preparing) => S::Preparing { attempt: *attempt },
        (S::Preparing { attempt }, C::Prepared { .. }) => S::Preparing { attempt: *attempt },
        (S::Preparing { attempt }, C::Started { .. }) => S::Running { attempt: *attempt },
        (S::Running { .. } | S::Stopping { .. } | S::Merging { .. }, C::AgentUsed { .. }) => {
            state.clone()
        }
        (S::Running { attempt }, C::AgentEnded { exit, .. }) if exit.is_success() => {
            S::Verifying { attempt: *attempt }
        }
        // The attempt ends with the event that says why.
        (S::Running { .. } | S::Stopping { .. }, C::AgentEnded { .. }) => state.clone(),
        (S::Verifying { attempt }, C::Verified { commit }) => {
            S::Merging { attempt: *attempt, commit: commit.clone() }
        }
        (S::Merging { attempt, .. }, C::Merged { result }) => {
            S::Merged { attempt: *attempt, result: result.clone() }
        }
        (S::Merging { attempt, .. }, C::Conflicted { commit, branch, files, hunks }) => {
            S::Conflicted {
                attempt: *attempt,
                commit: commit.clone(),
                branch: branch.clone(),
                files: files.clone(),
                hunks: hunks.clone(),
            }
        }
        (S::Merging { .. }, C::Resolving { .. } | C::ResolvingEnded { .. }) => state.clone(),
        (S::Conflicted { attempt, commit, .. }, C::Resolved) => {
            S::Merging { attempt: *attempt, commit: Some(commit.clone()) }
        }
        (
            S::Leased { attempt }
            | S::Preparing { attempt }
            | S::Running { attempt }
            | S::Verifying { attempt },
            C::Stopping { reason },
        ) => S::Stopping { attempt: *attempt, reason: reason.clone() },
        (_, C::Retry { failure, until }) => {
            S::Backoff { attempt: active()?, until: *until, failure: failure.clone() }
        }
        (_, C::Failed { failure }) => S::Failed { attempt: active()?, failure: failure.clone() },
        (state, C::Cancelled) if !state.is_terminal() => {
            S::Cancelled { attempt: state.attempt().unwrap_or(0) }
        }
        (S::Blocked | S::Ready | S::Queued | S::Backoff { .. }, C::Skipped { because }) => {
            S::Skipped { because: because.clone() }
        }
        (state, C::Lost { known, hint }) if !state.is_terminal() => S::NeedsAttention {
            attempt: state.attempt().unwrap_or(0),
            known: known.clone(),
            hint: hint.clone(),
        },
        _ => return Err(illegal()),
    })
}

fn active_attempt(state: &TaskState) -> Option<Attempt> {
    if state.is_active() { state.attempt() } else { None }
}

impl TaskChange {
    /// The name of the change, as stored files and outputs write it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unblocked => "unblocked",
            Self::Queued => "queued",
            Self::Leased { .. } => "leased",
            Self::Preparing => "preparing",
            Self::Prepared { .. } => "prepared",
            Self::Started { .. } => "started",
            Self::AgentUsed { .. } => "agent_used",
            Self::AgentEnded { .. } => "agent_ended",
            Self::Verified { .. } => "verified",
            Self::Merged { .. } => "merged",
            Self::Conflicted { .. } => "conflicted",
            Self::Resolving { .. } => "resolving",
            Self::ResolvingEnded { .. } => "resolving_ended",
            Self::Resolved => "resolved",
            Self::Stopping { .. } => "stopping",
            Self::Retry { .. } => "retry",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped { .. } => "skipped",
            Self::Lost { .. } => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Place,
        id::{CommitId, TaskId},
        outcome::{ExitStatus, Failure, StopReason},
        state::{Merged, SkipReason},
        time::Timestamp,
        usage::Usage,
    };

    fn every_change() -> Vec<TaskChange> {
        let commit = CommitId::new("c0ffee");
        let failure = Failure::NoChanges;
        vec![
            TaskChange::Unblocked,
            TaskChange::Queued,
            TaskChange::Leased { attempt: 2, by: None },
            TaskChange::Preparing,
            TaskChange::Prepared {
                place: Place {
                    path: "w".into(),
                    branch: "b".into(),
                    base: commit.clone(),
                    settings: None,
                },
            },
            TaskChange::Started { agent: None },
            TaskChange::AgentUsed { usage: Usage::default() },
            TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None },
            TaskChange::Verified { commit: Some(commit.clone()) },
            TaskChange::Merged { result: Merged::Nothing },
            TaskChange::Conflicted {
                commit,
                branch: "b".into(),
                files: vec!["f".into()],
                hunks: Vec::new(),
            },
            TaskChange::Resolving { round: 1, files: vec!["f".into()] },
            TaskChange::ResolvingEnded { resolved: true, usage: None },
            TaskChange::Resolved,
            TaskChange::Stopping { reason: StopReason::Cancelled },
            TaskChange::Retry { failure: failure.clone(), until: Timestamp::from_millis(5) },
            TaskChange::Failed { failure },
            TaskChange::Cancelled,
            TaskChange::Skipped {
                because: SkipReason::Dependency { task: TaskId::new("a").unwrap() },
            },
            TaskChange::Lost { known: "k".into(), hint: "h".into() },
        ]
    }

    /// The names of all states reachable from `Blocked`, each with the changes that it allows.
    fn table() -> std::collections::BTreeMap<&'static str, Vec<(&'static str, &'static str)>> {
        let mut table = std::collections::BTreeMap::new();
        let mut open = vec![TaskState::Blocked];
        while let Some(state) = open.pop() {
            if table.contains_key(state.name()) {
                continue;
            }
            let steps: Vec<_> = every_change()
                .iter()
                .filter_map(|change| next(&state, change).ok().map(|to| (change.name(), to)))
                .collect();
            table.insert(state.name(), steps.iter().map(|(c, to)| (*c, to.name())).collect());
            open.extend(steps.into_iter().map(|(_, to)| to));
        }
        table
    }

    #[test]
    fn every_state_is_reachable_and_terminal_ones_are_final() {
        let table = table();
        assert_eq!(table.len(), 16, "{:?}", table.keys());
        for end in ["merged", "failed", "cancelled", "skipped", "needs_attention"] {
            assert_eq!(table[end], [], "{end}");
        }
        assert_eq!(table["conflicted"], [("resolved", "merging")]);
    }

    #[test]
    fn the_way_of_a_task_is_the_only_way_forward() {
        let way = [
            ("blocked", "unblocked", "ready"),
            ("ready", "queued", "queued"),
            ("queued", "leased", "leased"),
            ("leased", "preparing", "preparing"),
            ("preparing", "started", "running"),
            ("running", "agent_ended", "verifying"),
            ("verifying", "verified", "merging"),
            ("merging", "merged", "merged"),
        ];
        let table = table();
        for (from, change, to) in way {
            assert!(table[from].contains(&(change, to)), "{from} {change} {to}");
            let others = table.values().flatten().filter(|(name, _)| *name == change).count();
            // An agent that is being ended may do so well, which changes nothing.
            let expected = if matches!(change, "queued" | "agent_ended") { 2 } else { 1 };
            assert_eq!(others, expected, "{change} must be allowed in one state only");
        }
        assert!(table["backoff"].contains(&("queued", "queued")));
        assert!(!table["merging"].iter().any(|(change, _)| *change == "stopping"));
        assert!(!table["queued"].iter().any(|(change, _)| *change == "failed"));
    }

    #[test]
    fn an_agent_that_fails_leaves_the_end_of_the_attempt_to_another_change() {
        let ended = |code| TaskChange::AgentEnded {
            exit: ExitStatus::Code(code),
            usage: None,
            model: None,
        };
        let running = TaskState::Running { attempt: 1 };
        assert_eq!(next(&running, &ended(0)).unwrap(), TaskState::Verifying { attempt: 1 });
        assert_eq!(next(&running, &ended(3)).unwrap(), running);
        let stopping = TaskState::Stopping { attempt: 1, reason: StopReason::Cancelled };
        assert_eq!(next(&stopping, &ended(0)).unwrap(), stopping);
        assert!(next(&TaskState::Verifying { attempt: 1 }, &ended(3)).is_err());
    }

    #[test]
    fn the_attempt_is_carried_along() {
        let state = TaskState::Running { attempt: 3 };
        let stopping =
            next(&state, &TaskChange::Stopping { reason: StopReason::Interrupted }).unwrap();
        assert_eq!(stopping.attempt(), Some(3));
        let error = next(&state, &TaskChange::Unblocked).unwrap_err();
        assert_eq!(error.to_string(), "a task that is running can't become unblocked");
    }
}
