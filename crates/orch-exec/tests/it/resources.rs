//! An engine on a machine that is short of something.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use orch_exec::{
    ParallelOrchestrator,
    model::{EventKind, RunStatus, progress::WaitReason},
    resources::{FreeSpace, Reading, Resources},
    testing::TestEngine,
};

use crate::common::{plan, soon, task};

/// A disk as full as a test wants it.
#[derive(Debug, Default)]
struct Disk {
    free: AtomicU64,
    looks: AtomicUsize,
}

#[async_trait::async_trait]
impl Resources for Disk {
    async fn look(&self) -> Reading {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let mut reading = Reading::default();
        let bytes = self.free.load(Ordering::Relaxed);
        reading.disk = Some(FreeSpace { path: "/data".into(), bytes });
        reading
    }
}

#[tokio::test(start_paused = true)]
async fn starts_wait_for_space_and_go_on_by_themselves() {
    let engine = TestEngine::new();
    let disk = Arc::new(Disk::default());
    let orchestrator = ParallelOrchestrator::builder("/nowhere")
        .runner(Arc::new(engine.runner.clone()))
        .store(Arc::new(engine.store.clone()))
        .locks(Arc::new(engine.locks.clone()))
        .resources(Arc::clone(&disk) as Arc<dyn Resources>)
        .build()
        .await
        .unwrap();
    let run = orchestrator.start(plan([task("a"), task("b")])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(engine.runner.started().is_empty());
    let progress = run.refresh_progress().await.unwrap();
    assert!(
        progress.waiting.iter().all(|task| matches!(task.reason, WaitReason::Shortage { .. })),
        "{progress:?}"
    );
    let looks = disk.looks.load(Ordering::Relaxed);
    assert!((58..=62).contains(&looks), "once a second: {looks}");
    disk.free.store(u64::MAX, Ordering::Relaxed);
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);

    let mut events = run.events();
    let mut told = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        match event.kind {
            EventKind::StartsHeld { .. } => told.push("held"),
            EventKind::StartsResumed => told.push("resumed"),
            EventKind::Task { .. } if told.last() != Some(&"task") => told.push("task"),
            _ => {}
        }
    }
    assert_eq!(told, ["held", "task", "resumed", "task"], "tasks are queued meanwhile");
}
