//! Whole runs that nobody interferes with.

use std::time::Duration;

use orch_exec::{
    EngineError, ParallelOrchestrator,
    model::{
        EventKind, RunStatus, TaskChange,
        plan::spec::{CommandLine, Schedule, TaskSpec},
        usage::Usage,
    },
    testing::{Step, TestEngine},
};
use tokio::time::Instant;

use crate::common::{id, limited, locked, plan, rest, soon, start, states, task, until};

fn after(seconds: u64, code: i32) -> Step {
    Step::After(Duration::from_secs(seconds), code)
}

#[tokio::test(start_paused = true)]
async fn a_chain_runs_in_its_order() {
    let engine = TestEngine::new();
    let chain = [task("c").needs(id("b")), task("b").needs(id("a")), task("a")];
    let report = soon(start(&engine, chain).await.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(states(&report), "c merged, b merged, a merged");
    assert_eq!(engine.runner.started(), [(id("a"), 1), (id("b"), 1), (id("c"), 1)]);
    assert_eq!((engine.runner.most_at_once(), engine.runner.running()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_diamond_runs_its_sides_at_the_same_time() {
    let engine = TestEngine::new();
    for name in ["top", "left", "right", "bottom"] {
        engine.runner.script(name, [after(10, 0)]);
    }
    let begin = Instant::now();
    let run = start(
        &engine,
        [
            task("top"),
            task("left").needs(id("top")),
            task("right").needs(id("top")),
            task("bottom").needs(id("left")).needs(id("right")),
        ],
    )
    .await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(begin.elapsed().as_secs(), 30);
    assert!((30.0..30.1).contains(&report.wall_seconds), "{}", report.wall_seconds);
    assert_eq!(engine.runner.most_at_once(), 2);
    let published = engine.store.published(run.id()).expect("the state is there at the end");
    assert_eq!(published.status, RunStatus::Succeeded);
    assert_eq!(run.progress().counts.merged, 4);
    assert_eq!(run.plan().tasks().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded() {
    let mut engine = TestEngine::new();
    engine.config.max_concurrency = Some(5);
    let tasks: Vec<_> = (0..23).map(|n| task(&format!("t{n}"))).collect();
    for n in 0..23 {
        engine.runner.script(&format!("t{n}"), [after(1 + n % 3, 0)]);
    }
    let report = soon(start(&engine, tasks).await.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(engine.runner.most_at_once(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_failed_attempts_used_is_in_the_totals() {
    let engine = TestEngine::new();
    let usage = Usage { output_tokens: 10, ..Usage::default() };
    engine.runner.script("a", [Step::Use(usage, 1), Step::Use(usage, 0)]);
    engine.runner.script("b", [Step::Hang]);
    let mut repeated = task("a");
    repeated.retries = Some(1);
    let report = soon(start(&engine, [repeated, limited("b", 3)]).await.wait()).await.unwrap();
    assert_eq!(states(&report), "a merged, b failed");
    assert_eq!((report.usage.output_tokens, report.tasks[0].usage.output_tokens), (20, 20));
    let seconds: Vec<_> = report.tasks.iter().map(|task| task.agent_seconds.round()).collect();
    assert_eq!(seconds, [2.0, 3.0], "also of the one that was ended");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_repeated_after_its_pause() {
    let engine = TestEngine::new();
    engine.runner.script("flaky", [Step::Exit(1), Step::Exit(2), Step::Exit(0)]);
    let mut flaky = task("flaky");
    flaky.retries = Some(2);
    let run = start(&engine, [flaky]).await;
    let events = rest(run.events()).await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!((report.tasks[0].status.as_str(), report.tasks[0].attempts), ("merged", 3));
    let pauses: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Task { change: TaskChange::Retry { until, .. }, .. } => {
                Some(until.since(event.at))
            }
            _ => None,
        })
        .collect();
    assert_eq!(pauses.len(), 2);
    assert!((500..=1000).contains(&pauses[0].as_millis()), "{pauses:?}");
    assert!((1000..=2000).contains(&pauses[1].as_millis()), "{pauses:?}");
    let queued: Vec<_> = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Task { change: TaskChange::Queued, .. }))
        .map(|event| event.at)
        .collect();
    assert!(queued[1].since(queued[0]) >= pauses[0] && queued[2].since(queued[1]) >= pauses[1]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_with_the_end_of_the_output() {
    let engine = TestEngine::new();
    engine.runner.script("bad", [Step::Say("no such table".into(), 7)]);
    engine.runner.script("gone", [Step::SpawnError]);
    engine.runner.script_verification("checked", [Step::Say("2 tests failed".into(), 1)]);
    let mut checked = task("checked");
    checked.verify = Some(vec![CommandLine::Shell("make check".into())]);
    let tasks = [task("bad"), task("gone"), checked, task("late").needs(id("bad"))];
    let report = soon(start(&engine, tasks).await.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    assert_eq!(states(&report), "bad failed, gone failed, checked failed, late skipped");
    let told: Vec<_> =
        report.tasks.iter().map(|task| task.error.clone().unwrap_or_default()).collect();
    assert_eq!(told[0], "ended with exit code 7");
    assert!(told[1].starts_with("could not be started: can't start `gone`"), "{}", told[1]);
    assert_eq!(told[2], "verification `make check` ended with exit code 1");
    assert_eq!(told[3], "bad, which it needs, did not succeed");
    assert_eq!(report.tasks[0].output_tail.as_deref(), Some("no such table"));
    assert_eq!(report.tasks[2].output_tail.as_deref(), Some("2 tests failed"));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_ends_an_agent_with_grace() {
    let engine = TestEngine::new();
    engine.runner.script("polite", [Step::Hang]);
    engine.runner.script("deaf", [Step::IgnoreTerm]);
    let begin = Instant::now();
    let run = start(&engine, [limited("polite", 5)]).await;
    assert_eq!(states(&soon(run.wait()).await.unwrap()), "polite failed");
    assert_eq!(begin.elapsed().as_secs(), 5);
    let begin = Instant::now();
    let run = start(&engine, [limited("deaf", 5)]).await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.tasks[0].error.as_deref(), Some("ran longer than 5s"));
    assert_eq!(begin.elapsed().as_secs(), 15, "the limit and then the grace");
}

#[tokio::test(start_paused = true)]
async fn waves_run_one_after_the_other() {
    let mut engine = TestEngine::new();
    engine.config.schedule = Some(Schedule::Waves);
    engine.config.defaults.wave_delay.0 = Duration::from_secs(5);
    engine.runner.script("short", [after(1, 0)]);
    engine.runner.script("long", [after(10, 0)]);
    let begin = Instant::now();
    let run = start(&engine, [task("short"), task("long"), task("next").needs(id("short"))]).await;
    assert_eq!(soon(run.wait()).await.unwrap().status, RunStatus::Succeeded);
    assert_eq!(begin.elapsed().as_secs(), 15);
    assert_eq!(run.progress().waves, 2);
}

#[tokio::test(start_paused = true)]
async fn orchestrators_that_share_locks_wait_for_one_another() {
    let (one, two) = (TestEngine::new(), TestEngine::new());
    let two = TestEngine { locks: one.locks.clone(), ..two };
    one.runner.script("a", [after(10, 0)]);
    let first = start(&one, [locked("a", "db")]).await;
    until(&first, "a", "running").await;
    let second = start(&two, [locked("b", "db"), task("free")]).await;
    let mut progress = second.progress_changes();
    let waits = progress.wait_for(|p| p.counts.merged == 1 && p.waiting.len() == 1);
    let reason = soon(waits).await.unwrap().waiting[0].reason.to_string();
    assert!(reason.starts_with("lock db, held by task a of run"), "{reason}");
    let begin = Instant::now();
    assert_eq!(soon(second.wait()).await.unwrap().status, RunStatus::Succeeded);
    assert!((9..=10).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(soon(first.wait()).await.unwrap().status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_without_its_handle() {
    let engine = TestEngine::new();
    engine.runner.script("a", [after(10, 0)]);
    let run = start(&engine, [task("a")]).await;
    let events = run.events();
    drop(run);
    let last = rest(events).await.pop().expect("events");
    assert_eq!(last.kind, EventKind::RunEnded { status: RunStatus::Succeeded });
}

#[tokio::test(start_paused = true)]
async fn an_earlier_run_lends_its_durations() {
    let engine = TestEngine::new();
    engine.runner.script("a", [after(60, 0)]);
    engine.runner.script("b", [after(7, 0)]);
    let tasks = || [task("a"), task("b").needs(id("a"))];
    let run = start(&engine, tasks()).await;
    assert_eq!(run.progress().eta, None);
    soon(run.wait()).await.unwrap();
    let run = start(&engine, tasks()).await;
    assert_eq!(run.progress().eta.map(|eta| eta.as_secs()), Some(67));
    soon(run.wait()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_repository_itself_is_where_tasks_without_isolation_work() {
    let engine = TestEngine::new();
    let orchestrator = engine.orchestrator().await.unwrap();
    assert_eq!(orchestrator.workspace().to_str(), Some("/nowhere"));
    assert_eq!(orchestrator.store().name(), "memory");
    assert!(orchestrator.worktrees().is_none());
    let in_git = plan([TaskSpec::new(id("w")).run("true")]);
    let error = orchestrator.start(in_git).await.unwrap_err();
    assert!(matches!(error, EngineError::NoRepository { .. }), "{error}");
    assert!(error.to_string().contains("run `git init`"), "{error}");
}

#[cfg(not(feature = "defaults"))]
#[tokio::test]
async fn a_missing_part_is_named() {
    let error = ParallelOrchestrator::builder("/nowhere").build().await.unwrap_err();
    assert_eq!(error.to_string(), "no AgentRunner was given, and the feature `defaults` is off");
}

#[cfg(feature = "defaults")]
#[tokio::test]
async fn the_stock_parts_fill_what_is_missing() {
    let repository = orch_exec::testing::TempRepository::new().unwrap();
    let orchestrator = ParallelOrchestrator::builder(repository.path()).build().await.unwrap();
    assert_eq!(orchestrator.workspace(), repository.path().canonicalize().unwrap());
    assert!(orchestrator.worktrees().is_some());
    let mut write = TaskSpec::new(id("write")).run("echo text > file");
    write.verify = Some(vec![CommandLine::Argv(vec!["cat".into(), "file".into()])]);
    let run = orchestrator.start(plan([write])).await.unwrap();
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    assert_eq!(repository.git(&["show", "main:file"]).unwrap(), "text");
    assert_eq!(orchestrator.store().list().await.unwrap().len(), 1);
}
