//! From the bytes that an agent prints to [`AgentEvent`]s.
//!
//! A [`Parser`] is pure and works in bounded memory: it may be fed live, when an attempt is taken up
//! again, or by a fuzzer. The same bytes give the same events whatever the chunks that they come in.
//! It never fails: what it does not understand becomes [`AgentEvent::Unknown`].

use std::sync::Arc;

use orch_model::{
    Timestamp,
    outcome::{ExitStatus, Failure},
    plan::spec::{EventKind, EventRule},
};
use serde_json::Value;

use crate::event::{AgentEvent, ErrorClass, LONGEST_DETAIL, LONGEST_MESSAGE, Record, Unread, clip};

mod acp;
mod claude;
mod codex;
mod gemini;
mod lines;
mod mapped;
mod opencode;
mod value;

pub use lines::LONGEST_LINE;
use lines::{Line, Lines};

/// The language of a stream.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Dialect {
    /// `codex exec --json`.
    Codex,
    /// `claude -p --output-format stream-json --verbose`.
    Claude,
    /// `opencode run --format json`.
    Opencode,
    /// `gemini --output-format stream-json`.
    Gemini,
    /// What [`crate::acp`] prints.
    Acp,
    /// Lines of JSON whose meaning these rules tell.
    Mapped(Arc<[EventRule]>),
    /// Text without structure: nothing is told but the exit status.
    Plain,
}

impl Dialect {
    /// Whether a stream that went well ends with a word for that. Otherwise the exit status tells.
    #[must_use]
    pub fn tells_its_end(&self) -> bool {
        match self {
            Self::Mapped(rules) => rules.iter().any(|rule| rule.event == EventKind::Done),
            Self::Plain => false,
            _ => true,
        }
    }
}

/// Reads one agent's stream.
#[derive(Debug)]
pub struct Parser {
    lines: Lines,
    reader: Box<dyn Read>,
    seq: u64,
    unknown: Unknown,
}

/// How many lines that are not understood have an event of their own: a flood of text is not to be
/// written a second time.
const TOLD: u64 = 1000;

/// Lines that are not understood.
#[derive(Debug, Default)]
struct Unknown {
    lines: u64,
    /// The length of those that have no event.
    more: u64,
}

/// What knows one dialect.
trait Read: std::fmt::Debug + Send + Sync {
    /// Reads a line that is a JSON object. Gives whether it knows this kind of line.
    fn read(&mut self, line: &Value, to: &mut Sink<'_>) -> bool;

    /// Reads a line of text that is no JSON object. Gives whether it is understood.
    fn text(&mut self, _: &str, _: &mut Sink<'_>) -> bool {
        false
    }

    /// Whether text that is no JSON object is expected.
    fn is_text(&self) -> bool {
        false
    }
}

impl Parser {
    /// A parser at the beginning of a stream.
    #[must_use]
    pub fn new(dialect: &Dialect) -> Self {
        let reader: Box<dyn Read> = match dialect {
            Dialect::Codex => Box::<codex::Codex>::default(),
            Dialect::Claude => Box::<claude::Claude>::default(),
            Dialect::Opencode => Box::<opencode::Opencode>::default(),
            Dialect::Gemini => Box::<gemini::Gemini>::default(),
            Dialect::Acp => Box::<acp::Acp>::default(),
            Dialect::Mapped(rules) => Box::new(mapped::Mapped::new(Arc::clone(rules))),
            Dialect::Plain => Box::new(Plain),
        };
        Self { lines: Lines::default(), reader, seq: 0, unknown: Unknown::default() }
    }

    /// Takes bytes, and hands on the events of the lines that are complete with them. Spans that the
    /// agent tells, as in `retry after 5 s`, count from `now`.
    pub fn push(&mut self, bytes: &[u8], now: Timestamp, mut take: impl FnMut(Record)) {
        let Self { lines, reader, seq, unknown } = self;
        lines.push(bytes, |line| {
            let mut to = Sink { seq, at: None, now, take: &mut take };
            unknown.take(read(reader.as_mut(), &line, false, &mut to), &line, &mut to);
        });
    }

    /// Takes the end of the stream, and hands on the events of a last line without an end.
    pub fn finish(&mut self, now: Timestamp, mut take: impl FnMut(Record)) {
        let Self { lines, reader, seq, unknown } = self;
        lines.finish(|line| {
            let mut to = Sink { seq, at: None, now, take: &mut take };
            unknown.take(read(reader.as_mut(), &line, true, &mut to), &line, &mut to);
        });
        if unknown.lines > TOLD {
            let Unknown { lines, more: bytes } = std::mem::take(unknown);
            let mut to = Sink { seq, at: None, now, take: &mut take };
            to.tell(AgentEvent::MoreUnknown { lines: lines - TOLD, bytes });
        }
    }
}

impl Unknown {
    fn take(&mut self, why: Option<Unread>, line: &Line<'_>, to: &mut Sink<'_>) {
        let Some(why) = why else { return };
        self.lines += 1;
        if self.lines > TOLD {
            self.more += line.length;
            return;
        }
        to.at = None;
        let text = String::from_utf8_lossy(line.bytes);
        let text = clip(text.trim(), LONGEST_DETAIL);
        to.tell(AgentEvent::Unknown { why, text, bytes: line.length });
    }
}

/// Reads a line. Gives why it is not understood; `None` where it is.
fn read(
    reader: &mut dyn Read,
    line: &Line<'_>,
    is_last: bool,
    to: &mut Sink<'_>,
) -> Option<Unread> {
    if !line.is_whole() {
        return Some(Unread::Long);
    }
    let text = String::from_utf8_lossy(line.bytes);
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let value = text.starts_with('{').then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    match value {
        Some(value) => {
            to.at = value::time(&value);
            (!reader.read(&value, to)).then_some(Unread::Kind)
        }
        None if reader.is_text() || reader.text(text, to) => None,
        None if is_last && text.starts_with('{') => Some(Unread::Cut),
        None => Some(Unread::Text),
    }
}

/// Takes the events of one line.
struct Sink<'s> {
    seq: &'s mut u64,
    at: Option<Timestamp>,
    now: Timestamp,
    take: &'s mut dyn FnMut(Record),
}

impl Sink<'_> {
    fn tell(&mut self, event: AgentEvent) {
        *self.seq += 1;
        (self.take)(Record { seq: *self.seq, at: self.at, event });
    }

    fn message(&mut self, text: &str, thought: bool, delta: bool) {
        if !text.is_empty() {
            let text = clip(text, LONGEST_MESSAGE);
            self.tell(AgentEvent::Message { text, delta, thought });
        }
    }

    fn tool_call(&mut self, id: &str, name: &str, input: &Value) {
        let input = match input.get("command") {
            Some(Value::String(command)) => clip(command, LONGEST_DETAIL),
            _ => value::text(input),
        };
        let (id, name) = (short(id), short(name));
        self.tell(AgentEvent::ToolCall { id, name, input });
    }

    fn tool_result(&mut self, id: &str, ok: bool, exit_code: Option<i64>, output: &str) {
        let output = clip(output, LONGEST_DETAIL);
        self.tell(AgentEvent::ToolResult { id: short(id), ok, exit_code, output });
    }

    /// Tells of an error that this line ends the turn with.
    fn failed(&mut self, line: &Value, message: &str) {
        let known = orch_exec::classify::stream_end(line, ExitStatus::Code(0), self.now);
        self.error(known, message, false);
    }

    /// Tells of an error that the agent gets over by itself, or tries to, with the part of its message
    /// that tells why.
    fn retried(&mut self, why: &str, message: &str) {
        let known = orch_exec::classify::message(why, self.now);
        match known {
            Some(Failure::RateLimit { reset, .. }) => self.rate_limit(message, reset),
            known => self.error(known, message, true),
        }
    }

    fn rate_limit(&mut self, message: &str, reset: Option<Timestamp>) {
        let message = clip(message, LONGEST_DETAIL);
        self.tell(AgentEvent::RateLimit { message, reset });
    }

    fn error(&mut self, known: Option<Failure>, message: &str, retried: bool) {
        let class = known.as_ref().map_or(ErrorClass::Other, ErrorClass::of);
        let reset = known.as_ref().and_then(Failure::reset);
        let message = clip(message, LONGEST_DETAIL);
        self.tell(AgentEvent::Error { class, message, reset, retried });
    }

    fn waiting(&mut self, message: &str) {
        self.tell(AgentEvent::Waiting { message: clip(message, LONGEST_DETAIL) });
    }

    fn end(&mut self, success: bool, reason: &str) {
        self.tell(AgentEvent::End { success, reason: short(reason) });
    }
}

impl ErrorClass {
    fn of(failure: &Failure) -> Self {
        match failure {
            Failure::RateLimit { .. } => Self::RateLimit,
            Failure::Quota { .. } => Self::Quota,
            Failure::Authentication { .. } => Self::Authentication,
            Failure::Infrastructure { .. } => Self::Infrastructure,
            _ => Self::Other,
        }
    }
}

/// An id or a name: agents choose short ones.
fn short(text: &str) -> String {
    clip(text, 256)
}

/// Tells when the session of a stream that names it on each line is a new one.
#[derive(Debug, Default)]
struct SessionSeen(Option<String>);

impl SessionSeen {
    fn see(
        &mut self,
        id: Option<&str>,
        model: Option<&str>,
        version: Option<&str>,
        to: &mut Sink<'_>,
    ) {
        let Some(id) = id.filter(|id| !id.is_empty()).map(short) else { return };
        if self.0.as_ref() != Some(&id) {
            self.0 = Some(id.clone());
            let (model, version) = (model.map(short), version.map(short));
            to.tell(AgentEvent::Session { id, model, version });
        }
    }
}

/// Text without structure.
#[derive(Debug)]
struct Plain;

impl Read for Plain {
    fn read(&mut self, _: &Value, _: &mut Sink<'_>) -> bool {
        true
    }

    fn is_text(&self) -> bool {
        true
    }
}
