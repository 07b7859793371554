//! What the tests share.

use std::{future::Future, time::Duration};

use orch_exec::{
    EventStream, Run,
    model::{
        Event, Report, Span, TaskId, ValidPlan,
        plan::spec::{Isolation, LockSpec, PlanSpec, TaskSpec},
    },
    testing::TestEngine,
};

pub(crate) fn id(id: &str) -> TaskId {
    TaskId::new(id).expect("an id")
}

/// A task that needs no git and is not repeated.
pub(crate) fn task(name: &str) -> TaskSpec {
    let mut task = TaskSpec::new(id(name)).run("is never run");
    task.isolation = Some(Isolation::None);
    task.retries = Some(0);
    task
}

pub(crate) fn locked(name: &str, lock: &str) -> TaskSpec {
    let mut task = task(name);
    let name = lock.parse().expect("a name");
    task.locks = vec![LockSpec { name, shared: false, counted: None, pool: None }];
    task
}

pub(crate) fn limited(name: &str, seconds: u64) -> TaskSpec {
    let mut task = task(name);
    task.timeout = Some(Span::from_secs(seconds));
    task
}

pub(crate) fn plan(tasks: impl IntoIterator<Item = TaskSpec>) -> ValidPlan {
    let spec = tasks.into_iter().fold(PlanSpec::new(), PlanSpec::task);
    spec.validate().expect("a valid plan")
}

pub(crate) async fn start(engine: &TestEngine, tasks: impl IntoIterator<Item = TaskSpec>) -> Run {
    let orchestrator = engine.orchestrator().await.expect("an orchestrator");
    orchestrator.start(plan(tasks)).await.expect("a run")
}

/// Each task with its state, in plan order.
pub(crate) fn states(report: &Report) -> String {
    let states: Vec<_> =
        report.tasks.iter().map(|task| format!("{} {}", task.id, task.status)).collect();
    states.join(", ")
}

/// Fails where something takes longer than a day: with paused time, where it hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(86_400), future).await.expect("it hangs")
}

/// All events to the end of a stream.
pub(crate) async fn rest(mut events: EventStream) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(event) = soon(events.next()).await.expect("the journal can be read") {
        all.push((*event).clone());
    }
    all
}

/// Waits until a task is in a state.
pub(crate) async fn until(run: &Run, task: &str, state: &str) {
    let mut progress = run.progress_changes();
    let there = progress.wait_for(|progress| {
        progress.running.iter().any(|r| r.task.as_str() == task && r.state == state)
    });
    soon(there).await.expect("the run goes on");
}

/// The numbers of events.
pub(crate) fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}
