//! The last line of an agent that prints a stream of JSON: claude (`--output-format stream-json`), codex
//! (`exec --json`), gemini (`--output-format stream-json`) and opencode (`run --format json`).

use std::time::Duration;

use orch_model::{Timestamp, outcome::ExitStatus};
use serde_json::Value;

use super::{Class, Said, text};

/// The end of the stream among these lines, the last one first. `None` where there is none: no stream,
/// or one that was cut off.
pub(super) fn end(lines: &[&str]) -> Option<Value> {
    let ends = |line: &&str| {
        let value: Value = serde_json::from_str(line.trim()).ok()?;
        let kind = value.get("type")?.as_str()?;
        matches!(kind, "result" | "turn.completed" | "turn.failed" | "error").then_some(value)
    };
    lines.iter().find_map(ends)
}

/// Why a stream with this end ended; `None` where that was well, or is nothing special.
pub(super) fn said(end: &Value, status: ExitStatus, now: Timestamp) -> Option<Said> {
    let at = |path: &str| end.pointer(path);
    let is_error = match at("/type")?.as_str()? {
        "turn.failed" | "error" => true,
        "result" => {
            at("/is_error").and_then(Value::as_bool) == Some(true)
                || at("/status").and_then(Value::as_str) == Some("error")
        }
        _ => false,
    };
    if !is_error {
        return None;
    }
    let texts = ["/result", "/error/data/message", "/error/message", "/message", "/error/type"];
    let mut texts = texts.iter().filter_map(|path| at(path)?.as_str());
    let message = texts.clone().next().unwrap_or_default();
    let by_text = texts.find_map(|text| text::understand(text, now));
    let by_body = at("/error/data/responseBody").and_then(Value::as_str).unwrap_or_default();
    let class = match (&by_text, code(end, status).and_then(class_of)) {
        // Services tell of a quota by the code of a rate limit.
        (Some(said), _) if said.class == Class::Quota => Class::Quota,
        (_, Some(Class::RateLimit)) if by_body.contains("insufficient_quota") => Class::Quota,
        (_, Some(class)) => class,
        (Some(said), None) => said.class,
        (None, None) => return None,
    };
    let reset = by_text.and_then(|said| said.reset).or_else(|| {
        let seconds = at("/error/data/responseHeaders/retry-after")?.as_str()?.parse().ok()?;
        Some(now + Duration::from_secs(seconds))
    });
    Some(Said { class, reset, message: message.to_owned() })
}

/// The status code of the service, where that is told.
fn code(end: &Value, status: ExitStatus) -> Option<u64> {
    let at = |path: &str| end.pointer(path).and_then(Value::as_u64);
    // Gemini exits with it, of which the lower eight bits arrive.
    let by_exit = || match status {
        ExitStatus::Code(code) if end.get("stats").is_some() => {
            [401, 403, 429, 500, 502, 503, 504].into_iter().find(|full| full % 256 == code as u64)
        }
        _ => None,
    };
    at("/api_error_status").or_else(|| at("/error/data/statusCode")).or_else(by_exit)
}

pub(super) const fn class_of(code: u64) -> Option<Class> {
    match code {
        429 | 529 => Some(Class::RateLimit),
        402 => Some(Class::Quota),
        401 | 403 => Some(Class::Authentication),
        500..=599 => Some(Class::Infrastructure),
        _ => None,
    }
}
