//! The provider on real repositories, with worktrees from the pool: the same tests, and its own.

#[path = "../it/collecting.rs"]
mod collecting;
#[path = "../it/concurrent.rs"]
mod concurrent;
#[path = "../it/finishing.rs"]
mod finishing;
#[path = "../it/furnishing.rs"]
mod furnishing;
#[path = "../it/hostile.rs"]
mod hostile;
#[path = "../it/killed.rs"]
mod killed;
#[path = "../it/leftovers.rs"]
mod leftovers;
mod lending;
#[path = "../it/lifecycle.rs"]
mod lifecycle;
#[path = "../it/merging.rs"]
mod merging;
#[path = "../it/power.rs"]
mod power;
#[path = "../it/shared.rs"]
mod shared;
#[path = "../it/support.rs"]
mod support;
#[path = "../it/trust.rs"]
mod trust;

const KIND: orch_worktree::TreeKind = orch_worktree::TreeKind::Pool;
