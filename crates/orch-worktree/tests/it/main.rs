//! The provider on real repositories.

mod collecting;
mod concurrent;
mod finishing;
mod furnishing;
mod hostile;
mod killed;
mod leftovers;
mod lifecycle;
mod merging;
mod opening;
mod power;
mod shared;
mod support;
mod trust;

const KIND: orch_worktree::TreeKind = orch_worktree::TreeKind::Worktree;
