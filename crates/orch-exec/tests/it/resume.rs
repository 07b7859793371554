//! Taking up runs whose orchestrator died at any point, and refusing what can't be taken up.

use std::{collections::BTreeMap, sync::Arc};

use orch_exec::{
    EngineError, ParallelOrchestrator,
    model::{
        ByteSize, CommitId, Event, EventKind, Report, RunId, RunStatus, Span, Timestamp,
        event::{
            AgentIdentity, Delivery, EVENT_VERSION, Place, RunBase, RunHeader, RunSettings,
            TaskChange,
        },
        outcome::{ExitStatus, StopReason},
        plan::{
            Work,
            spec::{CommandLine, PlanSpec, TaskSpec},
        },
        ports::{
            AdoptRequest, Adopted, AgentRequest, AgentRunner, MergeOutcome, Purpose, StateStore,
        },
    },
    testing::{MemoryStore, MockAgentRunner, MockWorktreeProvider, Step, TestEngine},
};

use crate::common::{id, rest, soon, start, states, task, until};
use crate::worktrees::{Asked, orchestrator, provider};

fn run_id() -> RunId {
    RunId::new("r1").unwrap()
}

fn identity() -> AgentIdentity {
    AgentIdentity { pid: 4711, start_ticks: 99, boot_id: "this boot".into() }
}

/// The way of a task, as far as the journal may have it.
fn way() -> Vec<TaskChange> {
    let place = Place {
        path: "/w/a".into(),
        branch: "orch/a".into(),
        base: CommitId::new("c0"),
        settings: None,
    };
    vec![
        TaskChange::Unblocked,
        TaskChange::Queued,
        TaskChange::Leased { attempt: 1, by: None },
        TaskChange::Preparing,
        TaskChange::Prepared { place },
        TaskChange::Started { agent: Some(identity()) },
        TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None },
        TaskChange::Verified { commit: Some(CommitId::new("c-a")) },
    ]
}

/// A store whose only run ended with these changes of its only task.
async fn journal(changes: Vec<TaskChange>) -> MemoryStore {
    let store = MemoryStore::new();
    let mut spec = PlanSpec::new().task(TaskSpec::new(id("a")).run("make"));
    spec.tasks[0].retries = Some(0);
    let header = RunHeader {
        run: run_id(),
        version: EVENT_VERSION,
        plan: Arc::new(spec),
        settings: RunSettings { seed: 1, ..RunSettings::default() },
        repository: "/nowhere".into(),
        base: Some(RunBase { target: "main".into(), commit: CommitId::new("c0") }),
        pid: 1,
    };
    let first = EventKind::RunStarted { header: Box::new(header) };
    let rest = changes.into_iter().map(|change| EventKind::Task { task: id("a"), change });
    let events: Vec<_> = std::iter::once(first)
        .chain(rest)
        .zip(1..)
        .map(|(kind, seq)| Event { seq, at: Timestamp::from_millis(seq), kind })
        .collect();
    let journal = store.create(&run_id()).await.unwrap();
    journal.append(&events).await.unwrap();
    journal.sync().await.unwrap();
    store
}

/// What the dead orchestrator left running.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Left {
    Nothing,
    Agent,
    /// Nobody can say what.
    Secret,
}

/// The result of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("it never waits"),
    }
}

/// The request that the agent had been started with.
fn agent_of(request: &AdoptRequest) -> AgentRequest {
    AgentRequest {
        context: None,
        run: request.run.clone(),
        task: request.task.clone(),
        attempt: request.attempt,
        purpose: request.purpose,
        work: Work::Command(CommandLine::Shell("true".into())),
        agent: None,
        directory: "/w/a".into(),
        repository: "/nowhere".into(),
        env: BTreeMap::new(),
        silence_timeout: None,
        max_output: ByteSize(1),
        max_total_output: ByteSize(1),
    }
}

/// What becomes of such a run, and what was asked of git on the way.
async fn resumed(changes: Vec<TaskChange>, left: Left) -> (Report, Vec<String>, usize) {
    let engine = TestEngine { store: journal(changes).await, ..TestEngine::new() };
    let asked = Asked::default();
    let mut git = provider(&asked);
    git.expect_finish().returning(|_| Ok(Delivery::Nothing));
    let mut runner = MockAgentRunner::new();
    let inner = engine.runner.clone();
    runner.expect_adopt().returning(move |request| {
        assert_eq!(request.run, run_id());
        Ok(match (left, request.purpose) {
            (Left::Agent, Purpose::Work) => Adopted::Agent(now(inner.start(agent_of(&request)))?),
            (Left::Secret, _) => {
                Adopted::Unknown { known: "its process 4711 can't be ended".into() }
            }
            _ => Adopted::Gone,
        })
    });
    let inner = engine.runner.clone();
    runner.expect_start().returning(move |request| now(inner.start(request)));
    let orchestrator = ParallelOrchestrator::builder("/nowhere")
        .runner(Arc::new(runner))
        .store(Arc::new(engine.store.clone()))
        .locks(Arc::new(engine.locks.clone()))
        .worktrees(Arc::new(git))
        .build()
        .await
        .unwrap();
    let run = orchestrator.resume(&run_id()).await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    let events = rest(run.events()).await;
    let reopened = events.iter().filter(|e| matches!(e.kind, EventKind::RunReopened { .. }));
    assert_eq!(reopened.count(), 1);
    (report, asked.all(), engine.runner.started().len())
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_taken_up_after_any_event() {
    for length in 0..=way().len() {
        let (report, asked, started) = resumed(way()[..length].to_vec(), Left::Nothing).await;
        assert_eq!(states(&report), "a merged", "{length}");
        let worked = length >= 7;
        assert_eq!(started, usize::from(!worked), "{length}: what has been done is not repeated");
        assert_eq!(report.tasks[0].merge_commit, Some(CommitId::new("m-a")));
        let merges = asked.iter().filter(|what| *what == "merge a (Merge a)").count();
        assert_eq!(merges, 1, "{asked:?}");
        let attempts = if (3..7).contains(&length) { 2 } else { 1 };
        assert_eq!(report.tasks[0].attempts, attempts, "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_outlived_its_orchestrator_is_taken_up() {
    // Being prepared, with a place; running.
    for length in [5, 6] {
        let (report, asked, started) = resumed(way()[..length].to_vec(), Left::Agent).await;
        // The runner counts the one that it gives out for the old agent.
        assert_eq!((states(&report).as_str(), started), ("a merged", 1), "{length}");
        assert_eq!(report.tasks[0].attempts, 1, "{length}: it was not started again");
        assert_eq!(asked.iter().filter(|what| *what == "reopen a").count(), 1, "{asked:?}");
        assert!(!asked.iter().any(|what| what.starts_with("acquire")), "{asked:?}");
    }
    // Without a place nobody knows where it works.
    let (report, ..) = resumed(way()[..4].to_vec(), Left::Agent).await;
    assert_eq!((states(&report).as_str(), report.tasks[0].attempts), ("a merged", 2));
}

#[tokio::test(start_paused = true)]
async fn a_verification_is_repeated_without_another_attempt() {
    let (report, asked, started) = resumed(way()[..7].to_vec(), Left::Nothing).await;
    assert_eq!((states(&report).as_str(), started), ("a merged", 0));
    assert_eq!(report.tasks[0].attempts, 1);
    assert_eq!(asked.iter().filter(|what| *what == "reopen a").count(), 1, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_known_needs_attention() {
    let (report, _, started) = resumed(way()[..6].to_vec(), Left::Secret).await;
    assert_eq!((states(&report).as_str(), started), ("a needs_attention", 0));
    let error = report.tasks[0].error.as_deref().unwrap();
    assert!(error.contains("process 4711") && error.contains("/w/a"), "{error}");
    assert_eq!(report.status, RunStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn what_was_being_stopped_stays_cancelled_or_is_repeated() {
    let stopping = |reason| {
        let mut way = way();
        way.truncate(6);
        way.push(TaskChange::Stopping { reason });
        way
    };
    let (report, _, started) = resumed(stopping(StopReason::Cancelled), Left::Nothing).await;
    assert_eq!((states(&report).as_str(), started), ("a cancelled", 0));
    let (report, ..) = resumed(stopping(StopReason::Interrupted), Left::Nothing).await;
    assert_eq!(states(&report), "a merged");
    let after = Span::from_secs(1);
    let (report, ..) = resumed(stopping(StopReason::Timeout { after }), Left::Nothing).await;
    assert_eq!(states(&report), "a merged");
}

#[tokio::test(start_paused = true)]
async fn a_merge_of_nothing_is_done() {
    let mut way = way();
    way.pop();
    way.push(TaskChange::Verified { commit: None });
    let (report, asked, started) = resumed(way, Left::Nothing).await;
    assert_eq!((states(&report).as_str(), started), ("a merged", 0));
    assert!(!asked.iter().any(|what| what.starts_with("merge")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_merge_may_conflict() {
    let engine = TestEngine { store: journal(way()).await, ..TestEngine::new() };
    let mut git = MockWorktreeProvider::new();
    git.expect_begin()
        .returning(|_| Ok(RunBase { target: "main".into(), commit: CommitId::new("c0") }));
    git.expect_merge()
        .returning(|_| Ok(MergeOutcome::Conflicted { files: vec!["x".into()], hunks: Vec::new() }));
    git.expect_finish().returning(|_| Ok(Delivery::Nothing));
    let run = orchestrator(&engine, git).await.resume(&run_id()).await.unwrap();
    assert_eq!(states(&soon(run.wait()).await.unwrap()), "a conflicted");
}

#[tokio::test(start_paused = true)]
async fn where_git_fails_the_run_can_not_be_taken_up_yet() {
    let engine = TestEngine { store: journal(way()).await, ..TestEngine::new() };
    let failing = || {
        let mut git = MockWorktreeProvider::new();
        git.expect_begin()
            .returning(|_| Ok(RunBase { target: "main".into(), commit: CommitId::new("c0") }));
        git.expect_merge().returning(|_| {
            let source = std::io::ErrorKind::StorageFull.into();
            Err(orch_exec::model::ports::WorktreeError::Io { doing: "writing".into(), source })
        });
        git
    };
    for _ in 0..2 {
        let error = orchestrator(&engine, failing()).await.resume(&run_id()).await.unwrap_err();
        assert!(matches!(error, EngineError::Worktree(_)), "{error}");
    }
    assert_eq!(
        engine.store.read(&run_id(), 1).await.unwrap().rest().await.unwrap().len(),
        way().len() + 1
    );
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_taken_up_is_refused() {
    let engine = TestEngine::new();
    let orchestrator = engine.orchestrator().await.unwrap();
    let refused = async |run: &RunId| orchestrator.resume(run).await.unwrap_err().to_string();
    let nowhere = RunId::new("nowhere").unwrap();
    assert_eq!(
        refused(&nowhere).await,
        "the run's journal failed: there is no run nowhere; `orch runs` lists them"
    );

    drop(engine.store.create(&run_id()).await.unwrap());
    assert_eq!(
        refused(&run_id()).await,
        "run r1 can't be resumed: its journal is empty: nothing was started"
    );

    engine.runner.script("a", [Step::Hang]);
    let run = start(&engine, [task("a")]).await;
    until(&run, "a", "running").await;
    assert!(refused(run.id()).await.contains("is at work"), "it still runs");
    run.cancel().await.unwrap();
    soon(run.wait()).await.unwrap();
    assert!(refused(run.id()).await.ends_with("can't be resumed: it has ended"));

    let store = journal(vec![TaskChange::Queued]).await;
    let engine = TestEngine { store, ..TestEngine::new() };
    let error = engine.orchestrator().await.unwrap().resume(&run_id()).await.unwrap_err();
    assert!(matches!(error, EngineError::CantResume { .. }), "a damaged journal: {error}");
    let engine = TestEngine { store: journal(Vec::new()).await, ..TestEngine::new() };
    let error = engine.orchestrator().await.unwrap().resume(&run_id()).await.unwrap_err();
    assert!(matches!(error, EngineError::NoRepository { .. }), "{error}");
}
