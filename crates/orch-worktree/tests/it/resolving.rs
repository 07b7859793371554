//! Merges in progress and what is recorded of them.

use std::fs;

use orch_model::{
    CommitId,
    ports::{MergeOutcome, OpenMerge, SealedMerge, WorktreeProvider},
};
use orch_worktree::GitWorktrees;

use crate::support::{Fixture, git, merge, merge_request, merged, try_git, work, write};

/// Two tasks that changed the same line; the first one is merged.
async fn clash(fixture: &Fixture) -> (GitWorktrees, CommitId, CommitId) {
    fixture.commit(&[("f", "a\nb\nc\n"), ("gone", "0\n"), ("image", "\0a")]);
    let provider = fixture.begun().await;
    let one = [("f", "a\nONE\nc\n"), ("gone", "1\n"), ("image", "\0one")];
    let (_one, first) = work(&provider, "one", &one).await;
    let (_two, second) = work(&provider, "two", &[("f", "a\nTWO\nc\n")]).await;
    let results = merged(merge(&provider, "one", &first).await);
    (provider, results, second)
}

async fn open(provider: &GitWorktrees, commit: &CommitId) -> OpenMerge {
    provider.open_merge(merge_request("two", commit), false).await.unwrap().expect("a conflict")
}

async fn seal(provider: &GitWorktrees, commit: &CommitId) -> SealedMerge {
    provider.seal_merge(&merge_request("two", commit), true).await.unwrap()
}

#[track_caller]
fn reason(sealed: SealedMerge) -> String {
    match sealed {
        SealedMerge::Open { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn resolved(sealed: SealedMerge) -> CommitId {
    match sealed {
        SealedMerge::Resolved { commit } => commit,
        other => panic!("{other:?}"),
    }
}

fn show(fixture: &Fixture, commit: &str, file: &str) -> String {
    git(&fixture.repo, &["show", &format!("{commit}:{file}")])
}

fn parents(fixture: &Fixture, commit: &CommitId) -> Vec<String> {
    let line = git(&fixture.repo, &["rev-list", "--parents", "-n1", commit.as_str()]);
    line.split(' ').skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_resolution_is_sealed_recorded_and_merged() {
    let fixture = Fixture::new();
    let (provider, results, work) = clash(&fixture).await;
    let MergeOutcome::Conflicted { files, hunks } = merge(&provider, "two", &work).await else {
        panic!("it conflicts");
    };
    assert_eq!((files.len(), hunks[0].line), (1, Some(2)));
    let expected = "<<<<<<< the results\nONE\n=======\nTWO\n>>>>>>> the task";
    assert_eq!(hunks[0].text, expected);

    let bench = open(&provider, &work).await;
    assert_eq!((&bench.ours, &bench.theirs), (&results, &work));
    assert_eq!((&bench.files, &bench.unresolved), (&files, &files));
    let text = fs::read_to_string(bench.path.join("f")).unwrap();
    assert!(text.contains("<<<<<<< HEAD") && text.contains(">>>>>>> orch/r1/two"), "{text}");
    // Nothing was done, or half of it.
    assert!(reason(seal(&provider, &work).await).contains("conflicts are left in `f`"));
    git(&bench.path, &["add", "f"]);
    assert!(reason(seal(&provider, &work).await).contains("conflicts are left in `f`"));

    write(&bench.path, "f", "a\nBOTH\nc\n");
    let not_committed = provider.seal_merge(&merge_request("two", &work), false).await.unwrap();
    assert!(reason(not_committed).contains("not committed"));
    let commit = resolved(seal(&provider, &work).await);
    assert_eq!(parents(&fixture, &commit), [results.to_string(), work.to_string()]);
    assert_eq!(resolved(seal(&provider, &work).await), commit, "again");

    provider.accept_merge(&merge_request("two", &work), &commit).await.unwrap();
    assert!(!bench.path.exists());
    let stack = provider.stack(&crate::support::run_id(), &[merge_request("two", &work)]).await;
    assert!(matches!(stack.unwrap().merges[..], [orch_model::ports::Stacked::Merged { .. }]));
    let merge_commit = merged(merge(&provider, "two", &work).await);
    assert_eq!(parents(&fixture, &merge_commit), [results.to_string(), commit.to_string()]);
    assert_eq!(show(&fixture, "orch/r1/target", "f"), "a\nBOTH\nc");
    // Whoever repeats it after a crash finds it done.
    let again = merged(merge(&fixture.open().await, "two", &work).await);
    assert!([merge_commit, commit].contains(&again));
}

#[tokio::test]
async fn a_side_is_never_picked_by_doing_nothing() {
    let fixture = Fixture::new();
    fixture.commit(&[("gone", "0\n"), ("image", "\0a")]);
    let provider = fixture.begun().await;
    let (_one, first) = work(&provider, "one", &[("gone", "1\n"), ("image", "\0one")]).await;
    let two = provider.acquire(crate::support::request("two", 1)).await.unwrap();
    fs::remove_file(two.path().join("gone")).unwrap();
    let second = crate::support::commit(two.path(), &[("image", "\0two")]);
    merged(merge(&provider, "one", &first).await);
    let MergeOutcome::Conflicted { hunks, .. } = merge(&provider, "two", &second).await else {
        panic!("it conflicts");
    };
    assert!(hunks.iter().all(|hunk| hunk.line.is_none()), "{hunks:?}");
    assert!(hunks.iter().any(|hunk| hunk.text.contains("deleted in the task")), "{hunks:?}");

    // There are no markers in them, and to leave them as they are would be to take one side.
    let bench = open(&provider, &second).await;
    assert_eq!(bench.unresolved, ["gone", "image"]);
    assert!(reason(seal(&provider, &second).await).contains("`gone`, `image`"));
    write(&bench.path, "image", "\0both");
    assert!(reason(seal(&provider, &second).await).contains("in `gone`;"));
    git(&bench.path, &["rm", "--quiet", "gone"]);
    let commit = resolved(seal(&provider, &second).await);
    assert_eq!(show(&fixture, commit.as_str(), "image"), "\0both");
}

#[tokio::test]
async fn links_and_submodules_are_for_git_to_be_told_of() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("nowhere", fixture.repo.join("link")).unwrap();
    let module = |folder: &std::path::Path, to: char| {
        let entry = format!("160000,{},module", to.to_string().repeat(40));
        git(folder, &["update-index", "--add", "--cacheinfo", &entry]);
        let _ = fs::create_dir(folder.join("module"));
    };
    module(&fixture.repo, '1');
    git(&fixture.repo, &["add", "link"]);
    git(&fixture.repo, &["commit", "--quiet", "-m", "link"]);
    let provider = fixture.begun().await;
    let mut commits = Vec::new();
    for (task, to, id) in [("one", "/dev/zero", '2'), ("two", "elsewhere", '3')] {
        let tree = provider.acquire(crate::support::request(task, 1)).await.unwrap();
        fs::remove_file(tree.path().join("link")).unwrap();
        std::os::unix::fs::symlink(to, tree.path().join("link")).unwrap();
        module(tree.path(), id);
        git(tree.path(), &["add", "link"]);
        git(tree.path(), &["commit", "--quiet", "-m", task]);
        commits.push(CommitId::new(git(tree.path(), &["rev-parse", "HEAD"])));
    }
    merged(merge(&provider, "one", &commits[0]).await);
    let bench = open(&provider, &commits[1]).await;
    assert_eq!(bench.unresolved, ["link", "module"]);
    let said = reason(seal(&provider, &commits[1]).await);
    assert!(said.contains("`link`, `module`"), "{said}");
    git(&bench.path, &["add", "link"]);
    module(&bench.path, '3');
    let commit = resolved(seal(&provider, &commits[1]).await);
    assert_eq!(show(&fixture, commit.as_str(), "link"), "/dev/zero");
}

#[tokio::test]
async fn markers_that_git_was_told_not_to_look_at_are_seen() {
    let fixture = Fixture::new();
    let (provider, _, work) = clash(&fixture).await;
    let bench = open(&provider, &work).await;
    git(&bench.path, &["add", "f"]);
    git(&bench.path, &["commit", "--quiet", "-m", "with markers"]);
    git(&bench.path, &["update-index", "--assume-unchanged", "f"]);
    write(&bench.path, "f", "clean\n");
    assert!(reason(seal(&provider, &work).await).contains("conflicts are left in `f`"));
}

#[tokio::test]
async fn a_merge_that_was_given_up_is_no_resolution() {
    let fixture = Fixture::new();
    let (provider, _, work) = clash(&fixture).await;
    let bench = open(&provider, &work).await;
    git(&bench.path, &["merge", "--abort"]);
    let said = reason(seal(&provider, &work).await);
    assert!(said.contains("does not contain the task's work"), "{said}");
    // A commit on top of one side alone neither.
    git(&bench.path, &["checkout", "--quiet", work.as_str()]);
    crate::support::commit(&bench.path, &[("f", "mine\n")]);
    let said = reason(seal(&provider, &work).await);
    assert!(said.contains("does not contain the results"), "{said}");
}

#[tokio::test]
async fn what_is_left_of_a_merge_in_progress_is_kept() {
    let fixture = Fixture::new();
    let (provider, _, work) = clash(&fixture).await;
    let request = merge_request("two", &work);
    let bench = open(&provider, &work).await;
    write(&bench.path, "f", "half of it\n");
    let again = provider.open_merge(request.clone(), true).await.unwrap().expect("it is there");
    assert_eq!(again.path, bench.path);
    assert_eq!(fs::read_to_string(bench.path.join("f")).unwrap(), "half of it\n");

    let fresh = open(&provider, &work).await;
    assert!(fs::read_to_string(fresh.path.join("f")).unwrap().contains("<<<<<<<"));
    assert_eq!(show(&fixture, "refs/orch/preserved/r1/two/1.merge", "f"), "half of it");
    write(&fresh.path, "f", "another half\n");
    let kept = provider.close_merge(&request).await.unwrap();
    assert_eq!(kept.as_deref(), Some("refs/orch/preserved/r1/two/1.merge-2"));
    assert!(!fresh.path.exists());
    assert_eq!(provider.close_merge(&request).await.unwrap(), None);
    assert_eq!(provider.seal_merge(&request, true).await.unwrap(), SealedMerge::None);
    // A merge in progress is not the work of the task: the next attempt is told of that.
    assert_eq!(provider.kept(&request.message.run, &request.message.task).await.unwrap(), kept);
}

#[tokio::test]
async fn a_resolution_of_other_work_is_not_taken() {
    let fixture = Fixture::new();
    let (provider, _, work_of_one) = clash(&fixture).await;
    let bench = open(&provider, &work_of_one).await;
    write(&bench.path, "f", "a\nBOTH\nc\n");
    let commit = resolved(seal(&provider, &work_of_one).await);
    provider.accept_merge(&merge_request("two", &work_of_one), &commit).await.unwrap();
    let other = git(
        &fixture.repo,
        &["commit-tree", "-m", "other", "-p", "main", &format!("{work_of_one}^{{tree}}")],
    );
    let outcome = merge(&provider, "two", &CommitId::new(other)).await;
    assert!(matches!(outcome, MergeOutcome::Conflicted { .. }), "{outcome:?}");
}

#[tokio::test]
async fn what_rerere_knows_is_resolved_and_what_is_resolved_it_learns() {
    let fixture = Fixture::new();
    git(&fixture.repo, &["config", "rerere.enabled", "true"]);
    let (provider, _, work) = clash(&fixture).await;
    let request = merge_request("two", &work);
    let bench = open(&provider, &work).await;
    assert_eq!(bench.unresolved, ["f"]);
    write(&bench.path, "f", "a\nBOTH\nc\n");
    resolved(seal(&provider, &work).await);
    provider.close_merge(&request).await.unwrap();
    // The same conflict another time.
    let bench = open(&provider, &work).await;
    assert_eq!(bench.unresolved, Vec::<String>::new());
    let commit = resolved(seal(&provider, &work).await);
    assert_eq!(show(&fixture, commit.as_str(), "f"), "a\nBOTH\nc");
    assert_eq!(bench.files, ["f"]);
}

#[tokio::test]
async fn a_merge_without_conflict_needs_no_folder() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_two, work) = work(&provider, "two", &[("f", "1")]).await;
    let opened = provider.open_merge(merge_request("two", &work), false).await.unwrap();
    assert_eq!(opened, None);
    assert_eq!(provider.clash(&fixture.tip("main"), &work).await.unwrap(), Vec::<String>::new());
    let tips = provider.tips(&["orch/r1/two".into(), "orch/r1/none".into()]).await.unwrap();
    assert_eq!(tips.len(), 1);
    assert_eq!(tips[0].commit, work);
    assert!(!try_git(&fixture.repo, &["status"]).stdout.is_empty());
}

#[tokio::test]
async fn commits_that_would_conflict_are_told() {
    let fixture = Fixture::new();
    let (provider, results, work) = clash(&fixture).await;
    assert_eq!(provider.clash(&results, &work).await.unwrap(), ["f"]);
    assert!(provider.clash(&results, &CommitId::new("0".repeat(40))).await.is_err());
}
