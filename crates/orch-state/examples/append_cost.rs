//! What an event costs: `cargo run --release -p orch-state --example append_cost [TASKS]`.

use std::{io::Write, time::Instant};

use orch_model::{
    event::{EVENT_VERSION, Event, EventKind, RunHeader, RunSettings, TaskChange},
    id::{RunId, TaskId},
    outcome::ExitStatus,
    plan::spec::{PlanSpec, TaskSpec},
    ports::StateStore,
    run::RunState,
    state::Merged,
    time::Timestamp,
};
use orch_state::{FileStore, PublishedState};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks: u64 = std::env::args().nth(1).map_or(Ok(10_000), |count| count.parse())?;
    let ids =
        (0..tasks).map(|n| TaskId::new(format!("task-{n}"))).collect::<Result<Vec<_>, _>>()?;
    let run = RunId::new("r1")?;
    let plan = ids
        .iter()
        .fold(PlanSpec::new(), |plan, id| plan.task(TaskSpec::new(id.clone()).run("true")));
    let header = RunHeader {
        run: run.clone(),
        version: EVENT_VERSION,
        plan: plan.into(),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: None,
        pid: 7,
    };
    let mut kinds = vec![EventKind::RunStarted { header: Box::new(header) }];
    for id in &ids {
        let changes = [
            TaskChange::Unblocked,
            TaskChange::Queued,
            TaskChange::Leased { attempt: 1 },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
            TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None },
            TaskChange::Verified { commit: None },
            TaskChange::Merged { result: Merged::Nothing },
        ];
        kinds.extend(changes.map(|change| EventKind::Task { task: id.clone(), change }));
    }
    let events: Vec<Event> = (1..)
        .zip(kinds)
        .map(|(seq, kind)| Event { seq, at: Timestamp::from_millis(1_700_000_000_000 + seq), kind })
        .collect();

    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path().join(".orch"))?;
    let mut out = std::io::stdout();
    for batch in [1, 8, 64] {
        let name = RunId::new(format!("by-{batch}"))?;
        let journal = store.create(&name).await?;
        journal.append(&events[..1]).await?;
        let began = Instant::now();
        for batch in events[1..].chunks(batch) {
            journal.append(batch).await?;
        }
        let each = began.elapsed().as_secs_f64() * 1e6 / (events.len() - 1) as f64;
        writeln!(out, "append, {batch:>2} at a time: {each:.2} us per event")?;
        let began = Instant::now();
        journal.sync().await?;
        writeln!(out, "sync of all of it:      {:.1?}", began.elapsed())?;
    }
    let began = Instant::now();
    let read = store.read(&RunId::new("by-1")?, 1).await?;
    writeln!(out, "read {} events:     {:.1?}", read.len(), began.elapsed())?;
    let began = Instant::now();
    let tail = store.read(&RunId::new("by-1")?, events.len() as u64).await?;
    writeln!(out, "read the last {}:         {:.1?}", tail.len(), began.elapsed())?;
    let state = RunState::replay(&read)?.ok_or("no events")?;
    let began = Instant::now();
    let mut text = Vec::new();
    PublishedState::from(&state).write_to(&mut text)?;
    writeln!(out, "state of {tasks} tasks:   {:.1?}, {} bytes", began.elapsed(), text.len())?;
    Ok(())
}
