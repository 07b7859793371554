//! What the fuzz targets see of what a supervisor writes down.

use std::io;

use orch_model::{TaskId, Timestamp, outcome::AgentExit, ports::Purpose, state::Attempt};

use super::{Entry, Fact, Key, RECORD_VERSION, boot_id, encode, last_in};

fn key(task: &TaskId, attempt: Attempt) -> Key {
    Key { task: task.clone(), attempt, purpose: Purpose::Work }
}

/// The line of a start, or of an end.
///
/// # Errors
/// Where it can't be written as JSON.
pub fn line(task: &TaskId, attempt: Attempt, exit: Option<AgentExit>) -> io::Result<Vec<u8>> {
    let fact = exit.map_or(Fact::Started(None), Fact::Ended);
    let at = Timestamp::from_millis(1);
    let boot_id = boot_id().to_owned();
    encode(&Entry { v: RECORD_VERSION, at, boot_id, key: key(task, attempt), fact })
}

/// The last that the lines say of an attempt: `None` where they say nothing, `Some(None)` where it has not
/// ended.
#[must_use]
pub fn last(lines: &[u8], task: &TaskId, attempt: Attempt) -> Option<Option<AgentExit>> {
    last_in(lines, &key(task, attempt)).map(|fact| match fact {
        Fact::Started(_) => None,
        Fact::Ended(exit) => Some(exit),
    })
}
