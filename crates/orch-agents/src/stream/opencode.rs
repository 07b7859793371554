//! `opencode run --format json`: parts of messages, in steps that begin and finish.

use serde_json::Value;

use super::{
    Read, SessionSeen, Sink, value,
    value::{count_at, decimal_at, opt_str_at, str_at},
};
use crate::{
    event::{AgentEvent, Change, LONGEST_DETAIL, Scope, clip},
    tokens::Tokens,
};

#[derive(Debug, Default)]
pub(super) struct Opencode {
    session: SessionSeen,
    /// The step has said something.
    has_text: bool,
    has_failed: bool,
}

impl Read for Opencode {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        self.session.see(opt_str_at(line, "/sessionID"), None, None, to);
        let part = &line["part"];
        match str_at(line, "/type") {
            "step_start" => self.has_text = false,
            "text" => {
                let text = str_at(part, "/text");
                self.has_text |= !text.is_empty();
                to.message(text, false, false);
            }
            "reasoning" => to.message(str_at(part, "/text"), true, false),
            "tool_use" => tool(part, to),
            "step_finish" => {
                usage(part, to);
                // Any other reason is that a step follows, or that the tools were refused.
                if str_at(part, "/reason") == "stop" {
                    to.end(self.has_text && !self.has_failed, "stop");
                }
            }
            "error" => {
                self.has_failed = true;
                let message = opt_str_at(line, "/error/data/message")
                    .unwrap_or_else(|| str_at(line, "/error/name"));
                to.failed(line, message, None);
                to.end(false, "error");
            }
            _ => return false,
        }
        true
    }
}

/// A tool is told of once it has ended.
fn tool(part: &Value, to: &mut Sink<'_>) {
    let (id, name) = (str_at(part, "/callID"), str_at(part, "/tool"));
    let state = &part["state"];
    let ok = str_at(state, "/status") == "completed";
    to.tool_call(id, name, &state["input"]);
    let error = str_at(state, "/error");
    let output = if ok { value::text(&state["output"]) } else { error.to_owned() };
    let exit_code = state.pointer("/metadata/exit").and_then(Value::as_i64);
    to.tool_result(id, ok, exit_code, &output);
    if error.starts_with("The user rejected permission") {
        to.waiting(&format!("{name}: {error}"));
    }
    if !ok {
        return;
    }
    let path = opt_str_at(state, "/metadata/filepath").or(opt_str_at(state, "/input/filePath"));
    let change = match (name, state.pointer("/metadata/exists").and_then(Value::as_bool)) {
        ("write", Some(false)) => Change::Add,
        ("write" | "edit" | "patch" | "multiedit", _) => Change::Update,
        _ => return,
    };
    if let Some(path) = path {
        to.tell(AgentEvent::FileChange { path: clip(path, LONGEST_DETAIL), change });
    }
}

fn usage(part: &Value, to: &mut Sink<'_>) {
    let tokens = &part["tokens"];
    if !tokens.is_object() {
        return;
    }
    let (cached, cache_write) = (count_at(tokens, "/cache/read"), count_at(tokens, "/cache/write"));
    let reasoning = count_at(tokens, "/reasoning");
    let fresh = count_at(tokens, "/input");
    let counted = Tokens {
        input: fresh.saturating_add(cached).saturating_add(cache_write),
        cached,
        cache_write,
        output: count_at(tokens, "/output").saturating_add(reasoning),
        reasoning,
    };
    // Without prices in its configuration it says 0, whatever was used.
    let cost = decimal_at(part, "/cost").filter(|cost| !cost.is_zero());
    to.tell(AgentEvent::Usage { scope: Scope::Step, tokens: Some(counted), cost });
}
