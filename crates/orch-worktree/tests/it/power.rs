//! What a power cut leaves: files that are there and empty, and folders that are back.

use std::fs;

use orch_model::{
    RunId,
    ports::{BeginRun, GcRequest, Release, WorktreeProvider},
};

use crate::support::{
    Fixture, commit, complete, finish, merge, message, request, run_id, work, write,
};

#[tokio::test]
async fn a_run_whose_notes_were_emptied_goes_on() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "1")]).await;
    // Git is at work in the background no more.
    provider.gc(GcRequest { live: vec![run_id()], ..GcRequest::default() }).await.unwrap();
    let notes = fixture.repo.join(".git/refs/orch/runs/r1");
    let base = fs::read_to_string(notes.join("base")).unwrap();
    fs::write(notes.join("target"), "").unwrap();
    fs::write(notes.join("target.lock"), "").unwrap();

    let provider = fixture.open().await;
    // The journal knows the target.
    let request = BeginRun { run: run_id(), target: Some("main".into()), base: None };
    let again = provider.begin(request).await.unwrap();
    assert_eq!((again.target.as_str(), again.commit.as_str()), ("main", base.trim()));
    assert!(!notes.join("target.lock").exists());
    complete(&provider, "b", &[("b", "1")]).await;
    finish(&provider).await;
    assert_eq!(fixture.file("main", "a").as_deref(), Some("1"));
    assert_eq!(fixture.file("main", "b").as_deref(), Some("1"));
}

#[tokio::test]
async fn an_attempt_that_nobody_had_synced_is_made_anew() {
    let gone = "1234567890123456789012345678901234567890";
    // What is emptied, and what is in a branch.
    for (index, branch) in
        [("", ""), ("whole", ""), ("", gone), ("whole", gone), ("whole", "whole")]
    {
        let fixture = Fixture::new();
        let provider = fixture.begun().await;
        let worktree = provider.acquire(request("a", 1)).await.unwrap();
        commit(worktree.path(), &[("a", "first")]);
        write(worktree.path(), "notes", "by hand");
        drop(worktree);
        let git = fixture.repo.join(".git");
        if index != "whole" {
            fs::write(fixture.admin("a").join("index"), index).unwrap();
        }
        if branch != "whole" {
            fs::write(git.join("refs/heads/orch/r1/a"), branch).unwrap();
        }
        let what = format!("index {index:?}, branch {branch:?}");

        let provider = fixture.open().await;
        let worktree = provider.acquire(request("a", 2)).await.expect(&what);
        assert!(!worktree.path().join("a").exists(), "{what}");
        write(worktree.path(), "a", "second");
        let tip = worktree.seal(&message("a")).await.unwrap().tip.unwrap();
        merge(&provider, "a", &tip).await;
        worktree.release(Release::Done).await.unwrap();
        finish(&provider).await;
        assert_eq!(fixture.file("main", "a").as_deref(), Some("second"), "{what}");
        // What could be read is under a reference, the rest beside its place.
        let aside = fs::read_to_string(fixture.place("a.found-1").join("notes")).ok();
        let kept = fixture.file("refs/orch/preserved/r1/a/1", "notes");
        assert_eq!(aside.or(kept).as_deref(), Some("by hand"), "{what}");
    }
}

#[tokio::test]
async fn an_emptied_object_is_written_again() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    write(worktree.path(), "a", "the same again");
    let blob = fixture.git(&["hash-object", "-w", worktree.path().join("a").to_str().unwrap()]);
    drop(worktree);
    let (folder, name) = blob.trim().split_at(2);
    let object = fixture.repo.join(".git/objects").join(folder).join(name);
    fs::remove_file(&object).unwrap();
    fs::write(&object, "").unwrap();

    // Git takes the empty file for the object: such work must not pass for done.
    let broken = provider.acquire(request("b", 1)).await.unwrap();
    write(broken.path(), "b", "the same again");
    let error = broken.seal(&message("b")).await.unwrap_err().to_string();
    assert!(error.contains("is empty"), "{error}");
    drop(broken);

    let provider = fixture.begun().await;
    assert!(!object.exists());
    let (worktree, tip) = work(&provider, "a", &[("a", "the same again")]).await;
    merge(&provider, "a", &tip).await;
    worktree.release(Release::Done).await.unwrap();
    finish(&provider).await;
    assert_eq!(fixture.file("main", "a").as_deref(), Some("the same again"));
}

#[tokio::test]
async fn a_folder_that_is_back_is_moved_and_its_branch_taken_away() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    complete(&provider, "a", &[("a", "1")]).await;
    write(&fixture.place("a"), "a", "1");
    fixture.git(&["branch", "orch/r1/a", "orch/r1/target"]);
    for _ in 0..2 {
        provider.tidy(request("a", 1), Release::Done).await.unwrap();
        assert!(!fixture.place("a").exists() && !fixture.has("refs/heads/orch/r1/a"));
    }
    assert_eq!(fs::read_to_string(fixture.place("a.found-1").join("a")).unwrap(), "1");
    // Work that is not part of the results stays, whatever the records say.
    let (worktree, tip) = work(&provider, "b", &[("b", "1")]).await;
    drop(worktree);
    let error = provider.tidy(request("b", 1), Release::Done).await.unwrap_err().to_string();
    assert!(error.contains("not part of the results"), "{error}");
    assert_eq!(fixture.tip("orch/r1/b"), tip);
}

#[tokio::test]
async fn what_is_there_of_tasks_is_told_also_where_a_branch_was_emptied() {
    let fixture = Fixture::new();
    let provider = fixture.begun().await;
    assert!(provider.traces(&run_id()).await.unwrap().is_empty());
    complete(&provider, "merged", &[("merged", "1")]).await;
    let worktree = provider.acquire(request("a", 1)).await.unwrap();
    commit(worktree.path(), &[("a", "1")]);
    drop(worktree);
    // A folder without a branch, and a branch that was emptied.
    fs::create_dir_all(fixture.place("back")).unwrap();
    fs::write(fixture.repo.join(".git/refs/heads/orch/r1/empty"), "").unwrap();
    let traces = provider.traces(&run_id()).await.unwrap();
    let traces: Vec<_> = traces.iter().map(|task| task.as_str()).collect();
    assert_eq!(traces, ["a", "back"], "git passes over the empty one");
    assert!(provider.traces(&RunId::new("r2").unwrap()).await.unwrap().is_empty());
}
