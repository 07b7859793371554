//! Fakes and mocks of the ports, for tests of what is built on the engine.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use orch_exec::{model::plan::spec::{Isolation, PlanSpec, TaskSpec}, testing::{Step, TestEngine}};
//!
//! let mut task = TaskSpec::new("flaky".parse()?).run("never really run");
//! task.isolation = Some(Isolation::None);
//! task.retries = Some(1);
//!
//! let engine = TestEngine::new();
//! engine.runner.script("flaky", [Step::Exit(1), Step::Exit(0)]);
//! let run = engine.orchestrator().await?.start(PlanSpec::new().task(task).validate()?).await?;
//! let report = run.wait().await?;
//! assert_eq!((report.tasks[0].status.as_str(), report.tasks[0].attempts), ("merged", 2));
//! # Ok(())
//! # }
//! ```

pub mod contract;
mod engine;
mod mocks;
mod repository;
mod scripted;

pub use engine::TestEngine;
pub use mocks::{
    MockAgentRunner, MockLease, MockResourceLock, MockRunJournal, MockRunningAgent, MockStateStore,
    MockWorktree, MockWorktreeProvider,
};
pub use orch_state::{MemoryLocks, MemoryStore};
pub use repository::TempRepository;
pub use scripted::{ScriptedRunner, Step};
