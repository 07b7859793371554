//! Parts that fail, and parts that panic.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use orch_exec::{
    EngineError, ParallelOrchestrator,
    model::{
        RunState, RunStatus, Timestamp,
        plan::spec::{CommandLine, TaskSpec},
        ports::{
            Acquired, AdoptRequest, Adopted, AgentRequest, AgentRunner, LockError, RunnerError,
            RunningAgent, StateStore,
        },
    },
    testing::{MemoryStore, MockResourceLock, MockRunningAgent, Step, TestEngine},
    time::TokioClock,
};

use crate::common::{id, locked, plan, rest, soon, start, states, task};

/// Tasks that keep every part busy: locks, failures that are repeated, verifications, a long one.
fn busy() -> Vec<TaskSpec> {
    let mut flaky = locked("flaky", "db");
    flaky.retries = Some(1);
    let mut checked = task("checked").needs(id("flaky"));
    checked.verify = Some(vec![CommandLine::Shell("make check".into())]);
    vec![flaky, checked, task("long"), task("bad"), task("last").needs(id("checked"))]
}

fn busy_engine(store: MemoryStore) -> TestEngine {
    let engine = TestEngine { store, ..TestEngine::new() };
    engine.runner.script("flaky", [Step::Exit(1), Step::Exit(0)]);
    engine.runner.script("long", [Step::After(Duration::from_secs(2), 0)]);
    engine.runner.script("bad", [Step::After(Duration::from_secs(1), 1)]);
    engine.runner.script_verification("checked", [Step::After(Duration::from_millis(300), 0)]);
    engine
}

/// A run whose store fails; `false` where it came to its end before that.
async fn fails(store: MemoryStore) -> bool {
    let engine = busy_engine(store);
    let run = start(&engine, busy()).await;
    let told = tokio::spawn(rest(run.events()));
    let outcome = soon(run.wait()).await;
    let told = soon(told).await.expect("observers hear of the end");
    assert_eq!(engine.runner.running(), 0, "no agent is left");
    let kept = engine.store.after_power_cut();
    let written = kept.read(run.id(), 1).await.unwrap().rest().await.unwrap();
    assert_eq!(told, written[..told.len()], "nothing was told that may be lost");
    match outcome {
        Ok(report) => {
            assert_eq!(report.status, RunStatus::Failed);
            assert_eq!(told, written);
            return false;
        }
        Err(EngineError::Shared(error)) => {
            assert!(matches!(*error, EngineError::Store(_)), "{error:?}");
            assert!(error.to_string().starts_with("the run's journal failed"), "{error}");
        }
        Err(error) => panic!("{error:?}"),
    }
    assert!(matches!(run.cancel().await, Err(EngineError::Ended)));

    // After a power cut and with a sound store the run comes to the same end.
    let engine = busy_engine(kept);
    let resumed = engine.orchestrator().await.unwrap().resume(run.id()).await;
    if written.is_empty() {
        assert!(matches!(resumed, Err(EngineError::CantResume { .. })), "{resumed:?}");
        return true;
    }
    let report = soon(resumed.unwrap().wait()).await.unwrap();
    assert_eq!(
        states(&report),
        "flaky merged, checked merged, long merged, bad failed, last merged"
    );
    true
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_any_append_ends_the_run() {
    let mut n = 1;
    while fails(MemoryStore::new().fail_append_at(n)).await {
        n += 1;
    }
    assert!(n > 10, "{n}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_any_sync_ends_the_run() {
    let mut n = 1;
    while fails(MemoryStore::new().fail_sync_at(n)).await {
        n += 1;
    }
    assert!(n > 5, "{n}");
}

/// A runner with a mistake: `start` panics for `a`, and the agent of `b` does when it is waited for. (A mock that has panicked
/// panics for ever.)
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl AgentRunner for Panicking {
    fn name(&self) -> &str {
        "panicking"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        assert_ne!(request.task.as_str(), "a", "a mistake in the runner");
        let mut agent = MockRunningAgent::that_ended(0);
        if request.task.as_str() == "b" {
            agent = MockRunningAgent::new();
            agent.expect_identity().return_const(None);
            agent.expect_wait().returning(|| panic!("a mistake in the agent"));
        }
        Ok(Box::new(agent))
    }

    async fn adopt(&self, _: AdoptRequest) -> Result<Adopted, RunnerError> {
        Ok(Adopted::Gone)
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_panics_fails_its_tasks_only() {
    // Which of the messages of a unit and of its end is looked at first is left to chance.
    for _ in 0..30 {
        let engine = TestEngine::new();
        let orchestrator = ParallelOrchestrator::builder("/nowhere")
            .runner(Arc::new(Panicking))
            .store(Arc::new(engine.store))
            .locks(Arc::new(engine.locks))
            .build()
            .await
            .unwrap();
        let tasks = [task("a"), task("b"), task("c"), task("d").needs(id("a"))];
        let run = orchestrator.start(plan(tasks)).await.unwrap();
        let report = soon(run.wait()).await.unwrap();
        assert_eq!(states(&report), "a failed, b failed, c merged, d skipped");
        let error = report.tasks[1].error.as_deref().unwrap();
        assert!(error.contains("the engine failed") && error.contains("a mistake"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn locks_that_fail_are_failed_attempts() {
    let mut locks = MockResourceLock::new();
    locks.expect_try_acquire().returning(|_| {
        Err(LockError::Io {
            path: "/locks/db".into(),
            doing: "opening",
            source: std::io::ErrorKind::PermissionDenied.into(),
        })
    });
    let engine = TestEngine::new();
    let orchestrator = ParallelOrchestrator::builder("/nowhere")
        .runner(Arc::new(engine.runner.clone()))
        .store(Arc::new(engine.store.clone()))
        .locks(Arc::new(locks))
        .clock(Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000))))
        .build()
        .await
        .unwrap();
    let run = orchestrator.start(plan([locked("a", "db")])).await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.tasks[0].attempts, 5, "the disk may have come to its senses meanwhile");
    assert_eq!(report.tasks[0].error.as_deref(), Some("/locks/db: opening: permission denied"));
    assert_eq!(engine.runner.started(), []);
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_panics_ends_the_run() {
    let mut locks = MockResourceLock::new();
    locks.expect_try_acquire().returning(|request| {
        let lock = request.claims[0].name.clone();
        Ok(Acquired::Busy { lock, holder: None })
    });
    locks.expect_released().returning(|_| panic!("a mistake in the locks"));
    let engine = TestEngine::new();
    engine.runner.script("b", [Step::Hang]);
    let orchestrator = ParallelOrchestrator::builder("/nowhere")
        .runner(Arc::new(engine.runner.clone()))
        .store(Arc::new(engine.store.clone()))
        .locks(Arc::new(locks))
        .build()
        .await
        .unwrap();
    let run = orchestrator.start(plan([locked("a", "db"), task("b")])).await.unwrap();
    let error = soon(run.wait()).await.unwrap_err();
    assert!(error.to_string().contains("a mistake in the locks"), "{error}");
    assert_eq!(engine.runner.running(), 0);
    let events = engine.store.read(run.id(), 1).await.unwrap().rest().await.unwrap();
    let state = RunState::replay(&events).unwrap().expect("a state");
    assert!(!state.status.is_ended(), "it can be resumed");
}
