//! The way of a task through its worktree, with a mock of git.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use orch_exec::{
    ParallelOrchestrator, Run,
    model::{
        CommitId, EventKind, RunStatus, Timestamp,
        event::{Delivery, RunBase},
        plan::spec::{EpicSpec, Expects, Isolation, PlanSpec, TaskSpec},
        ports::{MergeOutcome, Release, Sealed, StateStore, StoreError, WorktreeError},
    },
    testing::{MockStateStore, MockWorktree, MockWorktreeProvider, Step, TestEngine},
    time::TokioClock,
};

use crate::common::{id, plan, rest, soon, states, until};

/// What was asked of a mock, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn git_failed(command: &str) -> WorktreeError {
    WorktreeError::Git {
        command: command.into(),
        status: "exit code 128".into(),
        stderr: "fatal: no".into(),
    }
}

/// A provider whose worktrees hold a commit each, except that of the task `idle`; the task
/// `clash` conflicts, and git fails for `unlucky`, `unsealed` and `unmerged` on their way.
pub(crate) fn provider(asked: &Asked) -> MockWorktreeProvider {
    let mut provider = MockWorktreeProvider::new();
    let notes = asked.clone();
    provider.expect_begin().returning(move |request| {
        notes.note(format!("begin {:?}", request.target));
        let target = request.target.unwrap_or_else(|| "main".into());
        Ok(RunBase { target, commit: CommitId::new("c0") })
    });
    let notes = asked.clone();
    provider.expect_acquire().returning(move |request| {
        let task = request.task.to_string();
        let shared = request.shared_by.map(|epic| format!(" in {epic}")).unwrap_or_default();
        notes.note(format!("acquire {task}#{}{shared}", request.attempt));
        if task == "unlucky" {
            return Err(git_failed("worktree add"));
        }
        Ok(Box::new(worktree(&notes, &task)))
    });
    let notes = asked.clone();
    provider.expect_reopen().returning(move |request, _| {
        notes.note(format!("reopen {}", request.task));
        Ok(Some(Box::new(worktree(&notes, request.task.as_str()))))
    });
    let notes = asked.clone();
    provider.expect_merge().returning(move |request| {
        let task = request.message.task.to_string();
        notes.note(format!("merge {task} ({})", request.message.subject));
        match task.as_str() {
            "clash" => {
                Ok(MergeOutcome::Conflicted { files: vec!["src/lib.rs".into()], hunks: Vec::new() })
            }
            "unmerged" => Err(git_failed("merge-tree")),
            _ => Ok(MergeOutcome::Merged { merge_commit: CommitId::new(format!("m-{task}")) }),
        }
    });
    provider
}

fn worktree(asked: &Asked, task: &str) -> MockWorktree {
    let mut worktree = MockWorktree::new();
    worktree.expect_path().return_const(PathBuf::from(format!("/w/{task}")));
    worktree.expect_branch().return_const(format!("orch/{task}"));
    worktree.expect_base().return_const(CommitId::new("c0"));
    let name = task.to_owned();
    worktree.expect_seal().returning(move |_| match name.as_str() {
        "unsealed" => Err(git_failed("commit")),
        "idle" => Ok(Sealed { tip: None, committed: false }),
        _ => Ok(Sealed { tip: Some(CommitId::new(format!("c-{name}"))), committed: true }),
    });
    let (notes, name) = (asked.clone(), task.to_owned());
    worktree.expect_release().returning(move |release: Release| {
        notes.note(format!("release {name} {release:?}"));
        Ok(())
    });
    worktree
}

fn delivers(mut provider: MockWorktreeProvider) -> MockWorktreeProvider {
    provider
        .expect_finish()
        .returning(|_| Ok(Delivery::Target { target: "main".into(), commit: CommitId::new("m") }));
    provider
}

pub(crate) async fn orchestrator(
    engine: &TestEngine,
    provider: MockWorktreeProvider,
) -> ParallelOrchestrator {
    ParallelOrchestrator::builder("/nowhere")
        .config(engine.config.clone())
        .runner(Arc::new(engine.runner.clone()))
        .store(Arc::new(engine.store.clone()))
        .locks(Arc::new(engine.locks.clone()))
        .worktrees(Arc::new(provider))
        .clock(Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000))))
        .build()
        .await
        .unwrap()
}

fn in_git(name: &str) -> TaskSpec {
    let mut task = TaskSpec::new(id(name)).run("make");
    task.retries = Some(0);
    task
}

async fn start(
    engine: &TestEngine,
    provider: MockWorktreeProvider,
    tasks: impl IntoIterator<Item = TaskSpec>,
) -> Run {
    orchestrator(engine, provider).await.start(plan(tasks)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn work_is_merged_and_its_place_given_back() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    let mut a = in_git("a");
    a.title = Some("Add a login".into());
    let run = start(&engine, delivers(provider(&asked)), [a, in_git("b").needs(id("a"))]).await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(report.tasks[0].merge_commit, Some(CommitId::new("m-a")));
    assert_eq!(report.tasks[1].commit, Some(CommitId::new("c-b")));
    assert!(matches!(report.delivery, Some(Delivery::Target { .. })), "{:?}", report.delivery);
    assert_eq!(
        asked.all(),
        [
            "begin None",
            "acquire a#1",
            "merge a (Merge a: Add a login)",
            "release a Done",
            "acquire b#1",
            "merge b (Merge b)",
            "release b Done",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_did_not_come_through_is_kept() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    engine.runner.script("bad", [Step::Exit(1)]);
    let mut idle = in_git("idle");
    idle.expects = Some(Expects::Changes);
    let names = ["bad", "clash", "unlucky", "unsealed", "unmerged"];
    let tasks = names.map(in_git).into_iter().chain([idle]);
    let run = start(&engine, delivers(provider(&asked)), tasks).await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(
        states(&report),
        "bad failed, clash conflicted, unlucky failed, unsealed failed, unmerged failed, idle failed"
    );
    let error = |n: usize| report.tasks[n].error.clone().unwrap();
    assert_eq!(error(1), "conflicts with the target in src/lib.rs");
    assert!(error(2).contains("`git worktree add` ended with exit code 128"), "{}", error(2));
    assert!(error(3).contains("git commit") && error(4).contains("git merge-tree"));
    assert!(error(5).contains("no commit and no change"), "{}", error(5));
    assert_eq!(report.tasks[0].worktree.as_deref(), Some(Path::new("/w/bad")));
    assert_eq!(report.tasks[1].branch.as_deref(), Some("orch/clash"));
    for name in ["bad", "clash", "unsealed", "unmerged", "idle"] {
        assert!(asked.all().contains(&format!("release {name} Keep")), "{:?}", asked.all());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_merge_is_fine_by_default() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    let run = start(&engine, delivers(provider(&asked)), [in_git("idle")]).await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(states(&report), "idle merged");
    assert_eq!(asked.all(), ["begin None", "acquire idle#1", "release idle Done"]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_before_the_next_attempt() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    engine.runner.script("a", [Step::Exit(1), Step::Hang, Step::Exit(0)]);
    let mut a = in_git("a");
    a.retries = Some(1);
    let run = start(&engine, delivers(provider(&asked)), [a]).await;
    let mut progress = run.progress_changes();
    let second =
        progress.wait_for(|p| p.running.iter().any(|r| r.attempt == 2 && r.state == "running"));
    soon(second).await.unwrap();
    run.interrupt().await.unwrap();
    assert_eq!(soon(run.wait()).await.unwrap().status, RunStatus::Interrupted);
    let expected =
        ["begin None", "acquire a#1", "release a Retry", "acquire a#2", "release a Retry"];
    assert_eq!(asked.all(), expected);

    let asked = Asked::default();
    let again = orchestrator(&engine, delivers(provider(&asked))).await;
    let report = soon(again.resume(run.id()).await.unwrap().wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    assert_eq!(asked.all()[..2], ["begin Some(\"main\")", "acquire a#3"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_keeps_its_place() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    engine.runner.script("a", [Step::Hang]);
    let run = start(&engine, delivers(provider(&asked)), [in_git("a")]).await;
    until(&run, "a", "running").await;
    run.cancel().await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Cancelled);
    assert_eq!(report.tasks[0].worktree.as_deref(), Some(Path::new("/w/a")));
    assert_eq!(asked.all().last().map(String::as_str), Some("release a Keep"));
}

#[tokio::test(start_paused = true)]
async fn tasks_of_an_epic_share_a_worktree_one_at_a_time() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    let mut spec = PlanSpec::new();
    let epic = || "auth".parse().unwrap();
    spec.epics = vec![EpicSpec::new(epic())];
    for name in ["a", "b"] {
        let mut task = in_git(name);
        task.epic = Some(epic());
        task.isolation = Some(Isolation::Epic);
        spec = spec.task(task);
    }
    let orchestrator = orchestrator(&engine, delivers(provider(&asked))).await;
    let run = orchestrator.start(spec.validate().unwrap()).await.unwrap();
    assert_eq!(soon(run.wait()).await.unwrap().status, RunStatus::Succeeded);
    let acquired: Vec<_> =
        asked.all().into_iter().filter(|what| what.starts_with("acquire")).collect();
    assert_eq!(acquired, ["acquire a#1 in auth", "acquire b#1 in auth"]);
    assert_eq!(engine.runner.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_fails_is_told_and_ends_the_run() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    let mut provider = provider(&asked);
    provider.expect_finish().returning(|_| Err(git_failed("update-ref")));
    let run = start(&engine, provider, [in_git("a")]).await;
    let events = rest(run.events()).await;
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "the work is merged on its own branch");
    let Some(Delivery::Failed { target, branch, reason }) = report.delivery else { panic!() };
    assert_eq!((target.as_str(), branch), ("main", format!("orch/{}/target", run.id())));
    assert!(reason.contains("git update-ref"), "{reason}");
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::Delivered { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_can_not_be_given_back_is_a_warning() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    let mut provider = MockWorktreeProvider::new();
    provider
        .expect_begin()
        .returning(|_| Ok(RunBase { target: "main".into(), commit: CommitId::new("c0") }));
    provider.expect_acquire().returning(move |_| {
        let mut worktree = worktree(&asked, "idle");
        worktree.checkpoint();
        worktree.expect_path().return_const(PathBuf::from("/w/a"));
        worktree.expect_branch().return_const("b".to_owned());
        worktree.expect_base().return_const(CommitId::new("c0"));
        worktree.expect_seal().returning(|_| Ok(Sealed { tip: None, committed: false }));
        worktree.expect_release().returning(|_| Err(git_failed("worktree remove")));
        Ok(Box::new(worktree))
    });
    let run = start(&engine, delivers(provider), [in_git("a")]).await;
    let events = rest(run.events()).await;
    assert_eq!(soon(run.wait()).await.unwrap().status, RunStatus::Succeeded);
    let warned = events.iter().any(|event| match &event.kind {
        EventKind::Warning { task: Some(task), message } => {
            task.as_str() == "a" && message.contains("git worktree remove")
        }
        _ => false,
    });
    assert!(warned, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_can_not_begin_leaves_nothing() {
    let engine = TestEngine::new();
    let mut provider = MockWorktreeProvider::new();
    provider
        .expect_begin()
        .returning(|_| Err(WorktreeError::Target { message: "no branch is checked out".into() }));
    let orchestrator = orchestrator(&engine, provider).await;
    let error = orchestrator.start(plan([in_git("a")])).await.unwrap_err();
    assert_eq!(error.to_string(), "no branch is checked out");
    assert!(engine.store.list().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_journal_is_undone() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    let mut provider = provider(&asked);
    provider.expect_finish().times(1).returning(|_| Ok(Delivery::Nothing));
    let mut store = MockStateStore::new();
    store.expect_current().returning(|| Ok(None));
    store.expect_create().returning(|run| Err(StoreError::Exists { run: run.clone() }));
    let orchestrator = ParallelOrchestrator::builder("/nowhere")
        .runner(Arc::new(engine.runner.clone()))
        .worktrees(Arc::new(provider))
        .store(Arc::new(store))
        .locks(Arc::new(engine.locks.clone()))
        .build()
        .await
        .unwrap();
    let error = orchestrator.start(plan([in_git("a")])).await.unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    assert!(engine.runner.started().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_runs_go_on_side_by_side() {
    let (engine, asked) = (TestEngine::new(), Asked::default());
    engine.runner.script("a", [Step::Hang]);
    let first = start(&engine, delivers(provider(&asked)), [in_git("a")]).await;
    let second = start(&engine, delivers(provider(&asked)), [in_git("b")]).await;
    assert_ne!(first.id(), second.id());
    let report = soon(second.wait()).await.unwrap();
    assert_eq!(report.tasks[0].status, "merged");
    first.cancel().await.unwrap();
    soon(first.wait()).await.unwrap();
}
