use std::sync::Arc;

use orch_model::ports::{MergeOutcome, Release, WorktreeProvider};
use orch_worktree::GitWorktrees;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::support::{Fixture, finish, git, merge_request, message, request, write};

async fn task(provider: &GitWorktrees, name: &str) {
    let worktree = provider.acquire(request(name, 1)).await.unwrap();
    write(worktree.path(), &format!("dir/{name}"), name);
    let tip = worktree.seal(&message(name)).await.unwrap().tip.unwrap();
    let outcome = provider.merge(merge_request(name, &tip)).await.unwrap();
    assert!(matches!(outcome, MergeOutcome::Merged { .. }), "{outcome:?}");
    worktree.release(Release::Done).await.unwrap();
}

/// 48 tasks, 16 at a time, by two providers as by two processes, beside a user who prunes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_at_once_all_succeed() {
    let fixture = Fixture::new();
    for n in 0..50 {
        write(&fixture.repo, &format!("files/{n}"), "text\n");
    }
    fixture.commit(&[]);
    let before = fixture.checkout();
    let providers = [fixture.begun().await, fixture.open().await];
    let slots = Arc::new(Semaphore::new(16));
    let mut tasks = JoinSet::new();
    for n in 0..48 {
        let (provider, slots) = (providers[n % 2].clone(), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots.acquire().await.unwrap();
            task(&provider, &format!("t{n}")).await;
        });
    }
    let mut ended = 0;
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
        ended += 1;
        if ended % 8 == 0 {
            git(&fixture.repo, &["pack-refs", "--all"]);
        }
    }
    assert_eq!(ended, 48);
    assert_eq!(fixture.checkout(), before);
    assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);
    let names = fixture.git(&["ls-tree", "--name-only", "orch/r1/target", "dir/"]);
    assert_eq!(names.lines().count(), 48);
    finish(&providers[0]).await;
    assert_eq!(std::fs::read_dir(fixture.repo.join("dir")).unwrap().count(), 48);
    assert!(fixture.is_tidy());
    assert_eq!(fixture.git(&["fsck", "--no-dangling"]), "");
}
