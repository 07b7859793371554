//! Files of the results, and commits of the engine's own.

use std::collections::BTreeMap;

use orch_model::{CommitId, event::Delivery, ports::WorktreeError};
use orch_worktree::{ChangeResults, GitWorktrees};

use crate::support::{Fixture, complete, finish, git, run_id, write};

async fn change(
    provider: &GitWorktrees,
    base: &CommitId,
    files: &[(&str, &str)],
) -> Result<Option<CommitId>, WorktreeError> {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).into())).collect();
    let (base, message) = (base.clone(), "Note it\n\nWith a body.".to_owned());
    provider.change_results(ChangeResults { run: run_id(), base, files, message }).await
}

#[tokio::test]
async fn a_change_is_a_commit_on_the_results_and_delivered_with_them() {
    let fixture = Fixture::new();
    fixture.commit(&[("docs/a.yaml", "one"), ("docs/deep/b.yaml", "deep"), ("docsy", "no")]);
    let provider = fixture.begun().await;
    let work = complete(&provider, "a", &[("work", "w")]).await;
    let found = provider.result_files(&run_id(), "docs").await.unwrap().unwrap();
    assert_eq!(found.tip, work);
    assert_eq!(found.content, BTreeMap::from([("a.yaml".to_owned(), b"one".to_vec())]));
    assert!(found.paths.contains("docs/deep/b.yaml") && found.paths.contains("work"));

    let before = fixture.checkout();
    let files = [("docs/a.yaml", "two"), ("docs/new/c.yaml", "three\n")];
    let new = change(&provider, &found.tip, &files).await.unwrap().unwrap();
    assert_eq!(fixture.checkout(), before, "the checkout is not touched");
    assert_eq!(change(&provider, &found.tip, &files).await.unwrap(), None, "it has moved");
    let expected = Delivery::Target { target: "main".into(), commit: new.clone() };
    assert_eq!(finish(&provider).await, expected);
    assert_eq!(
        fixture.git(&["show", "-s", "--format=%B", "main"]).trim_end(),
        "Note it\n\nWith a body.\n\nOrch-Run: r1"
    );
    let changed = fixture.git(&["diff", "--name-only", work.as_str(), "main"]);
    assert_eq!(changed.split_whitespace().collect::<Vec<_>>(), ["docs/a.yaml", "docs/new/c.yaml"]);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert_eq!(provider.result_files(&run_id(), "docs").await.unwrap(), None, "they are delivered");
    assert_eq!(change(&provider, &new, &files).await.unwrap(), None);
}

#[tokio::test]
async fn new_commits_of_the_target_are_kept() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let found = provider.result_files(&run_id(), "docs").await.unwrap().unwrap();
    let theirs = fixture.commit(&[("theirs", "t")]);
    assert_eq!(change(&provider, &found.tip, &[("docs/a", "a")]).await.unwrap(), None);
    let found = provider.result_files(&run_id(), "docs").await.unwrap().unwrap();
    assert_eq!(found.tip, theirs);
    change(&provider, &found.tip, &[("docs/a", "a")]).await.unwrap().unwrap();
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    assert_eq!(fixture.file("main", "theirs").as_deref(), Some("t"));
    assert_eq!(fixture.file("main", "docs/a").as_deref(), Some("a"));
}

#[tokio::test]
async fn nothing_is_replaced_by_something_of_another_kind() {
    let fixture = Fixture::new();
    write(&fixture.repo, "folder/file", "f");
    std::os::unix::fs::symlink("folder", fixture.repo.join("link")).unwrap();
    git(&fixture.repo, &["add", "."]);
    git(&fixture.repo, &["commit", "-qm", "all kinds"]);
    let provider = fixture.begun().await;
    let found = provider.result_files(&run_id(), "folder").await.unwrap().unwrap();
    for path in ["folder/file/x", "folder", "link", "link/x", "README/docs/x"] {
        let error = change(&provider, &found.tip, &[(path, "new")]).await.unwrap_err();
        assert!(error.to_string().contains("is in the way"), "{path}: {error}");
    }
    for path in ["../x", ".git/config", "/x", "a/../b"] {
        assert!(change(&provider, &found.tip, &[(path, "new")]).await.is_err(), "{path}");
    }
    assert_eq!(fixture.tip("orch/r1/target"), found.tip, "nothing was moved");
    assert_eq!(finish(&provider).await, Delivery::Nothing);
}
