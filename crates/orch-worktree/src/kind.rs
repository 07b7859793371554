//! How the folders of tasks are made.

use std::{fmt, str::FromStr};

/// How the folders of tasks are made. What a task sees is the same with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TreeKind {
    /// The quickest that works here: [`TreeKind::Worktree`] for a small repository, else
    /// [`TreeKind::Overlay`], else [`TreeKind::Pool`].
    #[default]
    Auto,
    /// A new worktree for each task.
    Worktree,
    /// Worktrees that are kept and used again, with the files that git ignores (build caches).
    Pool,
    /// A layer over one checkout that all tasks share. Needs Linux and the right to mount.
    Overlay,
}

impl TreeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Worktree, Self::Pool, Self::Overlay];

    /// The name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Worktree => "worktree",
            Self::Pool => "pool",
            Self::Overlay => "overlay",
        }
    }
}

impl fmt::Display for TreeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TreeKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is not one of auto, worktree, pool, overlay"))
    }
}
