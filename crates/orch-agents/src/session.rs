//! Sessions: which one each attempt worked in, so that the next one, or a person, can continue it.
//!
//! Kept as `<state>/runs/<run>/sessions/<task>.<attempt>.json`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orch_faults::point;
use orch_model::{
    RunId, TaskId,
    plan::spec::{AgentKind, EventRule},
    ports::Purpose,
    state::Attempt,
};
use serde::{Deserialize, Serialize};

use crate::{adapter, home::PrivateHome, stream::Dialect, verdict::Totals};

/// The version of the files.
pub const SESSIONS_VERSION: u32 = 1;

/// An attempt of an agent, and the session that it worked in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The version of the format.
    pub v: u32,
    /// What kind of agent it is.
    pub kind: AgentKind,
    /// The program with what stands in front of its arguments.
    pub program: Vec<String>,
    /// What the lines of its output say, where the plan tells that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRule>,
    /// The model that it was told to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The session, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The attempt that began the session, whose home this is.
    pub began: Attempt,
    /// The folder that it works in.
    pub directory: PathBuf,
    /// The variables of its private home, and others that it was called with; none that is secret.
    pub env: std::collections::BTreeMap<String, String>,
    /// What the session had used before the attempt.
    #[serde(default)]
    pub earlier: Totals,
    /// What it had used after it.
    #[serde(default)]
    pub totals: Totals,
    /// The attempt did something in the session, so that it can be continued.
    #[serde(default)]
    pub is_begun: bool,
}

/// Where the sessions and homes of a run are.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The folder of a run.
    #[must_use]
    pub fn new(state_dir: &Path, run: &RunId) -> Self {
        Self(state_dir.join("runs").join(run.as_str()))
    }

    /// The home of the agent of the attempt that began a session, and the folder for what is temporary
    /// of an attempt that works in it.
    #[must_use]
    pub fn home(&self, task: &TaskId, began: Attempt, attempt: Attempt) -> PrivateHome {
        PrivateHome::new(
            self.0.join("homes").join(format!("{task}.{began}")),
            self.0.join("tmp").join(format!("{task}.{attempt}")),
        )
    }

    /// The home of an agent that does something else for an attempt than its work.
    #[must_use]
    pub(crate) fn home_of(&self, name: &str) -> PrivateHome {
        PrivateHome::new(self.0.join("homes").join(name), self.0.join("tmp").join(name))
    }

    /// Reads what is kept of an attempt; `None` where there is nothing.
    ///
    /// # Errors
    /// Where the file can't be read or is of a newer version.
    pub fn read(&self, task: &TaskId, attempt: Attempt) -> io::Result<Option<SessionRecord>> {
        self.read_of(&Purpose::Work.name(task, attempt))
    }

    /// The same of what an agent did for an attempt besides its work.
    ///
    /// # Errors
    /// As [`RunFolder::read`].
    pub fn read_for(
        &self,
        task: &TaskId,
        attempt: Attempt,
        purpose: Purpose,
    ) -> io::Result<Option<SessionRecord>> {
        self.read_of(&purpose.name(task, attempt))
    }

    /// The file with the events of what an agent did for an attempt, see [`crate::event`]. It may not be
    /// there.
    #[must_use]
    pub fn events(&self, task: &TaskId, attempt: Attempt, purpose: Purpose) -> PathBuf {
        self.0.join("logs").join(format!("{}.events.jsonl", purpose.name(task, attempt)))
    }

    pub(crate) fn read_of(&self, name: &str) -> io::Result<Option<SessionRecord>> {
        let path = self.0.join("sessions").join(format!("{name}.json"));
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let record: SessionRecord = serde_json::from_slice(&text)?;
        if record.v > SESSIONS_VERSION {
            let message = format!("{} is of a newer version of orch", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Some(record))
    }

    /// Writes what is to be kept of an attempt, as a whole.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&self, task: &TaskId, attempt: Attempt, record: &SessionRecord) -> io::Result<()> {
        self.write_of(&Purpose::Work.name(task, attempt), record)
    }

    pub(crate) fn write_of(&self, name: &str, record: &SessionRecord) -> io::Result<()> {
        let path = self.0.join("sessions").join(format!("{name}.json"));
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let new = path.with_extension("json~");
        let text = serde_json::to_vec_pretty(record)?;
        point!("session::write", fs::write(&new, text))?;
        point!("session::rename", fs::rename(new, path))
    }

    /// The last attempt of a task that has a session.
    ///
    /// # Errors
    /// Where the folder or a file can't be read.
    pub fn last(&self, task: &TaskId) -> io::Result<Option<(Attempt, SessionRecord)>> {
        let entries = match fs::read_dir(self.0.join("sessions")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut attempts: Vec<Attempt> = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let attempt: Option<Attempt> = name
                .to_str()
                .and_then(|name| name.strip_prefix(task.as_str())?.strip_prefix('.'))
                .and_then(|rest| rest.strip_suffix(".json")?.parse().ok());
            attempts.extend(attempt);
        }
        attempts.sort_unstable_by_key(|attempt| std::cmp::Reverse(*attempt));
        for attempt in attempts {
            if let Some(record) =
                self.read(task, attempt)?.filter(|record| record.session.is_some())
            {
                return Ok(Some((attempt, record)));
            }
        }
        Ok(None)
    }
}

impl SessionRecord {
    /// The language of its output.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match adapter::of(self.kind) {
            Some(adapter) => adapter.dialect(),
            None if self.events.is_empty() => Dialect::Plain,
            None => Dialect::Mapped(self.events.clone().into()),
        }
    }

    /// A line for a shell that lets a person continue the session; `None` where that is not possible.
    #[must_use]
    pub fn attach(&self) -> Option<String> {
        let session = self.session.as_ref()?;
        let args = adapter::of(self.kind)?.attach(session)?;
        let quoted = |text: &str| quote(text);
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let command = self.program.iter().chain(&args).map(|word| quoted(word));
        let line: Vec<String> =
            std::iter::once("env".to_owned()).chain(env).chain(command).collect();
        Some(format!("cd {} && {}", quoted(&self.directory.to_string_lossy()), line.join(" ")))
    }
}

/// A word as a shell takes it.
fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> SessionRecord {
        SessionRecord {
            v: SESSIONS_VERSION,
            kind: AgentKind::Codex,
            program: vec!["/opt/my codex".into()],
            events: Vec::new(),
            model: None,
            session: Some("01a1".into()),
            began: 1,
            directory: "/w/it's".into(),
            env: [("HOME".to_owned(), "/h".to_owned())].into(),
            earlier: Totals::default(),
            totals: Totals::default(),
            is_begun: true,
        }
    }

    #[test]
    fn the_last_attempt_with_a_session_is_found() {
        let state = tempfile::tempdir().unwrap();
        let (run, task) = (RunId::new("r").unwrap(), TaskId::new("a").unwrap());
        let folder = RunFolder::new(state.path(), &run);
        assert_eq!(folder.last(&task).unwrap(), None);
        let unnamed = SessionRecord { session: None, ..record() };
        for (name, attempt, record) in
            [("a", 2, &record()), ("a", 10, &record()), ("a", 11, &unnamed), ("a.b", 30, &record())]
        {
            folder.write(&TaskId::new(name).unwrap(), attempt, record).unwrap();
        }
        assert_eq!(folder.last(&task).unwrap(), Some((10, record())));
        assert_eq!(folder.read(&task, 11).unwrap(), Some(unnamed));
        assert_eq!(folder.read(&task, 3).unwrap(), None);
        let newer = SessionRecord { v: SESSIONS_VERSION + 1, ..record() };
        folder.write(&task, 12, &newer).unwrap();
        assert!(folder.last(&task).unwrap_err().to_string().contains("newer version"));
    }

    #[test]
    fn a_person_is_told_how_to_go_on() {
        let line = r"cd '/w/it'\''s' && env HOME=/h '/opt/my codex' resume 01a1";
        assert_eq!(record().attach().as_deref(), Some(line));
        assert_eq!(SessionRecord { session: None, ..record() }.attach(), None);
        assert_eq!(SessionRecord { kind: AgentKind::Command, ..record() }.attach(), None);
    }
}
