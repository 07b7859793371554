//! What an agent did, in words that are the same for all agents.
//!
//! Each attempt's events are stored as lines of JSON, see [`Header`] and [`Record`]. The format has a
//! version, [`EVENTS_VERSION`]: fields and kinds of events may be added under the same one, so readers
//! pass over what they don't know.

use orch_model::{Timestamp, plan::spec::AgentKind, state::Attempt};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::tokens::Tokens;

/// The version of the format of stored events.
pub const EVENTS_VERSION: u32 = 1;

/// The longest text of a message that an event keeps, in bytes. The raw output has all of it.
pub const LONGEST_MESSAGE: usize = 64 << 10;

/// The longest input, output or unknown line that an event keeps, in bytes.
pub const LONGEST_DETAIL: usize = 4 << 10;

/// The first line of stored events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    pub v: u32,
    /// Which kind of agent it was.
    pub kind: AgentKind,
    /// The task.
    pub task: String,
    /// The attempt.
    pub attempt: Attempt,
}

/// One event, as a line of JSON: `{"seq":3,"event":"message","text":"done"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number within the attempt, from 1 and without gaps.
    pub seq: u64,
    /// When it happened, where the agent says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What happened.
    #[serde(flatten)]
    pub event: AgentEvent,
}

/// What an agent did or said. Texts that are too long are cut, see [`LONGEST_MESSAGE`] and
/// [`LONGEST_DETAIL`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AgentEvent {
    /// The session that it works in; it may be continued under this id.
    Session {
        /// The id, in the agent's own form.
        id: String,
        /// The model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The agent's version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// It said something.
    Message {
        /// What.
        text: String,
        /// A part: the message goes on with the next one of its kind.
        #[serde(default, skip_serializing_if = "is_false")]
        delta: bool,
        /// It is what the model thought, not what it answers.
        #[serde(default, skip_serializing_if = "is_false")]
        thought: bool,
    },
    /// It calls a tool.
    ToolCall {
        /// The id of the call.
        id: String,
        /// The tool.
        name: String,
        /// What the tool is given: a command, or JSON.
        input: String,
    },
    /// A tool has ended.
    ToolResult {
        /// The id of the call.
        id: String,
        /// Whether the agent counts it as a success. Some agents count a command that exited with an
        /// error as one.
        ok: bool,
        /// The exit code of a command, where the agent tells it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i64>,
        /// What the tool gave.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        output: String,
    },
    /// It changed a file by one of its tools. What its commands changed, only git knows.
    FileChange {
        /// The file, as the agent names it.
        path: String,
        /// How.
        change: Change,
    },
    /// What was used.
    Usage {
        /// What this counts.
        scope: Scope,
        /// Tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<Tokens>,
        /// US dollars.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Decimal>,
    },
    /// A service took no more requests for now, and the agent waits or tries again by itself.
    RateLimit {
        /// What was said.
        message: String,
        /// From when on it tries again or the service takes more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<Timestamp>,
    },
    /// Something needed a person's consent or answer, and nobody is there to give it.
    Waiting {
        /// What.
        message: String,
    },
    /// Something failed.
    Error {
        /// Of what kind.
        class: ErrorClass,
        /// What was said.
        message: String,
        /// From when on it may succeed, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<Timestamp>,
        /// The agent goes on, or tries again by itself.
        #[serde(default, skip_serializing_if = "is_false")]
        retried: bool,
    },
    /// The agent's turn is over. An output without this event was cut off.
    End {
        /// Whether the agent counts it as a success.
        success: bool,
        /// Why it ended, in the agent's word.
        reason: String,
    },
    /// A line that is not understood. No such line makes the rest unreadable.
    Unknown {
        /// Why not.
        why: Unread,
        /// Its beginning.
        text: String,
        /// Its length.
        bytes: u64,
    },
    /// More lines that are not understood, which have no events of their own; the last event.
    MoreUnknown {
        /// How many.
        lines: u64,
        /// Their length.
        bytes: u64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// It was made.
    Add,
    /// It was changed, or the agent does not tell whether it was there.
    Update,
    /// It was deleted.
    Delete,
}

/// What a [`AgentEvent::Usage`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// One step: the steps add up.
    Step,
    /// All that this process of the agent used so far.
    Run,
    /// All that the session used so far, under the processes before this one too.
    Session,
}

/// Of what kind an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorClass {
    /// The service takes no more requests for now.
    RateLimit,
    /// What the agent may use is used up.
    Quota,
    /// The agent is not logged in, or not allowed.
    Authentication,
    /// The service or the way to it failed.
    Infrastructure,
    /// Anything else.
    Other,
}

/// Why a line is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unread {
    /// It is no JSON object.
    Text,
    /// It is JSON of a kind that this version does not know.
    Kind,
    /// It is longer than a line that is read.
    Long,
    /// It is the last one, and was cut off.
    Cut,
}

/// The beginning of a text, at most `limit` bytes, cut between characters.
pub(crate) fn clip(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}[{} bytes more]", &text[..end], text.len() - end)
}
