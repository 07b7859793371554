use std::fs;

use orch_model::{event::Delivery, ports::WorktreeProvider};

use crate::support::{
    Fixture, begin, commit, complete, finish, git, request, run_id, try_git, write,
};

fn waiting(delivery: Delivery) -> (String, String) {
    match delivery {
        Delivery::Waiting { reason, hint, branch, .. } => {
            assert_eq!(branch, "orch/r1/target");
            (reason, hint)
        }
        other => panic!("{other:?}"),
    }
}

/// Types what the hint says.
fn type_in(hint: &str, fixture: &Fixture) {
    let output = std::process::Command::new("sh")
        .args(["-c", hint])
        .current_dir(&fixture.repo)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{hint}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_clean_checkout_is_fast_forwarded() {
    let fixture = Fixture::new();
    write(&fixture.repo, "untracked", "mine");
    let provider = fixture.begun().await;
    let commit = complete(&provider, "a", &[("a", "a")]).await;
    let expected = Delivery::Target { target: "main".into(), commit: commit.clone() };
    assert_eq!(finish(&provider).await, expected);
    assert_eq!(fixture.tip("main"), commit);
    assert!(fixture.repo.join("a").exists());
    assert_eq!(fixture.git(&["status", "--porcelain"]), "?? untracked");
    assert_eq!(fixture.branches(), ["main"]);
    assert!(fixture.is_tidy());
    // Again, in this process and in another.
    assert_eq!(finish(&provider).await, expected);
    assert_eq!(finish(&fixture.open().await).await, expected);
}

#[tokio::test]
async fn a_changed_checkout_is_left_alone() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "a")]).await;
    for staged in [false, true] {
        write(&fixture.repo, "README", "my change\n");
        if staged {
            fixture.git(&["add", "README"]);
        }
        let before = fixture.checkout();
        let (reason, hint) = waiting(finish(&provider).await);
        assert!(reason.contains("has uncommitted changes: `README`"), "{reason}");
        assert_eq!(fixture.checkout(), before);
        let path = fixture.repo.display();
        assert_eq!(hint, format!("git -C {path} merge --ff-only orch/r1/target"));
    }
    let (_, hint) = waiting(finish(&provider).await);
    type_in(&hint, &fixture);
    assert!(fixture.repo.join("a").exists());
    assert_eq!(fixture.git(&["status", "--porcelain"]), "M  README");
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    assert_eq!(fixture.branches(), ["main"]);
}

#[tokio::test]
async fn files_in_the_way_are_left_alone() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let files = [("new", "theirs"), (".gitignore", "/target/\n")];
    complete(&provider, "a", &[&files[..], &[("x.log", "theirs")]].concat()).await;
    for name in ["new", "x.log"] {
        write(&fixture.repo, name, "mine");
        let before = fixture.checkout();
        let (reason, _) = waiting(finish(&provider).await);
        assert!(reason.contains("can't fast-forward") && reason.contains(name), "{reason}");
        let after = fixture.checkout();
        assert_eq!(after.get(&fixture.repo.join(name)), before.get(&fixture.repo.join(name)));
        assert_eq!(fixture.file("main", name), None);
        fs::remove_file(fixture.repo.join(name)).unwrap();
    }
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
}

#[tokio::test]
async fn a_merge_under_way_is_left_alone() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "a")]).await;
    fixture.git(&["switch", "--quiet", "-c", "side"]);
    commit(&fixture.repo, &[("side", "1")]);
    fixture.git(&["switch", "--quiet", "main"]);
    fixture.git(&["merge", "--quiet", "--no-ff", "--no-commit", "side"]);
    let (reason, _) = waiting(finish(&provider).await);
    assert!(reason.contains("a merge is under way"), "{reason}");
    fixture.git(&["merge", "--abort"]);
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
}

#[tokio::test]
async fn another_worktree_is_named_in_the_hint() {
    let fixture = Fixture::new();
    let linked = fixture.repo.with_file_name("linked it's");
    fixture.git(&["worktree", "add", "--quiet", "-b", "next", linked.to_str().unwrap()]);
    let provider = fixture.open().await;
    begin(&provider, Some("next")).await.unwrap();
    complete(&provider, "a", &[("a", "a")]).await;
    write(&linked, "README", "changed");
    let (_, hint) = waiting(finish(&provider).await);
    git(&linked, &["checkout", "--quiet", "README"]);
    type_in(&hint, &fixture);
    assert!(linked.join("a").exists());

    // A checkout whose folder is missing can't be asked.
    complete(&provider, "b", &[("b", "b")]).await;
    fs::remove_dir_all(&linked).unwrap();
    let (reason, _) = waiting(finish(&provider).await);
    assert!(reason.contains("is missing"), "{reason}");
}

#[tokio::test]
async fn a_target_that_is_checked_out_nowhere_is_there_already() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "next"]);
    let provider = fixture.open().await;
    begin(&provider, Some("next")).await.unwrap();
    let commit = complete(&provider, "a", &[("a", "a")]).await;
    assert_eq!(finish(&provider).await, Delivery::Target { target: "next".into(), commit });
    assert_eq!(fixture.branches(), ["main", "next"]);
}

#[tokio::test]
async fn a_target_that_was_left_during_the_run_is_moved_at_the_end() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let commit = complete(&provider, "a", &[("a", "a")]).await;
    assert_ne!(fixture.tip("main"), commit);
    fixture.git(&["switch", "--quiet", "-c", "elsewhere"]);
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    assert_eq!(fixture.tip("main"), commit);
    assert!(!fixture.repo.join("a").exists());
}

#[tokio::test]
async fn nothing_merged_leaves_nothing() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    assert_eq!(finish(&provider).await, Delivery::Nothing);
    assert_eq!(fixture.branches(), ["main"]);

    // Also if the target went on meanwhile.
    let provider = fixture.begun().await;
    let theirs = fixture.commit(&[("x", "x")]);
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    assert_eq!(*worktree.base(), theirs);
    worktree.release(orch_model::ports::Release::Done).await.unwrap();
    assert_eq!(finish(&provider).await, Delivery::Nothing);
    assert_eq!(fixture.branches(), ["main"]);
}

#[tokio::test]
async fn a_moved_target_gets_both() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "a")]).await;
    fixture.commit(&[("theirs", "1")]);
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    assert!(fixture.repo.join("a").exists() && fixture.repo.join("theirs").exists());
}

#[tokio::test]
async fn a_target_in_conflict_waits_for_a_person() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("README", "ours\n")]).await;
    let theirs = fixture.commit(&[("README", "theirs\n")]);
    let (reason, hint) = waiting(finish(&provider).await);
    assert!(reason.contains("conflict with the results in `README`"), "{reason}");
    assert_eq!(hint, format!("git -C {} merge orch/r1/target", fixture.repo.display()));
    assert_eq!(fixture.tip("main"), theirs);

    fixture.git(&["switch", "--quiet", "-c", "elsewhere"]);
    let (_, hint) = waiting(finish(&provider).await);
    assert_eq!(hint, "git switch main && git merge orch/r1/target");

    // The person solves it.
    fixture.git(&["switch", "--quiet", "main"]);
    assert!(!try_git(&fixture.repo, &["merge", "orch/r1/target"]).status.success());
    commit(&fixture.repo, &[("README", "both\n")]);
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
}

#[tokio::test]
async fn a_deleted_target_waits_for_a_person() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "next"]);
    let provider = fixture.open().await;
    begin(&provider, Some("next")).await.unwrap();
    complete(&provider, "a", &[("a", "a")]).await;
    fixture.git(&["branch", "--quiet", "-D", "next"]);
    let last = complete(&provider, "b", &[("b", "b")]).await;
    let (reason, hint) = waiting(finish(&provider).await);
    assert_eq!(reason, "branch `next` was deleted");
    type_in(&hint, &fixture);
    assert_eq!(fixture.tip("next"), last);
    assert!(matches!(provider.finish(&run_id()).await.unwrap(), Delivery::Target { .. }));
}

#[tokio::test]
async fn results_that_somebody_looks_at_stay() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "next"]);
    let provider = fixture.open().await;
    begin(&provider, Some("next")).await.unwrap();
    complete(&provider, "a", &[("a", "a")]).await;
    fixture.git(&["switch", "--quiet", "orch/r1/target"]);
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    assert!(fixture.has("refs/heads/orch/r1/target"));
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}
