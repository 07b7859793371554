//! `parallel-state.json`, and the state that events add up to.
//!
//! A file of a newer format is refused as one; what is read is the same once it was written and read again.
//! Events of any content are taken or refused, and what they add up to is published without loss.

use std::sync::LazyLock;

use orch_model::{
    Event, EventKind, RunId, RunState, Timestamp,
    event::{EVENT_VERSION, RunHeader, RunSettings},
    plan::{self, Format},
    ports::StoreError,
};
use orch_state::{PublishedState, STATE_VERSION, fuzz::read_state};
use serde_json::{Value, json};

use crate::input::Input;

/// The plan of the run whose events are fuzzed.
const PLAN: &str = r#"{"version": 1, "agents": {"x": {"kind": "codex"}}, "epic": [{"id": "e"}],
    "task": [{"id": "a", "title": "A", "run": "true", "epic": "e"}, {"id": "b", "run": "true", "needs": ["a"]},
        {"id": "c", "prompt": "p", "agent": "x", "retries": 2}]}"#;

static BEGIN: LazyLock<Event> = LazyLock::new(|| {
    let header = RunHeader {
        run: RunId::new("r1").expect("an id"),
        version: EVENT_VERSION,
        plan: plan::parse(PLAN, Format::Json).expect("a plan").spec().clone(),
        settings: RunSettings::default(),
        repository: "/r".into(),
        base: None,
        pid: 7,
    };
    let kind = EventKind::RunStarted { header: Box::new(header) };
    Event { seq: 1, at: Timestamp::from_millis(1), kind }
});

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.flag() { events(input.rest()) } else { file(input.rest()) }
}

fn file(bytes: &[u8]) {
    let state = match read_state(bytes) {
        Ok(state) => state,
        Err(error) => return refused(bytes, &error),
    };
    assert_eq!(state.version, STATE_VERSION);
    same_again(&state);
}

fn refused(bytes: &[u8], error: &StoreError) {
    match error {
        StoreError::Newer { found, known, .. } => assert!(found > known, "{error}"),
        StoreError::Damaged { offset, detail, .. } => {
            assert!(*offset <= bytes.len() as u64 && !detail.is_empty(), "{error}");
        }
        _ => panic!("{error}"),
    }
    // Whatever else stands in it.
    let version = |value: Value| match value {
        Value::Object(object) if object.len() == 1 => object.get("version")?.as_u64(),
        _ => None,
    };
    if let Some(version) = serde_json::from_slice(bytes).ok().and_then(version)
        && u32::try_from(version).is_ok_and(|version| version > STATE_VERSION)
    {
        assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    }
}

fn same_again(state: &PublishedState<'_>) {
    let mut text = Vec::new();
    state.clone().write_to(&mut text).expect("a state is written");
    let again = read_state(&text).expect("what was written is read");
    assert_eq!(&again, state, "written and read");
}

/// A line is an event; its number is the one that is due, and so is its time where it has none.
fn events(bytes: &[u8]) {
    let mut state = RunState::begin(&BEGIN).expect("it begins");
    for (seq, line) in (2_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        let Ok(Value::Object(mut event)) = serde_json::from_slice(line) else { break };
        event.insert("seq".into(), json!(seq));
        event.entry("at").or_insert_with(|| json!("2026-01-05T12:00:00.000Z"));
        let Ok(event) = serde_json::from_value::<Event>(Value::Object(event)) else { break };
        let written = serde_json::to_string(&event).expect("an event is written");
        let again: Event = serde_json::from_str(&written).expect("what was written is read");
        assert_eq!(again, event, "written and read");
        let before = state.clone();
        if state.apply(&event).is_err() {
            assert_eq!(state, before, "an event that is refused changes nothing");
            break;
        }
        assert_eq!(state.seq, seq);
    }
    same_again(&PublishedState::from(&state));
}
