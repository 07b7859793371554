//! The provider on real repositories.

mod collecting;
mod concurrent;
mod files;
mod finishing;
mod furnishing;
mod hostile;
mod interleavings;
mod killed;
mod leftovers;
mod lifecycle;
mod merging;
mod opening;
mod power;
mod remotes;
mod resolving;
mod shared;
mod signing;
mod strategies;
mod support;
mod trust;
mod undoing;

const KIND: orch_worktree::TreeKind = orch_worktree::TreeKind::Worktree;
