use std::fs;

use orch_model::ports::{Release, WorktreeProvider};

use crate::support::{
    Fixture, commit, finish, git, merge, merged, message, shared, try_git, write,
};

#[tokio::test]
async fn the_tasks_of_an_epic_share_a_folder_and_its_caches() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let folder = fixture.place("@epic-e");

    let worktree = provider.acquire(shared("a", "e")).await.unwrap();
    assert_eq!(worktree.path(), folder);
    assert_eq!(worktree.branch(), "orch/r1/a");
    write(&folder, "target/cache", "built");
    write(&folder, "a", "a");
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    let first = merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Done).await.unwrap();
    assert!(folder.is_dir());
    assert!(!fixture.has("refs/heads/orch/r1/a"));

    let worktree = provider.acquire(shared("b", "e")).await.unwrap();
    assert_eq!((worktree.path(), worktree.base()), (folder.as_path(), &first));
    assert_eq!(git(&folder, &["status", "--porcelain", "--branch"]), "## orch/r1/b");
    assert!(folder.join("target/cache").exists() && folder.join("a").exists());
    assert!(fixture.git(&["worktree", "list", "--porcelain"]).contains("task b attempt 1"));
    worktree.release(Release::Done).await.unwrap();

    finish(&provider).await;
    assert!(fixture.is_tidy());
    assert_eq!(fixture.branches(), ["main"]);
}

#[tokio::test]
async fn a_kept_task_has_its_work_on_its_branch() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let folder = fixture.place("@epic-e");
    let worktree = provider.acquire(shared("a", "e")).await.unwrap();
    write(&folder, "a", "unfinished");
    worktree.release(Release::Keep).await.unwrap();
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");
    assert_eq!(fixture.file("orch/r1/a", "a").as_deref(), Some("unfinished"));

    let worktree = provider.acquire(shared("b", "e")).await.unwrap();
    assert!(!folder.join("a").exists());
    worktree.release(Release::Done).await.unwrap();
    assert!(fixture.has("refs/heads/orch/r1/a"));
    let kept = fixture.git(&["for-each-ref", "refs/orch/preserved"]);
    assert_eq!(kept, "", "the branch is enough");
}

#[tokio::test]
async fn a_repeated_task_begins_clean() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let folder = fixture.place("@epic-e");
    let worktree = provider.acquire(shared("a", "e")).await.unwrap();
    write(&folder, "target/cache", "built");
    write(&folder, "a", "unfinished");
    worktree.release(Release::Retry).await.unwrap();
    assert!(!folder.join("a").exists() && folder.join("target/cache").exists());
    assert_eq!(fixture.file("refs/orch/preserved/r1/a/1", "a").as_deref(), Some("unfinished"));

    // A lock that a killed agent left makes the folder useless; the work is kept all the same.
    let worktree = provider.acquire(shared("b", "e")).await.unwrap();
    write(&folder, "b", "unfinished");
    fs::write(fixture.admin("@epic-e").join("index.lock"), "").unwrap();
    worktree.release(Release::Retry).await.unwrap();
    assert_eq!(fixture.file("refs/orch/preserved/r1/b/1", "b").as_deref(), Some("unfinished"));
    assert!(!folder.exists());
    let worktree = provider.acquire(shared("b", "e")).await.unwrap();
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_crash_between_two_tasks_loses_nothing() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let folder = fixture.place("@epic-e");

    drop(provider.acquire(shared("a", "e")).await.unwrap());
    write(&folder, "a", "changed");
    drop(provider.acquire(shared("b", "e")).await.unwrap());
    assert_eq!(fixture.file("orch/r1/a", "a").as_deref(), Some("changed"));
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");

    // Detached, with a rebase half done.
    git(&folder, &["checkout", "--quiet", "--detach"]);
    commit(&folder, &[("README", "b\n")]);
    git(&folder, &["branch", "other", "HEAD~1"]);
    git(&folder, &["checkout", "--quiet", "other"]);
    commit(&folder, &[("README", "other\n")]);
    git(&folder, &["checkout", "--quiet", "--detach", "@{-2}"]);
    commit(&folder, &[("README", "c\n")]);
    assert!(!try_git(&folder, &["rebase", "--quiet", "other"]).status.success());
    write(&folder, "late", "1");
    let worktree = provider.acquire(shared("c", "e")).await.unwrap();
    assert_eq!(git(&folder, &["status", "--porcelain", "--branch"]), "## orch/r1/c");
    assert!(!git(&folder, &["status"]).contains("rebase"));
    let kept = fixture.git(&["for-each-ref", "--format=%(refname)", "refs/orch/preserved"]);
    assert_eq!(kept, "refs/orch/preserved/r1/c/1");
    assert_eq!(fixture.file(&kept, "late").as_deref(), Some("1"));
    worktree.release(Release::Done).await.unwrap();

    // A stale lock: a new folder takes the place.
    write(&folder, "late", "2");
    fs::write(fixture.admin("@epic-e").join("index.lock"), "").unwrap();
    let worktree = provider.acquire(shared("d", "e")).await.unwrap();
    assert!(!worktree.path().join("late").exists());
    assert_eq!(fixture.file("refs/orch/preserved/r1/d/1", "late").as_deref(), Some("2"));

    // Half made.
    let admin = fixture.admin("@epic-e");
    fs::remove_file(admin.join("index")).unwrap();
    let worktree = provider.acquire(shared("d", "e")).await.unwrap();
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");

    // What is not clean stays at the end.
    write(&folder, "late", "3");
    finish(&provider).await;
    assert!(folder.join("late").exists());
}

#[tokio::test]
async fn by_products_do_not_reach_the_next_task_and_caches_do() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(shared("a", "e")).await.unwrap();
    let folder = worktree.path().to_owned();
    write(&folder, "a", "a");
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    merged(merge(&provider, "a", &tip).await);
    write(&folder, "a", "formatted");
    write(&folder, "built/junk", "junk");
    write(&folder, "target/cache", "built");
    worktree.release(Release::Verified).await.unwrap();
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");
    assert!(folder.join("target/cache").exists() && !folder.join("built").exists());

    let worktree = provider.acquire(shared("b", "e")).await.unwrap();
    assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "a");
    worktree.release(Release::Done).await.unwrap();
}
