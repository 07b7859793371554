//! What an outside user's tests look like: a real repository, or mocks of the ports.

use std::sync::Arc;

use embed::{NoteTaker, take_notes};
use orch_exec::{
    ParallelOrchestrator,
    model::{
        CommitId, ValidPlan,
        event::{Delivery, RunBase},
        outcome::{AgentExit, ExitStatus},
        plan::spec::{PlanSpec, TaskSpec},
        ports::{AgentRunner, MergeOutcome, Sealed},
    },
    testing::{
        MemoryLocks, MemoryStore, MockAgentRunner, MockRunningAgent, MockWorktree,
        MockWorktreeProvider, TempRepository,
    },
};

fn plan() -> ValidPlan {
    PlanSpec::new()
        .task(TaskSpec::new("agenda".parse().unwrap()).run("What we speak about"))
        .task(
            TaskSpec::new("minutes".parse().unwrap())
                .run("What we said")
                .needs("agenda".parse().unwrap()),
        )
        .validate()
        .unwrap()
}

#[tokio::test]
async fn notes_are_merged_into_the_target() {
    let repository = TempRepository::new().unwrap();
    let report = take_notes(repository.path().to_str().unwrap(), plan()).await.unwrap();
    assert!(report.tasks.iter().all(|task| task.status == "merged"), "{report:?}");
    assert_eq!(
        repository.git(&["show", "main:notes/minutes.txt"]).unwrap(),
        "What we said",
        "the clean checkout's branch was fast-forwarded"
    );
}

#[tokio::test]
async fn a_note_taker_is_an_agent_runner() {
    let runner: Arc<dyn AgentRunner> = Arc::new(NoteTaker);
    assert_eq!(runner.name(), "note taker");
}

/// Neither git nor processes nor files: every port is a mock or in memory.
#[tokio::test]
async fn the_engine_runs_on_mocks() {
    let commit = CommitId::new("c0ffee");

    let mut runner = MockAgentRunner::new();
    runner.expect_start().times(2).returning(|_| {
        let mut agent = MockRunningAgent::new();
        agent.expect_identity().return_const(None);
        agent.expect_wait().returning(|| Ok(AgentExit::new(ExitStatus::Code(0))));
        Ok(Box::new(agent))
    });

    let mut worktrees = MockWorktreeProvider::new();
    let base = RunBase { target: "main".into(), commit: commit.clone() };
    worktrees.expect_begin().times(1).returning(move |_| Ok(base.clone()));
    let tip = commit.clone();
    worktrees.expect_acquire().times(2).returning(move |_| {
        let mut worktree = MockWorktree::new();
        worktree.expect_path().return_const(std::path::PathBuf::from("/nowhere"));
        worktree.expect_branch().return_const("orch/run/task".to_owned());
        worktree.expect_base().return_const(tip.clone());
        let tip = tip.clone();
        worktree
            .expect_seal()
            .returning(move |_| Ok(Sealed { tip: Some(tip.clone()), committed: true }));
        worktree.expect_release().times(1).returning(|_| Ok(()));
        Ok(Box::new(worktree))
    });
    let merged = commit.clone();
    worktrees
        .expect_merge()
        .times(2)
        .returning(move |_| Ok(MergeOutcome::Merged { merge_commit: merged.clone() }));
    worktrees.expect_finish().times(1).returning(|_| Ok(Delivery::Nothing));

    let engine = ParallelOrchestrator::builder("/nowhere")
        .runner(Arc::new(runner))
        .worktrees(Arc::new(worktrees))
        .store(Arc::new(MemoryStore::new()))
        .locks(Arc::new(MemoryLocks::new()))
        .build()
        .await
        .unwrap();
    let report = engine.start(plan()).await.unwrap().wait().await.unwrap();
    assert!(report.tasks.iter().all(|task| task.merge_commit == Some(commit.clone())));
}
