//! Why a history could not be used.

use std::path::PathBuf;

use orch_model::ports::StoreError;

/// Why a history could not be used. None of these stops a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// A newer version wrote the file: it is only read.
    #[error(
        "{} has version {found}, and this orch knows {known}: it is read and not written; use a newer orch",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// The file is no database, or a damaged one.
    #[error("{} is damaged ({message}); `orch history --rebuild` makes it anew from the journals", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        message: String,
    },
    /// The database failed.
    #[error("{doing}: {source}")]
    Database {
        /// What was done.
        doing: String,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file can't be read or written.
    #[error("{doing}: {source}")]
    Io {
        /// What was done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The runs can't be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
