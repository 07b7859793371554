//! The engine of orch: runs a plan of dependent tasks in parallel, each in its own git worktree,
//! under locks and limits, verified, then merged.
//!
//! ```no_run
//! # #[cfg(feature = "defaults")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use orch_exec::{ParallelOrchestrator, model::plan::spec::{PlanSpec, TaskSpec}};
//!
//! let plan = PlanSpec::new()
//!     .task(TaskSpec::new("schema".parse()?).run("make schema"))
//!     .task(TaskSpec::new("login".parse()?).run("make login").needs("schema".parse()?));
//! let engine = ParallelOrchestrator::builder(".").build().await?;
//! let report = engine.start(plan.validate()?).await?.wait().await?;
//! assert_eq!(report.tasks.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! The way of a task, and the modules that it leads through:
//!
//! ```text
//! plan -> graph -> schedule -> lease -> worktree -> agent -> verify -> merge -> record
//!                  scheduler   `------------- unit ---------------'           dispatcher
//! ```
//!
//! Everything that touches the world stands behind the four ports of [`orch_model::ports`]. With
//! the default feature `defaults` the stock parts fill them; without it the crate has neither git
//! nor files nor processes in it, and an embedder brings its own.
#![forbid(unsafe_code)]

pub mod backoff;
mod choosing;
pub mod classify;
pub mod config;
mod conflicts;
mod dispatcher;
mod error;
pub mod estimates;
mod events;
mod foresight;
pub mod internal;
mod merge_queue;
mod message;
mod orchestrator;
mod reconcile;
pub mod resources;
#[cfg(feature = "defaults")]
pub mod retention;
#[cfg(feature = "defaults")]
pub mod review;
pub mod scheduler;
pub mod time;
mod unit;

#[cfg(feature = "defaults")]
pub mod control;
#[cfg(feature = "defaults")]
pub mod defaults;
#[cfg(feature = "defaults")]
pub mod doctor;
#[cfg(feature = "process")]
pub mod logs;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "process")]
pub mod shim;
#[cfg(feature = "process")]
mod socket;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "defaults")]
pub mod workspace;

pub use config::EngineConfig;
pub use error::EngineError;
pub use events::EventStream;
pub use orch_model as model;
pub use orchestrator::{Builder, ParallelOrchestrator, Run};
