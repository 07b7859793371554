//! `claude -p --output-format stream-json --verbose`: messages as the service has them, and a result.

use std::time::Duration;

use serde_json::Value;

use super::{
    Read, SessionSeen, Sink, value,
    value::{bool_at, count_at, decimal_at, list_at, opt_str_at, str_at},
};
use crate::{
    event::{AgentEvent, Change, LONGEST_DETAIL, Scope, clip},
    tokens::Tokens,
};

#[derive(Debug, Default)]
pub(super) struct Claude {
    session: SessionSeen,
}

impl Read for Claude {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        let kind = str_at(line, "/type");
        let (model, version) =
            (opt_str_at(line, "/model"), opt_str_at(line, "/claude_code_version"));
        self.session.see(opt_str_at(line, "/session_id"), model, version, to);
        match kind {
            "system" => return system(line, to),
            "assistant" => assistant(line, to),
            "user" => user(line, to),
            "result" => result(line, to),
            "stream_event" | "rate_limit_event" | "tool_progress" | "auth_status" => {}
            _ => return false,
        }
        true
    }
}

fn system(line: &Value, to: &mut Sink<'_>) -> bool {
    match str_at(line, "/subtype") {
        "api_retry" => {
            let delay = Duration::from_millis(count_at(line, "/retry_delay_ms"));
            let status = count_at(line, "/error_status");
            let message = format!(
                "{}, attempt {} of {}",
                str_at(line, "/error"),
                count_at(line, "/attempt"),
                count_at(line, "/max_retries")
            );
            if matches!(status, 429 | 529) {
                to.rate_limit(&message, Some(to.now + delay));
            } else {
                let known = orch_exec::classify::status_code(status, &message, to.now);
                to.error(known, &message, true);
            }
        }
        "permission_denied" => to.waiting(str_at(line, "/message")),
        "init" | "compact_boundary" | "status" | "hook_started" | "hook_response"
        | "hook_progress" | "task_started" | "task_progress" | "task_notification" => {}
        _ => return false,
    }
    true
}

fn assistant(line: &Value, to: &mut Sink<'_>) {
    for part in list_at(line, "/message/content") {
        match str_at(part, "/type") {
            "text" => to.message(str_at(part, "/text"), false, false),
            "thinking" => to.message(str_at(part, "/thinking"), true, false),
            "tool_use" => to.tool_call(str_at(part, "/id"), str_at(part, "/name"), &part["input"]),
            _ => {}
        }
    }
}

fn user(line: &Value, to: &mut Sink<'_>) {
    for part in list_at(line, "/message/content") {
        if str_at(part, "/type") == "tool_result" {
            let ok = bool_at(part, "/is_error") != Some(true);
            let id = str_at(part, "/tool_use_id");
            to.tool_result(id, ok, None, &value::text(&part["content"]));
        }
    }
    let done = &line["tool_use_result"];
    let change = match str_at(done, "/type") {
        "create" => Change::Add,
        _ if done.get("structuredPatch").is_some() => Change::Update,
        _ => return,
    };
    if let Some(path) = opt_str_at(done, "/filePath") {
        to.tell(AgentEvent::FileChange { path: clip(path, LONGEST_DETAIL), change });
    }
}

fn result(line: &Value, to: &mut Sink<'_>) {
    let usage = &line["usage"];
    if usage.is_object() {
        let (cached, cache_write) = (
            count_at(usage, "/cache_read_input_tokens"),
            count_at(usage, "/cache_creation_input_tokens"),
        );
        let fresh = count_at(usage, "/input_tokens");
        let tokens = Tokens {
            input: fresh.saturating_add(cached).saturating_add(cache_write),
            cached,
            cache_write,
            output: count_at(usage, "/output_tokens"),
            reasoning: count_at(usage, "/output_tokens_details/thinking_tokens"),
        };
        to.tell(AgentEvent::Usage { scope: Scope::Run, tokens: Some(tokens), cost: None });
    }
    if let Some(cost) = decimal_at(line, "/total_cost_usd") {
        let cost = Some(cost);
        to.tell(AgentEvent::Usage { scope: Scope::Session, tokens: None, cost });
    }
    let denied = !list_at(line, "/permission_denials").is_empty();
    let is_error = bool_at(line, "/is_error") != Some(false);
    if is_error {
        let message = opt_str_at(line, "/result")
            .or_else(|| opt_str_at(line, "/errors/0"))
            .unwrap_or_else(|| str_at(line, "/subtype"));
        to.failed(line, message);
    }
    let reason = match (denied, opt_str_at(line, "/terminal_reason")) {
        (true, _) => "permission_denied",
        (false, Some(reason)) => reason,
        (false, None) => str_at(line, "/subtype"),
    };
    to.end(!is_error && !denied, reason);
}
