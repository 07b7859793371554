//! Garbage.

use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// What garbage to look for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcRequest {
    /// Runs that are not to be touched: those that go on or can be resumed.
    pub live: Vec<RunId>,
    /// List only.
    pub dry_run: bool,
    /// Work that is nowhere else is moved to `refs/orch/preserved/`, so that its worktree and its branch
    /// can go; otherwise they are kept.
    pub preserve: bool,
}

/// A piece of garbage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcItem {
    /// What it is.
    pub kind: GcItemKind,
    /// Its path or reference.
    pub name: String,
    /// Why it is kept; `None` where it was (or would be) removed.
    pub kept: Option<String>,
    /// Whether what is only there was (or would be) moved to `refs/orch/preserved/`.
    #[serde(default)]
    pub preserved: bool,
    /// How much space it takes, in bytes, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a piece of garbage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GcItemKind {
    /// A worktree.
    Worktree,
    /// A branch.
    Branch,
    /// An empty folder.
    Folder,
    /// A worktree that is kept for later tasks, and one too many.
    Idle,
}
