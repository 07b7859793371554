use orch_model::{
    event::Delivery,
    ports::{MergeOutcome, Release, WorktreeProvider},
};

use crate::support::{
    Fixture, begin, commit, complete, finish, git, merge, merge_request, merged, request, work,
};

#[tokio::test]
async fn conflicts_name_their_files_and_change_nothing() {
    let fixture = Fixture::new();
    fixture.commit(&[("ä b", "0\n"), ("line\nbreak", "0\n"), ("fine", "0\n")]);
    let provider = fixture.begun().await;
    let files = |text: &'static str| [("ä b", text), ("line\nbreak", text), (text, text)];
    let (_one, first) = work(&provider, "one", &files("1\n")[..2]).await;
    let (_two, second) = work(&provider, "two", &files("2\n")[..2]).await;
    let merge_commit = merged(merge(&provider, "one", &first).await);

    let outcome = merge(&provider, "two", &second).await;
    let expected = vec!["line\nbreak".to_owned(), "ä b".to_owned()];
    assert!(matches!(outcome, MergeOutcome::Conflicted { files, .. } if files == expected));
    assert_eq!(fixture.tip("orch/r1/target"), merge_commit);
    assert_eq!(fixture.tip("orch/r1/two"), second);
}

#[tokio::test]
async fn the_same_change_twice_is_merged_twice() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_one, first) = work(&provider, "one", &[("same", "1")]).await;
    let (_two, second) = work(&provider, "two", &[("same", "1")]).await;
    let first = merged(merge(&provider, "one", &first).await);
    let commit = merged(merge(&provider, "two", &second).await);
    assert_ne!(first, commit, "its history counts, although the tree is the same");
    assert_eq!(fixture.tip("orch/r1/target"), commit);
}

#[tokio::test]
async fn a_commit_that_came_another_way_is_found() {
    let fixture = Fixture::new();
    let base = fixture.tip("main");
    let provider = fixture.begun().await;
    // One task builds on the commit of another that was not merged.
    let (_one, first) = work(&provider, "one", &[("a", "1")]).await;
    let two = provider.acquire(request("two", 1)).await.unwrap();
    git(two.path(), &["merge", "--quiet", "--ff-only", first.as_str()]);
    let second = commit(two.path(), &[("b", "2")]);
    let merge_commit = merged(merge(&provider, "two", &second).await);
    assert_eq!(merged(merge(&provider, "one", &first).await), merge_commit);
    // What was in the results from the start came with no merge.
    assert_eq!(merged(merge(&provider, "three", &base).await), merge_commit);
    let provider = fixture.open().await;
    assert_eq!(merged(merge(&provider, "two", &second).await), merge_commit);
}

#[tokio::test]
async fn the_base_itself_is_contained() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let base = fixture.tip("main");
    assert_eq!(merged(merge(&provider, "a", &base).await), base);
}

#[tokio::test]
async fn a_target_that_is_checked_out_nowhere_moves_at_once() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "next"]);
    let provider = fixture.open().await;
    begin(&provider, Some("next")).await.unwrap();
    let first = complete(&provider, "a", &[("a", "a")]).await;
    assert_eq!(fixture.tip("next"), first);

    // Somebody pushes to it meanwhile.
    let theirs = fixture.commit(&[("theirs", "1")]);
    let pushed = fixture.git(&[
        "commit-tree",
        "-p",
        first.as_str(),
        "-p",
        theirs.as_str(),
        "-m",
        "x",
        &format!("{theirs}^{{tree}}"),
    ]);
    fixture.git(&["update-ref", "refs/heads/next", &pushed]);
    let second = complete(&provider, "b", &[("b", "b")]).await;
    assert_eq!(fixture.tip("next"), second);
    assert!(fixture.file("next", "theirs").is_some());

    // While it is checked out it is left alone.
    let linked = fixture.repo.with_file_name("linked");
    fixture.git(&["worktree", "add", "--quiet", linked.to_str().unwrap(), "next"]);
    let third = complete(&provider, "c", &[("c", "c")]).await;
    assert_eq!(fixture.tip("next"), second);
    assert_eq!(fixture.tip("orch/r1/target"), third);
    assert_eq!(git(&linked, &["status", "--porcelain"]), "");

    // A rebase of it detaches HEAD; the branch is not free for that.
    git(&linked, &["checkout", "--quiet", "--detach"]);
    let admin = git(&linked, &["rev-parse", "--absolute-git-dir"]);
    crate::support::write(
        std::path::Path::new(&admin),
        "rebase-merge/head-name",
        "refs/heads/next\n",
    );
    complete(&provider, "d", &[("d", "d")]).await;
    assert_eq!(fixture.tip("next"), second);
}

#[tokio::test]
async fn new_commits_of_the_target_are_taken_in() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;

    // Nothing was merged yet: fast-forward.
    let theirs = fixture.commit(&[("theirs", "1")]);
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    assert_eq!(*worktree.base(), theirs);
    worktree.release(Release::Done).await.unwrap();

    // The results have gone on: a merge.
    let (worktree, tip) = work(&provider, "b", &[("b", "b")]).await;
    merged(merge(&provider, "b", &tip).await);
    worktree.release(Release::Done).await.unwrap();
    let theirs = fixture.commit(&[("theirs", "2")]);
    let worktree = provider.acquire(request("c", 1)).await.unwrap();
    fixture.git(&["merge-base", "--is-ancestor", theirs.as_str(), worktree.base().as_str()]);
    let subject = fixture.git(&["log", "-1", "--format=%s", worktree.base().as_str()]);
    assert_eq!(subject, "Merge branch 'main' into orch/r1/target");

    // Before a merge too.
    let theirs = fixture.commit(&[("theirs", "3")]);
    let tip = commit(worktree.path(), &[("c", "c")]);
    let merge_commit = merged(merge(&provider, "c", &tip).await);
    fixture.git(&["merge-base", "--is-ancestor", theirs.as_str(), merge_commit.as_str()]);

    // A target that was set back has nothing new.
    fixture.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let worktree = provider.acquire(request("d", 1)).await.unwrap();
    assert_eq!(*worktree.base(), merge_commit);
}

#[tokio::test]
async fn a_target_that_conflicts_with_the_results_is_left_out() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let first = complete(&provider, "a", &[("README", "ours\n")]).await;
    fixture.commit(&[("README", "theirs\n")]);
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(*worktree.base(), first);
    let tip = commit(worktree.path(), &[("b", "b")]);
    let second = merged(merge(&provider, "b", &tip).await);
    assert_eq!(fixture.git(&["rev-parse", &format!("{second}^1")]), first.as_str());

    // Once they agree, it is taken in.
    fixture.commit(&[("README", "ours\n")]);
    let worktree = provider.acquire(request("c", 1)).await.unwrap();
    fixture.git(&["merge-base", "--is-ancestor", "main", worktree.base().as_str()]);
}

#[tokio::test]
async fn a_commit_that_isnt_there_is_an_error() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let missing = orch_model::CommitId::new("0123456789012345678901234567890123456789");
    let error = provider.merge(merge_request("a", &missing)).await.unwrap_err().to_string();
    assert!(error.starts_with("`git merge-tree --write-tree"), "{error}");
    assert!(error.contains("ended with exit status: "), "{error}");
}

#[tokio::test]
async fn a_locked_reference_is_reported_in_the_end_and_one_locked_by_the_dead_is_not() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    let lock = fixture.repo.join(".git/refs/heads/orch/r1/target.lock");
    let open = std::fs::File::create(&lock).unwrap();
    let error = provider.merge(merge_request("a", &tip)).await.unwrap_err().to_string();
    assert!(error.contains("target.lock"), "{error}");
    drop(open);
    merged(merge(&provider, "a", &tip).await);
    assert!(!lock.exists());
}

#[tokio::test]
async fn deleted_results_begin_again_at_the_target() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "a")]).await;
    finish(&provider).await;
    assert!(!fixture.has("orch/r1/target"));
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(*worktree.base(), fixture.tip("main"));
    assert!(worktree.path().join("a").exists());
}

#[tokio::test]
async fn a_target_without_common_history_is_left_out() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "next"]);
    let provider = fixture.open().await;
    begin(&provider, Some("next")).await.unwrap();
    complete(&provider, "a", &[("a", "a")]).await;
    let orphan = fixture.git(&["commit-tree", "-m", "orphan", "main^{tree}"]);
    fixture.git(&["update-ref", "refs/heads/next", &orphan]);
    complete(&provider, "b", &[("b", "b")]).await;
    assert_eq!(fixture.tip("next").as_str(), orphan);
    let Delivery::Waiting { reason, .. } = finish(&provider).await else { panic!() };
    assert_eq!(reason, "branch `next` has no history in common with the results");

    // Somebody sets it right: it follows again at once.
    fixture.git(&["update-ref", "refs/heads/next", "main"]);
    let last = complete(&provider, "c", &[("c", "c")]).await;
    assert_eq!(fixture.tip("next"), last);
}
