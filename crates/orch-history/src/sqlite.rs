//! A history in a SQLite database: one file, for many processes at once.
//!
//! The file is derived data. So a write is not synced (`synchronous = NORMAL`: a power cut may take the
//! last ones, never the file's order), and a file that is damaged is moved aside and made anew.

mod rows;
mod schema;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orch_model::{RunId, TaskId};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, named_params, params};

use crate::{
    error::HistoryError,
    history::{History, RunEntry, SessionQuery},
    session::Session,
};

pub use schema::SCHEMA_VERSION;

/// How long a process waits for another one that writes. A write takes some milliseconds.
const BUSY: Duration = Duration::from_secs(10);

/// A file up to this size is checked as a whole when it is opened, in bytes: that takes under a second.
const CHECKED: u64 = 32 << 20;

/// A history in a file.
#[derive(Debug)]
pub struct SqliteHistory {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// The version of the schema, where it is newer than what is known.
    newer: Option<i64>,
}

impl SqliteHistory {
    /// Opens the history in a file, or makes it; the folder must be there. One of a newer version is only
    /// read.
    ///
    /// # Errors
    /// [`HistoryError::Damaged`] where the file is no database or a damaged one; where it can't be opened.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let error = |error| failed(path, "opening the history", error);
        let connection = Connection::open(path).map_err(error)?;
        connection.busy_timeout(BUSY).map_err(error)?;
        let found = schema::version(&connection).map_err(error)?;
        if found > SCHEMA_VERSION {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
                .map_err(error)?;
            connection.busy_timeout(BUSY).map_err(error)?;
            return Ok(Self {
                path: path.into(),
                connection: Mutex::new(connection),
                newer: Some(found),
            });
        }
        if found < SCHEMA_VERSION {
            // One process at a time makes the tables: who changes the kind of journal waits for nobody.
            let mut gate = gate(path)?;
            let _gate = gate.write().map_err(|source| moving(path, source))?;
            schema::prepare(&connection).map_err(error)?;
        }
        connection.execute_batch(schema::SETTINGS).map_err(error)?;
        let history = Self { path: path.into(), connection: Mutex::new(connection), newer: None };
        if fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED) {
            history.check()?;
        }
        Ok(history)
    }

    /// The same; a file that is damaged is moved aside first, and a new one made. The second value says
    /// where the damaged one is.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn open_or_replace(path: &Path) -> Result<(Self, Option<PathBuf>), HistoryError> {
        match Self::open(path) {
            Err(HistoryError::Damaged { .. }) => {}
            opened => return Ok((opened?, None)),
        }
        // Of several processes that find it damaged one moves it; the others find a new one then.
        Self::replace(path)
    }

    /// Checks a file as a whole; where it is damaged, moves it aside and makes a new one.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn replace(path: &Path) -> Result<(Self, Option<PathBuf>), HistoryError> {
        let io = |source| moving(path, source);
        let aside = {
            let mut gate = gate(path)?;
            let _gate = gate.write().map_err(io)?;
            let is_damaged = Connection::open(path)
                .and_then(|found| found.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))
                .map_or_else(|error| is_damage(&error), |answer: String| answer != "ok");
            is_damaged.then(|| move_aside(path)).transpose().map_err(io)?
        };
        Ok((Self::open(path)?, aside))
    }

    /// The version of the file, where that is newer than [`SCHEMA_VERSION`].
    #[must_use]
    pub const fn newer(&self) -> Option<i64> {
        self.newer
    }

    /// Checks the whole file.
    ///
    /// # Errors
    /// [`HistoryError::Damaged`] where something is wrong with it.
    pub fn check(&self) -> Result<(), HistoryError> {
        let connection = self.connection();
        let answer: Result<String, _> =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        match answer {
            Ok(answer) if answer == "ok" => Ok(()),
            Ok(message) => Err(HistoryError::Damaged { path: self.path.clone(), message }),
            Err(error) => Err(self.failed("checking the history", error)),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic left is rolled back when it is dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str, error: rusqlite::Error) -> HistoryError {
        failed(&self.path, doing, error)
    }

    fn reading(&self, error: rusqlite::Error) -> HistoryError {
        match self.newer {
            Some(found) => {
                tracing::debug!(%error, "a history of a newer version can't be read");
                HistoryError::Newer { path: self.path.clone(), found, known: SCHEMA_VERSION }
            }
            None => self.failed("reading the history", error),
        }
    }

    fn write(
        connection: &mut Connection,
        run: &RunEntry,
        sessions: &[Session],
    ) -> rusqlite::Result<bool> {
        // Takes the lock at once: one that reads first and then finds another writer can't wait.
        let write = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known: Option<i64> = write
            .prepare_cached("SELECT journal_bytes FROM runs WHERE run = ?1")?
            .query_map([run.run.as_str()], |row| row.get(0))?
            .next()
            .transpose()?;
        if known.is_some_and(|known| known > rows::number(run.journal_bytes)) {
            return Ok(false);
        }
        rows::put_run(&write, run)?;
        // What was there and is not told any more goes; what is keeps its number.
        write.execute("UPDATE sessions SET seen = 0 WHERE run = ?1", [run.run.as_str()])?;
        for session in sessions {
            rows::put_session(&write, session)?;
        }
        write.execute("DELETE FROM sessions WHERE run = ?1 AND seen = 0", [run.run.as_str()])?;
        write.commit()?;
        Ok(true)
    }

    fn read_progress(&self) -> rusqlite::Result<BTreeMap<RunId, u64>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached("SELECT run, journal_bytes FROM runs")?;
        let rows = select.query_map([], |row| {
            Ok((rows::parsed(row, "run")?, rows::unsigned(row, "journal_bytes")?))
        })?;
        rows.collect()
    }

    fn read_runs(&self, limit: usize) -> rusqlite::Result<Vec<RunEntry>> {
        let connection = self.connection();
        let mut select = connection
            .prepare_cached("SELECT * FROM runs ORDER BY started_at DESC, run LIMIT ?1")?;
        let rows = select.query_map(params![rows::number(limit as u64)], rows::run)?;
        rows.collect()
    }

    fn read_sessions(&self, query: &SessionQuery) -> rusqlite::Result<Vec<(u64, Session)>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(
            "SELECT * FROM sessions
             WHERE (:run IS NULL OR run = :run) AND (:task IS NULL OR task = :task)
               AND (:agent IS NULL OR agent = :agent OR kind = :agent)
             ORDER BY began_at DESC, number DESC LIMIT :limit",
        )?;
        let rows = select.query_map(
            named_params! {
                ":run": query.run.as_ref().map(RunId::as_str),
                ":task": query.task.as_ref().map(TaskId::as_str),
                ":agent": query.agent,
                ":limit": rows::number(query.limit as u64),
            },
            rows::session,
        )?;
        rows.collect()
    }
}

/// The file whose lock is held by who makes a new history, or moves one aside.
fn gate(path: &Path) -> Result<fd_lock::RwLock<File>, HistoryError> {
    let file = File::create(path.with_extension("lock")).map_err(|source| moving(path, source))?;
    Ok(fd_lock::RwLock::new(file))
}

fn moving(path: &Path, source: io::Error) -> HistoryError {
    HistoryError::Io { doing: format!("making {} anew", path.display()), source }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Moves a database and what belongs to it aside, to the first free name.
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let named = |number: u32| path.with_extension(format!("db.damaged-{number}"));
    let free = (1..).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(0));
    for suffix in ["-wal", "-shm"] {
        let with = |base: &Path| {
            let mut name = base.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        match fs::rename(with(path), with(&free)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &free)?;
    Ok(free)
}

fn failed(path: &Path, doing: &str, error: rusqlite::Error) -> HistoryError {
    if is_damage(&error) {
        return HistoryError::Damaged { path: path.into(), message: error.to_string() };
    }
    let doing = format!("{doing} {}", path.display());
    HistoryError::Database { doing, source: error.into() }
}

impl History for SqliteHistory {
    fn name(&self) -> &str {
        "sqlite"
    }

    fn record(&self, run: &RunEntry, sessions: &[Session]) -> Result<bool, HistoryError> {
        if let Some(found) = self.newer {
            let (path, known) = (self.path.clone(), SCHEMA_VERSION);
            return Err(HistoryError::Newer { path, found, known });
        }
        Self::write(&mut self.connection(), run, sessions)
            .map_err(|error| self.failed("writing to the history", error))
    }

    fn taken_in(&self) -> Result<BTreeMap<RunId, u64>, HistoryError> {
        self.read_progress().map_err(|error| self.reading(error))
    }

    fn runs(&self, limit: usize) -> Result<Vec<RunEntry>, HistoryError> {
        self.read_runs(limit).map_err(|error| self.reading(error))
    }

    fn sessions(&self, query: &SessionQuery) -> Result<Vec<(u64, Session)>, HistoryError> {
        self.read_sessions(query).map_err(|error| self.reading(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{run, session};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        (dir, path)
    }

    #[test]
    fn what_was_recorded_is_there_again() {
        let (_dir, path) = folder();
        SqliteHistory::open(&path).unwrap().record(&run("r", 1), &[session("r", "a", 1)]).unwrap();
        let again = SqliteHistory::open(&path).unwrap();
        assert_eq!(again.sessions(&SessionQuery::default()).unwrap().len(), 1);
        assert_eq!(again.newer(), None);
    }

    #[test]
    fn numbers_of_any_size_are_kept_as_far_as_they_go() {
        let (_dir, path) = folder();
        let history = SqliteHistory::open(&path).unwrap();
        let mut entry = run("r", 1);
        entry.usage.input_tokens = u64::MAX;
        history.record(&entry, &[]).unwrap();
        assert_eq!(history.runs(1).unwrap()[0].usage.input_tokens, i64::MAX as u64);
    }

    #[test]
    fn a_newer_one_is_read_and_never_written() {
        let (_dir, path) = folder();
        SqliteHistory::open(&path).unwrap().record(&run("r", 1), &[session("r", "a", 1)]).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("ALTER TABLE sessions ADD COLUMN mood TEXT; PRAGMA user_version = 99")
            .unwrap();
        drop(connection);
        let history = SqliteHistory::open(&path).unwrap();
        assert_eq!(history.newer(), Some(99));
        assert_eq!(history.sessions(&SessionQuery::default()).unwrap().len(), 1);
        let error = history.record(&run("r", 2), &[]).unwrap_err();
        assert!(matches!(error, HistoryError::Newer { found: 99, .. }), "{error}");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("DROP TABLE sessions").unwrap();
        let error = history.sessions(&SessionQuery::default()).unwrap_err();
        assert!(error.to_string().contains("use a newer orch"), "{error}");
    }

    #[test]
    fn a_damaged_one_is_moved_aside() {
        let (dir, path) = folder();
        fs::write(&path, "this is no database, and long enough to be looked at\n".repeat(40))
            .unwrap();
        assert!(matches!(SqliteHistory::open(&path), Err(HistoryError::Damaged { .. })));
        let (history, aside) = SqliteHistory::open_or_replace(&path).unwrap();
        assert_eq!(aside, Some(dir.path().join("history.db.damaged-1")));
        assert!(fs::read_to_string(aside.unwrap()).unwrap().starts_with("this is no database"));
        history.record(&run("r", 1), &[]).unwrap();
        drop(history);
        // A page in the middle of one that was good.
        let history = SqliteHistory::open(&path).unwrap();
        let sessions: Vec<_> = (1..2_000).map(|n| session("r", "a", n)).collect();
        history.record(&run("r", 2), &sessions).unwrap();
        drop(history);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8192].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let (history, aside) = SqliteHistory::open_or_replace(&path).unwrap();
        assert_eq!(aside, Some(dir.path().join("history.db.damaged-2")));
        assert!(history.taken_in().unwrap().is_empty(), "it is made anew from the journals");
        assert_eq!(SqliteHistory::open_or_replace(&path).unwrap().1, None);
    }

    #[test]
    fn many_write_at_once() {
        let (_dir, path) = folder();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let history = SqliteHistory::open(path).unwrap();
                    for round in 0..25 {
                        let own = format!("w{writer}-{round}");
                        history.record(&run(&own, 1), &[session(&own, "a", 1)]).unwrap();
                        // All of them record this one.
                        history
                            .record(&run("shared", round), &[session("shared", "a", 1)])
                            .unwrap();
                    }
                });
            }
        });
        let history = SqliteHistory::open(&path).unwrap();
        let found = history.sessions(&SessionQuery::default()).unwrap();
        assert_eq!(found.len(), 101);
        let numbers: std::collections::BTreeSet<u64> = found.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers.len(), 101);
        assert_eq!(history.taken_in().unwrap()[&run("shared", 0).run], 24);
    }
}
