//! An engine without git, files and processes.

use std::sync::Arc;

use orch_model::Timestamp;
use orch_state::{MemoryLocks, MemoryStore};

use super::ScriptedRunner;
use crate::{EngineConfig, EngineError, ParallelOrchestrator, time::TokioClock};

/// The parts of an engine for plans whose tasks have `isolation = "none"`: nothing is started,
/// nothing is written, and time is tokio's.
#[derive(Debug, Clone)]
pub struct TestEngine {
    /// Its runner.
    pub runner: ScriptedRunner,
    /// Its store.
    pub store: MemoryStore,
    /// Its locks.
    pub locks: MemoryLocks,
    /// Its configuration; the seed is 1.
    pub config: EngineConfig,
}

impl Default for TestEngine {
    fn default() -> Self {
        let mut config = EngineConfig::default();
        config.defaults.seed = 1;
        Self {
            runner: ScriptedRunner::new(),
            store: MemoryStore::new(),
            locks: MemoryLocks::new(),
            config,
        }
    }
}

impl TestEngine {
    /// The parts of an engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An orchestrator made of these parts. Several of them share store and locks.
    ///
    /// # Errors
    /// Never; as [`crate::Builder::build`] has it.
    pub async fn orchestrator(&self) -> Result<ParallelOrchestrator, EngineError> {
        let clock = TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000));
        ParallelOrchestrator::builder("/nowhere")
            .config(self.config.clone())
            .runner(Arc::new(self.runner.clone()))
            .store(Arc::new(self.store.clone()))
            .locks(Arc::new(self.locks.clone()))
            .clock(Arc::new(clock))
            .build()
            .await
    }
}
