//! What only layers do.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use orch_model::{
    RunId,
    ports::{BeginRun, GcRequest, Release, WorktreeError, WorktreeProvider},
};
use orch_worktree::{GitWorktrees, TreeKind};

use crate::support::{
    Fixture, complete, finish, git, merge, merged, message, request, run_id, work, write,
};

/// Whether this machine can do it; the provider says so if it can't.
fn works(provider: &GitWorktrees) -> bool {
    let choice = provider.tree_choice();
    assert_eq!(choice.kind == TreeKind::Overlay, choice.why == "as configured", "{choice:?}");
    choice.kind == TreeKind::Overlay
}

fn bases(fixture: &Fixture) -> Vec<String> {
    let entries = fs::read_dir(fixture.root().join(".overlay")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<String> = names.filter(|name| name.starts_with("base")).collect();
    all.sort();
    all
}

fn is_mounted(place: &Path) -> bool {
    fs::metadata(place).unwrap().dev() != fs::metadata(place.parent().unwrap()).unwrap().dev()
}

/// As when the machine is started anew.
fn unmount(place: &Path) {
    assert!(Command::new("umount").arg(place).status().unwrap().success());
    assert!(!place.join("README").exists());
}

#[tokio::test]
async fn trees_share_files_and_not_changes() {
    let fixture = Fixture::new();
    fixture.commit(&[("dir/file", "x\n"), ("gone", "x\n")]);
    let provider = fixture.begun().await;
    if !works(&provider) {
        return;
    }
    let a = provider.acquire(request("a", 1)).await.unwrap();
    let b = provider.acquire(request("b", 1)).await.unwrap();
    assert!(is_mounted(a.path()) && is_mounted(b.path()));
    // What git remembers of files holds: it need not read a single one.
    let debug = git(a.path(), &["ls-files", "--debug", "dir/file"]);
    let inode = fs::metadata(a.path().join("dir/file")).unwrap().ino();
    assert!(debug.contains(&format!("ino: {inode}")), "{debug} {inode}");
    write(a.path(), "dir/file", "a\n");
    fs::remove_file(a.path().join("gone")).unwrap();
    fs::rename(a.path().join("dir"), a.path().join("moved")).unwrap();
    assert_eq!(git(b.path(), &["status", "--porcelain"]), "");
    let tip = a.seal(&message("a")).await.unwrap().tip.unwrap();
    merged(merge(&provider, "a", &tip).await);
    a.release(Release::Done).await.unwrap();
    b.release(Release::Done).await.unwrap();

    // Later trees have what was merged, over the same base.
    let c = provider.acquire(request("c", 1)).await.unwrap();
    assert_eq!(git(c.path(), &["status", "--porcelain", "--branch"]), "## orch/r1/c");
    assert_eq!(fs::read_to_string(c.path().join("moved/file")).unwrap(), "a\n");
    assert!(!c.path().join("gone").exists() && !c.path().join("dir").exists());
    assert_eq!(bases(&fixture), ["base-1"]);
    c.release(Release::Done).await.unwrap();
    finish(&provider).await;
    assert!(fixture.is_tidy());
    let left = fs::read_dir(fixture.root().join(".overlay")).unwrap();
    assert!(!left.map(|e| e.unwrap().file_name()).any(|n| n.to_string_lossy().contains("layer")));
}

#[tokio::test]
async fn a_tree_far_from_its_base_has_what_was_merged() {
    let fixture = Fixture::new();
    fixture.commit(&[("file", "x\n"), ("folder/file", "x\n")]);
    let provider = fixture.begun().await;
    if !works(&provider) {
        return;
    }
    let a = provider.acquire(request("a", 1)).await.unwrap();
    for (old, new) in [("file", "file/new"), ("folder/file", "folder")] {
        fs::remove_file(a.path().join(old)).unwrap();
        let _ = fs::remove_dir(a.path().join(new));
        write(a.path(), new, "a\n");
    }
    let many: Vec<String> = (0..100).map(|n| format!("many/{n}")).collect();
    for (merged_before, more) in [(0, 1), (1, 99)] {
        for name in &many[merged_before..merged_before + more] {
            write(a.path(), name, "a\n");
        }
        let tip = a.seal(&message("a")).await.unwrap().tip.unwrap();
        merged(merge(&provider, "a", &tip).await);
        let task = format!("b{more}");
        let b = provider.acquire(request(&task, 1)).await.unwrap();
        assert_eq!(git(b.path(), &["status", "--porcelain", "--ignored"]), "");
        for name in ["file/new", "folder"].into_iter().chain(many[..more].iter().map(|n| &**n)) {
            assert_eq!(fs::read_to_string(b.path().join(name)).unwrap(), "a\n", "{name}");
        }
        b.release(Release::Done).await.unwrap();
    }
    a.release(Release::Done).await.unwrap();
    assert_eq!(bases(&fixture), ["base-1"]);
}

#[tokio::test]
async fn work_survives_a_new_start_of_the_machine() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    if !works(&provider) {
        return;
    }
    // An attempt that is taken up again.
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    write(worktree.path(), "a", "work");
    let place = orch_model::event::Place {
        path: worktree.path().to_owned(),
        branch: worktree.branch().to_owned(),
        base: worktree.base().clone(),
        settings: None,
    };
    drop(worktree);
    unmount(&place.path);
    let provider = fixture.open().await;
    let again = provider.reopen(request("a", 1), &place).await.unwrap().unwrap();
    assert_eq!(fs::read_to_string(again.path().join("a")).unwrap(), "work");
    assert!(again.path().join("README").exists());

    // One that is repeated: what it left is kept.
    drop(again);
    unmount(&place.path);
    let provider = fixture.open().await;
    let next = provider.acquire(request("a", 2)).await.unwrap();
    let kept = "refs/orch/preserved/r1/a/1";
    assert_eq!(fixture.file(kept, "a").as_deref(), Some("work"));
    assert_eq!(fixture.file(kept, "README").as_deref(), Some("hello\n"));
    assert_eq!(git(next.path(), &["status", "--porcelain"]), "");

    // One that was merged and not yet removed; one that somebody has a look at.
    let (_, tip) = work(&provider, "b", &[("b", "b")]).await;
    merged(merge(&provider, "b", &tip).await);
    unmount(&fixture.place("b"));
    let provider = fixture.open().await;
    provider.tidy(request("b", 1), Release::Done).await.unwrap();
    assert!(!fixture.place("b").exists());
    write(next.path(), "late", "1");
    drop(next);
    unmount(&place.path);
    let items = fixture.open().await.gc(GcRequest::default()).await.unwrap();
    let kept = items.iter().find(|item| item.name.ends_with("/a")).unwrap();
    assert!(kept.kept.as_ref().unwrap().contains("uncommitted changes: `late`"), "{kept:?}");
    assert!(fixture.place("a").join("late").exists());
}

#[tokio::test]
async fn what_was_being_removed_or_made_is_no_work() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    if !works(&provider) {
        return;
    }
    // The layer went, git's entry did not yet.
    drop(provider.acquire(request("a", 1)).await.unwrap());
    unmount(&fixture.place("a"));
    fs::remove_dir_all(fixture.root().join(".overlay/layer-a")).unwrap();
    let worktree = fixture.open().await.acquire(request("a", 2)).await.unwrap();
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    assert!(!fixture.has("refs/orch/preserved/r1/a/1"));

    // Mounted, and without an index yet.
    fs::remove_file(fixture.admin("a").join("index")).unwrap();
    drop(worktree);
    let worktree = fixture.open().await.acquire(request("a", 3)).await.unwrap();
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    assert!(!fixture.has("refs/orch/preserved/r1/a/2"));

    // The base is gone: what was written is moved beside its place.
    write(worktree.path(), "a", "work");
    drop(worktree);
    unmount(&fixture.place("a"));
    fs::remove_dir_all(fixture.root().join(".overlay/base-1")).unwrap();
    let worktree = fixture.open().await.acquire(request("a", 4)).await.unwrap();
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    let aside = fs::read_to_string(fixture.place("a.found-1").join("a")).unwrap();
    assert_eq!(aside, "work");

    // Half a base is never used.
    drop(worktree);
    fixture.open().await.tidy(request("a", 4), Release::Done).await.unwrap();
    for base in bases(&fixture) {
        let base = fixture.root().join(".overlay").join(base);
        fs::remove_file(base.join("ready")).unwrap();
        fs::remove_file(base.join("tree/README")).unwrap();
    }
    let worktree = fixture.open().await.acquire(request("a", 5)).await.unwrap();
    assert!(worktree.path().join("README").exists());
}

#[tokio::test]
async fn a_base_goes_on_with_runs_and_never_under_a_tree() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    if !works(&provider) {
        return;
    }
    complete(&provider, "a", &[("a", "1")]).await;
    finish(&provider).await;
    let begin = async |provider: &GitWorktrees, run: &str| {
        let run = RunId::new(run).unwrap();
        provider.begin(BeginRun { run: run.clone(), target: None, base: None }).await.unwrap();
        let mut request = request("a", 1);
        request.run = run;
        provider.acquire(request).await.unwrap()
    };
    let second = begin(&provider, "r2").await;
    assert_eq!(bases(&fixture), ["base-1"], "it is used again");
    let base = fixture.root().join(".overlay/base-1/tree");
    assert_eq!(fs::read_to_string(base.join("a")).unwrap(), "1");

    fixture.commit(&[("later", "x")]);
    let third = begin(&provider, "r3").await;
    assert_eq!(bases(&fixture), ["base-1", "base-2"], "a tree is on the first");
    assert!(third.path().join("later").exists() && !second.path().join("later").exists());
    assert!(!base.join("later").exists());
    let gc = GcRequest {
        live: vec![run_id(), RunId::new("r2").unwrap(), RunId::new("r3").unwrap()],
        ..GcRequest::default()
    };
    second.release(Release::Done).await.unwrap();
    provider.gc(gc.clone()).await.unwrap();
    assert_eq!(bases(&fixture).len(), 2, "the newest that is idle stays, and the used one");
    third.release(Release::Done).await.unwrap();
    provider.gc(gc).await.unwrap();
    assert_eq!(bases(&fixture).len(), 1);
}

#[tokio::test]
async fn layers_that_an_agent_names_are_neither_mounted_nor_deleted() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    if !works(&provider) {
        return;
    }
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let victim = fixture.repo.with_file_name("victim");
    write(&victim, "precious", "x");
    let layers = fixture.admin("a").join("orch-overlay");
    for text in [
        format!("{0}\n{0}\n", victim.display()),
        format!("{0}/.overlay/../../victim\n{0}/.overlay/../../victim\n", fixture.root().display()),
    ] {
        fs::write(&layers, text).unwrap();
        let tampering = worktree.examine().await.unwrap().tampering;
        assert!(tampering.len() == 1 && tampering[0].contains("orch-overlay"), "{tampering:?}");
    }
    let error = worktree.release(Release::Done).await.unwrap_err();
    assert!(matches!(error, WorktreeError::Tampered { .. }), "{error}");
    provider.gc(GcRequest::default()).await.unwrap();
    assert!(victim.join("precious").exists());
}
