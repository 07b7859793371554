use std::fs;

use orch_model::ports::{GcItem, GcItemKind, GcRequest, Release, WorktreeProvider};
use orch_worktree::GitWorktrees;

use crate::support::{
    Fixture, commit, finish, git, merge, merged, remove_folder, request, run_id, work, write,
};

async fn gc(provider: &GitWorktrees, dry_run: bool) -> Vec<GcItem> {
    provider.gc(GcRequest { dry_run, ..GcRequest::default() }).await.unwrap()
}

fn find<'a>(items: &'a [GcItem], kind: GcItemKind, name: &str) -> &'a GcItem {
    let found: Vec<_> =
        items.iter().filter(|item| item.kind == kind && item.name.ends_with(name)).collect();
    assert_eq!(found.len(), 1, "{name} in {items:?}");
    found[0]
}

#[tokio::test]
async fn only_what_is_safe_elsewhere_is_removed() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_safe, tip) = work(&provider, "safe", &[("a", "a")]).await;
    merged(merge(&provider, "safe", &tip).await);
    let (_unmerged, _) = work(&provider, "unmerged", &[("b", "b")]).await;
    let dirty = provider.acquire(request("dirty", 1)).await.unwrap();
    write(dirty.path(), "late", "1");
    let busy = provider.acquire(request("busy", 1)).await.unwrap();
    let admin = git(busy.path(), &["rev-parse", "--absolute-git-dir"]);
    fs::create_dir(format!("{admin}/rebase-merge")).unwrap();
    let missing = provider.acquire(request("missing", 1)).await.unwrap();
    remove_folder(missing.path());
    let broken = provider.acquire(request("broken", 1)).await.unwrap();
    let admin = git(broken.path(), &["rev-parse", "--absolute-git-dir"]);
    fs::write(format!("{admin}/index"), "garbage").unwrap();
    fs::create_dir_all(fixture.place("empty")).unwrap();
    write(&fixture.place("foreign"), "file", "x");
    write(&fixture.root(), "Not A Run/file", "x");
    fixture.git(&["branch", "orch/r1/merged-branch", "main"]);
    fixture.git(&["branch", "orch/r1/lonely-branch", "orch/r1/unmerged"]);

    let before = (fixture.branches(), fixture.git(&["worktree", "list"]));
    let planned = gc(&provider, true).await;
    assert_eq!(before, (fixture.branches(), fixture.git(&["worktree", "list"])));
    let done = gc(&provider, false).await;
    assert_eq!(planned, done);

    let kept = |kind, name| find(&done, kind, name).kept.clone();
    let reason = |kind, name| kept(kind, name).unwrap_or_else(|| panic!("{name} was removed"));
    assert_eq!(kept(GcItemKind::Worktree, "/safe"), None);
    assert_eq!(kept(GcItemKind::Worktree, "/missing"), None);
    assert!(reason(GcItemKind::Worktree, "/unmerged").contains("is on no other branch"));
    assert!(reason(GcItemKind::Worktree, "/dirty").contains("uncommitted changes: `late`"));
    assert!(reason(GcItemKind::Worktree, "/busy").contains("a rebase is under way"));
    assert!(reason(GcItemKind::Worktree, "/broken").contains("it can't be read"));
    assert!(reason(GcItemKind::Worktree, "/foreign").contains("not a worktree"));
    assert_eq!(kept(GcItemKind::Branch, "orch/r1/safe"), None);
    assert_eq!(kept(GcItemKind::Branch, "merged-branch"), None);
    assert!(reason(GcItemKind::Branch, "lonely-branch").contains("on no other branch"));
    assert!(reason(GcItemKind::Branch, "r1/unmerged").contains("checked out in"));
    assert!(reason(GcItemKind::Branch, "r1/target").contains("git merge orch/r1/target"));
    assert_eq!(kept(GcItemKind::Folder, "/empty"), None);
    assert!(!fixture.place("safe").exists() && !fixture.place("empty").exists());
    assert!(fixture.place("dirty").join("late").exists());
    assert!(fixture.root().join("Not A Run/file").exists());
    assert!(!fixture.has("refs/heads/orch/r1/safe"));
    assert!(fixture.has("refs/heads/orch/r1/unmerged"));
    assert!(fixture.has("refs/orch/runs/r1/base"), "its results wait");
}

#[tokio::test]
async fn live_runs_are_not_touched() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let items =
        provider.gc(GcRequest { live: vec![run_id()], ..GcRequest::default() }).await.unwrap();
    assert_eq!(items, []);
    assert!(worktree.path().exists());
    assert!(fixture.has("refs/orch/runs/r1/base"));
}

#[tokio::test]
async fn an_ended_run_is_forgotten() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "next"]);
    let provider = fixture.open().await;
    crate::support::begin(&provider, Some("next")).await.unwrap();
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Keep).await.unwrap();
    finish(&provider).await;
    assert!(fixture.root().exists());
    // Its commits are on the target; the target is renamed meanwhile.
    fixture.git(&["branch", "-m", "next", "later"]);
    let items = gc(&provider, false).await;
    assert_eq!(find(&items, GcItemKind::Worktree, "/a").kept, None);
    assert_eq!(find(&items, GcItemKind::Folder, "/r1").kept, None);
    assert!(fixture.is_tidy());
    assert_eq!(fixture.branches(), ["later", "main"]);
    assert!(!fixture.repo.join(".git/refs/orch/runs/r1/target").exists());
    assert_eq!(fixture.git(&["for-each-ref", "refs/orch"]), "");
    assert_eq!(gc(&provider, false).await, []);
}

#[tokio::test]
async fn kept_work_makes_a_worktree_safe_and_stays() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let own = commit(worktree.path(), &[("a", "a")]);
    fixture.git(&["update-ref", "refs/orch/preserved/r1/a/1", own.as_str()]);
    let items = gc(&provider, false).await;
    assert_eq!(find(&items, GcItemKind::Worktree, "/a").kept, None);
    assert!(!fixture.place("a").exists());
    assert!(fixture.has("refs/orch/preserved/r1/a/1"));
}
