//! What only the pool does.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use orch_model::ports::{GcRequest, Release, WorktreeProvider};
use orch_worktree::{GitWorktrees, PoolConfig};

use crate::support::{
    Fixture, complete, finish, git, merge, merged, message, request, run_id, task_id, trees, work,
    write,
};

fn slots(fixture: &Fixture) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture.root().join(".pool")).into_iter().flatten();
    let mut all: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

fn mark(slot: &Path) -> PathBuf {
    slot.with_extension("clean")
}

async fn open(fixture: &Fixture, change: impl FnOnce(&mut PoolConfig)) -> GitWorktrees {
    let mut trees = trees();
    change(&mut trees.pool);
    GitWorktrees::open(fixture.config().trees(trees)).await.unwrap()
}

#[tokio::test]
async fn a_place_is_lent_again_with_its_caches_and_at_the_same_path() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "1"), ("target/cache", "built")]).await;
    let place = worktree.path().canonicalize().unwrap();
    assert_ne!(place, worktree.path());
    merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Done).await.unwrap();

    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(worktree.path(), fixture.place("b"));
    assert_eq!(worktree.path().canonicalize().unwrap(), place);
    assert_eq!(fs::read_to_string(place.join("target/cache")).unwrap(), "built");
    assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "1");
    assert_eq!(git(&place, &["status", "--porcelain", "--branch"]), "## orch/r1/b");
    let reflog = git(&place, &["reflog"]);
    assert!(!reflog.contains("Do a"), "{reflog}");
    worktree.release(Release::Done).await.unwrap();
    finish(&provider).await;
    assert_eq!(slots(&fixture), [place]);

    // Another run in another process, after the target went on.
    fixture.commit(&[("later", "x"), ("README", "other\n")]);
    let provider = fixture.open().await;
    let run = orch_model::RunId::new("r2").unwrap();
    let begin = orch_model::ports::BeginRun { run: run.clone(), target: None, base: None };
    provider.begin(begin).await.unwrap();
    let mut request = request("b", 1);
    request.run = run;
    let worktree = provider.acquire(request).await.unwrap();
    assert_eq!(fs::read_to_string(worktree.path().join("README")).unwrap(), "other\n");
    assert!(worktree.path().join("later").exists() && worktree.path().join("target").exists());
    assert_eq!(slots(&fixture).len(), 1);
}

#[tokio::test]
async fn ignored_files_go_where_that_is_asked_for() {
    let fixture = Fixture::new();
    fixture.begun().await;
    let provider = open(&fixture, |pool| pool.keep_ignored = false).await;
    complete(&provider, "a", &[("a", "1"), ("target/cache", "built")]).await;
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert!(!worktree.path().join("target").exists());
    assert_eq!(slots(&fixture).len(), 1);
}

#[tokio::test]
async fn no_more_is_kept_than_was_asked_for() {
    let fixture = Fixture::new();
    fixture.begun().await;
    let provider = open(&fixture, |pool| pool.size = 1).await;
    let a = provider.acquire(request("a", 1)).await.unwrap();
    let b = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(slots(&fixture).len(), 2);
    a.release(Release::Done).await.unwrap();
    b.release(Release::Done).await.unwrap();
    finish(&provider).await;
    assert_eq!(slots(&fixture).len(), 1);

    let changes: [fn(&mut PoolConfig); 3] =
        [|pool| pool.age = Duration::ZERO, |pool| pool.disk = 0, |pool| pool.free_floor = u64::MAX];
    for (round, change) in changes.into_iter().enumerate() {
        let provider = open(&fixture, |_| {}).await;
        crate::support::begin(&provider, None).await.unwrap();
        complete(&provider, "a", &[("a", &round.to_string())]).await;
        finish(&provider).await;
        assert_eq!(slots(&fixture).len(), 1);
        let provider = open(&fixture, change).await;
        provider.gc(GcRequest::default()).await.unwrap();
        assert_eq!(slots(&fixture).len(), 0);
        assert_eq!(fixture.worktrees(), 0);
    }
}

/// Every moment at which a process may be killed, by what it leaves on disk.
#[tokio::test]
async fn a_half_reset_tree_is_never_lent() {
    let fixture = Fixture::new();
    fixture.commit(&[("dir/file", "whole\n"), ("other", "x\n")]);
    let provider = fixture.begun().await;
    complete(&provider, "first", &[("first", "1"), ("target/cache", "built")]).await;
    finish(&provider).await;
    let slot = slots(&fixture).remove(0);
    let admin = PathBuf::from(git(&slot, &["rev-parse", "--absolute-git-dir"]));
    let points: [(&str, &dyn Fn()); 6] = [
        ("files half written", &|| {
            fs::remove_file(mark(&slot)).unwrap();
            fs::write(slot.join("dir/file"), "wh").unwrap();
            fs::remove_file(slot.join("other")).unwrap();
            fs::write(admin.join("index.lock"), "").unwrap();
        }),
        ("the index is gone, files of another commit lie about", &|| {
            fs::remove_file(mark(&slot)).unwrap();
            fs::remove_file(admin.join("index")).unwrap();
            write(&slot, "of/another/commit", "x");
        }),
        ("the branch was made, the place not lent", &|| {
            fs::remove_file(mark(&slot)).unwrap();
            fixture.git(&["branch", "orch/r1/next", "main"]);
            fs::write(admin.join("HEAD"), "ref: refs/heads/orch/r1/next\n").unwrap();
        }),
        ("the link was made, the place not lent", &|| {
            fs::remove_file(mark(&slot)).unwrap();
            fs::create_dir_all(fixture.place("next").parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&slot, fixture.place("next")).unwrap();
        }),
        ("from before the machine was started anew", &|| {
            let text = fs::read_to_string(mark(&slot)).unwrap();
            let commit = text.split(' ').next().unwrap();
            fs::write(mark(&slot), format!("{commit} 1 another\n")).unwrap();
            fs::write(slot.join("other"), "").unwrap();
        }),
        ("marked as clean, and changed by a process that was left over", &|| {
            write(&slot, "dir/file", "changed");
            write(&slot, "stray", "x");
        }),
    ];
    for (point, leave) in points {
        leave();
        let provider = fixture.begun().await;
        let worktree = provider.acquire(request("next", 1)).await.expect(point);
        assert_eq!(worktree.path().canonicalize().unwrap(), slot, "{point}");
        assert_eq!(git(&slot, &["status", "--porcelain", "--branch"]), "## orch/r1/next");
        let tree = |name: &str| fs::read_to_string(slot.join(name)).unwrap();
        assert_eq!((&*tree("dir/file"), &*tree("other")), ("whole\n", "x\n"), "{point}");
        assert!(slot.join("target/cache").exists(), "{point}: caches stay");
        assert!(!slot.join("stray").exists() && !slot.join("of").exists(), "{point}");
        worktree.release(Release::Done).await.unwrap();
        finish(&provider).await;
        assert!(!fixture.has("refs/orch/preserved/r1/next/1"), "{point}");
        assert!(mark(&slot).exists(), "{point}");
    }
}

#[tokio::test]
async fn what_is_lent_is_never_reset_for_another() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    write(worktree.path(), "a", "work");
    let first = worktree.path().canonicalize().unwrap();
    drop(worktree);
    // The link is lost, as by a power cut; the orchestrator is another.
    fs::remove_file(fixture.place("a")).unwrap();
    let provider = fixture.open().await;
    let other = provider.acquire(request("b", 1)).await.unwrap();
    assert_ne!(other.path().canonicalize().unwrap(), first);
    assert_eq!(fs::read_to_string(first.join("a")).unwrap(), "work");
    let again = provider.acquire(request("a", 2)).await.unwrap();
    assert!(!again.path().join("a").exists());
    assert_eq!(fixture.file("refs/orch/preserved/r1/a/1", "a").as_deref(), Some("work"));

    // A link that leads to the place of another task is only a link.
    let other_place = other.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&other_place, fixture.place("c")).unwrap();
    write(&other_place, "b", "work");
    provider.tidy(request("c", 1), Release::Done).await.unwrap();
    assert!(!fixture.place("c").is_symlink());
    let third = provider.acquire(request("c", 1)).await.unwrap();
    assert_ne!(third.path().canonicalize().unwrap(), other_place);
    assert!(other.path().join("b").exists());
}

#[tokio::test]
async fn what_a_task_did_to_the_git_folder_does_not_reach_the_next() {
    let fixture = Fixture::new();
    fixture.commit(&[("secret", "right\n"), ("keep", "x\n")]);
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    git(worktree.path(), &["update-index", "--assume-unchanged", "secret"]);
    write(worktree.path(), "secret", "wrong\n");
    worktree.release(Release::Done).await.unwrap();
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(fs::read_to_string(worktree.path().join("secret")).unwrap(), "right\n");

    git(worktree.path(), &["sparse-checkout", "set", "--no-cone", "/keep"]);
    assert!(!worktree.path().join("secret").exists());
    worktree.release(Release::Verified).await.unwrap();
    let worktree = provider.acquire(request("c", 1)).await.unwrap();
    assert!(worktree.path().join("secret").exists());
    let admin = fixture.admin("c");
    write(&admin, "rebase-merge/head-name", "refs/heads/other");
    worktree.release(Release::Retry).await.unwrap();
    let worktree = provider.acquire(request("d", 1)).await.unwrap();
    assert!(!fixture.admin("d").join("rebase-merge").exists());
    write(worktree.path(), "d", "d");
    let sealed = worktree.seal(&message("d")).await.unwrap();
    assert!(sealed.committed);
    assert_eq!(message("d").task, task_id("d"));
}

#[tokio::test]
async fn a_place_that_a_power_cut_lends_again_goes_back_into_the_pool() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "1")]).await;
    let lent = fixture.repo.join(".git/worktrees/slot-1/orch-place");
    let note = fs::read(&lent).unwrap();
    merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Done).await.unwrap();
    assert!(!lent.exists() && provider.traces(&run_id()).await.unwrap().is_empty());
    // Git is at work in the background no more.
    provider.gc(GcRequest { live: vec![run_id()], ..GcRequest::default() }).await.unwrap();
    // The link to it is not back.
    fs::write(&lent, note).unwrap();
    assert!(provider.traces(&run_id()).await.unwrap().contains(&task_id("a")));
    provider.tidy(request("a", 1), Release::Done).await.unwrap();
    assert!(!lent.exists() && provider.traces(&run_id()).await.unwrap().is_empty());
    complete(&provider, "b", &[("b", "1")]).await;
    finish(&provider).await;
    assert_eq!(slots(&fixture).len(), 1);
}
