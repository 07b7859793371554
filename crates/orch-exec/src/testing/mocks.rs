//! Mocks of the ports, by `mockall`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use mockall::mock;
use orch_model::{
    CommitId, Event, RunId, RunState,
    event::{AgentIdentity, Delivery, Place, RunBase},
    outcome::{AgentExit, ExitStatus},
    ports::{
        Acquired, AdoptRequest, Adopted, AgentRequest, AgentRunner, BeginRun, CommitMessage,
        EventReader, GcItem, GcRequest, Lease, LockError, LockRequest, MergeOutcome, MergeRequest,
        ModelChoice, ModelRequest, ModelSelector, Release, ResourceLock, RunJournal, RunSummary,
        RunnerError, RunningAgent, Sealed, Stack, StateStore, StoreError, Worktree, WorktreeError,
        WorktreeProvider, WorktreeRequest,
    },
};

mock! {
    #[derive(Debug)]
    pub AgentRunner {}
    #[async_trait]
    impl AgentRunner for AgentRunner {
        fn name(&self) -> &str;
        async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError>;
        async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError>;
    }
}

mock! {
    #[derive(Debug)]
    pub RunningAgent {}
    #[async_trait]
    impl RunningAgent for RunningAgent {
        fn identity(&self) -> Option<AgentIdentity>;
        async fn wait(&self) -> Result<AgentExit, RunnerError>;
        async fn stop(&self, grace: Duration) -> Result<(), RunnerError>;
        async fn freeze(&self) -> Result<(), RunnerError>;
        async fn thaw(&self) -> Result<(), RunnerError>;
    }
}

impl MockRunningAgent {
    /// An agent that exited with this code.
    #[must_use]
    pub fn that_ended(code: i32) -> Self {
        let mut agent = Self::new();
        agent.expect_identity().return_const(None);
        agent.expect_wait().returning(move || Ok(AgentExit::new(ExitStatus::Code(code))));
        agent.expect_stop().returning(|_| Ok(()));
        agent
    }
}

mock! {
    #[derive(Debug)]
    pub ModelSelector {}
    impl ModelSelector for ModelSelector {
        fn name(&self) -> &str;
        fn select<'a>(&self, request: &ModelRequest<'a>) -> Option<ModelChoice>;
    }
}

mock! {
    #[derive(Debug)]
    pub WorktreeProvider {}
    #[async_trait]
    impl WorktreeProvider for WorktreeProvider {
        fn name(&self) -> &str;
        fn repository(&self) -> &Path;
        async fn begin(&self, request: BeginRun) -> Result<RunBase, WorktreeError>;
        async fn acquire(&self, request: WorktreeRequest) -> Result<Box<dyn Worktree>, WorktreeError>;
        async fn reopen(
            &self,
            request: WorktreeRequest,
            place: &Place,
        ) -> Result<Option<Box<dyn Worktree>>, WorktreeError>;
        async fn merge(&self, request: MergeRequest) -> Result<MergeOutcome, WorktreeError>;
        async fn stack(
            &self,
            run: &RunId,
            requests: &[MergeRequest],
        ) -> Result<Stack, WorktreeError>;
        async fn checkout(&self, run: &RunId, commit: &CommitId) -> Result<PathBuf, WorktreeError>;
        async fn advance(
            &self,
            run: &RunId,
            base: &CommitId,
            commit: &CommitId,
        ) -> Result<bool, WorktreeError>;
        async fn finish(&self, run: &RunId) -> Result<Delivery, WorktreeError>;
        async fn gc(&self, request: GcRequest) -> Result<Vec<GcItem>, WorktreeError>;
    }
}

mock! {
    #[derive(Debug)]
    pub Worktree {}
    #[async_trait]
    impl Worktree for Worktree {
        fn path(&self) -> &Path;
        fn branch(&self) -> &str;
        fn base(&self) -> &CommitId;
        async fn seal(&self, message: &CommitMessage) -> Result<Sealed, WorktreeError>;
        async fn release(self: Box<Self>, release: Release) -> Result<(), WorktreeError>;
    }
}

mock! {
    #[derive(Debug)]
    pub StateStore {}
    #[async_trait]
    impl StateStore for StateStore {
        fn name(&self) -> &str;
        async fn create(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError>;
        async fn open(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError>;
        async fn read(&self, run: &RunId, from: u64) -> Result<Box<dyn EventReader>, StoreError>;
        async fn current(&self) -> Result<Option<RunId>, StoreError>;
        async fn list(&self) -> Result<Vec<RunSummary>, StoreError>;
    }
}

mock! {
    #[derive(Debug)]
    pub RunJournal {}
    #[async_trait]
    impl RunJournal for RunJournal {
        async fn append(&self, events: &[Event]) -> Result<(), StoreError>;
        async fn sync(&self) -> Result<u64, StoreError>;
        async fn publish(&self, state: Arc<RunState>) -> Result<(), StoreError>;
    }
}

mock! {
    #[derive(Debug)]
    pub ResourceLock {}
    #[async_trait]
    impl ResourceLock for ResourceLock {
        fn name(&self) -> &str;
        async fn try_acquire(&self, request: LockRequest) -> Result<Acquired, LockError>;
        async fn released(&self, request: &LockRequest) -> Result<(), LockError>;
    }
}

mock! {
    #[derive(Debug)]
    pub Lease {}
    #[async_trait]
    impl Lease for Lease {
        fn fence(&self) -> u64;
        fn env(&self) -> &BTreeMap<String, String>;
        async fn bind(&self, process: &AgentIdentity) -> Result<(), LockError>;
        async fn keep(self: Box<Self>, processes: Vec<AgentIdentity>) -> Result<(), LockError>;
        async fn release(self: Box<Self>) -> Result<(), LockError>;
    }
}
