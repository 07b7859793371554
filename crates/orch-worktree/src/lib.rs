//! Isolated git worktrees for tasks, and merges that lose nothing.
//!
//! [`GitWorktrees`] implements the port [`WorktreeProvider`](orch_model::ports::WorktreeProvider).
//! Each task works on a branch `orch/<run>/<task>` in a worktree outside the repository, made from
//! the tip of the run's results at that moment. The results are gathered on `orch/<run>/target`,
//! by merges on objects and references alone: the checkout of the user is not touched. At the end
//! the target branch is brought there, if that touches nobody's work.
//!
//! ```no_run
//! use orch_model::{RunId, TaskId, plan::spec::Strategy, ports::*};
//! use orch_worktree::{GitWorktrees, GitWorktreesConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = GitWorktrees::open(GitWorktreesConfig::new("path/to/repository")).await?;
//! let (run, task) = (RunId::new("r1")?, TaskId::new("login")?);
//! provider.begin(BeginRun { run: run.clone(), target: None, base: None }).await?;
//!
//! let request =
//!     WorktreeRequest { run: run.clone(), task: task.clone(), attempt: 1, shared_by: None };
//! let worktree = provider.acquire(request).await?;
//! std::fs::write(worktree.path().join("login.rs"), "fn login() {}\n")?;
//!
//! let message = CommitMessage::new("Login endpoint", run.clone(), task, 1);
//! if let Some(commit) = worktree.seal(&message).await?.tip {
//!     let branch = worktree.branch().to_owned();
//!     let strategy = Strategy::Squash;
//!     provider.merge(MergeRequest { commit, branch, message, strategy }).await?;
//! }
//! worktree.release(Release::Done).await?;
//! provider.finish(&run).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is kept in the repository
//! | where | what |
//! |---|---|
//! | `refs/heads/orch/<run>/<task>` | the work of a task, until it is merged |
//! | `refs/heads/orch/<run>/target` | the results, until they are in the target branch |
//! | `refs/orch/preserved/<run>/<task>/<attempt>` | the work of an attempt that was repeated |
//! | `refs/orch/<run>/kept/<task>/<n>` | what `orch keep` keeps of a task |
//! | `refs/orch/<run>/undone/<n>/target` | where the target stood before `orch undo`; `/<task>`: work that is no part of that |
//! | `refs/orch/preserved/<run>/<task>/merged` | the work of a task that is in the results as other commits |
//! | `refs/orch/runs/<run>/candidate` | what the merge queue verifies |
//! | `refs/orch/runs/<run>/{target,base,delivered}` | the target branch, or the remote-tracking one (symbolic), where it stood, and what was delivered to it; forgotten by `gc` |
//! | `<common git folder>/worktrees/<n>/orch-place` | under which path a worktree of the pool is lent |
//! | `<common git folder>/worktrees/<n>/orch-overlay` | the layers that a worktree is made of |
//! | `<common git folder>/orch-git/<n>/` | the common git folder as the engine's git sees it |
//! | `<common git folder>/orch-worktree.lock` | serialises the making and removing of worktrees |
//!
//! # What this relies on
//! - git 2.38 for `merge-tree --write-tree`. Only the module `git` starts processes.
//! - Git runs with settings of the engine's own, see the module `view`: hooks, filters, drivers and other
//!   programs that the repository's configuration names are not run. Filters of the user's own
//!   configuration are where they are trusted by name ([`TreeConfig::trusted_filters`]).
//! - A branch that is checked out nowhere is moved by its reference. Somebody who checks it out in
//!   the milliseconds between the look and the move sees the difference as changes of their own.
#![forbid(unsafe_code)]

mod acquire;
mod begin;
mod changes;
mod checkouts;
mod choose;
mod clear;
mod commit;
mod config;
mod conflict;
mod deliver;
mod durable;
mod entry;
mod error;
mod files;
mod filters;
mod furnish;
mod gc;
mod git;
mod inspect;
mod keep;
mod kind;
mod lock;
mod locks;
mod mend;
mod merge;
mod modules;
mod names;
mod overlay;
mod parse;
mod pool;
mod preserve;
mod provider;
mod remote;
mod remove;
mod repo;
mod resolution;
mod settings;
mod shape;
mod signing;
mod slot;
mod stack;
mod stash;
mod target;
mod tidy;
mod trash;
mod trust;
mod undo;
mod view;
mod work;

pub use changes::{Changes, DiffFormat, FileChange, WorkCommit};
pub use choose::TreeChoice;
pub use config::{GitWorktreesConfig, PoolConfig, TreeConfig};
pub use files::{ChangeResults, ResultFiles};
pub use furnish::include::{Include, IncludeMode};
pub use inspect::{FoundBranch, FoundWorktree, Inspection};
pub use keep::Kept;
pub use kind::TreeKind;
pub use locks::GitLock;
pub use names::resolution_folder;
pub use provider::GitWorktrees;
pub use undo::{Undo, UndoRequest};
pub use work::{Work, WorkQuery, WorkSource};
