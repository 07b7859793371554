//! Looking into JSON.

use orch_model::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::event::{LONGEST_DETAIL, clip};

/// The text at a pointer; empty where there is none.
pub(super) fn str_at<'v>(value: &'v Value, path: &str) -> &'v str {
    opt_str_at(value, path).unwrap_or_default()
}

pub(super) fn opt_str_at<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path)?.as_str()
}

/// The number at a pointer; 0 where there is none.
pub(super) fn count_at(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

pub(super) fn bool_at(value: &Value, path: &str) -> Option<bool> {
    value.pointer(path)?.as_bool()
}

pub(super) fn list_at<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The amount at a pointer, in the digits that the agent wrote; negative ones are none.
pub(super) fn decimal_at(value: &Value, path: &str) -> Option<Decimal> {
    let text = match value.pointer(path)? {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let amount = text.parse().or_else(|_| Decimal::from_scientific(&text)).ok()?;
    (amount >= Decimal::ZERO).then_some(amount)
}

/// A value as text: a string as it is, text parts joined, anything else as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clip(text, LONGEST_DETAIL),
        Value::Array(parts) if !parts.is_empty() && parts.iter().all(|p| p["text"].is_string()) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            clip(&texts.join("\n"), LONGEST_DETAIL)
        }
        value => clip(&value.to_string(), LONGEST_DETAIL),
    }
}

/// The last moment that has a name: the year 9999 ends. Agents say numbers of any size.
pub(super) const LAST: Timestamp = Timestamp::from_millis(253_402_300_799_999);

/// When the agent says that a line was written.
pub(super) fn time(line: &Value) -> Option<Timestamp> {
    let at = match line.get("timestamp")? {
        Value::String(text) => text.parse().ok(),
        Value::Number(millis) => millis.as_u64().map(Timestamp::from_millis),
        _ => None,
    };
    at.filter(|at| *at <= LAST)
}
