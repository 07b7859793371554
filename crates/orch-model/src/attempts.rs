//! What became of each attempt at a task, as the events of its run tell.

use serde::{Deserialize, Serialize};

use crate::{
    event::TaskChange,
    outcome::{ExitStatus, Failure},
    plan::AgentChoice,
    state::Attempt,
    time::{Span, Timestamp},
    usage::Usage,
};

/// One attempt at a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// Which.
    pub attempt: Attempt,
    /// Who was given it; `None` for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AgentChoice>,
    /// When it got its slot.
    pub began_at: Timestamp,
    /// When its agent was started.
    pub started_at: Option<Timestamp>,
    /// When it was over; `None`: it goes on, or its orchestrator was killed.
    pub ended_at: Option<Timestamp>,
    /// How long its agent ran, as far as its end was seen.
    pub agent_time: Option<Span>,
    /// How its agent ended.
    pub exit: Option<ExitStatus>,
    /// What its agent used, where it says so.
    pub usage: Option<Usage>,
    /// What ended it: `merged`, `conflicted`, `retry`, `failed`, `cancelled` or `lost`.
    pub end: Option<TaskChange>,
}

impl AttemptRecord {
    /// Why it failed, where it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.end {
            Some(TaskChange::Retry { failure, .. } | TaskChange::Failed { failure }) => {
                Some(failure)
            }
            _ => None,
        }
    }
}

/// The attempts at one task, from the first on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attempts(Vec<AttemptRecord>);

impl Attempts {
    /// Takes the next change of the task in.
    pub fn see(&mut self, change: &TaskChange, at: Timestamp) {
        if let TaskChange::Leased { attempt, by } = change {
            self.0.push(AttemptRecord {
                attempt: *attempt,
                by: by.as_deref().cloned(),
                began_at: at,
                started_at: None,
                ended_at: None,
                agent_time: None,
                exit: None,
                usage: None,
                end: None,
            });
            return;
        }
        // One that was skipped has no attempt.
        let Some(last) = self.0.last_mut().filter(|last| last.end.is_none()) else { return };
        match change {
            TaskChange::Started { .. } => last.started_at = Some(at),
            TaskChange::AgentUsed { usage } if last.exit.is_none() => last.usage = Some(*usage),
            TaskChange::AgentEnded { exit, usage, .. } => {
                // Only once: an orchestrator that takes the attempt up may see the same end again.
                if last.exit.is_none() {
                    last.agent_time = last.started_at.map(|since| Span(at.since(since)));
                    last.usage = usage.or(last.usage);
                }
                last.exit = Some(*exit);
            }
            TaskChange::Merged { .. }
            | TaskChange::Conflicted { .. }
            | TaskChange::Retry { .. }
            | TaskChange::Failed { .. }
            | TaskChange::Cancelled
            | TaskChange::Lost { .. } => {
                last.ended_at = Some(at);
                last.end = Some(change.clone());
            }
            _ => {}
        }
    }

    /// The attempts, from the first on.
    #[must_use]
    pub fn into_records(self) -> Vec<AttemptRecord> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Merged;

    #[test]
    fn each_attempt_has_its_end_and_the_time_of_its_agent() {
        let mut attempts = Attempts::default();
        let failure = Failure::NoChanges;
        let end = TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None };
        let changes = [
            (1, TaskChange::Queued),
            (2, TaskChange::Leased { attempt: 1, by: None }),
            (5, TaskChange::Started { agent: None }),
            (9, end.clone()),
            (11, end),
            (12, TaskChange::Retry { failure: failure.clone(), until: Timestamp::from_millis(20) }),
            (21, TaskChange::Queued),
            (22, TaskChange::Leased { attempt: 2, by: None }),
            (23, TaskChange::Started { agent: None }),
            (25, TaskChange::Merged { result: Merged::Nothing }),
        ];
        for (at, change) in &changes {
            attempts.see(change, Timestamp::from_millis(*at));
        }
        let records = attempts.into_records();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].agent_time, Some(Span(std::time::Duration::from_millis(4))));
        assert_eq!(records[0].failure(), Some(&failure));
        assert_eq!(records[0].ended_at, Some(Timestamp::from_millis(12)));
        assert_eq!((records[1].attempt, records[1].failure()), (2, None));
        assert_eq!(records[1].end, Some(TaskChange::Merged { result: Merged::Nothing }));
        let text = serde_json::to_string(&records).unwrap();
        assert_eq!(serde_json::from_str::<Vec<AttemptRecord>>(&text).unwrap(), records);
    }
}
