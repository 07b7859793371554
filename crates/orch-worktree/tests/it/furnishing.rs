//! What a tree gets besides the files of its commit.

use std::{fs, os::unix::fs::MetadataExt};

use orch_model::ports::{Release, WorktreeProvider};
use orch_worktree::{GitWorktrees, TreeConfig, TreeKind};

use crate::support::{Fixture, begin, git, merge, merged, message, request, trees, work, write};

async fn open(fixture: &Fixture, change: impl FnOnce(&mut TreeConfig)) -> GitWorktrees {
    let mut trees = trees();
    change(&mut trees);
    let provider = GitWorktrees::open(fixture.config().trees(trees)).await.unwrap();
    begin(&provider, None).await.unwrap();
    provider
}

fn include(trees: &mut TreeConfig, all: &[&str]) {
    trees.include = all.iter().map(|text| text.parse().unwrap()).collect();
}

#[tokio::test]
async fn ignored_files_are_brought_and_no_others() {
    let fixture = Fixture::new();
    fixture.commit(&[
        (".gitignore", ".env\n/cache\n/linked\n/built/\nsecret\n"),
        (".worktreeinclude", ".env\nplain\ntracked\n"),
        ("tracked", "committed\n"),
    ]);
    for (name, text) in [
        (".env", "top"),
        ("deep/er/.env", "deep"),
        ("plain", "not ignored"),
        ("secret", "not asked for"),
        ("cache/a/b", "cached"),
        ("linked/x", "shared"),
        ("built/y", "built"),
    ] {
        write(&fixture.repo, name, text);
    }
    write(&fixture.repo, "tracked", "changed here\n");
    let provider = open(&fixture, |trees| {
        include(trees, &["reflink:/cache", "symlink:/linked", "hardlink:built"]);
    })
    .await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let read = |name: &str| fs::read_to_string(worktree.path().join(name)).ok();
    assert_eq!(read(".env").as_deref(), Some("top"));
    assert_eq!(read("deep/er/.env").as_deref(), Some("deep"));
    assert_eq!(read("tracked").as_deref(), Some("committed\n"));
    assert_eq!((read("plain"), read("secret")), (None, None));
    assert_eq!(read("cache/a/b").as_deref(), Some("cached"));
    assert!(worktree.path().join("linked").is_symlink());
    assert_eq!(read("linked/x").as_deref(), Some("shared"));
    if trees().kind == TreeKind::Worktree {
        let inode = |folder: &std::path::Path| fs::metadata(folder.join("built/y")).unwrap().ino();
        assert_eq!(inode(worktree.path()), inode(&fixture.repo));
    }
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    assert_eq!(worktree.seal(&message("a")).await.unwrap().tip, None);

    // What a task did to a copy is its own, also where the next one gets the same folder.
    write(worktree.path(), ".env", "changed");
    worktree.release(Release::Done).await.unwrap();
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(fs::read_to_string(worktree.path().join(".env")).unwrap(), "top");
    assert_eq!(fs::read_to_string(fixture.repo.join(".env")).unwrap(), "top");
    assert_eq!(fs::read_to_string(fixture.repo.join("linked/x")).unwrap(), "shared");
}

#[tokio::test]
async fn what_would_be_committed_is_refused() {
    let fixture = Fixture::new();
    write(&fixture.repo, "target/x", "built");
    // `/target/` names a folder, and not the link.
    let provider = open(&fixture, |trees| include(trees, &["symlink:/target"])).await;
    let error = provider.acquire(request("a", 1)).await.unwrap_err().to_string();
    assert!(error.contains("`target` would be committed"), "{error}");
    assert!(!fixture.place("a").exists());
    assert_eq!((fixture.worktrees(), fixture.has("refs/heads/orch/r1/a")), (0, false));
    assert!(fixture.repo.join("target/x").exists());
}

#[tokio::test]
async fn a_setup_runs_once_a_worktree_while_its_key_is_the_same() {
    let fixture = Fixture::new();
    fixture.commit(&[("lock", "1\n")]);
    let provider = open(&fixture, |trees| {
        trees.setup = Some("mkdir -p target && echo ran >> target/setup".into());
        trees.setup_key = vec!["lock".into()];
    })
    .await;
    let runs = |path: &std::path::Path| {
        fs::read_to_string(path.join("target/setup")).unwrap().lines().count()
    };
    let (worktree, tip) = work(&provider, "a", &[("lock", "2\n")]).await;
    assert_eq!(runs(worktree.path()), 1);
    worktree.release(Release::Retry).await.unwrap();
    let reused = usize::from(provider.tree_choice().kind == TreeKind::Pool);

    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(runs(worktree.path()), 1, "the same lock");
    worktree.release(Release::Done).await.unwrap();
    merged(merge(&provider, "a", &tip).await);
    let worktree = provider.acquire(request("c", 1)).await.unwrap();
    assert_eq!(runs(worktree.path()), 1 + reused, "another lock, and the cache where it is kept");
}

#[tokio::test]
async fn a_setup_that_fails_leaves_nothing_and_says_why() {
    let fixture = Fixture::new();
    let provider = open(&fixture, |trees| {
        trees.setup = Some("echo no such package >&2; exit 3".into());
    })
    .await;
    let error = provider.acquire(request("a", 1)).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 3: no such package"), "{error}");
    assert_eq!((fixture.worktrees(), fixture.has("refs/heads/orch/r1/a")), (0, false));
}

#[tokio::test]
async fn submodules_come_from_the_checkout() {
    let (fixture, library) = (Fixture::new(), Fixture::new());
    let url = library.repo.to_str().unwrap();
    let allow = ["-c", "protocol.file.allow=always"];
    fixture.git(&[&allow[..], &["submodule", "--quiet", "add", url, "libs/one"]].concat());
    fixture.commit(&[]);
    let before = fixture.checkout();
    // Where it came from is out of reach.
    let away = library.repo.with_file_name("away");
    fs::rename(&library.repo, &away).unwrap();
    let provider = open(&fixture, |trees| trees.submodules = true).await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let module = worktree.path().join("libs/one");
    assert_eq!(fs::read_to_string(module.join("README")).unwrap(), "hello\n");
    assert_eq!(git(&module, &["config", "remote.origin.url"]), url);
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    worktree.release(Release::Done).await.unwrap();
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert!(worktree.path().join("libs/one/README").exists());
    assert_eq!(fixture.checkout(), before);
}
