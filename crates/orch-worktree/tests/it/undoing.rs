use std::{fs, os::unix::fs::PermissionsExt};

use orch_model::{
    CommitId, TaskId,
    event::{Delivery, RunBase},
    ports::WorktreeError,
};
use orch_worktree::{GitWorktrees, Undo, UndoRequest, WorkQuery, WorkSource};

use crate::support::{
    Fixture, begin, complete, finish, merge, merged, run_id, task_id, work, write,
};

/// What is recorded of a run whose tasks were merged.
fn undo(base: &RunBase, merged: &[(TaskId, CommitId, CommitId)]) -> UndoRequest {
    let mut request = UndoRequest::new(run_id(), base.clone());
    request.merged = merged.to_vec();
    request
}

fn refused(result: Result<Undo, WorktreeError>) -> String {
    match result {
        Err(WorktreeError::Refused { message }) => message,
        other => panic!("{other:?}"),
    }
}

/// A provider whose git does something else first when a command contains a word.
async fn disturbed(fixture: &Fixture, word: &str, first: &str) -> GitWorktrees {
    let git = fixture.repo.with_file_name("git");
    let done = fixture.repo.with_file_name("done");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *\"{word}\"*) test -e {done} || {{ touch {done}; (cd {repo} && {first}) >&2; }};; esac\nexec git \"$@\"\n",
        done = done.display(),
        repo = fixture.repo.display(),
    );
    fs::write(&git, script).unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = fixture.config();
    config.git = git.into();
    GitWorktrees::open(config).await.unwrap()
}

#[tokio::test]
async fn whoever_commits_in_that_moment_loses_nothing() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let base = begin(&provider, None).await.unwrap();
    let merge_commit = complete(&provider, "a", &[("a", "a")]).await;
    finish(&provider).await;
    let commit = "git commit --quiet --allow-empty -m quick";
    let disturbed = disturbed(&fixture, " reset ", commit).await;
    let request = undo(&base, &[(task_id("a"), fixture.tip("main^2"), merge_commit.clone())]);
    let message = refused(disturbed.undo(request.clone()).await);
    assert!(message.contains("was moved in this moment"), "{message}");
    assert_eq!(fixture.git(&["log", "-1", "--format=%s"]), "quick");
    assert_eq!(fixture.tip("main^"), merge_commit);
    assert!(fixture.repo.join("a").exists());
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    let message = refused(disturbed.undo(request.clone()).await);
    assert!(message.contains("quick"), "{message}");

    // Somebody else's branch that was switched to in that moment is left where it was.
    fixture.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    fs::remove_file(fixture.repo.with_file_name("done")).unwrap();
    let switching = self::disturbed(&fixture, " reset ", "git switch --quiet -c other").await;
    refused(switching.undo(request).await);
    assert_eq!((fixture.tip("main"), fixture.tip("other")), (merge_commit.clone(), merge_commit));
}

#[tokio::test]
async fn a_branch_that_is_moved_in_that_moment_stays_there() {
    let fixture = Fixture::new();
    fixture.git(&["branch", "other"]);
    let provider = fixture.open().await;
    let base = begin(&provider, Some("other")).await.unwrap();
    let merge_commit = complete(&provider, "a", &[("a", "a")]).await;
    finish(&provider).await;
    let mine = fixture.commit(&[("mine", "1")]);
    let disturbed = disturbed(&fixture, "update-ref -m", "git branch -f other main").await;
    let request = undo(&base, &[(task_id("a"), fixture.tip("other^2"), merge_commit)]);
    refused(disturbed.undo(request).await);
    assert_eq!(fixture.tip("other"), mine);
    assert_eq!(fixture.git(&["for-each-ref", "refs/orch/r1/"]), "", "all or nothing");
}

#[tokio::test]
async fn results_that_waited_and_were_taken_by_hand_are_undone_too() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let base = begin(&provider, None).await.unwrap();
    let merge_commit = complete(&provider, "a", &[("a", "a")]).await;
    write(&fixture.repo, "README", "changed\n");
    assert!(matches!(finish(&provider).await, Delivery::Waiting { .. }));
    let request = undo(&base, &[(task_id("a"), fixture.tip("orch/r1/target^2"), merge_commit)]);
    assert_eq!(provider.undo(request.clone()).await.unwrap(), Undo::NotMoved);
    fixture.git(&["checkout", "--quiet", "README"]);
    fixture.git(&["merge", "--quiet", "--ff-only", "orch/r1/target"]);
    let Undo::Moved { from, kept, checkout } = provider.undo(request.clone()).await.unwrap() else {
        panic!("the target stands where the run left it");
    };
    assert_eq!(kept, "refs/orch/r1/undone/1/target");
    assert_eq!((from, checkout), (fixture.tip(&kept), Some(fixture.repo.clone())));
    assert_eq!(fixture.tip("main"), base.commit);
    assert!(matches!(provider.undo(request).await.unwrap(), Undo::Done { .. }));
}

#[tokio::test]
async fn work_that_is_no_part_of_the_target_is_kept_by_itself() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let base = begin(&provider, None).await.unwrap();
    let merge_commit = complete(&provider, "a", &[("a", "a")]).await;
    finish(&provider).await;
    // As if the work had been squashed.
    let tree = fixture.git(&["rev-parse", "main^2^{tree}"]);
    let squashed =
        CommitId::new(fixture.git(&["commit-tree", "-m", "work", "-p", "HEAD~1", &tree]));
    provider.undo(undo(&base, &[(task_id("a"), squashed.clone(), merge_commit)])).await.unwrap();
    assert_eq!(fixture.tip("refs/orch/r1/undone/1/a"), squashed);
    assert_eq!(fixture.tip("main"), base.commit);
}

#[tokio::test]
async fn copies_of_the_work_are_the_runs_own() {
    let fixture = Fixture::new();
    let provider = fixture.open().await;
    let base = begin(&provider, None).await.unwrap();
    let (_worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    let mine = fixture.commit(&[("mine", "1")]);
    fixture.git(&["reset", "--quiet", "--hard", base.commit.as_str()]);
    // As a merge by rebasing would do it: the copy has another committer and other parents.
    fixture.git(&["commit", "--quiet", "--allow-empty", "-m", "Merge\n\nOrch-Run: r1"]);
    fixture.git(&["cherry-pick", "--allow-empty", tip.as_str()]);
    let copy = fixture.tip("main");
    let request = undo(&base, &[(task_id("a"), tip.clone(), copy.clone())]);
    let mut dry = request.clone();
    dry.dry_run = true;
    assert!(matches!(provider.undo(dry).await.unwrap(), Undo::Moved { .. }));
    assert_eq!(fixture.tip("main"), copy);
    fixture.git(&["cherry-pick", mine.as_str()]);
    let message = refused(provider.undo(request).await);
    assert!(message.contains("a commit"), "{message}");
}

#[tokio::test]
async fn the_work_of_a_task_is_found_wherever_it_is() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    let mut query = WorkQuery::new(run_id(), task_id("a"));
    let found = provider.work(&query).await.unwrap().expect("its branch");
    assert_eq!(found.source, WorkSource::Reference("refs/heads/orch/r1/a".into()));
    query.place = Some(orch_model::event::Place {
        path: worktree.path().into(),
        branch: worktree.branch().into(),
        base: worktree.base().clone(),
        settings: None,
    });
    write(worktree.path(), "more", "1\n");
    let found = provider.work(&query).await.unwrap().expect("its worktree");
    assert_eq!(found.source.worktree(), Some(worktree.path()));
    assert_eq!((&found.base, &found.tip), (worktree.base(), &tip));
    let changes = provider.changes(&found).await.unwrap();
    let paths: Vec<&str> = changes.files.iter().map(|file| &*file.path).collect();
    assert_eq!((paths, changes.uncommitted), (vec!["a", "more"], true));

    let merge_commit = merged(merge(&provider, "a", &tip).await);
    query.merge_commit = Some(merge_commit.clone());
    query.commit = Some(CommitId::new("0123456789012345678901234567890123456789"));
    let found = provider.work(&query).await.unwrap().expect("what it was merged by");
    assert_eq!((found.source, found.tip), (WorkSource::Merge, merge_commit));
    let nobody = WorkQuery::new(run_id(), task_id("nobody"));
    assert_eq!(provider.work(&nobody).await.unwrap(), None);
    let kept = provider.keep(&nobody).await;
    assert!(matches!(kept, Err(WorktreeError::Refused { .. })), "{kept:?}");
    assert!(provider.references_of(&run_id(), &task_id("nobody")).await.unwrap().is_empty());
}
