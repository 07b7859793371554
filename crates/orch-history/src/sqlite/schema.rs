//! The tables, and the version that they have.

use rusqlite::{Connection, TransactionBehavior};

/// The version of the tables, `PRAGMA user_version`. Versions after it only add columns and tables, so that
/// this one can read theirs.
pub const SCHEMA_VERSION: i64 = 1;

/// `orch` in ASCII, by which `file` and others know whose database it is.
const APPLICATION: i64 = 0x6f72_6368;

/// Times are milliseconds since 1970 in UTC, lengths milliseconds, money millionths of a US dollar. What
/// an agent used is `NULL` where nobody says.
const TABLES: &str = "
CREATE TABLE runs (
    run TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    undone INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    merged INTEGER NOT NULL,
    unsuccessful INTEGER NOT NULL,
    agent_ms INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_micro_usd INTEGER NOT NULL,
    unpriced_tokens INTEGER NOT NULL,
    journal_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL REFERENCES runs (run),
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    part TEXT NOT NULL,
    agent TEXT,
    kind TEXT NOT NULL,
    model TEXT,
    domain TEXT NOT NULL,
    status TEXT NOT NULL,
    class TEXT,
    charged INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    agent_ms INTEGER,
    messages INTEGER NOT NULL,
    tool_calls INTEGER NOT NULL,
    session TEXT,
    input_tokens INTEGER,
    cached_input_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    cost_micro_usd INTEGER,
    unpriced_tokens INTEGER,
    seen INTEGER NOT NULL DEFAULT 1,
    UNIQUE (run, task, attempt, part)
) STRICT;
CREATE INDEX sessions_by_time ON sessions (began_at);
CREATE INDEX sessions_by_task ON sessions (task, began_at);
";

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// What a connection does not keep in the file.
pub(super) const SETTINGS: &str = "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;";

/// Makes the tables, where this is a new file.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // Readers and a writer don't wait for one another. A file system without shared memory has another
    // kind, which is as safe.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let make = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    // Another process may have been first.
    if version(&make)? == 0 {
        make.execute_batch(TABLES)?;
        make.pragma_update(None, "application_id", APPLICATION)?;
        make.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    make.commit()
}
