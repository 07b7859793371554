//! `codex exec --json`: items that start and are completed, between the start and the end of a turn.

use serde_json::Value;

use super::{
    Read, SessionSeen, Sink, value,
    value::{count_at, list_at, opt_str_at, str_at},
};
use crate::{
    event::{AgentEvent, Change, LONGEST_DETAIL, Scope, clip},
    tokens::Tokens,
};

#[derive(Debug, Default)]
pub(super) struct Codex {
    session: SessionSeen,
    is_refused: bool,
}

/// What it says of a patch that it may not apply, as a remark between the lines of its stream, which have
/// nothing of it.
const REFUSED: &str = "rejected by user approval settings";

impl Read for Codex {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        match str_at(line, "/type") {
            "thread.started" => self.session.see(opt_str_at(line, "/thread_id"), None, None, to),
            "turn.started" => {}
            "item.started" => return item(&line["item"], Phase::Started, to),
            "item.updated" => return item(&line["item"], Phase::Updated, to),
            "item.completed" => return item(&line["item"], Phase::Completed, to),
            // The turn goes on, or `turn.failed` says that it does not.
            "error" => {
                let message = str_at(line, "/message");
                to.retried(reason(message), message);
            }
            "turn.completed" => {
                usage(&line["usage"], to);
                let reason = if self.is_refused { "permission_denied" } else { "turn.completed" };
                to.end(!self.is_refused, reason);
            }
            "turn.failed" => {
                to.failed(line, str_at(line, "/error/message"), None);
                to.end(false, "turn.failed");
            }
            _ => return false,
        }
        true
    }

    fn text(&mut self, text: &str, to: &mut Sink<'_>) -> bool {
        let is_refusal = text.contains(" ERROR codex_core") && text.ends_with(REFUSED);
        if is_refusal {
            self.is_refused = true;
            to.waiting(text.rsplit_once("error=").map_or(text, |(_, why)| why));
        }
        is_refusal
    }
}

/// What is in the brackets of `Reconnecting... 1/5 (why)`.
fn reason(message: &str) -> &str {
    let inner = message.starts_with("Reconnecting").then(|| message.split_once('(')).flatten();
    inner.map_or(message, |(_, inner)| inner.trim_end_matches(')'))
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Started,
    Updated,
    Completed,
}

fn item(item: &Value, phase: Phase, to: &mut Sink<'_>) -> bool {
    let id = str_at(item, "/id");
    let is_completed = phase == Phase::Completed;
    let ok = str_at(item, "/status") == "completed";
    match (str_at(item, "/type"), phase) {
        ("agent_message", _) if is_completed => to.message(str_at(item, "/text"), false, false),
        ("reasoning", _) if is_completed => to.message(str_at(item, "/text"), true, false),
        ("command_execution", Phase::Started) => to.tool_call(id, "shell", item),
        ("command_execution", Phase::Completed) => {
            let exit_code = item["exit_code"].as_i64();
            to.tool_result(id, ok, exit_code, str_at(item, "/aggregated_output"));
        }
        ("file_change", Phase::Completed) if ok => {
            for change in list_at(item, "/changes") {
                let kind = match str_at(change, "/kind") {
                    "add" => Change::Add,
                    "delete" => Change::Delete,
                    _ => Change::Update,
                };
                let path = clip(str_at(change, "/path"), LONGEST_DETAIL);
                to.tell(AgentEvent::FileChange { path, change: kind });
            }
        }
        ("file_change", Phase::Completed) => to.tool_result(id, false, None, "file change failed"),
        ("mcp_tool_call", Phase::Started) => {
            let name = format!("{}.{}", str_at(item, "/server"), str_at(item, "/tool"));
            to.tool_call(id, &name, &item["arguments"]);
        }
        ("mcp_tool_call", Phase::Completed) => {
            let output = match &item["error"] {
                Value::Null => value::text(&item["result"]["content"]),
                error => value::text(error.get("message").unwrap_or(error)),
            };
            to.tool_result(id, ok, None, &output);
        }
        ("web_search", Phase::Started) => to.tool_call(id, "web_search", &item["query"]),
        ("web_search", Phase::Completed) => to.tool_result(id, true, None, ""),
        // A remark, an unknown model for one: the turn goes on.
        ("error", Phase::Completed) => {
            let message = str_at(item, "/message");
            to.retried(message, message);
        }
        (
            "agent_message" | "reasoning" | "command_execution" | "file_change" | "mcp_tool_call"
            | "web_search" | "todo_list" | "error",
            _,
        ) => {}
        _ => return false,
    }
    true
}

/// The counts are those of the whole thread.
fn usage(usage: &Value, to: &mut Sink<'_>) {
    if !usage.is_object() {
        return;
    }
    let tokens = Tokens {
        input: count_at(usage, "/input_tokens"),
        cached: count_at(usage, "/cached_input_tokens"),
        cache_write: count_at(usage, "/cache_write_input_tokens"),
        output: count_at(usage, "/output_tokens"),
        reasoning: count_at(usage, "/reasoning_output_tokens"),
    };
    to.tell(AgentEvent::Usage { scope: Scope::Session, tokens: Some(tokens), cost: None });
}
