//! The contract of `StateStore`.

use std::sync::Arc;

use orch_model::{
    event::{EVENT_VERSION, Event, EventKind, RunHeader, RunSettings, TaskChange},
    id::{RunId, TaskId},
    plan::spec::{PlanSpec, TaskSpec},
    ports::{RunJournal, StateStore, StoreError},
    run::RunState,
    state::{RunStatus, SkipReason},
    time::Timestamp,
};

/// Checks a store. `make` gives a new, empty one at each call.
///
/// # Panics
/// Where the store breaks the contract.
pub async fn store_contract(make: impl Fn() -> Arc<dyn StateStore>) {
    what_is_appended_is_read(make()).await;
    a_journal_is_continued(make()).await;
    one_writer_at_a_time(make()).await;
    events_have_no_gaps(make()).await;
    runs_are_listed(make()).await;
    readers_see_a_prefix(make()).await;
}

fn run(name: &str) -> RunId {
    RunId::new(name).expect("a good id")
}

/// A run of one task, which is skipped; `count` events in all, from 4 on.
fn events(run: &RunId, started: u64, count: u64) -> Vec<Event> {
    let task = TaskId::new("only").expect("a good id");
    let header = RunHeader {
        run: run.clone(),
        version: EVENT_VERSION,
        plan: PlanSpec::new().task(TaskSpec::new(task.clone()).run("true")).into(),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: None,
        pid: 7,
    };
    let skipped = TaskChange::Skipped { because: SkipReason::RunStopped { task: task.clone() } };
    (1..=count)
        .map(|seq| Event {
            seq,
            at: Timestamp::from_millis(started + seq),
            kind: match seq {
                1 => EventKind::RunStarted { header: Box::new(header.clone()) },
                2 => EventKind::Task { task: task.clone(), change: TaskChange::Unblocked },
                3 => EventKind::Task { task: task.clone(), change: skipped.clone() },
                seq if seq == count => EventKind::RunEnded { status: RunStatus::Failed },
                seq => EventKind::Warning { task: None, message: format!("line {seq}\n\"ü\"") },
            },
        })
        .collect()
}

async fn read(store: &dyn StateStore, run: &RunId, from: u64) -> Vec<Event> {
    let mut reader = store.read(run, from).await.expect("a run");
    reader.rest().await.expect("its events")
}

async fn what_is_appended_is_read(store: Arc<dyn StateStore>) {
    assert!(!store.name().is_empty());
    let run = run("r1");
    let events = events(&run, 0, 20);
    let journal = store.create(&run).await.expect("a new run");
    assert_eq!(read(&*store, &run, 1).await, []);
    assert_eq!(journal.sync().await.expect("nothing to sync"), 0);
    journal.append(&events[..1]).await.expect("one event");
    journal.append(&[]).await.expect("no event");
    journal.append(&events[1..15]).await.expect("several events");
    assert_eq!(journal.sync().await.expect("a sync"), 15);
    assert_eq!(journal.sync().await.expect("a sync of nothing"), 15);
    journal.append(&events[15..]).await.expect("events after a sync");
    let state = RunState::replay(&events).expect("a good run").expect("not empty");
    journal.publish(Arc::new(state)).await.expect("a state");
    assert_eq!(read(&*store, &run, 0).await, events);
    assert_eq!(read(&*store, &run, 1).await, events);
    assert_eq!(read(&*store, &run, 18).await, events[17..]);
    assert_eq!(read(&*store, &run, 21).await, []);
}

async fn a_journal_is_continued(store: Arc<dyn StateStore>) {
    let run = run("r1");
    let events = events(&run, 0, 9);
    let journal = store.create(&run).await.expect("a new run");
    journal.append(&events[..4]).await.expect("events");
    drop(journal);
    for at in 4..8 {
        let journal = store.open(&run).await.expect("a run");
        assert_eq!(read(&*store, &run, 1).await, events[..at]);
        journal.append(&events[at..=at]).await.expect("the next event");
        assert_eq!(journal.sync().await.expect("a sync"), at as u64 + 1);
    }
    assert_eq!(read(&*store, &run, 1).await, events[..8]);
}

async fn one_writer_at_a_time(store: Arc<dyn StateStore>) {
    let (first, second) = (run("first"), run("second"));
    for error in [
        store.open(&first).await.map(|_| ()).expect_err("there is no run"),
        store.read(&first, 1).await.map(|_| ()).expect_err("there is no run"),
    ] {
        assert!(matches!(error, StoreError::NoSuchRun { .. }), "{error}");
    }
    let journal = store.create(&first).await.expect("a new run");
    let beside = store.create(&second).await.expect("another run beside it");
    for run in [&first, &second] {
        let error = store.open(run).await.map(|_| ()).expect_err("a second writer");
        let StoreError::Busy { pid } = error else { panic!("{error}") };
        assert_eq!(pid, std::process::id());
    }
    drop(journal);
    let journal = store.open(&first).await.expect("nobody writes there");
    drop((journal, beside));
    let error = store.create(&first).await.expect_err("the run exists");
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    let open = store.open(&first).await.expect("nobody writes");
    let error = store.create(&first).await.expect_err("the run exists and goes on");
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    drop(open);
    drop(store.open(&first).await.expect("nobody writes"));
}

async fn events_have_no_gaps(store: Arc<dyn StateStore>) {
    let run = run("r1");
    let events = events(&run, 0, 6);
    let journal = store.create(&run).await.expect("a new run");
    let jump = [events[0].clone(), events[2].clone()];
    for wrong in [&events[1..2], &jump[..]] {
        let error = journal.append(wrong).await.expect_err("a number is missing");
        assert!(matches!(error, StoreError::Other { .. }), "{error}");
    }
    assert_eq!(read(&*store, &run, 1).await, []);
    journal.append(&events).await.expect("a mistake of the caller stops nothing");
    let error = journal.append(&events[5..]).await.expect_err("a number is repeated");
    assert!(matches!(error, StoreError::Other { .. }), "{error}");
    assert_eq!(read(&*store, &run, 1).await, events);
}

async fn runs_are_listed(store: Arc<dyn StateStore>) {
    assert_eq!(store.list().await.expect("an empty list"), []);
    assert_eq!(store.current().await.expect("none"), None);
    for (name, started) in [("b-old", 1_000), ("a-new", 2_000), ("c-middle", 1_500)] {
        let run = run(name);
        let journal = store.create(&run).await.expect("a new run");
        journal.append(&events(&run, started, 5)).await.expect("events");
    }
    assert_eq!(store.current().await.expect("a run"), Some(run("c-middle")));
    let last = store.open(&run("b-old")).await.expect("a run");
    assert_eq!(store.current().await.expect("a run"), Some(run("b-old")));
    let empty = run("d-empty");
    let list = store.list().await.expect("a list");
    let names: Vec<&str> = list.iter().map(|summary| summary.run.as_str()).collect();
    assert_eq!(names, ["a-new", "c-middle", "b-old"]);
    let owners: Vec<Option<u32>> = list.iter().map(|summary| summary.owner).collect();
    assert_eq!(owners, [None, None, Some(std::process::id())]);
    let newest = &list[0];
    assert_eq!(newest.status, RunStatus::Failed);
    assert_eq!((newest.tasks, newest.merged, newest.unsuccessful), (1, 0, 1));
    assert_eq!(newest.started_at, Timestamp::from_millis(2_001));
    assert_eq!(newest.updated_at, Timestamp::from_millis(2_005));
    drop(last);
    let _journal = store.create(&empty).await.expect("a new run");
    let list = store.list().await.expect("a list");
    assert_eq!(list.len(), 3, "a run that has not begun is not listed");
    assert!(list.iter().all(|summary| summary.owner.is_none()));
}

async fn readers_see_a_prefix(store: Arc<dyn StateStore>) {
    const COUNT: u64 = 600;
    let run = run("r1");
    let events = events(&run, 0, COUNT);
    let journal: Arc<dyn RunJournal> = store.create(&run).await.expect("a new run").into();
    let writer = {
        let (journal, events) = (Arc::clone(&journal), events.clone());
        tokio::spawn(async move {
            let mut syncs = Vec::new();
            for batch in events.chunks(7) {
                journal.append(batch).await.expect("events");
                // Group commit: appending goes on while a sync is under way.
                let journal = Arc::clone(&journal);
                syncs.push((batch[0].seq, tokio::spawn(async move { journal.sync().await })));
                tokio::task::yield_now().await;
            }
            for (seq, sync) in syncs {
                let synced = sync.await.expect("no panic").expect("a sync");
                assert!(synced >= seq, "what was appended before it is covered");
            }
        })
    };
    let mut reader = store.read(&run, 1).await.expect("a run");
    let mut seen = 0;
    while seen < COUNT as usize {
        let more = reader.next().await.expect("the next events");
        assert_eq!(more, events[seen..seen + more.len()], "none is given twice or left out");
        seen += more.len();
        let all = read(&*store, &run, 1).await;
        assert!(all.len() >= seen, "what was there stays");
        assert_eq!(all, events[..all.len()]);
    }
    assert_eq!(reader.next().await.expect("nothing yet"), []);
    writer.await.expect("the writer");
    assert_eq!(journal.sync().await.expect("a sync"), COUNT);
}
