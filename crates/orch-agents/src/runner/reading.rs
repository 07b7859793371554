//! The output of an agent, read as it grows: what it comes to, and its events beside it.
//!
//! Until the agent has ended, its log only grows, so what was read holds. Where the log has reached its cap,
//! what follows is not seen before the end: its last part is added to it then, and read like the rest.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use orch_faults::point;
use orch_model::{TaskId, Timestamp, ports::AgentNotice, state::Attempt, usage::Usage};

use crate::{
    adapter,
    event::{AgentEvent, EVENTS_VERSION, Header, Record},
    prices::{self, Prices},
    session::SessionRecord,
    stream::{Dialect, Parser},
    summary::{Limited, Summary},
    verdict,
};

/// How much is read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// How old something is at most that is told as news.
const NEWS: Duration = Duration::from_secs(10);

/// How long an agent that is at work may wait for a limit, once: it loses nothing by that.
const SHORT_LIMIT: Duration = Duration::from_secs(60);

/// What an attempt printed, as far as it was read.
#[derive(Debug)]
pub(super) struct Reading {
    output: PathBuf,
    record: SessionRecord,
    prices: Arc<Prices>,
    dialect: Dialect,
    parser: Parser,
    summary: Summary,
    events: Events,
    /// How far the output was read.
    offset: u64,
    told: Told,
    is_over: bool,
}

/// What was told already.
#[derive(Debug, Default)]
struct Told {
    usage: Option<Usage>,
    held_up: Option<String>,
    /// How many limits it has met.
    limits: u64,
    /// How many of these it was left to wait for.
    waits: u32,
    /// The service has answered it, since the last limit.
    answered: bool,
}

/// What is new.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) notices: Vec<AgentNotice>,
    /// It waits for a limit, which is nothing that it should hold its place for.
    pub(super) is_limited: bool,
    /// There will be no more.
    pub(super) is_over: bool,
}

impl Reading {
    /// The output of an attempt, of which nothing was read.
    pub(super) fn new(
        output: PathBuf,
        task: &TaskId,
        attempt: Attempt,
        record: SessionRecord,
        prices: Arc<Prices>,
    ) -> Self {
        let dialect = record.dialect();
        let header =
            Header { v: EVENTS_VERSION, kind: record.kind, task: task.to_string(), attempt };
        Self {
            parser: Parser::new(&dialect),
            summary: Summary::default(),
            events: Events::new(&output, header),
            offset: 0,
            told: Told::default(),
            is_over: false,
            output,
            record,
            prices,
            dialect,
        }
    }

    /// Reads what is new.
    pub(super) fn go_on(&mut self) -> News {
        if self.is_over {
            return News { is_over: true, ..News::default() };
        }
        let (mut answers, mut last) = (0, None);
        let read = self.read(&mut |event, at| {
            answers += u32::from(is_answer(event));
            last = Some(at);
        });
        if let Err(error) = read {
            tracing::debug!(%error, output = %self.output.display(), "can't be read yet");
        }
        self.events.write();
        let now = now();
        let is_news = last.is_some_and(|at| now.since(at) < NEWS);
        self.news(answers > 0, is_news, now)
    }

    /// Reads what is left and gives what all of it comes to, with the moment of the last byte. One without
    /// output has said nothing.
    pub(super) fn finish(&mut self, task: &TaskId) -> (Summary, Timestamp) {
        let ended = changed(&self.output);
        if !std::mem::replace(&mut self.is_over, true) && self.output.is_file() {
            let length = fs::metadata(&self.output).map_or(0, |found| found.len());
            if length < self.offset {
                // That is another file.
                let header = self.events.header.clone();
                self.parser = Parser::new(&self.dialect);
                (self.summary, self.offset) = (Summary::default(), 0);
                self.events = Events::new(&self.output, header);
            }
            let read = self.read(&mut |_, _| {});
            let Self { parser, summary, events, .. } = self;
            parser.finish(ended, |record| {
                summary.take(&record);
                events.take(&record);
            });
            events.write();
            if let Err(error) = read.and(events.error.take().map_or(Ok(()), Err)) {
                tracing::warn!(%task, %error, "its events can't be kept");
            }
        }
        (self.summary.clone(), ended)
    }

    /// Reads to the end of what is there. Spans that the agent tells count from the moment at which the file
    /// was changed last: an orchestrator that takes the agent up reads late.
    fn read(&mut self, seen: &mut dyn FnMut(&AgentEvent, Timestamp)) -> io::Result<()> {
        let mut file = File::open(&self.output)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let at = file.metadata()?.modified().map_or_else(|_| now(), timestamp).min(now());
            let length = file.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            self.offset += length as u64;
            let Self { parser, summary, events, .. } = self;
            parser.push(&chunk[..length], at, |record| {
                summary.take(&record);
                events.take(&record);
                seen(&record.event, at);
            });
            if events.lines.len() > CHUNK {
                events.write();
            }
        }
    }

    fn news(&mut self, is_answered: bool, is_news: bool, now: Timestamp) -> News {
        let (mut news, told, summary) = (News::default(), &mut self.told, &self.summary);
        let (used, earlier) = (&summary.used, &self.record.earlier);
        let (tokens, cost) = (verdict::tokens(used, earlier), verdict::cost(used, earlier));
        let model = summary.model.as_deref().or(self.record.model.as_deref());
        let usage = prices::usage(tokens, cost, model, &self.prices);
        if let Some(usage) = usage.filter(|usage| told.usage.as_ref() != Some(usage)) {
            told.usage = Some(usage);
            news.notices.push(AgentNotice::Used(usage));
        }
        if told.held_up != summary.held_up {
            told.held_up.clone_from(&summary.held_up);
            news.notices.push(AgentNotice::Waiting(summary.held_up.clone()));
        }
        let is_new_limit = summary.rate_limits > told.limits;
        told.limits = summary.rate_limits;
        match &summary.limited {
            Some(Limited { message, reset }) if is_new_limit => {
                told.answered = false;
                // One that is over is none.
                if reset.map_or(is_news, |reset| reset > now) {
                    let (reset, message) = (*reset, message.clone());
                    news.notices.push(AgentNotice::RateLimited { reset, message });
                    let is_short = reset.is_some_and(|reset| reset.since(now) <= SHORT_LIMIT);
                    told.waits += 1;
                    let may_wait = summary.tool_calls > 0 && is_short && told.waits == 1;
                    let goes_on =
                        adapter::of(self.record.kind).is_some_and(|adapter| adapter.can_continue());
                    news.is_limited = goes_on && !may_wait;
                }
            }
            None if is_answered && is_news && !told.answered => {
                told.answered = true;
                news.notices.push(AgentNotice::Answered);
            }
            _ => {}
        }
        news
    }
}

/// Whether a model has answered, by an event that no error is told by.
const fn is_answer(event: &AgentEvent) -> bool {
    match event {
        AgentEvent::ToolCall { .. } => true,
        AgentEvent::Usage { tokens: Some(tokens), .. } => tokens.output > 0,
        _ => false,
    }
}

/// The file with the events of an attempt: whole lines, which become more. One of an earlier orchestrator is
/// replaced once all that it may have had is there again.
#[derive(Debug)]
struct Events {
    path: PathBuf,
    header: Header,
    /// What is to be written.
    lines: Vec<u8>,
    is_begun: bool,
    error: Option<io::Error>,
}

impl Events {
    fn new(output: &Path, header: Header) -> Self {
        let path = output.with_extension("events.jsonl");
        let mut events =
            Self { path, header: header.clone(), lines: Vec::new(), is_begun: false, error: None };
        events.line(&header);
        events
    }

    fn take(&mut self, record: &Record) {
        self.line(record);
    }

    fn line(&mut self, line: &impl serde::Serialize) {
        if self.error.is_none() {
            let written = serde_json::to_writer(&mut self.lines, line);
            self.error = written.err().map(io::Error::from);
            self.lines.push(b'\n');
        }
    }

    /// Writes the lines that there are.
    fn write(&mut self) {
        if self.error.is_none() && !self.lines.is_empty() {
            self.error = self.append().err();
        }
        self.lines.clear();
        self.lines.shrink_to(CHUNK);
    }

    fn append(&mut self) -> io::Result<()> {
        if self.is_begun {
            let mut file = File::options().append(true).open(&self.path)?;
            return point!("agent_events::append", file.write_all(&self.lines));
        }
        let new = self.path.with_extension("jsonl~");
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        point!("agent_events::write", fs::write(&new, &self.lines))?;
        point!("agent_events::rename", fs::rename(new, &self.path))?;
        self.is_begun = true;
        Ok(())
    }
}

/// When a file was changed last.
fn changed(path: &Path) -> Timestamp {
    let changed = fs::metadata(path).and_then(|found| found.modified());
    changed.map_or_else(|_| now(), timestamp).min(now())
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn now() -> Timestamp {
    timestamp(SystemTime::now())
}
