use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

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

/// How many worktrees are made; the long form is asked for with 1000 and more.
const COUNT: &str = "ORCH_TEST_CREATIONS";

/// Types a command of git each time that it is told to, as somebody beside the engine may; how often
/// that was.
fn type_each_time(
    folder: PathBuf,
    arguments: &'static [&'static str],
) -> (mpsc::Sender<()>, JoinHandle<usize>) {
    let (tell, told) = mpsc::channel();
    let run = move || {
        let output = crate::support::try_git(&folder, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A fetch fails where a branch gets a commit that was made after it had looked at the objects,
        // and where a worktree goes that it had just listed, whoever makes the one or removes the other;
        // nothing of ours may be half made when git looks at it.
        let is_gits = said.contains("did not send all")
            && (said.contains("bad object") || said.contains("Invalid path"));
        assert!(output.status.success() || is_gits, "{arguments:?}: {said}");
    };
    let typing = std::thread::spawn(move || told.iter().inspect(|()| run()).count());
    (tell, typing)
}

/// Worktrees made 16 at a time beside a fetch, commits and `worktree prune`: none fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creations_beside_fetch_commits_and_prune_never_fail() {
    let count: usize = std::env::var(COUNT).ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let (fixture, upstream) = (Fixture::new(), Fixture::new());
    for n in 0..20 {
        write(&fixture.repo, &format!("files/{n}"), "text\n");
    }
    fixture.commit(&[]);
    fixture.git(&["remote", "add", "upstream", upstream.repo.to_str().unwrap()]);
    let provider = fixture.begun().await;
    let beside = [
        (&upstream, &["commit", "--quiet", "--allow-empty", "-m", "theirs"][..]),
        (&fixture, &["fetch", "--quiet", "upstream"][..]),
        (&fixture, &["commit", "--quiet", "--allow-empty", "-m", "mine"][..]),
        (&fixture, &["worktree", "prune", "--expire=now"][..]),
    ]
    .map(|(place, words)| type_each_time(place.repo.clone(), words));
    let (tell, typing): (Vec<_>, Vec<_>) = beside.into_iter().unzip();
    let (next, made) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..16 {
        let (provider, next, made) = (provider.clone(), Arc::clone(&next), Arc::clone(&made));
        let tell = tell.clone();
        workers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    break;
                }
                tell[n % tell.len()].send(()).unwrap();
                let worktree = provider.acquire(request(&format!("t{n}"), 1)).await.unwrap();
                assert!(worktree.path().join("files/19").exists());
                if n % 10 == 0 {
                    let name = format!("t{n}");
                    write(worktree.path(), &name, &name);
                    let tip = worktree.seal(&message(&name)).await.unwrap().tip.unwrap();
                    provider.merge(merge_request(&name, &tip)).await.unwrap();
                }
                worktree.release(Release::Done).await.unwrap();
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(result) = workers.join_next().await {
        result.unwrap();
    }
    drop(tell);
    let typed: usize = typing.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(typed, count);
    assert_eq!(made.load(Ordering::Relaxed), count);
    assert_eq!(fixture.worktrees(), 0);
    assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);
    finish(&provider).await;
    assert!(fixture.is_tidy());
    assert_eq!(fixture.git(&["fsck", "--no-dangling"]), "");
}
