use orch_model::{
    CommitId,
    plan::spec::Strategy,
    ports::{MergeOutcome, MergeRequest, Release, Stacked, WorktreeProvider},
};
use orch_worktree::GitWorktrees;

use crate::support::{
    Fixture, commit, finish, git, merge, merge_request, merged, message, request, run_id, work,
    write,
};

fn as_strategy(task: &str, commit: &CommitId, strategy: Strategy) -> MergeRequest {
    MergeRequest { strategy, ..merge_request(task, commit) }
}

async fn bring(
    provider: &GitWorktrees,
    task: &str,
    commit: &CommitId,
    strategy: Strategy,
) -> CommitId {
    merged(provider.merge(as_strategy(task, commit, strategy)).await.unwrap())
}

fn kept(task: &str) -> String {
    format!("refs/orch/preserved/r1/{task}/merged")
}

/// A commit by somebody else than the user, at a time of its own.
fn commit_by(
    folder: &std::path::Path,
    who: &str,
    file: &str,
    text: &str,
    subject: &str,
) -> CommitId {
    write(folder, file, text);
    git(folder, &["add", "-A"]);
    let author = format!("--author={who} <{who}@example.org>");
    let date = "--date=1700000000 +0130";
    git(folder, &["commit", "--quiet", &author, date, "-m", subject]);
    CommitId::new(git(folder, &["rev-parse", "HEAD"]))
}

#[tokio::test]
async fn a_squash_is_one_commit_and_keeps_the_work() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (other, first) = work(&provider, "one", &[("one", "1")]).await;
    let worktree = provider.acquire(request("two", 1)).await.unwrap();
    commit_by(worktree.path(), "ann", "two", "half", "Begin two");
    let tip = commit_by(worktree.path(), "ann", "two", "whole", "End two");
    bring(&provider, "one", &first, Strategy::Squash).await;
    let commit = bring(&provider, "two", &tip, Strategy::Squash).await;

    let log = fixture.git(&["log", "--format=%an|%P|%s", "orch/r1/target"]);
    let lines: Vec<_> = log.lines().map(|line| line.split('|').collect::<Vec<_>>()).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert_eq!((lines[0][0], lines[0][2]), ("ann", "Do two"), "{log}");
    assert!(!lines[0][1].contains(' '), "one parent: {log}");
    assert_eq!(lines[1][0], "Someone", "{log}");
    assert_eq!(fixture.file(commit.as_str(), "two").as_deref(), Some("whole"));
    assert_eq!(fixture.file(commit.as_str(), "one").as_deref(), Some("1"));
    let text = fixture.git(&["log", "-1", "--format=%(trailers)", commit.as_str()]);
    assert_eq!(
        text.trim_end(),
        format!("Orch-Run: r1\nOrch-Task: two\nOrch-Attempt: 1\nOrch-Commit: {tip}")
    );
    assert_eq!(fixture.tip(&kept("two")), tip);

    // Its orchestrator was killed before it could record the merge.
    for provider in [&provider, &fixture.open().await] {
        assert_eq!(bring(provider, "two", &tip, Strategy::Squash).await, commit);
        assert_eq!(fixture.tip("orch/r1/target"), commit);
    }
    other.release(Release::Done).await.unwrap();
    worktree.release(Release::Verified).await.unwrap();
    assert!(!fixture.has("refs/heads/orch/r1/two") && fixture.has(&kept("one")));
    finish(&provider).await;
    assert_eq!(fixture.tip("main"), commit);
}

#[tokio::test]
async fn a_rebase_copies_each_commit_with_its_author() {
    let fixture = Fixture::new();
    fixture.commit(&[("shared", "1\n2\n3\n4\n5\n")]);
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("two", 1)).await.unwrap();
    commit_by(
        worktree.path(),
        "ann",
        "shared",
        "1\n2\n3\n4\nfive\n",
        "Five\n\nSigned-off-by: Ann <a@x>",
    );
    let tip = commit_by(worktree.path(), "bob", "two", "2", "Two");
    let (_one, first) = work(&provider, "one", &[("shared", "one\n2\n3\n4\n5\n")]).await;
    bring(&provider, "one", &first, Strategy::Rebase).await;
    let commit = bring(&provider, "two", &tip, Strategy::Rebase).await;
    let format = "--format=%an <%ae> %ad %cn|%s|%(trailers:separator=%x2c)";
    let log = fixture.git(&["log", "-2", "--reverse", "--date=raw", format, "orch/r1/target"]);
    let original = fixture.tip(&format!("{tip}^"));
    let ours = "Orch-Run: r1,Orch-Task: two,Orch-Attempt: 1,Orch-Commit:";
    assert_eq!(
        log,
        format!(
            "ann <ann@example.org> 1700000000 +0130 Someone|Five|Signed-off-by: Ann <a@x>,{ours} {original}\n\
             bob <bob@example.org> 1700000000 +0130 Someone|Two|{ours} {tip}"
        )
    );
    assert_eq!(fixture.git(&["rev-list", "--merges", "--count", "orch/r1/target"]), "0");
    assert_eq!(fixture.file(commit.as_str(), "shared").as_deref(), Some("one\n2\n3\n4\nfive\n"));
    for provider in [&provider, &fixture.open().await] {
        assert_eq!(bring(provider, "two", &tip, Strategy::Rebase).await, commit);
    }
    worktree.release(Release::Done).await.unwrap();
    assert_eq!(fixture.tip(&kept("two")), tip);
}

#[tokio::test]
async fn what_an_agent_merged_becomes_one_commit_of_a_rebase() {
    let fixture = Fixture::new();
    fixture.commit(&[("shared", "0\n")]);
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("one", 1)).await.unwrap();
    let path = worktree.path();
    let left = commit(path, &[("shared", "left\n")]);
    git(path, &["checkout", "--quiet", "--detach", "HEAD~1"]);
    commit(path, &[("shared", "right\n")]);
    let merged = crate::support::try_git(path, &["merge", "--quiet", left.as_str()]);
    assert!(!merged.status.success(), "they conflict");
    write(path, "shared", "both\n");
    git(path, &["commit", "--quiet", "--all", "-m", "Merge by hand"]);
    git(path, &["checkout", "--quiet", "-B", "orch/r1/one"]);
    let tip = worktree.seal(&message("one")).await.unwrap().tip.unwrap();
    let commit = bring(&provider, "one", &tip, Strategy::Rebase).await;
    assert_eq!(fixture.file(commit.as_str(), "shared").as_deref(), Some("both\n"));
    assert_eq!(fixture.git(&["log", "-1", "--format=%s", commit.as_str()]), "Do one");
    assert_eq!(bring(&provider, "one", &tip, Strategy::Rebase).await, commit);
}

#[tokio::test]
async fn what_changes_nothing_any_more_is_left_out_of_a_rebase() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_one, first) = work(&provider, "one", &[("same", "1")]).await;
    let worktree = provider.acquire(request("two", 1)).await.unwrap();
    commit(worktree.path(), &[("same", "1")]);
    let tip = commit(worktree.path(), &[("more", "2")]);
    let (_three, third) = work(&provider, "three", &[("same", "1")]).await;
    let before = bring(&provider, "one", &first, Strategy::Rebase).await;
    let commit = bring(&provider, "two", &tip, Strategy::Rebase).await;
    assert_eq!(fixture.tip(&format!("{commit}^")), before, "one copy of two commits");
    // The last one says that the task is merged.
    let empty = bring(&provider, "three", &third, Strategy::Rebase).await;
    assert_eq!(fixture.tip(&format!("{empty}^")), commit);
    assert_eq!(bring(&provider, "three", &third, Strategy::Rebase).await, empty);
}

#[tokio::test]
async fn every_strategy_gives_the_files_of_a_merge() {
    let mut trees = Vec::new();
    for strategy in [Strategy::Merge, Strategy::Squash, Strategy::Rebase] {
        let fixture = Fixture::new();
        fixture.commit(&[("shared", "1\n2\n3\n4\n5\n6\n7\n"), ("other", "0\n")]);
        let provider = fixture.begun().await;
        let (_one, one) = work(&provider, "one", &[("shared", "one\n2\n3\n4\n5\n6\n7\n")]).await;
        let (_two, two) = work(&provider, "two", &[("shared", "1\n2\n3\n4\n5\n6\nseven\n")]).await;
        let (_bad, bad) = work(&provider, "bad", &[("shared", "bad\n")]).await;
        bring(&provider, "one", &one, strategy).await;
        bring(&provider, "two", &two, strategy).await;
        let outcome = provider.merge(as_strategy("bad", &bad, strategy)).await.unwrap();
        assert!(
            matches!(&outcome, MergeOutcome::Conflicted { files, .. } if *files == ["shared"]),
            "{outcome:?}"
        );
        assert!(!fixture.has(&kept("bad")));
        trees.push(fixture.git(&["rev-parse", "orch/r1/target^{tree}"]));
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]), "{trees:?}");
}

#[tokio::test]
async fn a_stack_records_what_it_brings_in_with_one_step() {
    for strategy in [Strategy::Squash, Strategy::Rebase] {
        let fixture = Fixture::new();
        let provider = fixture.begun().await;
        let mut requests = Vec::new();
        for task in ["one", "two", "three"] {
            let worktree = provider.acquire(request(task, 1)).await.unwrap();
            commit(worktree.path(), &[(task, "1")]);
            let tip = commit(worktree.path(), &[(task, "2")]);
            requests.push(as_strategy(task, &tip, strategy));
        }
        let stack = provider.stack(&run_id(), &requests).await.unwrap();
        let commits: Vec<_> = stack
            .merges
            .iter()
            .map(|one| match one {
                Stacked::Merged { merge_commit } => merge_commit.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(!fixture.has(&kept("one")), "nothing has moved yet");
        assert!(provider.advance(&run_id(), &stack.base, &commits[1]).await.unwrap());
        assert!(
            fixture.has(&kept("one")) && fixture.has(&kept("two")) && !fixture.has(&kept("three"))
        );
        let again = fixture.open().await.stack(&run_id(), &requests).await.unwrap();
        assert_eq!(again.merges[0], Stacked::Contained { merge_commit: commits[0].clone() });
        assert_eq!(again.merges[1], Stacked::Contained { merge_commit: commits[1].clone() });
        assert!(matches!(again.merges[2], Stacked::Merged { .. }), "{again:?}");
    }
}

#[tokio::test]
async fn what_a_task_needs_is_proven_to_be_in_its_base() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_one, tip) = work(&provider, "one", &[("one", "1")]).await;
    let base = fixture.tip("main");
    let commit = bring(&provider, "one", &tip, Strategy::Squash).await;
    let next = provider.acquire(request("two", 1)).await.unwrap();
    assert_eq!(provider.lacks(next.base(), &[]).await.unwrap(), None);
    let all = [base.clone(), commit.clone()];
    assert_eq!(provider.lacks(next.base(), &all).await.unwrap(), None);
    assert_eq!(provider.lacks(&base, &all).await.unwrap(), Some(commit));
    let unknown = CommitId::new("0123456789012345678901234567890123456789");
    assert!(provider.lacks(&base, &[unknown]).await.is_err());
}

#[tokio::test]
async fn commits_are_named_by_their_first_lines() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("one", 1)).await.unwrap();
    commit_by(worktree.path(), "ann", "a", "1", "First\n\nwith a body");
    let tip = commit_by(worktree.path(), "ann", "a", "2", "Second");
    let subjects = provider.subjects(worktree.base(), &tip).await.unwrap();
    assert_eq!(subjects, ["First", "Second"]);
}

#[tokio::test]
async fn shelved_work_stays_on_its_branch() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "one", &[("one", "1")]).await;
    let path = worktree.path().to_owned();
    write(&path, "late", "after it was sealed");
    let (again, _) = (provider.reopen(request("one", 1), &place(worktree.as_ref())).await, 0);
    let error = worktree.release(Release::Shelve { verified: false }).await.unwrap_err();
    assert!(error.to_string().contains("late"), "{error}");
    let release = Release::Shelve { verified: true };
    again.unwrap().unwrap().release(release).await.unwrap();
    assert!(!path.exists());
    assert_eq!(fixture.tip("orch/r1/one"), tip);
    // Once more, for an orchestrator that was killed.
    provider.tidy(request("one", 1), release).await.unwrap();
    assert_eq!(fixture.tip("orch/r1/one"), tip);
    let items = provider.gc(orch_model::ports::GcRequest::default()).await.unwrap();
    assert!(
        items.iter().any(|item| item.name == "orch/r1/one" && item.kept.is_some()),
        "{items:?}"
    );
}

fn place(worktree: &dyn orch_model::ports::Worktree) -> orch_model::event::Place {
    orch_model::event::Place {
        path: worktree.path().to_owned(),
        branch: worktree.branch().to_owned(),
        base: worktree.base().clone(),
        settings: None,
    }
}

#[tokio::test]
async fn a_merge_is_still_a_merge() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (_one, tip) = work(&provider, "one", &[("one", "1")]).await;
    let commit = merged(merge(&provider, "one", &tip).await);
    assert_eq!(fixture.tip(&format!("{commit}^2")), tip);
    assert!(!fixture.has(&kept("one")));
}
