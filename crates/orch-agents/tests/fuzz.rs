//! Streams that no agent would print: they are read to their end, in bounded memory and time.

use orch_agents::{AgentEvent, Dialect, Parser, Record, Summary};
use orch_model::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NOW: Timestamp = Timestamp::from_millis(0);

const DIALECTS: [Dialect; 6] = [
    Dialect::Codex,
    Dialect::Claude,
    Dialect::Opencode,
    Dialect::Gemini,
    Dialect::Acp,
    Dialect::Plain,
];

/// Keys that the streams have.
const KEYS: &[&str] = &[
    "type",
    "subtype",
    "item",
    "part",
    "state",
    "status",
    "id",
    "session_id",
    "sessionID",
    "thread_id",
    "message",
    "content",
    "text",
    "role",
    "delta",
    "usage",
    "tokens",
    "input",
    "output",
    "cache",
    "read",
    "input_tokens",
    "output_tokens",
    "cost",
    "total_cost_usd",
    "reason",
    "error",
    "data",
    "result",
    "stats",
    "is_error",
    "permission_denials",
    "tool_use_id",
    "tool_id",
    "tool_name",
    "parameters",
    "file_path",
    "changes",
    "path",
    "kind",
    "method",
    "params",
    "update",
    "sessionUpdate",
    "toolCallId",
    "rawInput",
    "rawOutput",
    "stopReason",
    "timestamp",
    "retry_delay_ms",
    "error_status",
    "orch",
    "denied",
    "sessionId",
];

/// Values that mean something under some of them.
const WORDS: &[&str] = &[
    "system",
    "assistant",
    "user",
    "result",
    "init",
    "api_retry",
    "turn.completed",
    "turn.failed",
    "item.started",
    "item.completed",
    "agent_message",
    "command_execution",
    "file_change",
    "mcp_tool_call",
    "step_start",
    "step_finish",
    "tool_use",
    "tool_result",
    "text",
    "error",
    "message",
    "stop",
    "success",
    "completed",
    "failed",
    "in_progress",
    "write",
    "write_file",
    "session/update",
    "tool_call",
    "tool_call_update",
    "agent_message_chunk",
    "session/request_permission",
    "end_turn",
    "429",
    "",
    "2026-11-21T00:00:00Z",
    "::orch failure class=quota x",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => prop::sample::select(WORDS).prop_map(|word| json!(word)),
        1 => any::<String>().prop_map(Value::String),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => any::<u64>().prop_map(|number| json!(number)),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            3 => object(inner),
        ]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(KEYS), inner), 0..8).prop_map(|entries| {
        Value::Object(
            entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>(),
        )
    })
}

fn read(dialect: &Dialect, chunks: &[&[u8]]) -> (Vec<Record>, Summary) {
    let (mut parser, mut records, mut summary) =
        (Parser::new(dialect), Vec::new(), Summary::default());
    for chunk in chunks {
        parser.push(chunk, NOW, |record| records.push(record));
    }
    parser.finish(NOW, |record| records.push(record));
    records.iter().for_each(|record| summary.take(record));
    (records, summary)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_objects_are_read(lines in prop::collection::vec(object(value()), 1..12), cut in any::<prop::sample::Index>()) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (head, tail) = text.as_bytes().split_at(cut.index(text.len()));
        for dialect in &DIALECTS {
            let (records, summary) = read(dialect, &[text.as_bytes()]);
            prop_assert_eq!(&read(dialect, &[head, tail]).0, &records);
            for (at, record) in records.iter().enumerate() {
                prop_assert_eq!(record.seq, at as u64 + 1);
                let line = serde_json::to_string(record).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Record>(&line).unwrap(), record);
            }
            prop_assert!(summary.text.len() <= orch_agents::event::LONGEST_MESSAGE + 64);
        }
    }
}

#[test]
fn a_line_of_a_hundred_megabytes_is_counted_and_the_next_one_is_read() {
    let chunk = vec![b'\xff'; 1 << 20];
    let last = br#"{"type":"turn.completed"}"#;
    let mut chunks: Vec<&[u8]> = vec![br#"{"type":"error","message":""#];
    chunks.extend(std::iter::repeat_n(&*chunk, 100));
    chunks.extend([b"\"}\n".as_slice(), last]);
    let (records, summary) = read(&Dialect::Codex, &chunks);
    assert_eq!(records.len(), 2, "{records:?}");
    let AgentEvent::Unknown { text, bytes, .. } = &records[0].event else {
        panic!("{:?}", records[0])
    };
    assert_eq!(*bytes, (100 << 20) + 29);
    // A byte that is no text takes three as a sign for that.
    assert!(text.len() <= 3 * orch_agents::event::LONGEST_DETAIL, "{}", text.len());
    assert!(summary.end.is_some_and(|end| end.success));
}

#[test]
fn deep_and_wide_values_are_read() {
    for line in [
        "[".repeat(100_000),
        "{\"type\":".repeat(100_000),
        format!("{{\"type\":\"assistant\",\"message\":{}}}", "[".repeat(200) + &"]".repeat(200)),
        format!("{{\"type\":\"tool_use\",\"part\":[{}0]}}", "0,".repeat(500_000)),
    ] {
        for dialect in &DIALECTS {
            let (records, summary) = read(dialect, &[line.as_bytes(), b"\n"]);
            assert!(records.len() <= 3, "{dialect:?}");
            assert_eq!(summary.end, None);
        }
    }
}
