//! What is done before results are delivered, and what is expected of tasks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use orch_exec::{
    BeforeDelivery, ParallelOrchestrator,
    model::{
        CommitId, EventKind, RunId, RunStatus, Timestamp,
        event::{Delivery, TaskChange},
        plan::spec::TaskSpec,
        ports::BoxError,
    },
    testing::TestEngine,
    time::TokioClock,
};

use crate::{
    common::{id, plan, rest, soon, task},
    worktrees::{Asked, provider},
};

/// What it does when it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Well,
    Fails,
    Hangs,
}

#[derive(Debug)]
struct Closing {
    asked: Asked,
    way: Way,
}

#[async_trait]
impl BeforeDelivery for Closing {
    async fn before_delivery(&self, run: &RunId) -> Result<(), BoxError> {
        self.asked.note(format!("close {}", !run.as_str().is_empty()));
        match self.way {
            Way::Well => Ok(()),
            Way::Fails => Err("the shelf is full".into()),
            Way::Hangs => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_between_the_last_merge_and_the_delivery_and_holds_nothing_up() {
    for (way, warning) in [
        (Way::Well, None),
        (Way::Fails, Some("before the delivery: the shelf is full")),
        (Way::Hangs, Some("before the delivery: it took longer than 1m")),
    ] {
        let (engine, asked) = (TestEngine::new(), Asked::default());
        let mut provider = provider(&asked);
        let notes = asked.clone();
        provider.expect_finish().times(1).returning(move |_| {
            notes.note("finish");
            Ok(Delivery::Target { target: "main".into(), commit: CommitId::new("m") })
        });
        let orchestrator = ParallelOrchestrator::builder("/nowhere")
            .config(engine.config.clone())
            .runner(Arc::new(engine.runner.clone()))
            .store(Arc::new(engine.store.clone()))
            .locks(Arc::new(engine.locks.clone()))
            .worktrees(Arc::new(provider))
            .before_delivery(Arc::new(Closing { asked: asked.clone(), way }))
            .clock(Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000))))
            .build()
            .await
            .unwrap();
        let run = orchestrator.start(plan([TaskSpec::new(id("a")).run("make")])).await.unwrap();
        let report = soon(run.wait()).await.unwrap();
        assert_eq!(report.status, RunStatus::Succeeded, "{way:?}");
        let asked = asked.all();
        assert_eq!(asked[asked.len() - 2..], ["close true", "finish"], "{way:?}: {asked:?}");
        assert!(asked.contains(&"merge a (Merge a)".to_owned()));
        let events = rest(run.events()).await;
        let warnings: Vec<&str> = events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Warning { message, .. } => Some(message.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(warnings, warning.into_iter().collect::<Vec<_>>(), "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_to_take_longest_goes_first() {
    let mut engine = TestEngine::new();
    engine.config.defaults.max_concurrency = 1;
    let expected = BTreeMap::from([
        (id("b"), Duration::from_secs(60)),
        (id("c"), Duration::from_secs(90)),
        (id("unknown"), Duration::from_secs(900)),
        (id("a"), Duration::from_secs(1)),
    ]);
    let orchestrator = engine.orchestrator().await.unwrap().expecting(expected);
    let run = orchestrator.start(plan(["a", "b", "c"].map(task))).await.unwrap();
    soon(run.wait()).await.unwrap();
    let started: Vec<String> = rest(run.events())
        .await
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Task { task, change: TaskChange::Started { .. } } => Some(task.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(started, ["c", "b", "a"]);
}
