use std::fs;

use orch_model::ports::{Release, WorktreeError, WorktreeProvider};

use crate::support::{
    Fixture, commit, complete, git, merge, merged, message, remove_folder, request, work, write,
};

#[tokio::test]
async fn a_task_from_worktree_to_merge() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let before = fixture.checkout();
    let base = fixture.tip("main");

    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    assert_eq!(worktree.path(), fixture.place("a"));
    assert_eq!(worktree.branch(), "orch/r1/a");
    assert_eq!(*worktree.base(), base);
    assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
    assert!(
        fixture.git(&["worktree", "list", "--porcelain"]).contains("locked orch run r1 task a")
    );

    write(worktree.path(), "new file", "1\n");
    write(worktree.path(), "README", "changed\n");
    write(worktree.path(), "debug.log", "ignored\n");
    let sealed = worktree.seal(&message("a")).await.unwrap();
    assert!(sealed.committed);
    let tip = sealed.tip.unwrap();
    let text = fixture.git(&["log", "-1", "--format=%B", tip.as_str()]);
    assert_eq!(text, "Do a\n\nOrch-Run: r1\nOrch-Task: a\nOrch-Attempt: 1");
    assert!(fixture.file(tip.as_str(), "debug.log").is_none());

    // After further changes too.
    write(worktree.path(), "more", "2\n");
    let again = worktree.seal(&message("a")).await.unwrap();
    assert!(again.committed);
    let tip = again.tip.unwrap();
    let same = worktree.seal(&message("a")).await.unwrap();
    assert_eq!((same.tip.as_ref(), same.committed), (Some(&tip), false));

    let merge_commit = merged(merge(&provider, "a", &tip).await);
    assert_eq!(fixture.tip("orch/r1/target"), merge_commit);
    let parents = fixture.git(&["log", "-1", "--format=%P %s", merge_commit.as_str()]);
    assert_eq!(parents, format!("{base} {tip} Do a"));
    assert_eq!(merged(merge(&provider, "a", &tip).await), merge_commit, "a repetition finds it");

    let path = worktree.path().to_owned();
    worktree.release(Release::Done).await.unwrap();
    assert!(!path.exists());
    assert!(!fixture.has("refs/heads/orch/r1/a"));
    assert_eq!(fixture.worktrees(), 0);
    assert_eq!(fixture.checkout(), before);
}

#[tokio::test]
async fn an_attempt_that_was_held_up_is_gone_on_with_in_its_worktree() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let first = provider.acquire(request("a", 1)).await.unwrap();
    let place = orch_model::event::Place {
        path: first.path().to_owned(),
        branch: first.branch().to_owned(),
        base: first.base().clone(),
        settings: first.settings().map(str::to_owned),
    };
    write(first.path(), "half", "1\n");
    first.release(Release::Keep).await.unwrap();

    let second = provider.proceed(request("a", 2), 1, &place).await.unwrap().expect("it is there");
    assert_eq!((second.path(), second.branch()), (&*place.path, &*place.branch));
    assert!(second.examine().await.unwrap().tampering.is_empty());
    // It is that of the second attempt from now on, also for an orchestrator that takes it up.
    assert!(provider.proceed(request("a", 2), 1, &place).await.unwrap().is_none());
    assert!(provider.reopen(request("a", 1), &place).await.unwrap().is_none());
    let second = provider.reopen(request("a", 2), &place).await.unwrap().expect("it is there");
    write(second.path(), "other half", "2\n");
    let tip = second.seal(&message("a")).await.unwrap().tip.expect("work");
    assert_eq!(fixture.file(tip.as_str(), "half").as_deref(), Some("1\n"));
    merged(merge(&provider, "a", &tip).await);
    second.release(Release::Done).await.unwrap();
    assert!(!place.path.exists());
    assert!(
        provider.proceed(request("a", 3), 2, &place).await.unwrap().is_none(),
        "nothing is left"
    );
}

#[tokio::test]
async fn the_commits_of_an_agent_are_its_work() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let none = worktree.seal(&message("a")).await.unwrap();
    assert_eq!((none.tip, none.committed), (None, false));
    commit(worktree.path(), &[("a", "1")]);
    let second = commit(worktree.path(), &[("a", "2")]);
    let sealed = worktree.seal(&message("a")).await.unwrap();
    assert_eq!((sealed.tip, sealed.committed), (Some(second), false));
}

#[tokio::test]
async fn a_rewritten_base_can_still_be_merged() {
    let fixture = Fixture::new();
    fixture.commit(&[("b", "b")]);
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    write(worktree.path(), "a", "a");
    git(worktree.path(), &["add", "-A"]);
    git(worktree.path(), &["commit", "--quiet", "--amend", "-m", "amended"]);
    let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
    let commit = merged(merge(&provider, "a", &tip).await);
    assert_eq!(fixture.file(commit.as_str(), "a").as_deref(), Some("a"));
    worktree.release(Release::Done).await.unwrap();
}

#[tokio::test]
async fn later_tasks_see_earlier_results() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let first = complete(&provider, "a", &[("a", "a")]).await;
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    assert_eq!(*worktree.base(), first);
    assert!(worktree.path().join("a").exists());
}

#[tokio::test]
async fn work_on_a_detached_head_is_not_lost() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    for (task, dirty) in [("clean", false), ("dirty", true)] {
        let worktree = provider.acquire(request(task, 1)).await.unwrap();
        git(worktree.path(), &["checkout", "--quiet", "--detach"]);
        let own = commit(worktree.path(), &[(task, "1")]);
        if dirty {
            write(worktree.path(), task, "2");
        }
        let sealed = worktree.seal(&message(task)).await.unwrap();
        let tip = sealed.tip.unwrap();
        assert_eq!(sealed.committed, dirty);
        assert_eq!(tip == own, !dirty);
        assert_eq!(fixture.tip(&format!("orch/r1/{task}")), tip);
        assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "");
        let head = git(worktree.path(), &["symbolic-ref", "--short", "HEAD"]);
        assert_eq!(head, format!("orch/r1/{task}"));
        merged(merge(&provider, task, &tip).await);
        worktree.release(Release::Done).await.unwrap();
    }
}

#[tokio::test]
async fn work_on_another_branch_is_not_lost_and_the_branch_not_moved() {
    let fixture = Fixture::new();
    let base = fixture.tip("main");
    fixture.git(&["branch", "theirs"]);
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    git(worktree.path(), &["switch", "--quiet", "theirs"]);
    write(worktree.path(), "a", "a");
    let sealed = worktree.seal(&message("a")).await.unwrap();
    let tip = sealed.tip.unwrap();
    assert!(sealed.committed);
    assert_eq!(fixture.tip("theirs"), base);
    assert_eq!(fixture.tip("orch/r1/a"), tip);
    assert_eq!(fixture.file(tip.as_str(), "a").as_deref(), Some("a"));

    // Looking at an older commit in the end hides no work.
    git(worktree.path(), &["checkout", "--quiet", "--detach", base.as_str()]);
    assert_eq!(worktree.seal(&message("a")).await.unwrap().tip, Some(tip));
}

#[tokio::test]
async fn work_in_two_places_is_refused_and_kept() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let one = commit(worktree.path(), &[("one", "1")]);
    git(worktree.path(), &["checkout", "--quiet", "--detach", "main"]);
    let two = commit(worktree.path(), &[("two", "2")]);
    let error = worktree.seal(&message("a")).await.unwrap_err();
    assert!(error.to_string().contains("neither contains the other"), "{error}");
    worktree.release(Release::Retry).await.unwrap();
    let kept = "refs/orch/preserved/r1/a/1";
    for commit in [one, two] {
        fixture.git(&["merge-base", "--is-ancestor", commit.as_str(), kept]);
    }
    assert!(!fixture.place("a").exists());

    // A branch that was deleted is made again where HEAD is.
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    git(worktree.path(), &["checkout", "--quiet", "--detach"]);
    git(worktree.path(), &["branch", "--quiet", "-D", "orch/r1/b"]);
    let own = commit(worktree.path(), &[("b", "b")]);
    assert_eq!(worktree.seal(&message("b")).await.unwrap().tip, Some(own));
}

#[tokio::test]
async fn an_orphan_branch_without_commits_is_refused() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    git(worktree.path(), &["checkout", "--quiet", "--orphan", "fresh"]);
    git(worktree.path(), &["rm", "-r", "--quiet", "-f", "."]);
    let error = worktree.seal(&message("a")).await.unwrap_err();
    assert!(error.to_string().contains("without commits"), "{error}");
    worktree.release(Release::Retry).await.unwrap();
    assert!(!fixture.has("refs/orch/preserved/r1/a/1"), "there was nothing to keep");
}

#[tokio::test]
async fn what_was_begun_and_not_finished_is_refused_and_kept() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let mine = commit(worktree.path(), &[("README", "mine\n")]);
    git(worktree.path(), &["branch", "side", "HEAD~1"]);
    git(worktree.path(), &["checkout", "--quiet", "side"]);
    commit(worktree.path(), &[("README", "theirs\n")]);
    git(worktree.path(), &["checkout", "--quiet", "orch/r1/a"]);
    let output = crate::support::try_git(worktree.path(), &["merge", "side"]);
    assert!(!output.status.success());

    let error = worktree.seal(&message("a")).await.unwrap_err().to_string();
    assert!(error.contains("unresolved conflicts: `README`"), "{error}");
    write(worktree.path(), "README", "resolved\n");
    git(worktree.path(), &["add", "README"]);
    let error = worktree.seal(&message("a")).await.unwrap_err().to_string();
    assert!(error.contains("a merge was begun and not finished"), "{error}");
    let error = worktree.release(Release::Done).await.unwrap_err();
    assert!(matches!(error, WorktreeError::WouldLoseWork { .. }), "{error}");

    // The next attempt finds what is left, and keeps it.
    let worktree = provider.acquire(request("a", 2)).await.unwrap();
    let kept = "refs/orch/preserved/r1/a/1";
    assert_eq!(fixture.file(kept, "README").as_deref(), Some("resolved\n"));
    fixture.git(&["merge-base", "--is-ancestor", mine.as_str(), kept]);
    assert_eq!(fs::read_to_string(worktree.path().join("README")).unwrap(), "hello\n");
}

#[tokio::test]
async fn a_finished_merge_in_the_index_is_not_done() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let admin = git(worktree.path(), &["rev-parse", "--absolute-git-dir"]);
    fs::write(format!("{admin}/CHERRY_PICK_HEAD"), fixture.tip("main").as_str()).unwrap();
    let error = worktree.release(Release::Done).await.unwrap_err().to_string();
    assert!(error.contains("a cherry-pick was begun"), "{error}");
}

#[tokio::test]
async fn done_refuses_to_lose_work() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    let path = worktree.path().to_owned();
    let error = worktree.release(Release::Done).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("commit {} is not part of the results", tip.short())),
        "{error}"
    );

    let (worktree, tip) = work(&provider, "b", &[("b", "b")]).await;
    merge(&provider, "b", &tip).await;
    write(worktree.path(), "late", "1");
    let error = worktree.release(Release::Done).await.unwrap_err().to_string();
    assert!(error.contains("not committed: `late`"), "{error}");

    // HEAD is merged, but the branch has more.
    let (worktree, tip) = work(&provider, "c", &[("c", "c")]).await;
    merge(&provider, "c", &tip).await;
    commit(worktree.path(), &[("c", "2")]);
    git(worktree.path(), &["checkout", "--quiet", "--detach", tip.as_str()]);
    let error = worktree.release(Release::Done).await.unwrap_err().to_string();
    assert!(error.contains("is not part of the results"), "{error}");

    for task in ["a", "b", "c"] {
        assert!(fixture.place(task).join(task).exists(), "nothing was removed");
        assert!(fixture.has(&format!("refs/heads/orch/r1/{task}")));
    }
    assert!(path.exists());
}

#[tokio::test]
async fn done_without_work_or_with_a_moved_head_leaves_nothing() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("idle", 1)).await.unwrap();
    worktree.release(Release::Done).await.unwrap();

    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    merge(&provider, "a", &tip).await;
    git(worktree.path(), &["checkout", "--quiet", "--detach", "main"]);
    worktree.release(Release::Done).await.unwrap();

    // The folder is gone already, as after an interrupted release.
    let (worktree, tip) = work(&provider, "b", &[("b", "b")]).await;
    merge(&provider, "b", &tip).await;
    remove_folder(worktree.path());
    worktree.release(Release::Done).await.unwrap();
    assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);
    assert_eq!(fixture.worktrees(), 0);
}

#[tokio::test]
async fn retry_keeps_commits_and_changes() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let own = commit(worktree.path(), &[("a", "1")]);
    write(worktree.path(), "a", "2");
    write(worktree.path(), "ö new", "3");
    worktree.release(Release::Retry).await.unwrap();
    assert!(!fixture.place("a").exists());
    assert!(!fixture.has("refs/heads/orch/r1/a"));
    let kept = "refs/orch/preserved/r1/a/1";
    assert_eq!(fixture.file(kept, "a").as_deref(), Some("2"));
    assert_eq!(fixture.file(kept, "ö new").as_deref(), Some("3"));
    fixture.git(&["merge-base", "--is-ancestor", own.as_str(), kept]);
    let text = fixture.git(&["log", "-1", "--format=%B", kept]);
    assert!(text.starts_with("orch: left by attempt 1 of a\n\nOrch-Run: r1"), "{text}");

    // The same attempt once more, after a crash: both are kept.
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    commit(worktree.path(), &[("a", "other")]);
    worktree.release(Release::Retry).await.unwrap();
    assert_eq!(fixture.file("refs/orch/preserved/r1/a/1.2", "a").as_deref(), Some("other"));

    // Nothing to keep.
    let worktree = provider.acquire(request("a", 2)).await.unwrap();
    worktree.release(Release::Retry).await.unwrap();
    assert!(!fixture.has("refs/orch/preserved/r1/a/2"));
}

#[tokio::test]
async fn a_kept_worktree_stays_as_it_is() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    write(worktree.path(), "late", "1");
    let path = worktree.path().to_owned();
    worktree.release(Release::Keep).await.unwrap();
    assert_eq!(git(&path, &["status", "--porcelain"]), "?? late");
    assert_eq!(fixture.tip("orch/r1/a"), tip);
    fixture.git(&["worktree", "prune", "--expire=now"]);
    assert_eq!(fixture.worktrees(), 1);
}

#[tokio::test]
async fn a_repository_inside_is_not_thrown_away() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    let inner = worktree.path().join("deep/inner");
    fs::create_dir_all(&inner).unwrap();
    git(&inner, &["init", "--quiet"]);
    write(&inner, "x", "x");
    let error = worktree.seal(&message("a")).await.unwrap_err().to_string();
    assert!(error.contains("`deep/inner` in it is a git repository of its own"), "{error}");
    let error = worktree.release(Release::Retry).await.unwrap_err();
    assert!(matches!(error, WorktreeError::WouldLoseWork { .. }), "{error}");
    assert!(inner.join("x").exists());
}

#[tokio::test]
async fn unpushed_commits_in_a_submodule_are_not_thrown_away() {
    let (fixture, library) = (Fixture::new(), Fixture::new());
    let url = library.repo.to_str().unwrap();
    let allow = ["-c", "protocol.file.allow=always"];
    fixture.git(&[&allow[..], &["submodule", "--quiet", "add", url, "lib"]].concat());
    fixture.commit(&[]);
    let provider = fixture.begun().await;

    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    git(worktree.path(), &[&allow[..], &["submodule", "--quiet", "update", "--init"]].concat());
    worktree.release(Release::Done).await.unwrap();

    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    git(worktree.path(), &[&allow[..], &["submodule", "--quiet", "update", "--init"]].concat());
    let lib = worktree.path().join("lib");
    git(&lib, &["config", "user.name", "Someone"]);
    git(&lib, &["config", "user.email", "someone@example.com"]);
    // Changed files in it make the worktree dirty, but there is nothing to commit.
    write(&lib, "new", "1");
    let sealed = worktree.seal(&message("b")).await.unwrap();
    assert_eq!((sealed.tip, sealed.committed), (None, false));
    commit(&lib, &[("new", "2")]);
    let tip = worktree.seal(&message("b")).await.unwrap().tip.unwrap();
    merged(merge(&provider, "b", &tip).await);
    let error = worktree.release(Release::Done).await.unwrap_err().to_string();
    assert!(error.contains("submodule `lib` has commits that were not pushed"), "{error}");
    assert!(lib.join("new").exists());
}

#[tokio::test]
async fn a_foreign_git_file_leads_nowhere_else() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let provider = fixture.begun().await;
    let before = other.tip("main");
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    write(worktree.path(), "a", "a");
    let link = format!("gitdir: {}/.git\n", other.repo.display());
    fs::write(worktree.path().join(".git"), link).unwrap();
    let begun = fixture.tip("orch/r1/a");
    let findings = worktree.examine().await.unwrap();
    assert!(findings.tampering[0].contains("/.git: it has to lead"), "{findings:?}");
    let path = worktree.path().to_owned();
    for error in [
        worktree.seal(&message("a")).await.map(drop).unwrap_err(),
        worktree.release(Release::Done).await.unwrap_err(),
    ] {
        assert!(matches!(error, WorktreeError::Tampered { .. }), "{error}");
    }
    assert_eq!((fixture.tip("orch/r1/a"), other.tip("main")), (begun, before));
    assert!(path.join("a").exists(), "what is in it is left to a person");
}

#[tokio::test]
async fn by_products_of_a_verification_go_with_the_worktree() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    merged(merge(&provider, "a", &tip).await);
    write(worktree.path(), "a", "formatted");
    write(worktree.path(), "built/junk", "junk");
    let path = worktree.path().to_owned();
    worktree.release(Release::Verified).await.unwrap();
    assert!(!path.exists());

    // Work that is not merged is kept all the same.
    let (worktree, _) = work(&provider, "b", &[("b", "b")]).await;
    let path = worktree.path().to_owned();
    let error = worktree.release(Release::Verified).await.unwrap_err();
    assert!(matches!(error, WorktreeError::WouldLoseWork { .. }), "{error}");
    assert!(path.join("b").exists());
}
