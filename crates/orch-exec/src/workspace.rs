//! Where a repository and its records are.

use std::path::{Path, PathBuf};

/// The top folder of the repository that `start` lies in; `start` itself outside of one.
#[must_use]
pub fn find(start: &Path) -> PathBuf {
    let start = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    let start = start.canonicalize().unwrap_or(start);
    start.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&start).to_owned()
}

/// The folder in which the runs of a repository are recorded.
#[must_use]
pub fn state_dir(top: &Path) -> PathBuf {
    top.join(".orch")
}
