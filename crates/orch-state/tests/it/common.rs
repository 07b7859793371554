//! What the tests of this crate share.

use std::path::{Path, PathBuf};

use orch_model::{
    event::{EVENT_VERSION, Event, EventKind, RunHeader, RunSettings, TaskChange},
    id::{RunId, TaskId},
    plan::spec::{PlanSpec, TaskSpec},
    ports::{StateStore, StoreError},
    state::{RunStatus, SkipReason},
    time::Timestamp,
};
use orch_state::FileStore;

/// A temporary folder with a store in it.
pub(crate) struct Workspace {
    dir: tempfile::TempDir,
    /// The store.
    pub(crate) store: FileStore,
}

impl Workspace {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path().join(".orch")).unwrap();
        Self { dir, store }
    }

    /// The folder above the store.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The file of a journal.
    pub(crate) fn journal(&self, name: &str) -> PathBuf {
        self.store.run_dir(&run(name)).join("journal")
    }

    /// All that the journal of a run holds.
    pub(crate) async fn read(&self, name: &str) -> Result<Vec<Event>, StoreError> {
        self.store.read(&run(name), 1).await?.rest().await
    }

    /// Makes a run of these events.
    pub(crate) async fn write(&self, name: &str, events: &[Event]) {
        let journal = self.store.create(&run(name)).await.unwrap();
        journal.append(events).await.unwrap();
    }
}

/// The id of a run.
pub(crate) fn run(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

/// A run of one task, which is skipped; `count` events in all.
pub(crate) fn events(name: &str, count: u64) -> Vec<Event> {
    let task = TaskId::new("only").unwrap();
    let header = RunHeader {
        run: run(name),
        version: EVENT_VERSION,
        plan: PlanSpec::new().task(TaskSpec::new(task.clone()).run("true")).into(),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: None,
        pid: 7,
    };
    let because = SkipReason::RunStopped { task: task.clone() };
    let kind = |seq| match seq {
        1 => EventKind::RunStarted { header: Box::new(header.clone()) },
        2 => EventKind::Task { task: task.clone(), change: TaskChange::Unblocked },
        3 => EventKind::Task {
            task: task.clone(),
            change: TaskChange::Skipped { because: because.clone() },
        },
        seq if seq == count => EventKind::RunEnded { status: RunStatus::Failed },
        seq => EventKind::Warning { task: None, message: format!("line {seq}") },
    };
    (1..=count).map(|seq| Event { seq, at: Timestamp::from_millis(seq), kind: kind(seq) }).collect()
}
