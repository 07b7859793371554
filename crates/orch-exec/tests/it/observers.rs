//! What observers hear: everything, in order, and nothing that may be lost.

use std::time::Duration;

use orch_exec::{
    model::{EventKind, RunState, RunStatus},
    testing::{Step, TestEngine},
};

use crate::common::{numbers, rest, soon, start, task};

fn many(count: usize) -> Vec<orch_exec::model::plan::spec::TaskSpec> {
    (0..count).map(|n| task(&format!("t{n}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_observer_misses_nothing_and_holds_up_nobody() {
    let engine = TestEngine::new();
    let run = start(&engine, many(300)).await;
    let mut slow = run.events();
    let first = soon(slow.next()).await.unwrap().expect("a first event");
    assert!(matches!(first.kind, EventKind::RunStarted { .. }));
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    // Far more than its queue holds.
    let mut seen = vec![(*first).clone()];
    seen.extend(rest(slow).await);
    assert!(seen.len() > 2000, "{}", seen.len());
    assert_eq!(numbers(&seen), (1..=seen.len() as u64).collect::<Vec<_>>());
    let state = RunState::replay(&seen).unwrap().expect("a state");
    assert_eq!(state.status, RunStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn observers_of_every_speed_hear_the_same() {
    let mut engine = TestEngine::new();
    engine.config.max_concurrency = Some(2);
    for n in 0..60 {
        engine.runner.script(&format!("t{n}"), [Step::After(Duration::from_millis(3), 0)]);
    }
    let run = start(&engine, many(60)).await;
    let observers = [0, 1, 7, 40].map(|pause| {
        let mut events = run.events();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(event) = events.next().await.unwrap() {
                seen.push((*event).clone());
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            seen
        })
    });
    soon(run.wait()).await.unwrap();
    let all = rest(run.events()).await;
    assert_eq!(numbers(&all), (1..=all.len() as u64).collect::<Vec<_>>());
    for observer in observers {
        assert_eq!(soon(observer).await.unwrap(), all);
    }
    let late = rest(run.events_from(all.len() as u64 - 1)).await;
    assert_eq!(late, all[all.len() - 2..]);
    assert_eq!(rest(run.events_from(all.len() as u64 + 1)).await, []);
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_run_taken_up_again_begin_with_the_first() {
    let engine = TestEngine::new();
    engine.runner.script("t0", [Step::Hang, Step::Exit(0)]);
    let run = start(&engine, many(2)).await;
    run.interrupt().await.unwrap();
    soon(run.wait()).await.unwrap();
    let before = rest(run.events()).await;
    let again = engine.orchestrator().await.unwrap().resume(run.id()).await.unwrap();
    let all = rest(again.events()).await;
    assert_eq!(all[..before.len()], before);
    assert_eq!(numbers(&all), (1..=all.len() as u64).collect::<Vec<_>>());
    let ends = all.iter().filter(|e| matches!(e.kind, EventKind::RunEnded { .. })).count();
    assert_eq!(ends, 2, "the first of them is not the end of the stream");
    assert_eq!(
        all.last().map(|e| &e.kind),
        Some(&EventKind::RunEnded { status: RunStatus::Succeeded })
    );
}

/// With several threads, so that the dispatcher and observers really meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn observers_that_come_at_any_moment_reach_the_end() {
    for round in 0..60 {
        let engine = TestEngine::new();
        let run = start(&engine, many(1 + round % 4)).await;
        let observers: Vec<_> = (0..4)
            .map(|n| {
                let run = run.clone();
                tokio::spawn(async move {
                    for _ in 0..n * round {
                        tokio::task::yield_now().await;
                    }
                    rest(run.events()).await
                })
            })
            .collect();
        soon(run.wait()).await.unwrap();
        let all = rest(run.events()).await;
        for observer in observers {
            let seen = tokio::time::timeout(Duration::from_secs(20), observer).await;
            assert_eq!(seen.expect("it hears of the end").unwrap(), all);
        }
    }
}
