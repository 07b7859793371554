//! What coding agents print.
//!
//! Nothing is refused. In what pieces a stream comes makes no difference; events are numbered without gaps
//! and can be written and read again; one that is cut says the same up to there; what is no JSON object is kept as
//! it is, or counted, in each language that has no text of its own.

use std::sync::{Arc, LazyLock};

use orch_agents::{
    AgentEvent, Dialect, Parser, Record, Summary, Totals, event::LONGEST_MESSAGE, event::Unread,
    judge,
};
use orch_model::{
    Timestamp,
    outcome::{AgentExit, ExitStatus},
    plan::spec::EventRule,
};
use serde_json::Value;

use crate::input::{Input, Sizes};

/// When the stream is read.
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// How many lines that are not understood have events of their own.
const TOLD: u64 = 1000;

/// A rule of each kind, for streams that a plan tells the meaning of.
const RULES: &str = r#"[
    {"when": {"/t": "hello"}, "event": "session", "take": {"id": "/id", "model": "/m"}},
    {"when": {"/t": "say"}, "event": "message", "take": {"text": "/text"}},
    {"when": {"/t": "tool", "/done": false}, "event": "tool_call", "take": {"id": "/id", "name": "/n", "input": "/in"}},
    {"when": {"/t": "tool", "/done": true}, "event": "tool_result", "take": {"id": "/id", "exit_code": "/code", "output": "/out", "ok": "/ok"}},
    {"when": {"/t": "file"}, "event": "file_change", "take": {"path": "/path"}},
    {"when": {"/t": "cost"}, "event": "usage", "take": {"fresh_input": "/in", "cached": "/c", "output": "/out", "reasoning": "/r", "cost": "/usd"}},
    {"when": {"/t": "sum"}, "event": "usage_so_far", "take": {"input": "/in", "cached": "/c", "output": "/out", "cost": "/usd"}},
    {"when": {"/t": "slow", "/code": 429}, "event": "rate_limit", "take": {"message": "/why", "retry_after": "/wait"}},
    {"when": {"/t": "ask"}, "event": "waiting", "take": {"message": "/what"}},
    {"when": {"/t": "bad"}, "event": "error", "take": {"message": "/why"}},
    {"when": {"/t": "bye", "/ok": true}, "event": "done"},
    {"when": {"/t": "bye", "/ok": false}, "event": "failed", "take": {"message": "/why", "status": "/code"}}
]"#;

static DIALECTS: LazyLock<[Dialect; 7]> = LazyLock::new(|| {
    let rules: Vec<EventRule> = serde_json::from_str(RULES).expect("they are rules");
    [
        Dialect::Codex,
        Dialect::Claude,
        Dialect::Opencode,
        Dialect::Gemini,
        Dialect::Acp,
        Dialect::Mapped(Arc::from(rules)),
        Dialect::Plain,
    ]
});

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let dialect = &DIALECTS[input.below(DIALECTS.len())];
    let exit = i32::from(input.flag());
    let sizes = input.sizes();
    let cut = input.clone().place(usize::from(u16::MAX));
    let text = input.rest();

    let records = read(dialect, Sizes([0; 4]), text);
    assert_eq!(read(dialect, sizes, text), records, "in pieces of {sizes:?}");
    let mut summary = Summary::default();
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.seq, at as u64 + 1);
        let line = serde_json::to_string(record).expect("an event is written");
        let again: Record = serde_json::from_str(&line).expect("what was written is read");
        assert_eq!(&again, record, "written and read");
        summary.take(record);
    }
    assert!(summary.text.len() <= LONGEST_MESSAGE + 64, "{} bytes", summary.text.len());
    let verdict =
        judge(dialect, &summary, &AgentExit::new(ExitStatus::Code(exit)), &Totals::default(), NOW);
    let is_cut = dialect.tells_its_end() && summary.end.is_none();
    assert!(verdict.failure.is_some() || !is_cut, "a stream that is cut off is no success");

    check_unknown(dialect, text, &records);

    let cut = cut % (text.len() + 1);
    let whole_lines = text[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let before = read(dialect, Sizes([0; 4]), &text[..whole_lines]);
    let told =
        before.iter().filter(|record| !matches!(record.event, AgentEvent::MoreUnknown { .. }));
    assert!(told.clone().eq(records.iter().take(told.count())), "cut at {cut}");
}

fn read(dialect: &Dialect, sizes: Sizes, text: &[u8]) -> Vec<Record> {
    let (mut parser, mut records) = (Parser::new(dialect), Vec::new());
    for piece in sizes.pieces(text) {
        parser.push(piece, NOW, |record| records.push(record));
    }
    parser.finish(NOW, |record| records.push(record));
    records
}

/// Looks for each line that is no JSON object among what was not understood.
fn check_unknown(dialect: &Dialect, text: &[u8], records: &[Record]) {
    let (mut kept, mut objects, mut more) = (Vec::new(), 0, (0, 0));
    for record in records {
        match &record.event {
            AgentEvent::Unknown { why: Unread::Kind, .. } => objects += 1,
            AgentEvent::Unknown { bytes, .. } => kept.push(*bytes),
            AgentEvent::MoreUnknown { lines, bytes } => more = (*lines, *bytes),
            _ => {}
        }
    }
    let told = (kept.len() + objects) as u64;
    assert!(told <= TOLD && (more.0 == 0 || told == TOLD), "{told} and {more:?}");
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.retain(|line| {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        let is_object = || text.starts_with('{') && serde_json::from_str::<Value>(text).is_ok();
        !text.is_empty() && !is_object()
    });
    let lengths: Vec<u64> = lines.iter().map(|line| line.len() as u64).collect();
    match dialect {
        Dialect::Plain => assert_eq!((kept.len(), objects, more), (0, 0, (0, 0))),
        Dialect::Codex | Dialect::Gemini => assert!(kept.len() <= lines.len()),
        _ if more.0 == 0 => assert_eq!(kept, lengths),
        _ => {
            assert_eq!(kept, lengths[..kept.len()]);
            let (rest, bytes) =
                (lengths.len() - kept.len(), lengths[kept.len()..].iter().sum::<u64>());
            assert!(more.0 >= rest as u64 && more.1 >= bytes, "{more:?}");
        }
    }
}
