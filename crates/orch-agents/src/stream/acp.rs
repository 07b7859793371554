//! The Agent Client Protocol: JSON-RPC, as [`crate::acp`] takes it from an agent and prints it.

use std::collections::VecDeque;

use serde_json::Value;

use super::{
    Read, SessionSeen, Sink, value,
    value::{count_at, list_at, opt_str_at, str_at},
};
use crate::{
    event::{AgentEvent, Change, LONGEST_DETAIL, Scope, clip},
    tokens::Tokens,
};

/// How many calls of tools may be under way; more than run at a time.
const PENDING: usize = 64;

/// The code of an error that says that nobody is logged in.
const AUTH_REQUIRED: i64 = -32_000;

#[derive(Debug, Default)]
pub(super) struct Acp {
    session: SessionSeen,
    version: Option<String>,
    pending: VecDeque<Call>,
    is_refused: bool,
}

/// A call of a tool, of which several lines tell.
#[derive(Debug, Default)]
struct Call {
    id: String,
    is_told: bool,
    files: Vec<(String, Change)>,
}

impl Read for Acp {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        if let Some(message) = opt_str_at(line, "/orch/denied") {
            self.is_refused = true;
            to.waiting(message);
            return true;
        }
        if let Some(message) = opt_str_at(line, "/orch/failed") {
            to.failed(line, message, None);
            to.end(false, "failed");
            return true;
        }
        match opt_str_at(line, "/method") {
            Some("session/update") => return self.update(&line["params"]["update"], to),
            Some("session/request_permission") => self.call(&line["params"]["toolCall"], false, to),
            Some("initialize" | "authenticate" | "session/new" | "session/load") => {}
            Some("session/prompt" | "session/cancel" | "session/set_mode") => {}
            Some(_) => return false,
            None if line["error"].is_object() => failed(&line["error"], to),
            None if line["result"].is_object() => self.result(&line["result"], to),
            None => return false,
        }
        true
    }
}

impl Acp {
    fn result(&mut self, result: &Value, to: &mut Sink<'_>) {
        if let Some(version) = opt_str_at(result, "/agentInfo/version") {
            self.version = Some(super::short(version));
        }
        let model = opt_str_at(result, "/models/currentModelId");
        self.session.see(opt_str_at(result, "/sessionId"), model, self.version.as_deref(), to);
        if let Some(reason) = opt_str_at(result, "/stopReason") {
            usage(result, to);
            // It goes on without, and may well say that it is done.
            to.end(reason == "end_turn" && !self.is_refused, reason);
        }
    }

    fn update(&mut self, update: &Value, to: &mut Sink<'_>) -> bool {
        let text = str_at(update, "/content/text");
        match str_at(update, "/sessionUpdate") {
            "agent_message_chunk" => to.message(text, false, true),
            "agent_thought_chunk" => to.message(text, true, true),
            "tool_call" => self.call(update, true, to),
            "tool_call_update" => self.call(update, true, to),
            "user_message_chunk"
            | "plan"
            | "available_commands_update"
            | "current_mode_update"
            | "usage_update"
            | "session_info_update"
            | "config_option_update" => {}
            _ => return false,
        }
        true
    }

    /// Some tell of a call before they know its input, some only once it has ended.
    fn call(&mut self, call: &Value, may_end: bool, to: &mut Sink<'_>) {
        let id = super::short(str_at(call, "/toolCallId"));
        let at = self.pending.iter().position(|pending| pending.id == id);
        let mut pending = at.and_then(|at| self.pending.remove(at)).unwrap_or_default();
        for part in list_at(call, "/content") {
            if str_at(part, "/type") == "diff" && pending.files.len() < PENDING {
                let path = clip(str_at(part, "/path"), LONGEST_DETAIL);
                let is_new = part.get("oldText").is_none_or(Value::is_null);
                let change = if is_new { Change::Add } else { Change::Update };
                pending.files.retain(|(known, _)| *known != path);
                pending.files.push((path, change));
            }
        }
        let status = if may_end { str_at(call, "/status") } else { "" };
        let is_over = matches!(status, "completed" | "failed");
        let input = &call["rawInput"];
        let has_input = input.as_object().is_some_and(|input| !input.is_empty());
        if !pending.is_told && (has_input || is_over || status == "in_progress") {
            pending.is_told = true;
            let name = opt_str_at(call, "/kind").unwrap_or_else(|| str_at(call, "/title"));
            let title = Value::String(str_at(call, "/title").to_owned());
            to.tool_call(&id, name, if has_input { input } else { &title });
        }
        if is_over {
            let ok = status == "completed";
            let output = match &call["rawOutput"] {
                Value::Object(output) => output.get("output").map(value::text),
                Value::Null => None,
                output => Some(value::text(output)),
            };
            let content = || {
                let parts = list_at(call, "/content").iter();
                let texts = parts.filter_map(|part| part.pointer("/content/text")?.as_str());
                texts.collect::<Vec<_>>().join("\n")
            };
            let exit_code = call.pointer("/rawOutput/metadata/exit").and_then(Value::as_i64);
            to.tool_result(&id, ok, exit_code, &output.unwrap_or_else(content));
            if ok {
                for (path, change) in pending.files {
                    to.tell(AgentEvent::FileChange { path, change });
                }
            }
            return;
        }
        self.pending.truncate(PENDING - 1);
        self.pending.push_front(Call { id, ..pending });
    }
}

fn failed(error: &Value, to: &mut Sink<'_>) {
    let message = opt_str_at(error, "/data/details").unwrap_or_else(|| str_at(error, "/message"));
    let known = if error["code"].as_i64() == Some(AUTH_REQUIRED) {
        orch_exec::classify::status_code(401, message, to.now)
    } else {
        orch_exec::classify::message(message, to.now)
    };
    to.error(known, message, false);
    to.end(false, "error");
}

/// The protocol has no tokens yet; this is where agents put them all the same.
fn usage(result: &Value, to: &mut Sink<'_>) {
    let (usage, quota) = (&result["usage"], result.pointer("/_meta/quota/token_count"));
    let tokens = if usage.is_object() {
        let (cached, cache_write) =
            (count_at(usage, "/cachedReadTokens"), count_at(usage, "/cachedWriteTokens"));
        let fresh = count_at(usage, "/inputTokens");
        Tokens {
            input: fresh.saturating_add(cached).saturating_add(cache_write),
            cached,
            cache_write,
            output: count_at(usage, "/outputTokens"),
            reasoning: count_at(usage, "/thoughtTokens"),
        }
    } else if let Some(quota) = quota {
        let (input, output) = (count_at(quota, "/input_tokens"), count_at(quota, "/output_tokens"));
        Tokens { input, output, ..Tokens::default() }
    } else {
        return;
    };
    to.tell(AgentEvent::Usage { scope: Scope::Run, tokens: Some(tokens), cost: None });
}
