use std::fs;

use orch_model::ports::{WorktreeError, WorktreeProvider};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};

use crate::support::{Fixture, begin, complete, git, run_id, work};

#[tokio::test]
async fn any_folder_inside_will_do() {
    let fixture = Fixture::new();
    let inside = fixture.repo.join("a/b");
    fs::create_dir_all(&inside).unwrap();
    let provider = GitWorktrees::open(GitWorktreesConfig::new(&inside)).await.unwrap();
    assert_eq!(provider.name(), "git");
    assert_eq!(provider.repository(), fixture.repo);
    assert_eq!(provider.root(), fixture.root());
    assert!(!fixture.root().exists(), "nothing is made before it is needed");
}

#[tokio::test]
async fn the_root_can_be_elsewhere() {
    let fixture = Fixture::new();
    let provider = GitWorktrees::open(fixture.config().root("../else/where")).await.unwrap();
    begin(&provider, None).await.unwrap();
    let (worktree, _) = work(&provider, "a", &[("a", "a")]).await;
    let expected = fixture.repo.parent().unwrap().join("repo/../else/where/r1/a");
    assert_eq!(worktree.path().canonicalize().unwrap(), expected.canonicalize().unwrap());
}

#[tokio::test]
async fn what_is_no_repository_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        let error = GitWorktrees::open(GitWorktreesConfig::new(&path)).await.unwrap_err();
        assert!(matches!(error, WorktreeError::NotARepository { .. }), "{error}");
    }
    git(folder.path(), &["init", "--quiet", "--bare"]);
    let error = GitWorktrees::open(GitWorktreesConfig::new(folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("bare repository"), "{error}");
}

#[tokio::test]
async fn a_missing_or_old_git_is_named() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.git = "/nonexistent/git".into();
    let error = GitWorktrees::open(config.clone()).await.unwrap_err();
    assert!(matches!(error, WorktreeError::NoGit { .. }), "{error}");

    use std::os::unix::fs::PermissionsExt;
    let old = fixture.repo.with_file_name("old-git");
    fs::write(&old, "#!/bin/sh\necho git version 2.37.1\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    config.git = old.into();
    let error = GitWorktrees::open(config).await.unwrap_err();
    assert!(matches!(&error, WorktreeError::GitTooOld { found } if found == "2.37.1"), "{error}");
}

#[tokio::test]
async fn targets_that_cant_be_used_come_with_a_cure() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    fixture.git(&["branch", "feature/login"]);
    let error = begin(&provider, Some("feature/logn")).await.unwrap_err().to_string();
    assert!(error.contains("did you mean `feature/login`"), "{error}");
    let error = begin(&provider, Some("0")).await.unwrap_err().to_string();
    assert!(error.contains("`git branch -- 0`"), "{error}");

    fixture.git(&["checkout", "--quiet", "--detach"]);
    let error = begin(&provider, None).await.unwrap_err().to_string();
    assert!(error.contains("HEAD is detached"), "{error}");
    assert!(begin(&provider, Some("refs/heads/main")).await.is_ok());

    let error = provider.finish(&orch_model::RunId::new("other").unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("run `other` has not begun"), "{error}");
}

#[tokio::test]
async fn a_branch_in_the_way_is_named() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "orch"]);
    let error = begin(&fixture.open().await, None).await.unwrap_err().to_string();
    assert!(error.contains("git branch -m orch"), "{error}");
}

#[tokio::test]
async fn a_repository_without_commits_needs_one() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "-b", "trunk"]);
    let provider = GitWorktrees::open(GitWorktreesConfig::new(folder.path())).await.unwrap();
    let error = begin(&provider, None).await.unwrap_err().to_string();
    assert!(error.contains("`trunk` has no commits yet; make a first one"), "{error}");
}

#[tokio::test]
async fn a_run_begins_once() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let first = begin(&provider, None).await.unwrap();
    assert_eq!((first.target.as_str(), &first.commit), ("main", &fixture.tip("main")));
    let merged = complete(&provider, "a", &[("a", "a")]).await;

    // Another process resumes it; meanwhile the user works elsewhere.
    fixture.commit(&[("x", "x")]);
    fixture.git(&["switch", "--quiet", "-c", "other"]);
    let provider = fixture.open().await;
    assert_eq!(begin(&provider, None).await.unwrap(), first);
    assert_eq!(fixture.tip("orch/r1/target"), merged);
}

#[tokio::test]
async fn a_machine_without_an_identity_gets_one() {
    let fixture = Fixture::new();
    for name in ["user.name", "user.email"] {
        fixture.git(&["config", "--unset", name]);
    }
    fixture.git(&["config", "user.useConfigOnly", "true"]);
    let provider = fixture.begun().await;
    let (_, tip) = work(&provider, "a", &[("a", "a")]).await;
    let author = fixture.git(&["log", "-1", "--format=%an <%ae>", tip.as_str()]);
    assert_eq!(author, "orch <orch@localhost>");
}

#[tokio::test]
async fn a_linked_worktree_of_the_user_works_too() {
    let fixture = Fixture::new();
    let linked = fixture.repo.with_file_name("linked");
    let name = linked.to_str().unwrap();
    fixture.git(&["worktree", "add", "--quiet", "-b", "side", name]);
    let provider = GitWorktrees::open(GitWorktreesConfig::new(&linked)).await.unwrap();
    assert_eq!(begin(&provider, None).await.unwrap().target, "side");
    complete(&provider, "a", &[("a", "a")]).await;
    let delivery = provider.finish(&run_id()).await.unwrap();
    assert!(matches!(delivery, orch_model::event::Delivery::Target { .. }), "{delivery:?}");
    assert!(linked.join("a").exists());
    assert_eq!(git(&linked, &["status", "--porcelain"]), "");
}

#[test]
fn the_environment_of_a_hook_leads_nowhere_else() {
    // A whole test once more, as if it was started by a hook of another repository.
    let other = Fixture::new();
    let before = other.checkout();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::a_task_from_worktree_to_merge"])
        .current_dir(&other.repo)
        .env("GIT_DIR", other.repo.join(".git"))
        .env("GIT_WORK_TREE", &other.repo)
        .env("GIT_INDEX_FILE", other.repo.join(".git/index"))
        .env("GIT_PREFIX", "sub/")
        .env("GIT_NAMESPACE", "foreign")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(other.checkout(), before);
    assert_eq!(other.branches(), ["main"]);
}

#[tokio::test]
async fn reftable_repositories_are_understood() {
    let probe = tempfile::tempdir().unwrap();
    let init = ["init", "--quiet", "--ref-format=reftable"];
    if !crate::support::try_git(probe.path(), &init).status.success() {
        return; // git before 2.45 has no reftable.
    }
    let fixture = Fixture::with_init(&[
        "-c",
        "init.defaultBranch=main",
        "init",
        "--quiet",
        "--ref-format=reftable",
    ]);
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "a")]).await;
    assert!(fixture.file("main", "a").is_none(), "main is checked out");
    fixture.git(&["switch", "--quiet", "-c", "side"]);
    complete(&provider, "b", &[("b", "b")]).await;
    assert!(fixture.file("main", "b").is_some(), "main is checked out nowhere");
    fixture.git(&["switch", "--quiet", "main"]);
    complete(&provider, "c", &[("c", "c")]).await;
    provider.finish(&run_id()).await.unwrap();
    assert!(fixture.repo.join("c").exists());
}

#[tokio::test]
async fn a_git_folder_may_be_elsewhere() {
    let separate = ["init", "--quiet", "-b", "main", "--separate-git-dir", "../elsewhere"];
    let fixture = Fixture::with_init(&separate);
    let provider = fixture.begun().await;
    let commit = complete(&provider, "a", &[("a", "a")]).await;
    assert_ne!(fixture.tip("main"), commit, "main is checked out");
    provider.finish(&run_id()).await.unwrap();
    assert_eq!(fixture.tip("main"), commit);
    assert!(fixture.repo.join("a").exists());
}

#[tokio::test]
async fn a_bare_repository_with_a_worktree_will_do() {
    let fixture = Fixture::new();
    let bare = fixture.repo.with_file_name("bare.git");
    let linked = fixture.repo.with_file_name("linked");
    let parent = fixture.repo.parent().unwrap();
    git(parent, &["clone", "--quiet", "--bare", "repo", "bare.git"]);
    git(&bare, &["worktree", "add", "--quiet", "-b", "side", linked.to_str().unwrap()]);
    let provider = GitWorktrees::open(GitWorktreesConfig::new(&linked)).await.unwrap();
    begin(&provider, Some("main")).await.unwrap();
    let commit = complete(&provider, "a", &[("a", "a")]).await;
    // HEAD of the bare repository names `main`, but nobody works there.
    assert_eq!(git(&bare, &["rev-parse", "main"]), commit.as_str());
}

#[tokio::test]
async fn relative_links_between_worktrees_are_understood() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "1")]).await;
    let link = fixture.repo.join(".git/worktrees/a/gitdir");
    fs::write(&link, "../../../../repo.worktrees/r1/a/.git\n").unwrap();
    crate::support::write(worktree.path(), "a", "2");
    let worktree = provider.acquire(crate::support::request("a", 2)).await.unwrap();
    assert!(!worktree.path().join("a").exists());
    let kept = "refs/orch/preserved/r1/a/1";
    assert_eq!(fixture.file(kept, "a").as_deref(), Some("2"));
    fixture.git(&["merge-base", "--is-ancestor", tip.as_str(), kept]);
}
