//! Reads what an agent did from the events of its attempt.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use orch_agents::{AgentEvent, Record};

/// The longest line that is read, in bytes: that of the longest message, with every byte of it escaped.
const LONGEST_LINE: usize = 512 << 10;

/// What an agent did, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) tool_calls: u64,
    pub(crate) session: Option<String>,
    pub(crate) model: Option<String>,
    /// The last message goes on.
    open: bool,
}

impl Counts {
    /// What stored events add up to; nothing where there are none.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut counts = Self::default();
        each(path, |record| counts.see(&record.event))?;
        Ok(counts)
    }

    fn see(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Session { id, model, .. } => {
                self.session = Some(id.clone());
                self.model = model.clone().or_else(|| self.model.take());
            }
            // Thoughts and remarks of the program stand between the parts of a message.
            AgentEvent::Message { thought: true, .. }
            | AgentEvent::Unknown { .. }
            | AgentEvent::MoreUnknown { .. } => return,
            AgentEvent::Message { delta, .. } => {
                self.messages += u64::from(!(*delta && self.open));
                self.open = *delta;
                return;
            }
            AgentEvent::ToolCall { .. } => self.tool_calls += 1,
            _ => {}
        }
        self.open = false;
    }
}

/// Hands the events of a file on, in order. What is not understood (a newer version wrote it, a crash cut
/// it off) is passed over; no file is no event.
pub(crate) fn each(path: &Path, mut take: impl FnMut(Record)) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LONGEST_LINE as u64;
        if lines.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() == LONGEST_LINE && line.last() != Some(&b'\n') {
            lines.skip_until(b'\n')?;
            continue;
        }
        if let Ok(record) = serde_json::from_slice(&line) {
            take(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_parts_are_one_and_what_is_not_understood_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.1.events.jsonl");
        assert_eq!(Counts::read(&path).unwrap(), Counts::default(), "no file is no event");
        let long =
            format!(r#"{{"seq":5,"event":"message","text":"{}"}}"#, "x".repeat(LONGEST_LINE));
        let lines = [
            r#"{"v":1,"kind":"codex","task":"a","attempt":1}"#,
            r#"{"seq":1,"event":"session","id":"s1","model":"m1"}"#,
            r#"{"seq":2,"event":"message","text":"one ","delta":true}"#,
            r#"{"seq":3,"event":"message","text":"hm","thought":true}"#,
            r#"{"seq":4,"event":"message","text":"message","delta":true}"#,
            &long,
            r#"{"seq":6,"event":"dance","how":"wildly"}"#,
            r#"{"seq":7,"event":"tool_call","id":"1","name":"shell","input":"ls"}"#,
            r#"{"seq":8,"event":"message","text":"two"}"#,
            r#"{"seq":9,"event":"message","te"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let counts = Counts::read(&path).unwrap();
        assert_eq!((counts.messages, counts.tool_calls), (2, 1));
        assert_eq!((counts.session.as_deref(), counts.model.as_deref()), (Some("s1"), Some("m1")));
    }
}
