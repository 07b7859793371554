//! What a supervisor writes down of each agent, so that its death loses no result: lines of JSON in
//! `supervisor.jsonl` beside the run's journal.
//!
//! Each line ends with a checksum (CRC-32, IEEE 802.3, of what stands before it): a line that says
//! of a failed agent that it succeeded would be worse than none.
//!
//! A line is written by one call and so survives the death of the supervisor. It counts until the machine is
//! started again: after a power cut the journal may have lost that the attempt was begun at all, and the disk
//! what its agent wrote. Results that were taken by then are in the journal.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use orch_faults::planted;
use orch_model::{Timestamp, event::AgentIdentity, outcome::AgentExit};
use serde::{Deserialize, Serialize};

use super::protocol::Key;
use crate::process::identity::boot_id;

const NAME: &str = "supervisor.jsonl";

/// The newest version of a line that is known, and the one that is written.
pub(super) const RECORD_VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) v: u32,
    pub(super) at: Timestamp,
    /// Names the time from one start of the machine to the next.
    #[serde(default)]
    pub(super) boot_id: String,
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
        orch_faults::write_all("supervisor::record.write", &mut self.0, &encode(entry)?)
    }
}

/// What stands between a line and its checksum.
const CHECK: &str = ",\"check\":";

fn encode(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_string(entry)?;
    line.pop();
    let check = crc32fast::hash(line.as_bytes());
    Ok(format!("{line}{CHECK}{check}}}\n").into_bytes())
}

/// `None` for what is no line of this version, whole and undamaged.
fn decode(line: &[u8]) -> Option<Entry> {
    let (text, check) = str::from_utf8(line).ok()?.rsplit_once(CHECK)?;
    if check.strip_suffix('}')?.parse() != Ok(crc32fast::hash(text.as_bytes())) {
        return None;
    }
    let entry: Entry = serde_json::from_str(&format!("{text}}}")).ok()?;
    (entry.v == RECORD_VERSION).then_some(entry)
}

/// The last fact about an agent since the machine was started; `None` where none was written down. Lines that
/// can't be read, or that a newer version wrote, are passed over: their attempts are repeated.
pub(super) fn last(run_dir: &Path, key: &Key) -> io::Result<Option<Fact>> {
    let text = match std::fs::read(run_dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Ok(last_in(&text, key))
}

fn last_in(text: &[u8], key: &Key) -> Option<Fact> {
    let mut entries = text.split(|byte| *byte == b'\n').rev().filter_map(decode);
    let is_it = |entry: &Entry| {
        let is_of_this_boot = entry.boot_id == boot_id() || planted("record-of-earlier-boot");
        entry.key == *key && is_of_this_boot
    };
    entries.find(is_it).map(|entry| entry.fact)
}

#[cfg(feature = "fuzz")]
pub mod fuzz;

#[cfg(test)]
mod tests {
    use orch_model::{TaskId, outcome::ExitStatus, ports::Purpose};

    use super::*;

    fn entry(code: i32) -> Entry {
        let key = Key { task: TaskId::new("a").unwrap(), attempt: 1, purpose: Purpose::Work };
        let fact = Fact::Ended(AgentExit::new(ExitStatus::Code(code)));
        let boot_id = boot_id().to_owned();
        Entry { v: RECORD_VERSION, at: Timestamp::from_millis(7), boot_id, key, fact }
    }

    #[test]
    fn a_line_is_json_and_no_flipped_bit_goes_unseen() {
        let line = encode(&entry(0)).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&json["v"], &json["key"]["task"]), (&1.into(), &"a".into()));
        let whole = line.trim_ascii_end();
        assert_eq!(decode(whole).unwrap().key, entry(0).key);
        for at in 0..whole.len() {
            assert!(decode(&whole[..at]).is_none(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(decode(&flipped).is_none(), "byte {at}, bit {bit}");
            }
        }
        let newer = encode(&Entry { v: 2, ..entry(0) }).unwrap();
        assert!(decode(newer.trim_ascii_end()).is_none());
    }

    #[test]
    fn the_last_line_that_can_be_read_counts() {
        let dir = tempfile::tempdir().unwrap();
        let key = entry(0).key;
        assert!(last(dir.path(), &key).unwrap().is_none());
        std::fs::write(dir.path().join(NAME), "half a li").unwrap();
        let mut record = Record::open(dir.path()).unwrap();
        record.write(&entry(1)).unwrap();
        record.write(&entry(0)).unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join(NAME))
            .and_then(|mut file| file.write_all(b"{\"v\":1,"))
            .unwrap();
        let Some(Fact::Ended(exit)) = last(dir.path(), &key).unwrap() else { panic!("it ended") };
        assert_eq!(exit.status, ExitStatus::Code(0));
    }

    #[test]
    fn what_was_written_before_the_machine_was_started_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path()).unwrap();
        record.write(&Entry { boot_id: "earlier".into(), ..entry(0) }).unwrap();
        assert!(last(dir.path(), &entry(0).key).unwrap().is_none());
    }
}
