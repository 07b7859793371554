//! A small run for tests.

use orch_model::{
    event::{EVENT_VERSION, Event, EventKind, RunHeader, RunSettings, TaskChange},
    id::{RunId, TaskId},
    outcome::ExitStatus,
    plan::spec::{PlanSpec, TaskSpec},
    state::{Merged, RunStatus, SkipReason},
    time::Timestamp,
};

/// The events of a run of two tasks, of which one is merged and one is skipped. It begins at
/// `started` milliseconds.
pub(crate) fn events_at(run: &str, started: u64) -> Vec<Event> {
    let (a, b) = (TaskId::new("a").unwrap(), TaskId::new("b").unwrap());
    let mut first = TaskSpec::new(a.clone()).run("make it so");
    first.title = Some("The first".into());
    let header = RunHeader {
        run: RunId::new(run).unwrap(),
        version: EVENT_VERSION,
        plan: PlanSpec::new().task(first).task(TaskSpec::new(b.clone()).run("true")).into(),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: None,
        pid: 7,
    };
    let task = |task: &TaskId, change| EventKind::Task { task: task.clone(), change };
    let kinds = [
        EventKind::RunStarted { header: Box::new(header) },
        task(&a, TaskChange::Unblocked),
        task(&a, TaskChange::Queued),
        task(&a, TaskChange::Leased { attempt: 1, by: None }),
        task(&a, TaskChange::Preparing),
        task(&a, TaskChange::Started { agent: None }),
        task(&a, TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None }),
        task(&a, TaskChange::Verified { commit: None }),
        task(&a, TaskChange::Merged { result: Merged::Nothing }),
        task(&b, TaskChange::Skipped { because: SkipReason::RunStopped { task: a.clone() } }),
        EventKind::RunEnded { status: RunStatus::Failed },
    ];
    (1..)
        .zip(kinds)
        .map(|(seq, kind)| Event { seq, at: Timestamp::from_millis(started + seq), kind })
        .collect()
}

/// The same, at the beginning of time.
pub(crate) fn events(run: &str) -> Vec<Event> {
    events_at(run, 0)
}
