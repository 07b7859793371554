//! What is kept of earlier agents: their last words, and what verifications printed.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use orch_exec::logs;
use orch_model::{
    RunId, TaskId,
    ports::Purpose,
    prompt::{LONGEST_MESSAGE, PromptContext},
    state::Attempt,
};

use crate::{
    event::{Record, clip},
    summary::Summary,
};

/// How much of the output of a verification is told, in bytes.
const TAIL: u64 = 4 << 10;

/// How much of the events of an attempt is read to find its last message, in bytes.
const EVENTS: u64 = 256 << 10;

/// The logs of a run, from which what the engine does not know is added to what an agent can be told.
#[derive(Debug, Clone)]
pub struct Recall {
    state_dir: PathBuf,
}

impl Recall {
    /// The logs below `<state_dir>/runs/`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into() }
    }

    /// Adds the last words of the agents of other tasks and of the attempt before, and what its
    /// verification printed. What can't be read is left out.
    pub fn fill(&self, context: &mut PromptContext) {
        let (run, task) = (context.run.clone(), context.task.clone());
        for needed in context.dependencies.iter_mut().filter(|needed| needed.attempt > 0) {
            needed.summary = self.last_words(&run, &needed.task, needed.attempt);
        }
        if let Some(last) = &mut context.last {
            last.said = self.last_words(&run, &task, last.attempt);
            last.verification = self.verification(&run, &task, last.attempt);
        }
    }

    /// The last message of an attempt's agent.
    fn last_words(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<String> {
        let name = format!("{task}.{attempt}.events.jsonl");
        let events = end_of(&logs::folder(&self.state_dir, run).join(name), EVENTS).ok()?;
        let mut summary = Summary::default();
        for line in events.lines() {
            // The header, and a first line that is cut, are none.
            if let Ok(record) = serde_json::from_str::<Record>(line) {
                summary.take(&record);
            }
        }
        let text = summary.text.trim();
        (!text.is_empty()).then(|| clip(text, LONGEST_MESSAGE))
    }

    /// The end of what the verification of an attempt printed.
    fn verification(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<String> {
        let files = logs::files(&self.state_dir, run, task).ok()?;
        let of_last = files.into_iter().rev().find(|file| {
            file.attempt == attempt
                && !matches!(file.purpose, Purpose::Work | Purpose::Resolve { .. })
        })?;
        end_of(&of_last.path, TAIL).ok().filter(|text| !text.trim().is_empty())
    }
}

/// The end of a file as text.
fn end_of(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}
