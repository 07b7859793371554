use std::fs;

use orch_model::{
    CommitId,
    ports::{Release, WorktreeProvider},
};

use crate::support::{Fixture, commit, git, message, remove_folder, request, work, write};

#[tokio::test]
async fn a_half_made_worktree_is_replaced() {
    let fixture = Fixture::new();
    let place = fixture.place("a");
    let path = place.to_str().unwrap();
    let add = ["worktree", "add", "--quiet", "--no-checkout", "--lock", "--reason", "initializing"];
    // What a killed `git worktree add` leaves, at its several points.
    let points: [(&str, &dyn Fn()); 6] = [
        ("branch only", &|| drop(fixture.git(&["branch", "orch/r1/a"]))),
        ("an empty folder", &|| fs::create_dir_all(&place).unwrap()),
        ("files of nobody", &|| write(&place, "notes", "mine")),
        ("no files yet", &|| {
            fixture.git(&[&add[..], &["-b", "orch/r1/a", path]].concat());
        }),
        ("half a checkout", &|| {
            fixture.git(&[&add[..], &["-b", "orch/r1/a", path]].concat());
            write(&place, "READ", "hel");
            fs::write(fixture.admin("a").join("index.lock"), "").unwrap();
        }),
        ("an entry without its folder", &|| {
            fixture.git(&[&add[..], &["-b", "orch/r1/a", path]].concat());
            fs::remove_dir_all(&place).unwrap();
            fixture.git(&["update-ref", "-d", "refs/heads/orch/r1/a"]);
        }),
    ];
    for (point, leave) in points {
        let provider = fixture.begun().await;
        leave();
        let worktree = provider.acquire(request("a", 1)).await.expect(point);
        assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "", "{point}");
        assert_eq!(fs::read_to_string(place.join("README")).unwrap(), "hello\n", "{point}");
        worktree.release(Release::Done).await.expect(point);
        assert!(!fixture.has("refs/orch/preserved/r1/a/1"), "{point}: nothing to keep");
        assert_eq!(fixture.worktrees(), 0, "{point}");
    }
    let found = fs::read_to_string(fixture.place("a.found-1").join("notes")).unwrap();
    assert_eq!(found, "mine", "what belongs to no worktree is only moved");
    assert!(!fixture.place("a.found-2").exists());
}

#[tokio::test]
async fn the_work_of_an_interrupted_attempt_is_kept() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 3)).await.unwrap();
    let own = commit(worktree.path(), &[("a", "1")]);
    write(worktree.path(), "a", "2");
    // A killed agent left a lock.
    fs::write(fixture.admin("a").join("index.lock"), "").unwrap();
    drop(worktree);

    let provider = fixture.open().await;
    let worktree = provider.acquire(request("a", 4)).await.unwrap();
    assert!(!worktree.path().join("a").exists());
    let kept = "refs/orch/preserved/r1/a/3";
    assert_eq!(fixture.file(kept, "a").as_deref(), Some("2"));
    fixture.git(&["merge-base", "--is-ancestor", own.as_str(), kept]);
}

#[tokio::test]
async fn a_branch_with_commits_and_no_worktree_is_kept() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    remove_folder(worktree.path());
    let worktree = provider.acquire(request("a", 2)).await.unwrap();
    assert_eq!(fixture.tip("refs/orch/preserved/r1/a/1"), tip);
    assert_eq!(worktree.seal(&message("a")).await.unwrap().tip, None);
}

#[tokio::test]
async fn a_worktree_that_cant_be_made_leaves_nothing() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    // The root is a file.
    fs::write(fixture.root(), "").unwrap();
    let error = provider.acquire(request("a", 1)).await.unwrap_err().to_string();
    assert!(error.contains("making the worktree"), "{error}");
    fs::remove_file(fixture.root()).unwrap();
    assert_eq!(fixture.worktrees(), 0);
    assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);

    // The checkout fails: an object of it is missing.
    fixture.commit(&[("gone", "gone\n")]);
    let blob = fixture.git(&["rev-parse", "main:gone"]);
    let object = fixture.repo.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    fs::remove_file(object).unwrap();
    let error = provider.acquire(request("a", 1)).await.unwrap_err().to_string();
    assert!(error.contains("git read-tree"), "{error}");
    assert_eq!(fixture.worktrees(), 0);
    assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);
    assert!(!fixture.place("a").exists());
}

#[tokio::test]
async fn a_dropped_call_can_be_repeated() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    for _ in 0..5 {
        let mut call = Box::pin(provider.acquire(request("a", 1)));
        let pending =
            std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending()));
        assert!(pending.await);
        // It goes on to its end in the background, and its repetition waits for that.
        drop(call);
        let worktree = provider.acquire(request("a", 1)).await.unwrap();
        assert_eq!(git(worktree.path(), &["status", "--porcelain", "--branch"]), "## orch/r1/a");
    }
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    assert_eq!(worktree.path(), fixture.place("a"));
    worktree.release(Release::Done).await.unwrap();
    assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);
}

#[tokio::test]
async fn trash_of_an_earlier_process_is_deleted() {
    let fixture = Fixture::new();
    write(&fixture.root(), ".trash/1-2-3/deep/file", "x");
    let provider = fixture.begun().await;
    crate::support::finish(&provider).await;
    assert!(fixture.is_tidy());
}

/// Git answers while it reads, and both pipes together hold less than this is.
#[tokio::test]
async fn any_number_of_commits_can_be_asked_for() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let commits: Vec<_> = (1..=10_000).map(|n| CommitId::new(format!("{n:040x}"))).collect();
    let found = provider.inspect(&commits).await.unwrap();
    assert_eq!(found.unreadable.len(), commits.len());
}
