//! `claude -p --output-format stream-json --verbose`: messages as the service has them, and a result.

use std::time::Duration;

use orch_model::Timestamp;
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
    /// The message whose usage was told: it comes again with each part of it.
    counted: String,
    /// When there is more of what it may use, where that is used up.
    reset: Option<Timestamp>,
}

/// How long it waits by itself before it tries again for the first time, in milliseconds: half a second
/// and up to a quarter of it; twice as long each time, up to 32 s and a quarter. What is longer, the service has said.
const OWN_PAUSE: u64 = 650;
const LONGEST_OWN_PAUSE: u64 = 41_000;

impl Read for Claude {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        let kind = str_at(line, "/type");
        let (model, version) =
            (opt_str_at(line, "/model"), opt_str_at(line, "/claude_code_version"));
        self.session.see(opt_str_at(line, "/session_id"), model, version, to);
        match kind {
            "system" => return system(line, to),
            "assistant" => {
                self.usage(&line["message"], to);
                assistant(line, to);
            }
            "user" => user(line, to),
            "result" => result(line, self.reset, to),
            // How it stands with the limits of a subscription, told when that changes.
            "rate_limit_event" => {
                let seconds = count_at(line, "/rate_limit_info/resetsAt");
                let is_used_up =
                    str_at(line, "/rate_limit_info/status") == "rejected" && seconds > 0;
                let at = || Timestamp::from_millis(seconds.saturating_mul(1000));
                self.reset = is_used_up.then(at);
            }
            "stream_event" | "tool_progress" | "auth_status" => {}
            _ => return false,
        }
        true
    }
}

impl Claude {
    /// What a message used; how much it wrote is known only once it is complete.
    fn usage(&mut self, message: &Value, to: &mut Sink<'_>) {
        let id = str_at(message, "/id");
        // What it says in the place of a service that failed is no model's.
        let is_answer = str_at(message, "/model") != "<synthetic>";
        if is_answer && self.counted != id && message["usage"].is_object() {
            super::short(id).clone_into(&mut self.counted);
            let tokens = Some(tokens(&message["usage"]));
            to.tell(AgentEvent::Usage { scope: Scope::Step, tokens, cost: None });
        }
    }
}

fn tokens(usage: &Value) -> Tokens {
    let (cached, cache_write) = (
        count_at(usage, "/cache_read_input_tokens"),
        count_at(usage, "/cache_creation_input_tokens"),
    );
    let fresh = count_at(usage, "/input_tokens");
    Tokens {
        input: fresh.saturating_add(cached).saturating_add(cache_write),
        cached,
        cache_write,
        output: count_at(usage, "/output_tokens"),
        reasoning: count_at(usage, "/output_tokens_details/thinking_tokens"),
    }
}

fn system(line: &Value, to: &mut Sink<'_>) -> bool {
    match str_at(line, "/subtype") {
        "api_retry" => {
            let delay = count_at(line, "/retry_delay_ms");
            let attempt = count_at(line, "/attempt");
            let status = count_at(line, "/error_status");
            let message = format!(
                "{}, attempt {attempt} of {}, again in {delay} ms",
                str_at(line, "/error"),
                count_at(line, "/max_retries")
            );
            if matches!(status, 429 | 529) {
                let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
                let own = OWN_PAUSE.checked_shl(doublings.min(32)).unwrap_or(u64::MAX);
                let is_told = delay > own.min(LONGEST_OWN_PAUSE);
                to.rate_limit(&message, is_told.then(|| to.now + Duration::from_millis(delay)));
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

fn result(line: &Value, reset: Option<Timestamp>, to: &mut Sink<'_>) {
    let usage = &line["usage"];
    if usage.is_object() {
        to.tell(AgentEvent::Usage { scope: Scope::Run, tokens: Some(tokens(usage)), cost: None });
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
        to.failed(line, message, reset);
    }
    let reason = match (denied, opt_str_at(line, "/terminal_reason")) {
        (true, _) => "permission_denied",
        (false, Some(reason)) => reason,
        (false, None) => str_at(line, "/subtype"),
    };
    to.end(!is_error && !denied, reason);
}
