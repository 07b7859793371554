//! Where the repository is and where worktrees go.

use std::{ffi::OsString, path::PathBuf};

/// How [`GitWorktrees`](crate::GitWorktrees) is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GitWorktreesConfig {
    /// Any folder inside the repository.
    pub repository: PathBuf,
    /// Where worktrees are made, as `<root>/<run>/<task>`; `None`: beside the repository, in
    /// `<repository>.worktrees`. A relative path counts from the top folder of the repository.
    pub root: Option<PathBuf>,
    /// The git to run; by default the one that `PATH` finds.
    pub git: OsString,
    /// Variables that every git command gets in addition to those of this process.
    pub environment: Vec<(OsString, OsString)>,
}

impl GitWorktreesConfig {
    /// The defaults for a repository.
    #[must_use]
    pub fn new(repository: impl Into<PathBuf>) -> Self {
        Self {
            repository: repository.into(),
            root: None,
            git: "git".into(),
            environment: Vec::new(),
        }
    }

    /// Makes worktrees elsewhere.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Sets a variable for every git command.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}
