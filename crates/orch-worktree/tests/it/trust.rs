//! Filters by the user's word alone, the stash, and what a look at the settings costs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use orch_model::{
    event::{Delivery, Place},
    ports::{Release, WorktreeError, WorktreeProvider},
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};

use crate::support::{
    Fixture, begin, complete, finish, git, merge, merged, message, request, try_git, work, write,
};

/// A repository with a file that the filter `up` stores in capitals, and that is used in small letters.
/// The user's configuration has the filter, and the repository's another one.
struct Filtered {
    fixture: Fixture,
    user: PathBuf,
}

impl Filtered {
    fn new() -> Self {
        let fixture = Fixture::new();
        fixture
            .commit(&[(".gitattributes", "*.up filter=up\n*.own filter=own\n"), ("x.up", "OLD\n")]);
        let user = fixture.repo.with_file_name("gitconfig");
        let text = "[filter \"up\"]\n\tclean = tr a-z A-Z\n\tsmudge = tr A-Z a-z\n\trequired\n";
        fs::write(&user, text).unwrap();
        fixture.git(&["config", "filter.own.clean", "tr a-z 0-9"]);
        fixture.git(&["config", "filter.own.smudge", "tr a-z 0-9"]);
        Self { fixture, user }
    }

    fn config(&self, trusted: &[&str]) -> GitWorktreesConfig {
        let mut trees = crate::support::trees();
        trees.trusted_filters = trusted.iter().map(|name| (*name).to_owned()).collect();
        GitWorktreesConfig::new(&self.fixture.repo)
            .trees(trees)
            .environment("GIT_CONFIG_GLOBAL", &self.user)
            .environment("GIT_CONFIG_SYSTEM", "/dev/null")
    }

    async fn begun(&self, trusted: &[&str]) -> GitWorktrees {
        let provider = GitWorktrees::open(self.config(trusted)).await.unwrap();
        begin(&provider, None).await.unwrap();
        provider
    }
}

#[tokio::test]
async fn filters_that_nobody_trusts_are_not_run() {
    let filtered = Filtered::new();
    let provider = filtered.begun(&[]).await;
    assert_eq!(provider.idle_filters().await.unwrap(), ["up"]);
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let file = worktree.path().join("x.up");
    assert_eq!(fs::read_to_string(&file).unwrap(), "OLD\n", "as it is stored");
    let notices = worktree.examine().await.unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains("`up`"), "{notices:?}");
    assert!(worktree.examine().await.unwrap().notices.is_empty(), "told once");

    // Stored as it is, it would be wrong: the file of the user's filter, and of the repository's.
    for (name, text) in [("x.up", "new\n"), ("y.own", "mine\n")] {
        write(worktree.path(), name, text);
        let error = worktree.seal(&message("a")).await.map(drop).unwrap_err();
        assert!(matches!(error, WorktreeError::WouldLoseWork { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("trusted_filters"), "{text}");
        let _ = try_git(worktree.path(), &["checkout", "-q", "--", "x.up"]);
        fs::write(&file, "OLD\n").unwrap();
        let _ = fs::remove_file(worktree.path().join("y.own"));
    }
    write(worktree.path(), "plain", "1\n");
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Done).await.unwrap();
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
}

#[tokio::test]
async fn filters_that_the_user_trusts_are_run_with_the_users_commands() {
    let filtered = Filtered::new();
    // What the repository says of it counts for nothing.
    let witness = filtered.user.with_file_name("witness");
    let evil = format!("touch {}; cat", witness.display());
    filtered.fixture.git(&["config", "filter.up.clean", &evil]);
    filtered.fixture.git(&["config", "filter.up.process", &evil]);
    let provider = filtered.begun(&["up", "own"]).await;
    assert_eq!(provider.idle_filters().await.unwrap(), [""; 0]);
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let file = worktree.path().join("x.up");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old\n", "as it is used");
    fs::write(&file, "new\n").unwrap();
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    assert_eq!(filtered.fixture.file(tip.as_str(), "x.up").as_deref(), Some("NEW\n"));
    // Named, and in the repository's configuration alone.
    write(worktree.path(), "y.own", "mine\n");
    let error = worktree.seal(&message("a")).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("y.own"), "{error}");
    assert!(!witness.exists());
}

#[tokio::test]
async fn a_checkout_is_not_brought_to_files_as_they_are_stored() {
    let filtered = Filtered::new();
    let provider = filtered.begun(&[]).await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    // The agent's git runs the filter.
    fs::write(worktree.path().join("x.up"), "new\n").unwrap();
    let clean = ["-c", "filter.up.clean=tr a-z A-Z", "commit", "--quiet", "-am", "new"];
    git(worktree.path(), &clean);
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    assert_eq!(filtered.fixture.file(tip.as_str(), "x.up").as_deref(), Some("NEW\n"));
    merged(merge(&provider, "a", &tip).await);
    match finish(&provider).await {
        Delivery::Waiting { reason, .. } => assert!(reason.contains("x.up"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(filtered.fixture.repo.join("x.up")).unwrap(), "OLD\n");
}

#[tokio::test]
async fn what_goes_from_the_stash_is_kept_and_what_stays_there_is_told() {
    let fixture = Fixture::new();
    write(&fixture.repo, "README", "a person's\n");
    fixture.git(&["stash", "push", "--quiet", "-m", "mine"]);
    let stashed = fixture.git(&["rev-parse", "refs/stash"]);
    let provider = fixture.begun().await;
    let (a, b) = (
        provider.acquire(request("a", 1)).await.unwrap(),
        provider.acquire(request("b", 1)).await.unwrap(),
    );
    // Git has one stash for all worktrees: `b` gets what a person put there.
    git(b.path(), &["stash", "pop", "--quiet"]);
    assert_eq!(fs::read_to_string(b.path().join("README")).unwrap(), "a person's\n");
    write(a.path(), "README", "a's\n");
    git(a.path(), &["stash", "push", "--quiet"]);
    let kept = format!("refs/orch/preserved/r1/stash/{stashed}");
    let notices = b.examine().await.unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains(&kept), "{notices:?}");
    assert_eq!(fixture.tip(&kept).as_str(), stashed);
    assert_eq!(fixture.file(&kept, "README").as_deref(), Some("a person's\n"));
    let notices = a.examine().await.unwrap().notices;
    assert!(notices.iter().any(|n| n.contains("it left work in the stash")), "{notices:?}");
    assert!(b.examine().await.unwrap().tampering.is_empty());
}

#[tokio::test]
async fn a_look_at_unchanged_settings_starts_no_git() {
    let fixture = Fixture::new();
    let log = fixture.repo.with_file_name("calls");
    let program = fixture.repo.with_file_name("git");
    let text = format!("#!/bin/sh\necho x >> '{}'\nexec git \"$@\"\n", log.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = fixture.config();
    config.git = program.into();
    let provider = GitWorktrees::open(config).await.unwrap();
    begin(&provider, None).await.unwrap();
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let calls = || fs::read_to_string(&log).unwrap().len();
    // Files that were changed a moment ago are looked at once more.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let before = calls();
        let started = Instant::now();
        assert_eq!(worktree.examine().await.unwrap().tampering, [""; 0]);
        if calls() == before {
            assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
            break;
        }
        assert!(Instant::now() < deadline, "each look starts git");
    }
    fixture.git(&["config", "core.fsmonitor", "true"]);
    let tampering = worktree.examine().await.unwrap().tampering;
    assert!(tampering.len() == 1 && tampering[0].contains("core.fsmonitor"), "{tampering:?}");
    // Nothing is begun in such a repository either.
    let error = provider.acquire(request("b", 1)).await.map(drop).unwrap_err();
    assert!(matches!(error, WorktreeError::Tampered { .. }), "{error}");
    fixture.git(&["config", "--unset", "core.fsmonitor"]);
    assert_eq!(worktree.examine().await.unwrap().tampering, [""; 0]);
}

#[tokio::test]
async fn another_process_compares_with_what_was_recorded() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let place = Place {
        path: worktree.path().to_owned(),
        branch: worktree.branch().to_owned(),
        base: worktree.base().clone(),
        settings: worktree.settings().map(str::to_owned),
    };
    assert!(place.settings.is_some());
    drop((worktree, provider));
    fixture.git(&["config", "core.hooksPath", "/elsewhere"]);
    let provider = fixture.begun().await;
    let reopened = provider.reopen(request("a", 1), &place).await.unwrap().unwrap();
    let tampering = reopened.examine().await.unwrap().tampering;
    assert!(tampering[0].contains("core.hookspath") && tampering[0].contains("/elsewhere"));
    // What it was is gone: that it was another is known all the same.
    let gone = Place { settings: Some("0".repeat(40)), ..place };
    let reopened = provider.reopen(request("a", 1), &gone).await.unwrap().unwrap();
    assert_eq!(reopened.examine().await.unwrap().tampering.len(), 1);
}

#[tokio::test]
async fn sparse_checkouts_are_inherited_and_new_files_outside_are_not_lost() {
    let fixture = Fixture::new();
    fixture.commit(&[("in/a", "a\n"), ("out/b", "b\n")]);
    fixture.git(&["sparse-checkout", "set", "in"]);
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    assert!(worktree.path().join("in/a").exists());
    assert!(!worktree.path().join("out/b").exists(), "the checkout of the user has no `out`");
    write(worktree.path(), "in/a", "new\n");
    write(worktree.path(), "out/new", "new\n");
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    for (file, text) in [("in/a", "new\n"), ("out/b", "b\n"), ("out/new", "new\n")] {
        assert_eq!(fixture.file(tip.as_str(), file).as_deref(), Some(text), "{file}");
    }
    merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Done).await.unwrap();
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    assert!(!fixture.repo.join("out/b").exists());
}

#[tokio::test]
async fn partial_clones_are_inherited() {
    let fixture = Fixture::new();
    fixture.commit(&[("big", "big\n")]);
    fixture.git(&["config", "uploadpack.allowFilter", "true"]);
    fixture.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let parent = fixture.repo.parent().unwrap();
    let url = format!("file://{}", fixture.repo.display());
    git(parent, &["clone", "--quiet", "--filter=blob:none", "--no-checkout", &url, "partial"]);
    let clone = parent.join("partial");
    git(&clone, &["config", "user.name", "x"]);
    git(&clone, &["config", "user.email", "x@example.com"]);
    let lacks = |what: &str| {
        let list = git(&clone, &["rev-list", "--objects", "--all", "--missing=print"]);
        let blob = git(&fixture.repo, &["rev-parse", what]);
        list.contains(&format!("?{blob}"))
    };
    assert!(lacks("main:big"));
    let config = GitWorktreesConfig::new(&clone)
        .trees(crate::support::trees())
        .environment("GIT_CONFIG_GLOBAL", "/dev/null")
        .environment("GIT_CONFIG_SYSTEM", "/dev/null");
    let provider = GitWorktrees::open(config).await.unwrap();
    begin(&provider, None).await.unwrap();
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    assert_eq!(fs::read_to_string(worktree.path().join("big")).unwrap(), "big\n");
    assert!(!lacks("main:big"), "it was fetched for the worktree");
    complete(&provider, "b", &[("b", "b\n")]).await;
}

#[tokio::test]
async fn a_place_that_a_link_above_leads_away_from_is_refused() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, _) = work(&provider, "a", &[("a", "a")]).await;
    let run = fixture.root().join("r1");
    let victim = fixture.repo.with_file_name("victim");
    fs::create_dir_all(victim.join("b")).unwrap();
    fs::write(victim.join("b/precious"), "x").unwrap();
    fs::rename(&run, run.with_file_name("moved")).unwrap();
    std::os::unix::fs::symlink(&victim, &run).unwrap();
    for error in [
        provider.acquire(request("b", 1)).await.map(drop).unwrap_err(),
        worktree.release(Release::Retry).await.unwrap_err(),
    ] {
        assert!(matches!(error, WorktreeError::Tampered { .. }), "{error}");
    }
    assert!(victim.join("b/precious").exists());
}
