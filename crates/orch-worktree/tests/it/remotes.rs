//! Targets that are made, and those of remotes: real bare repositories, and others who push to them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use orch_model::{
    CommitId,
    event::{Delivery, RunBase},
    ports::{BeginRun, WorktreeError, WorktreeProvider},
};
use orch_worktree::GitWorktrees;

use crate::support::{Fixture, commit, complete, finish, git, request, run_id, try_git};

/// A repository whose branch `main` is also that of a bare one, `origin`.
struct Remote {
    fixture: Fixture,
    bare: PathBuf,
}

impl Remote {
    fn new() -> Self {
        let fixture = Fixture::new();
        let bare = fixture.repo.with_file_name("bare.git");
        let path = bare.to_str().unwrap();
        fixture.git(&["clone", "--quiet", "--bare", ".", path]);
        fixture.git(&["remote", "add", "origin", path]);
        Self { fixture, bare }
    }

    async fn begun(&self) -> GitWorktrees {
        let provider = self.fixture.open().await;
        begin(&provider, Some("origin/main"), None).await.unwrap();
        provider
    }

    fn tip(&self, branch: &str) -> CommitId {
        CommitId::new(git(&self.bare, &["rev-parse", "--verify", &format!("refs/heads/{branch}")]))
    }

    /// A clone of somebody else, with a commit that is not pushed yet.
    fn colleague(&self, files: &[(&str, &str)]) -> PathBuf {
        let path = self.bare.with_file_name("colleague");
        if !path.exists() {
            git(&self.bare, &["clone", "--quiet", ".", path.to_str().unwrap()]);
            git(&path, &["config", "user.name", "Colleague"]);
            git(&path, &["config", "user.email", "colleague@example.com"]);
        }
        commit(&path, files);
        path
    }

    fn hook(&self, name: &str, script: &str) {
        script_at(&self.bare.join("hooks").join(name), script);
    }
}

fn script_at(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn begin(
    provider: &GitWorktrees,
    target: Option<&str>,
    base: Option<&str>,
) -> Result<RunBase, WorktreeError> {
    let (target, base) = (target.map(str::to_owned), base.map(str::to_owned));
    provider.begin(BeginRun { run: run_id(), target, base }).await
}

fn delivered(target: &str, commit: CommitId) -> Delivery {
    Delivery::Target { target: target.into(), commit }
}

#[tokio::test]
async fn a_branch_is_made_where_the_run_says_from_what() {
    let fixture = Fixture::new();
    let first = fixture.tip("main");
    fixture.git(&["tag", "-a", "v1", "-m", "one"]);
    let second = fixture.commit(&[("more", "1")]);
    let provider = fixture.open().await;
    let error = begin(&provider, Some("results/new"), None).await.unwrap_err().to_string();
    assert!(
        error.contains("there is no branch `results/new`") && error.contains("`base`"),
        "{error}"
    );
    let error = begin(&provider, Some("new"), Some("v2")).await.unwrap_err().to_string();
    assert_eq!(error, "there is no branch, tag or commit `v2` to make `new` from");
    assert_eq!(fixture.branches(), ["main"], "nothing was made");

    let base = begin(&provider, Some("results/new"), Some("v1")).await.unwrap();
    assert_eq!(base, RunBase { target: "results/new".into(), commit: first.clone() });
    assert_eq!(fixture.tip("results/new"), first);
    let merged = complete(&provider, "one", &[("one", "1")]).await;
    assert_eq!(finish(&provider).await, delivered("results/new", merged.clone()));
    assert_eq!(fixture.tip("results/new"), merged);
    assert_eq!(fixture.tip("main"), second);
}

#[tokio::test]
async fn a_branch_that_exists_is_not_made_again() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let base = fixture.commit(&[("more", "1")]);
    let begun = begin(&provider, Some("main"), Some("HEAD~1")).await.unwrap();
    assert_eq!(begun.commit, base);
}

#[tokio::test]
async fn a_remote_is_fetched_first_and_pushed_to_last() {
    let remote = Remote::new();
    let local = remote.fixture.tip("main");
    let colleague = remote.colleague(&[("theirs", "1")]);
    git(&colleague, &["push", "--quiet", "origin", "main"]);
    let provider = remote.fixture.open().await;
    let base = begin(&provider, Some("origin/main"), None).await.unwrap();
    assert_eq!(base, RunBase { target: "origin/main".into(), commit: remote.tip("main") });
    let merged = complete(&provider, "one", &[("one", "1")]).await;
    assert_ne!(remote.tip("main"), merged, "nothing is pushed before the end");
    let checkout = remote.fixture.checkout();
    assert_eq!(finish(&provider).await, delivered("origin/main", merged.clone()));
    assert_eq!(remote.tip("main"), merged);
    assert_eq!(remote.fixture.tip("refs/remotes/origin/main"), merged);
    assert_eq!(remote.fixture.tip("main"), local, "no branch of the repository has a part in it");
    assert_eq!(remote.fixture.checkout(), checkout);
    assert_eq!(remote.fixture.branches(), ["main"]);
    // Once more, as after a crash before that was recorded.
    assert_eq!(finish(&remote.fixture.open().await).await, delivered("origin/main", merged));
}

#[tokio::test]
async fn what_others_push_during_the_run_is_taken_in() {
    let remote = Remote::new();
    let provider = remote.begun().await;
    let merged = complete(&provider, "one", &[("one", "1")]).await;
    let colleague = remote.colleague(&[("theirs", "1")]);
    git(&colleague, &["push", "--quiet", "origin", "main"]);
    let theirs = remote.tip("main");
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    for contained in [&merged, &theirs] {
        git(&remote.bare, &["merge-base", "--is-ancestor", contained.as_str(), "main"]);
    }
}

/// Somebody pushes between our look and our push: before the remote says where it stands, and after.
#[tokio::test]
async fn a_push_that_comes_second_is_repeated_with_what_came_first() {
    for early in [true, false] {
        let remote = Remote::new();
        let colleague = remote.colleague(&[("theirs", "1")]);
        let mark = remote.bare.with_file_name("mark");
        let race = format!(
            "if ! test -e {mark}; then touch {mark}; env -i PATH=\"$PATH\" git -C {colleague} push --quiet origin main >&2; fi",
            mark = mark.display(),
            colleague = colleague.display()
        );
        if early {
            let wrapper = remote.bare.with_file_name("receive");
            script_at(&wrapper, &format!("{race}\nexec git receive-pack \"$@\""));
            remote.fixture.git(&["config", "remote.origin.receivepack", wrapper.to_str().unwrap()]);
        } else {
            remote.hook("pre-receive", &race);
        }
        let provider = remote.begun().await;
        let merged = complete(&provider, "one", &[("one", "1")]).await;
        let delivery = finish(&provider).await;
        assert!(matches!(delivery, Delivery::Target { .. }), "{early}: {delivery:?}");
        assert!(mark.exists());
        let theirs = CommitId::new(git(&colleague, &["rev-parse", "main"]));
        for contained in [&merged, &theirs] {
            git(&remote.bare, &["merge-base", "--is-ancestor", contained.as_str(), "main"]);
        }
        assert_eq!(git(&remote.bare, &["rev-list", "--count", "--merges", "main"]), "2");
    }
}

#[tokio::test]
async fn results_that_conflict_with_what_others_pushed_wait() {
    let remote = Remote::new();
    let provider = remote.begun().await;
    let merged = complete(&provider, "one", &[("README", "ours\n")]).await;
    let colleague = remote.colleague(&[("README", "theirs\n")]);
    git(&colleague, &["push", "--quiet", "origin", "main"]);
    let theirs = remote.tip("main");
    let Delivery::Waiting { target, reason, hint, commit, .. } = finish(&provider).await else {
        panic!("it can't be pushed")
    };
    assert_eq!((target.as_str(), &commit), ("origin/main", &merged));
    assert!(reason.contains("conflict with the results in `README`"), "{reason}");
    assert_eq!(remote.tip("main"), theirs);
    // What the hint says works, once the conflict is settled.
    let commands: Vec<_> = hint.split(" && ").collect();
    assert_eq!(commands[0], "git switch orch/r1/target");
    for command in &commands[..2] {
        let arguments: Vec<_> = command.split(' ').skip(1).collect();
        let _ = try_git(&remote.fixture.repo, &arguments);
    }
    remote.fixture.commit(&[("README", "both\n")]);
    remote.fixture.git(&commands[2].split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(git(&remote.bare, &["show", "main:README"]), "both");
}

#[tokio::test]
async fn a_remote_that_refuses_or_is_gone_leaves_the_results_here() {
    let remote = Remote::new();
    let provider = remote.begun().await;
    let merged = complete(&provider, "one", &[("one", "1")]).await;
    remote.hook("update", "echo the branch is frozen >&2; exit 1");
    let Delivery::Waiting { reason, hint, .. } = finish(&provider).await else { panic!() };
    assert!(reason.contains("frozen") && reason.contains("hook declined"), "{reason}");
    let moved = remote.bare.with_file_name("moved.git");
    fs::rename(&remote.bare, &moved).unwrap();
    let Delivery::Waiting { reason, .. } = finish(&provider).await else { panic!() };
    assert!(reason.contains("can't fetch `main` from `origin`"), "{reason}");
    fs::rename(&moved, &remote.bare).unwrap();
    fs::remove_file(remote.bare.join("hooks/update")).unwrap();
    let gone = provider.gc(orch_model::ports::GcRequest::default()).await.unwrap();
    assert!(
        gone.iter().any(|item| item.name == "orch/r1/target" && item.kept.is_some()),
        "{gone:?}"
    );
    remote.fixture.git(&hint.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(remote.tip("main"), merged);
    provider.gc(orch_model::ports::GcRequest::default()).await.unwrap();
    assert_eq!(remote.fixture.branches(), ["main"]);
}

#[tokio::test]
async fn a_branch_of_a_remote_is_made_where_the_run_says_from_what() {
    let remote = Remote::new();
    let provider = remote.fixture.open().await;
    let error = begin(&provider, Some("origin/new"), None).await.unwrap_err().to_string();
    assert!(error.contains("no branch `new` in the remote `origin`"), "{error}");
    assert!(error.contains("`base`"), "{error}");
    begin(&provider, Some("origin/new"), Some("HEAD")).await.unwrap();
    let merged = complete(&provider, "one", &[("one", "1")]).await;
    assert_eq!(finish(&provider).await, delivered("origin/new", merged.clone()));
    assert_eq!(remote.tip("new"), merged);
}

#[tokio::test]
async fn a_branch_that_somebody_deleted_from_a_remote_is_not_made_again() {
    let remote = Remote::new();
    git(&remote.bare, &["branch", "other", "main"]);
    let provider = remote.fixture.open().await;
    begin(&provider, Some("origin/other"), None).await.unwrap();
    complete(&provider, "one", &[("one", "1")]).await;
    git(&remote.bare, &["branch", "-D", "other"]);
    let Delivery::Waiting { reason, hint, .. } = finish(&provider).await else { panic!() };
    assert_eq!(reason, "branch `origin/other` was deleted");
    assert_eq!(hint, "git push origin orch/r1/target:refs/heads/other");
}

#[tokio::test]
async fn a_remote_that_can_not_be_reached_is_named_before_anything_is_made() {
    let remote = Remote::new();
    fs::remove_dir_all(&remote.bare).unwrap();
    let provider = remote.fixture.open().await;
    let error = begin(&provider, Some("origin/main"), None).await.unwrap_err().to_string();
    assert!(error.starts_with("can't fetch `main` from `origin`: "), "{error}");
    assert!(provider.acquire(request("one", 1)).await.is_err(), "the run has not begun");
    assert_eq!(remote.fixture.branches(), ["main"]);
}

#[tokio::test]
async fn settings_that_an_agent_changed_are_not_obeyed() {
    let remote = Remote::new();
    let provider = remote.begun().await;
    complete(&provider, "one", &[("one", "1")]).await;
    let before = remote.tip("main");
    let trap = remote.bare.with_file_name("trap");
    let evil = remote.bare.with_file_name("evil");
    script_at(&evil, &format!("touch {}; exit 1", trap.display()));
    remote.fixture.git(&["config", "remote.origin.receivepack", evil.to_str().unwrap()]);
    let Delivery::Waiting { reason, .. } = finish(&provider).await else { panic!() };
    assert!(
        reason.contains("`remote.origin.receivepack` of the repository was changed"),
        "{reason}"
    );
    assert!(!trap.exists());
    assert_eq!(remote.tip("main"), before);
}
