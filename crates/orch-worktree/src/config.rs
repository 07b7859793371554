//! Where the repository is and where worktrees go.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::{furnish::include::Include, kind::TreeKind};

/// How [`GitWorktrees`](crate::GitWorktrees) is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GitWorktreesConfig {
    /// Any folder inside the repository.
    pub repository: PathBuf,
    /// Where worktrees are made, as `<root>/<run>/<task>`; `None`: beside the repository, in
    /// `<repository>.worktrees`. A relative path counts from the top folder of the repository.
    pub root: Option<PathBuf>,
    /// How worktrees are made.
    pub trees: TreeConfig,
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
            trees: TreeConfig::default(),
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

    /// Makes worktrees in this way.
    #[must_use]
    pub fn trees(mut self, trees: TreeConfig) -> Self {
        self.trees = trees;
        self
    }

    /// Sets a variable for every git command.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// How worktrees are made, and what each of them gets besides the files of its commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TreeConfig {
    /// How they are made. Default: [`TreeKind::Auto`].
    pub kind: TreeKind,
    /// What is kept for [`TreeKind::Pool`].
    pub pool: PoolConfig,
    /// Files of the user's checkout that git ignores and that each of them gets, besides those that
    /// `.worktreeinclude` names. What the checkout has of them is looked up once.
    pub include: Vec<Include>,
    /// Whether submodules are checked out, from what the user's checkout has of them.
    pub submodules: bool,
    /// A command for `sh` that makes them ready.
    pub setup: Option<String>,
    /// Files, relative to the worktree, that the command depends on: where they are as they were when it
    /// last ran in that worktree, it is left out. Without any it always runs.
    pub setup_key: Vec<String>,
    /// Filters that the engine's git runs where attributes ask for them, such as `lfs`, with the commands
    /// that the user's own or the system's git configuration names; never with those of the
    /// repository's. Default: none, so that files of LFS stay pointers.
    pub trusted_filters: Vec<String>,
}

/// What is kept for [`TreeKind::Pool`] while no task uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// How many worktrees, at most. Default: 8.
    pub size: usize,
    /// How long one may lie idle. Default: a week.
    pub age: Duration,
    /// How much space they may take together, in bytes. Default: 50 GiB.
    pub disk: u64,
    /// Worktrees are not kept while less than so many bytes of the disk are free. Default: 2 GiB.
    pub free_floor: u64,
    /// Whether files that git ignores, such as build caches, are left for the next task. Default: yes.
    pub keep_ignored: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            size: 8,
            age: Duration::from_secs(7 * 24 * 60 * 60),
            disk: 50 << 30,
            free_floor: 2 << 30,
            keep_ignored: true,
        }
    }
}
