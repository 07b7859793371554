//! What a supervisor writes down of each agent, so that its death loses no result: lines of JSON in
//! `supervisor.jsonl` beside the run's journal.
//!
//! A line is written by one call and so survives the death of the supervisor. It need not survive a
//! power cut: that ends the agents as well, and results that were taken are in the journal.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use orch_model::{Timestamp, event::AgentIdentity, outcome::AgentExit};
use serde::{Deserialize, Serialize};

use super::protocol::Key;
use crate::socket;

const NAME: &str = "supervisor.jsonl";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) key: Key,
    #[serde(flatten)]
    pub(super) fact: Fact,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fact {
    Started(Option<AgentIdentity>),
    Ended(AgentExit),
}

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Record(File);

impl Record {
    pub(super) fn open(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(NAME);
        // What a power cut tore must not swallow the next line.
        let torn = std::fs::read(&path).is_ok_and(|text| text.last().is_some_and(|b| *b != b'\n'));
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if torn {
            file.write_all(b"\n")?;
        }
        Ok(Self(file))
    }

    pub(super) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.write_all(&socket::line(entry)?)
    }
}

/// The last fact about an agent; `None` where none was written down. Lines that can't be read are
/// passed over.
pub(super) fn last(run_dir: &Path, key: &Key) -> io::Result<Option<Fact>> {
    let text = match std::fs::read(run_dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let entries = text.split(|byte| *byte == b'\n').rev();
    let mut entries = entries.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
    Ok(entries.find(|entry| entry.key == *key).map(|entry| entry.fact))
}
