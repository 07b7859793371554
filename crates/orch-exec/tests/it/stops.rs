//! Cancelling, interrupting, killing, pausing.

use std::time::Duration;

use orch_exec::{
    EngineError,
    model::{RunStatus, plan::spec::CommandLine},
    testing::{Step, TestEngine},
};
use tokio::time::Instant;

use crate::common::{id, limited, locked, soon, start, states, task, until};

#[tokio::test(start_paused = true)]
async fn one_task_is_cancelled() {
    let engine = TestEngine::new();
    engine.runner.script("a", [Step::Hang]);
    let run = start(&engine, [task("a"), task("b").needs(id("a")), task("c")]).await;
    until(&run, "a", "running").await;
    run.cancel_task(&id("a")).await.unwrap();
    let error = run.cancel_task(&id("z")).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no task z in this run");
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(states(&report), "a cancelled, b skipped, c merged");
    assert_eq!(report.status, RunStatus::Failed);
    assert_eq!(engine.runner.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn everything_is_cancelled_and_then_nothing_can_be_asked() {
    let mut engine = TestEngine::new();
    engine.config.max_concurrency = Some(2);
    engine.runner.script("a", [Step::Hang]);
    engine.runner.script("b", [Step::IgnoreTerm]);
    let run = start(&engine, [task("a"), task("b"), task("c")]).await;
    until(&run, "b", "running").await;
    let begin = Instant::now();
    run.cancel().await.unwrap();
    assert_eq!(run.progress().status, RunStatus::Cancelling, "who asked finds it done");
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 10, "the grace");
    assert_eq!(states(&report), "a cancelled, b cancelled, c cancelled");
    assert_eq!(report.status, RunStatus::Cancelled);
    for result in [
        run.cancel().await,
        run.pause().await,
        run.freeze().await,
        run.resume().await,
        run.interrupt().await,
        run.kill().await,
        run.cancel_task(&id("a")).await,
    ] {
        assert!(matches!(result, Err(EngineError::Ended)), "{result:?}");
    }
    assert_eq!(soon(run.wait()).await.unwrap(), report, "the answer stays the same");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_is_taken_up_again() {
    let engine = TestEngine::new();
    engine.runner.script("a", [Step::Hang, Step::Exit(0)]);
    let run = start(&engine, [locked("a", "db"), task("b"), task("c").needs(id("a"))]).await;
    until(&run, "a", "running").await;
    run.interrupt().await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Interrupted);
    assert_eq!(states(&report), "a queued, b merged, c blocked");
    assert_eq!(engine.runner.running(), 0);

    let orchestrator = engine.orchestrator().await.unwrap();
    let run = orchestrator.resume(run.id()).await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(states(&report), "a merged, b merged, c merged");
    let attempts: Vec<_> = report.tasks.iter().map(|task| task.attempts).collect();
    assert_eq!(attempts, [2, 1, 1], "an interrupted attempt needs no retry");
}

#[tokio::test(start_paused = true)]
async fn a_kill_gives_no_grace() {
    let engine = TestEngine::new();
    engine.runner.script("a", [Step::IgnoreTerm]);
    engine.runner.script("b", [Step::IgnoreTerm]);
    let run = start(&engine, [task("a"), limited("b", 3)]).await;
    until(&run, "b", "stopping").await;
    let begin = Instant::now();
    run.interrupt().await.unwrap();
    run.kill().await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(
        (report.status, states(&report).as_str()),
        (RunStatus::Interrupted, "a queued, b failed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_starts_nothing() {
    let mut engine = TestEngine::new();
    engine.config.max_concurrency = Some(1);
    engine.runner.script("a", [Step::After(Duration::from_secs(5), 0)]);
    let run = start(&engine, [task("a"), task("b")]).await;
    until(&run, "a", "running").await;
    run.pause().await.unwrap();
    let mut progress = run.progress_changes();
    soon(progress.wait_for(|p| p.counts.merged == 1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(engine.runner.started().len(), 1);
    assert_eq!(run.progress().status, RunStatus::Paused);
    run.resume().await.unwrap();
    assert_eq!(soon(run.wait()).await.unwrap().status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_agent_does_not_use_up_its_time() {
    let engine = TestEngine::new();
    engine.runner.script("a", [Step::Hang]);
    let run = start(&engine, [limited("a", 10)]).await;
    until(&run, "a", "running").await;
    let begin = Instant::now();
    run.freeze().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(run.progress().running[0].state, "running");
    run.resume().await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.tasks[0].error.as_deref(), Some("ran longer than 10s"));
    assert!((3605..=3610).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_begins_in_a_frozen_run_is_frozen_too() {
    let engine = TestEngine::new();
    engine.runner.script("a", [Step::After(Duration::from_secs(5), 0)]);
    engine.runner.script_verification("a", [Step::Hang]);
    let mut checked = limited("a", 10);
    checked.verify = Some(vec![CommandLine::Shell("make check".into())]);
    let run = start(&engine, [checked]).await;
    until(&run, "a", "running").await;
    // The agents of this runner can't be frozen: it comes to its end.
    run.freeze().await.unwrap();
    until(&run, "a", "verifying").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(run.progress().running[0].state, "verifying");
    run.resume().await.unwrap();
    assert_eq!(states(&soon(run.wait()).await.unwrap()), "a failed");
}
