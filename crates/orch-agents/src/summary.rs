//! What a stream comes to.

use orch_model::Timestamp;
use rust_decimal::Decimal;

use crate::{
    event::{AgentEvent, ErrorClass, LONGEST_MESSAGE, Record, Scope, clip},
    tokens::Tokens,
};

/// What the events of an attempt add up to. Its size does not grow with their number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// The session.
    pub session: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The last message, its parts joined.
    pub text: String,
    /// What was used.
    pub used: Used,
    /// The last error that the agent did not get over.
    pub error: Option<LastError>,
    /// How the turn ended; `None` where the stream was cut off.
    pub end: Option<TurnEnd>,
    /// The last thing that needed a person; `None` where the agent was never held up.
    pub waiting: Option<String>,
    /// What it needs a person for, where it has done nothing since it said so.
    pub held_up: Option<String>,
    /// The limit of a service that it waits for, where it has done nothing since it said so.
    pub limited: Option<Limited>,
    /// How many tools were called.
    pub tool_calls: u64,
    /// How often files were changed by tools that say so.
    pub file_changes: u64,
    /// How often a service took no more requests for a while.
    pub rate_limits: u64,
    /// How many lines were not understood.
    pub unknown: u64,
    /// The message goes on.
    open: bool,
}

/// What an agent said that it used, by what that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// The sum of the steps.
    pub steps: Option<Tokens>,
    /// That of this process.
    pub run: Option<Tokens>,
    /// That of the session.
    pub session: Option<Tokens>,
    /// The sum of what the steps cost, in US dollars.
    pub steps_cost: Option<Decimal>,
    /// What this process cost.
    pub run_cost: Option<Decimal>,
    /// What the session cost.
    pub session_cost: Option<Decimal>,
}

/// A limit of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// What was said.
    pub message: String,
    /// From when on the service takes more, where that is known.
    pub reset: Option<Timestamp>,
}

/// An error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// Of what kind.
    pub class: ErrorClass,
    /// What was said.
    pub message: String,
    /// From when on it may succeed.
    pub reset: Option<Timestamp>,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnEnd {
    /// Whether the agent counts it as a success.
    pub success: bool,
    /// Why.
    pub reason: String,
}

impl Summary {
    /// Takes the next event.
    pub fn take(&mut self, record: &Record) {
        if !matches!(record.event, AgentEvent::Unknown { .. } | AgentEvent::MoreUnknown { .. }) {
            (self.held_up, self.limited) = (None, None);
        }
        match &record.event {
            AgentEvent::Session { id, model, .. } => {
                self.session = Some(id.clone());
                self.model = model.clone().or_else(|| self.model.take());
            }
            AgentEvent::Message { thought: true, .. } => {}
            AgentEvent::Message { text, delta, .. } => {
                if !(*delta && self.open) {
                    self.text.clear();
                }
                let room = LONGEST_MESSAGE.saturating_sub(self.text.len());
                if room > 0 {
                    self.text.push_str(&clip(text, room));
                }
                self.open = *delta;
                return;
            }
            AgentEvent::ToolCall { .. } => self.tool_calls += 1,
            AgentEvent::FileChange { .. } => self.file_changes += 1,
            AgentEvent::Usage { scope, tokens, cost } => self.used.take(*scope, *tokens, *cost),
            AgentEvent::RateLimit { message, reset } => {
                self.rate_limits += 1;
                self.limited = Some(Limited { message: message.clone(), reset: *reset });
            }
            AgentEvent::Waiting { message } => {
                self.waiting = Some(message.clone());
                self.held_up = Some(message.clone());
            }
            AgentEvent::Error { retried: true, .. } => {}
            AgentEvent::Error { class, message, reset, .. } => {
                let (class, message, reset) = (*class, message.clone(), *reset);
                self.error = Some(LastError { class, message, reset });
            }
            AgentEvent::End { success, reason } => {
                if *success {
                    self.error = None;
                }
                self.end = Some(TurnEnd { success: *success, reason: reason.clone() });
            }
            AgentEvent::Unknown { .. } => {
                self.unknown += 1;
                // Remarks of the program stand between the parts of a message.
                return;
            }
            AgentEvent::MoreUnknown { lines, .. } => {
                self.unknown += lines;
                return;
            }
            AgentEvent::ToolResult { .. } => {}
        }
        self.open = false;
    }
}

impl Used {
    fn take(&mut self, scope: Scope, tokens: Option<Tokens>, cost: Option<Decimal>) {
        match scope {
            Scope::Step => {
                if let Some(tokens) = tokens {
                    *self.steps.get_or_insert_default() += tokens;
                }
                if let Some(cost) = cost {
                    let sum = self.steps_cost.unwrap_or_default().checked_add(cost);
                    self.steps_cost = Some(sum.unwrap_or(Decimal::MAX));
                }
            }
            Scope::Run => {
                self.run = tokens.or(self.run);
                self.run_cost = cost.or(self.run_cost);
            }
            Scope::Session => {
                self.session = tokens.or(self.session);
                self.session_cost = cost.or(self.session_cost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_many_parts_is_kept_in_bounded_memory() {
        let mut summary = Summary::default();
        let part = |text: &str, delta| {
            let event = AgentEvent::Message { text: text.into(), delta, thought: false };
            Record { seq: 1, at: None, event }
        };
        summary.take(&part("before", false));
        for _ in 0..10_000 {
            summary.take(&part(&"x".repeat(1000), true));
        }
        assert!(summary.text.starts_with("xxx"), "another message has begun");
        assert!(summary.text.len() < LONGEST_MESSAGE + 100, "{}", summary.text.len());
        summary.take(&part("last", false));
        assert_eq!(summary.text, "last");
    }
}
