//! Lines of JSON whose meaning a plan tells, by JSON pointers.

use std::{sync::Arc, time::Duration};

use orch_model::plan::spec::{EventKind, EventRule, Scalar};
use serde_json::Value;

use super::{
    Read, SessionSeen, Sink, value,
    value::{decimal_at, list_at},
};
use crate::{
    event::{AgentEvent, Change, LONGEST_DETAIL, Scope, clip},
    tokens::Tokens,
};

#[derive(Debug)]
pub(super) struct Mapped {
    rules: Arc<[EventRule]>,
    session: SessionSeen,
}

impl Mapped {
    pub(super) fn new(rules: Arc<[EventRule]>) -> Self {
        Self { rules, session: SessionSeen::default() }
    }
}

impl Read for Mapped {
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool {
        let Self { rules, session } = self;
        let mut is_known = false;
        for rule in rules.iter().filter(|rule| fits(rule, line)) {
            is_known = true;
            tell(rule, line, session, to);
        }
        is_known
    }
}

/// Whether the line has what the rule wants.
fn fits(rule: &EventRule, line: &Value) -> bool {
    rule.when.iter().all(|(pointer, wanted)| match (line.pointer(pointer), wanted) {
        (Some(Value::String(found)), Scalar::Text(wanted)) => found == wanted,
        (Some(Value::Bool(found)), Scalar::Bool(wanted)) => found == wanted,
        (Some(found), Scalar::Number(wanted)) => found.as_i64() == Some(*wanted),
        _ => false,
    })
}

fn tell(rule: &EventRule, line: &Value, session: &mut SessionSeen, to: &mut Sink<'_>) {
    let at = |name: &str| line.pointer(rule.take.get(name)?);
    let text = |name| at(name).map(value::text).unwrap_or_default();
    match rule.event {
        EventKind::Session => {
            let model = at("model").and_then(Value::as_str);
            session.see(at("id").and_then(Value::as_str), model, None, to);
        }
        EventKind::Message => match at("text") {
            Some(Value::String(text)) => to.message(text, false, false),
            _ => to.message(&text("text"), false, false),
        },
        EventKind::ToolCall => {
            to.tool_call(&text("id"), &text("name"), at("input").unwrap_or(&Value::Null));
        }
        EventKind::ToolResult => {
            let exit_code = at("exit_code").and_then(Value::as_i64);
            let ok = at("ok").and_then(Value::as_bool).unwrap_or(exit_code.unwrap_or(0) == 0);
            to.tool_result(&text("id"), ok, exit_code, &text("output"));
        }
        EventKind::FileChange => {
            let path = rule.take.get("path").map_or("", String::as_str);
            let paths = match line.pointer(path) {
                Some(Value::Array(_)) => list_at(line, path),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            for path in paths.iter().filter_map(Value::as_str) {
                let path = clip(path, LONGEST_DETAIL);
                to.tell(AgentEvent::FileChange { path, change: Change::Update });
            }
        }
        EventKind::Usage => usage(rule, line, Scope::Step, to),
        EventKind::UsageSoFar => usage(rule, line, Scope::Run, to),
        EventKind::RateLimit => {
            let message = text("message");
            let seconds = at("retry_after").and_then(Value::as_u64);
            let known = || match orch_exec::classify::message(&message, to.now) {
                Some(failure) => failure.reset(),
                None => None,
            };
            let reset = match seconds {
                Some(seconds) => Some(to.now + Duration::from_secs(seconds)),
                None => known(),
            };
            to.rate_limit(&message, reset);
        }
        EventKind::Waiting => to.waiting(&text("message")),
        EventKind::Error => {
            let message = text("message");
            to.retried(&message, &message);
        }
        EventKind::Done => to.end(true, "done"),
        EventKind::Failed => {
            let message = text("message");
            let status = at("status").and_then(Value::as_u64);
            let known = status
                .and_then(|status| orch_exec::classify::status_code(status, &message, to.now))
                .or_else(|| orch_exec::classify::message(&message, to.now));
            to.error(known, &message, false);
            to.end(false, "failed");
        }
        _ => {}
    }
}

fn usage(rule: &EventRule, line: &Value, scope: Scope, to: &mut Sink<'_>) {
    let count =
        |name: &str| rule.take.get(name).and_then(|pointer| line.pointer(pointer)?.as_u64());
    let cached = count("cached").unwrap_or(0);
    let input = match (count("input"), count("fresh_input")) {
        (None, Some(fresh)) => Some(fresh.saturating_add(cached)),
        (input, _) => input,
    };
    let output = count("output");
    let tokens = (input.is_some() || output.is_some()).then(|| Tokens {
        input: input.unwrap_or(0),
        cached,
        cache_write: 0,
        output: output.unwrap_or(0),
        reasoning: count("reasoning").unwrap_or(0),
    });
    let cost = rule.take.get("cost").and_then(|pointer| decimal_at(line, pointer));
    if tokens.is_some() || cost.is_some() {
        to.tell(AgentEvent::Usage { scope, tokens, cost });
    }
}
