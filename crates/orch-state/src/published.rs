//! `parallel-state.json`: the state of the current run for people, editors and scripts.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use orch_model::{
    event::{Delivery, RunBase, RunSettings, Undone},
    id::RunId,
    ports::StoreError,
    run::{Breaker, RunState, Slowdown, TaskRun},
    state::RunStatus,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::disk;

/// The newest version of the format that is known, and the one that is written.
pub const STATE_VERSION: u32 = 1;

/// The state of a run as the file holds it: all that [`RunState`] tells except the plan's text.
///
/// The file is laid out for reading and for line-based tools: one task per line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublishedState<'a> {
    /// The version of the format, [`STATE_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// The process that runs it, or that ran it last.
    pub pid: u32,
    /// The number of the last event that is taken into account.
    pub seq: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When its last event happened.
    pub updated_at: Timestamp,
    /// The repository's top folder.
    pub repository: PathBuf,
    /// The target branch and where it stood at the beginning.
    pub base: Option<RunBase>,
    /// Where the results stand, once that is known.
    pub delivery: Option<Delivery>,
    /// What was taken back of them since, by `orch undo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
    /// The settings in force.
    pub settings: RunSettings,
    /// How many tasks may run at a time for now, where that is fewer than the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// When and why it was made fewer last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<Cow<'a, Slowdown>>,
    /// Kinds of agents that are not started for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakers: Option<Cow<'a, BTreeMap<String, Breaker>>>,
    /// How many tasks are in each state, by the name of the state; states without one are left out.
    pub counts: BTreeMap<Cow<'a, str>, usize>,
    /// The tasks, in plan order.
    pub tasks: Vec<PublishedTask<'a>>,
}

/// The state of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublishedTask<'a> {
    /// Its state and how it came there.
    #[serde(flatten)]
    pub task: Cow<'a, TaskRun>,
    /// What a person can do about its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'a, str>>,
    /// Its title, where the plan gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Cow<'a, str>>,
}

impl<'a> From<&'a RunState> for PublishedState<'a> {
    fn from(state: &'a RunState) -> Self {
        let mut counts = BTreeMap::new();
        for task in &state.tasks {
            *counts.entry(Cow::Borrowed(task.state.name())).or_default() += 1;
        }
        let tasks = state
            .tasks
            .iter()
            .zip(&state.header.plan.tasks)
            .map(|(task, spec)| PublishedTask {
                task: Cow::Borrowed(task),
                hint: task
                    .state
                    .failure()
                    .map(|failure| failure.policy().hint)
                    .filter(|hint| !hint.is_empty())
                    .map(Cow::Borrowed),
                title: spec.title.as_deref().map(Cow::Borrowed),
            })
            .collect();
        Self {
            version: STATE_VERSION,
            run: state.run().clone(),
            status: state.status,
            pid: state.pid,
            seq: state.seq,
            started_at: state.started_at,
            updated_at: state.updated_at,
            repository: state.header.repository.clone(),
            base: state.header.base.clone(),
            delivery: state.delivery.clone(),
            undone: state.undone.clone(),
            settings: state.header.settings.clone(),
            concurrency: state.concurrency,
            slowdown: state.concurrency.and(state.slowdown.as_ref()).map(Cow::Borrowed),
            breakers: Some(&state.breakers).filter(|all| !all.is_empty()).map(Cow::Borrowed),
            counts,
            tasks,
        }
    }
}

impl PublishedState<'_> {
    /// Writes the content of the file, task by task: the text as a whole is never in memory.
    ///
    /// # Errors
    /// Where a path in it is not UTF-8, which JSON can't hold, or writing fails.
    pub fn write_to(mut self, out: &mut dyn Write) -> io::Result<()> {
        const NO_TASKS: &[u8] = b"[]\n}";
        let tasks = std::mem::take(&mut self.tasks);
        let frame = serde_json::to_vec_pretty(&self)?;
        let Some(head) = frame.strip_suffix(NO_TASKS).filter(|_| !tasks.is_empty()) else {
            out.write_all(&frame)?;
            return out.write_all(b"\n");
        };
        out.write_all(head)?;
        let mut glue: &[u8] = b"[\n    ";
        for task in &tasks {
            out.write_all(glue)?;
            serde_json::to_writer(&mut *out, task)?;
            glue = b",\n    ";
        }
        out.write_all(b"\n  ]\n}\n")
    }
}

/// Where the state of a run is published while that run is the current one: the one whose journal
/// was created or opened last. Several runs may go on side by side, and there is one file.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// The published state.
    pub(crate) path: PathBuf,
    /// A file with the id of the current run.
    pub(crate) current: PathBuf,
    /// The folder of the run, where nobody else makes files.
    pub(crate) run_dir: PathBuf,
    /// The run.
    pub(crate) run: RunId,
}

impl Outlet {
    /// Makes the run the current one.
    pub(crate) fn claim(&self) -> Result<(), StoreError> {
        disk::replace(
            &self.current,
            &self.run_dir,
            |file| file.write_all(self.run.as_str().as_bytes()),
            || true,
        )
    }

    /// Publishes the state, unless another run has become the current one.
    pub(crate) fn write(&self, state: &RunState) -> Result<(), StoreError> {
        if !self.is_current() {
            return Ok(());
        }
        let write = |file: &mut dyn Write| PublishedState::from(state).write_to(file);
        // Asked again at the end: writing takes a while, and another run may have begun.
        disk::replace(&self.path, &self.run_dir, write, || self.is_current())
    }

    fn is_current(&self) -> bool {
        current(&self.current).is_none_or(|run| run == self.run)
    }
}

/// The run that a file names as the current one.
pub(crate) fn current(path: &Path) -> Option<RunId> {
    orch_faults::step("published::current").ok()?;
    RunId::new(std::fs::read_to_string(path).ok()?.trim()).ok()
}

/// The number of the last event that the file at `path` tells of a run; 0 where it tells nothing.
pub(crate) fn last_event_of(path: &Path, run: &RunId) -> u64 {
    #[derive(Deserialize)]
    struct Brief {
        version: u32,
        run: RunId,
        seq: u64,
    }
    orch_faults::step("published::read").ok();
    let brief = std::fs::read(path).ok().and_then(|b| serde_json::from_slice::<Brief>(&b).ok());
    brief.filter(|b| b.version <= STATE_VERSION && b.run == *run).map_or(0, |brief| brief.seq)
}

/// Reads the content of the file at `path`.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<PublishedState<'static>, StoreError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |error: serde_json::Error| StoreError::Damaged {
        path: path.into(),
        offset: offset(bytes, error.line(), error.column()),
        detail: error.to_string(),
    };
    let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version == 0 {
        let detail = "there was no version 0".into();
        return Err(StoreError::Damaged { path: path.into(), offset: 0, detail });
    }
    if version > STATE_VERSION {
        return Err(StoreError::Newer { path: path.into(), found: version, known: STATE_VERSION });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// The byte at a line and column, both from 1.
fn offset(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    (before + column.saturating_sub(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn state() -> RunState {
        RunState::replay(&sample::events("r1")).unwrap().unwrap()
    }

    #[test]
    fn the_file_tells_all_and_has_a_line_per_task() {
        let state = state();
        let mut text = Vec::new();
        PublishedState::from(&state).write_to(&mut text).unwrap();
        let read = read(Path::new("x"), &text).unwrap();
        assert_eq!(read, PublishedState::from(&state));
        assert_eq!(read.counts, BTreeMap::from([("merged".into(), 1), ("skipped".into(), 1)]));

        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("{\n  \"version\": 1,\n  \"run\": \"r1\",\n"), "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("\"state\":")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(r#"{"id":"a","state":"merged""#), "{text}");
        assert!(lines[0].contains(r#""title":"The first""#), "{text}");
        assert!(!text.contains("make it so"), "the plan's text is not repeated: {text}");
        assert!(text.ends_with("\n  ]\n}\n"), "{text}");
    }

    #[test]
    fn a_run_without_tasks_is_a_file_too() {
        let mut state = state();
        state.tasks.clear();
        let mut text = Vec::new();
        PublishedState::from(&state).write_to(&mut text).unwrap();
        assert_eq!(read(Path::new("x"), &text).unwrap().tasks, []);
    }

    #[test]
    fn newer_and_damaged_files_are_refused() {
        let path = Path::new("state.json");
        let error = read(path, br#"{"version": 9, "unknown": true}"#).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 9, known: STATE_VERSION, .. }));
        let error = read(path, b"{\n  \"version\": x}").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { offset: 15, .. }), "{error}");
        let error = read(path, br#"{"version": 1}"#).unwrap_err();
        assert!(error.to_string().contains("missing field"), "{error}");
    }
}
