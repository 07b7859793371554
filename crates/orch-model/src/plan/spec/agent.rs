//! Agents, as a plan has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{McpServer, Models, is_default};
use crate::budget::Budget;

/// `[agents.NAME]`: how an agent is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// What kind of agent it is. Default: `command`, any program.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: AgentKind,
    /// Program and arguments. `{prompt}`, `{prompt_file}`, `{worktree}` and `{model}` are replaced.
    /// For a `kind` that orch knows how to call: the program with what stands in front of its arguments;
    /// default: its usual name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments that come on top of those that the `kind` is called with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Whether the agent may do what it would ask a person for. Default: `allow`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub permissions: Permissions,
    /// Files and folders of the user's home that the agent sees in its private one, besides those that
    /// it and common tools need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link: Vec<String>,
    /// Servers of tools that it is given, by name, besides those that it is set up with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp: BTreeMap<String, McpServer>,
    /// What its output is. Default: `plain`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub output: AgentOutput,
    /// With `output = "jsonl"`: what the lines of its output say. Every rule that fits a line counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRule>,
    /// What the agent reads on its standard input. Default: the prompt, where `command` names
    /// neither `{prompt}` nor `{prompt_file}`; else nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<AgentStdin>,
    /// The model for tasks that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// In place of `model`: models to choose from, for tasks that name none. How much a task seems to ask
    /// tells which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Models>,
    /// Variables for the agent's environment; those of the task win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// A name for the account that it asks its service with: agents of one account wait for its limits
    /// together. Default: told from the kind, and from keys and addresses in `env` and `args`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What may be used at most by it in a run: `{ usd = "1.00", tokens = 2000000, attempts = 20 }`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// What kind of agent a program is: how it is called, and how its output is read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AgentKind {
    /// Any program, called as `command` says.
    #[default]
    Command,
    /// OpenAI's `codex exec`.
    Codex,
    /// Anthropic's `claude -p`.
    Claude,
    /// `opencode run`.
    Opencode,
    /// Google's `gemini`.
    Gemini,
    /// Any program that speaks the Agent Client Protocol on its standard input and output.
    Acp,
}

impl AgentKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Command, Self::Codex, Self::Claude, Self::Opencode, Self::Gemini, Self::Acp];

    /// The name, as plans write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Codex => "codex",
            Self::Claude => "claude",
            Self::Opencode => "opencode",
            Self::Gemini => "gemini",
            Self::Acp => "acp",
        }
    }
}

impl AgentSpec {
    /// A kind of agent, called as it usually is.
    #[must_use]
    pub const fn new(kind: AgentKind) -> Self {
        Self {
            kind,
            command: Vec::new(),
            args: Vec::new(),
            permissions: Permissions::Allow,
            link: Vec::new(),
            mcp: BTreeMap::new(),
            output: AgentOutput::Plain,
            events: Vec::new(),
            stdin: None,
            model: None,
            models: None,
            env: BTreeMap::new(),
            account: None,
            budget: None,
        }
    }
}

impl std::fmt::Display for AgentKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether an agent may do what it would ask a person for: change files, run commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Permissions {
    /// It may: it works in a folder of its own.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// What an agent reads on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AgentStdin {
    /// The prompt, then end of file.
    Prompt,
    /// End of file at once.
    Null,
}

/// What the output of an agent of kind `command` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AgentOutput {
    /// Text: only the exit status tells.
    #[default]
    Plain,
    /// A JSON object a line, with what `events` says.
    Jsonl,
}

/// What a line of JSON says, for an agent whose `output` is `jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// What it says.
    pub event: EventKind,
    /// What a line must have for that: values by JSON pointer. Default: any line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Scalar>,
    /// Where what belongs to the event is in the line: JSON pointers by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub take: BTreeMap<String, String>,
}

/// What a line of an agent's output says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The session; takes `id`, `model`.
    Session,
    /// A message; takes `text`.
    Message,
    /// A tool is called; takes `id`, `name`, `input`.
    ToolCall,
    /// A tool has ended; takes `id`, `ok`, `exit_code`, `output`.
    ToolResult,
    /// A file was changed; takes `path`.
    FileChange,
    /// What one step used; takes `input` (those of a cache included) or `fresh_input` (without them),
    /// `cached`, `output`, `reasoning`, `cost` (in US dollars).
    Usage,
    /// What the whole attempt used so far; takes the same.
    UsageSoFar,
    /// The service takes no more requests for now, and the agent waits; takes `message`, `retry_after` (in
    /// seconds).
    RateLimit,
    /// It needs a person; takes `message`.
    Waiting,
    /// Something failed, and the agent goes on; takes `message`.
    Error,
    /// The work is done. Where there is a rule for this, an output without it is no success.
    Done,
    /// The work has failed; takes `message`, `status` (a status code of HTTP).
    Failed,
    /// Nothing that matters.
    Ignore,
}

impl EventKind {
    /// What a rule for this may take.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Session => &["id", "model"],
            Self::Message => &["text"],
            Self::ToolCall => &["id", "name", "input"],
            Self::ToolResult => &["id", "ok", "exit_code", "output"],
            Self::FileChange => &["path"],
            Self::Usage | Self::UsageSoFar => {
                &["input", "fresh_input", "cached", "output", "reasoning", "cost"]
            }
            Self::RateLimit => &["message", "retry_after"],
            Self::Waiting | Self::Error => &["message"],
            Self::Failed => &["message", "status"],
            Self::Done | Self::Ignore => &[],
        }
    }
}

/// A value in a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
}
