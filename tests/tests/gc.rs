//! `orch gc`: takes away what ended runs left, and loses no commit.

use orch_tests::{Plan, TestRepo};

#[test]
fn gc_loses_no_work() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("good", |t| t.script("write good.txt 1; commit good"))
        .task("bad", |t| t.script("write half.txt 1; commit half of it; exit 1"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let branch = outcome.report().task("bad")["branch"].as_str().expect("a branch").to_owned();
    let work = repo.tip(&branch);
    let checkout = repo.checkout();

    let before = (repo.branches(), repo.worktrees());
    repo.orch(["gc", "--dry-run"]).run().assert_code(0);
    assert_eq!((repo.branches(), repo.worktrees()), before, "a dry run took something away");

    repo.orch(["gc"]).run().assert_code(0);
    let holders = repo.git(["for-each-ref", "--contains", &work, "--format=%(refname)"]);
    assert!(!holders.is_empty(), "the failed task's commit is on no branch any more");
    assert_eq!(repo.show(&work, "half.txt"), "1\n");
    assert_eq!(repo.show("main", "good.txt"), "1\n");
    assert_eq!(repo.checkout(), checkout);
}

#[test]
fn gc_keeps_out_of_a_run_in_progress() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let plan =
        Plan::new().task("a", |t| t.script(format!("touch {held}; wait-for {go}; write a.txt 1")));
    let mut run = repo.orch_run(&plan).spawn();
    run.wait_for(&held);
    let before = (repo.branches(), repo.worktrees());
    let _ = repo.orch(["gc"]).run();
    assert_eq!((repo.branches(), repo.worktrees()), before);
    go.raise();
    run.wait().assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "1\n");
}

#[test]
fn records_go_only_where_no_work_depends_on_them() {
    let repo = TestRepo::new();
    let good = |name: &str| {
        let script = format!("write {name}.txt 1; commit {name}");
        let outcome = repo.run(&Plan::new().task(name, |t| t.script(script)));
        outcome.assert_code(0);
        outcome.report().run_id()
    };
    let delivered = good("one");
    let failed = repo.run(&Plan::new().task("bad", |t| t.script("write b 1; commit b; exit 1")));
    let failed = failed.assert_code(1).report().run_id();
    repo.write("src/file0.txt", "mine\n");
    let waiting = good("two");
    repo.git(["checkout", "--quiet", "src/file0.txt"]);
    let newest = good("three");
    let folder = |run: &str| repo.path().join(".orch/runs").join(run);

    let all = [&delivered, &failed, &waiting, &newest];
    for arguments in [
        &["--dry-run", "--keep", "0"][..],
        &["--keep", "4"],
        &["--keep", "0", "--older-than", "1h"],
        &[],
    ] {
        repo.orch(["gc", "--runs"]).args(arguments).run().assert_code(0);
        assert!(all.iter().all(|run| folder(run).exists()), "{arguments:?}");
    }
    let outcome = repo.orch(["gc", "--runs", "--keep", "0"]).run();
    outcome.assert_code(0).assert_stdout(&[
        "it is the current one",
        &format!("{failed}/bad is kept"),
        &format!("orch/{waiting}/target is kept"),
    ]);
    let left: Vec<bool> = all.iter().map(|run| folder(run).exists()).collect();
    assert_eq!(left, [false, true, true, true], "{outcome}");
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());

    // Once it is taken, nothing depends on the records any more.
    repo.git(["merge", "--quiet", "--no-edit", &format!("orch/{waiting}/target")]);
    repo.orch(["gc", "--runs", "--keep", "0"]).run().assert_code(0);
    assert!(!folder(&waiting).exists() && folder(&failed).exists());
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
}

#[test]
fn work_that_is_nowhere_else_is_moved_where_that_is_asked_for() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("committed", |t| t.script("write a.txt 1; commit a; exit 1"))
        .task("changed", |t| t.script("write b.txt 2; exit 1"));
    let run = repo.run(&plan).assert_code(1).report().run_id();
    let before = (repo.branches(), repo.worktrees());
    let kept = repo.orch(["gc"]).run();
    kept.assert_code(0).assert_stdout(&["kept", "committed", "changed"]);
    assert_eq!((repo.branches(), repo.worktrees()), before);
    // Not yet.
    repo.orch(["gc", "--preserve", "--older-than", "1h"]).run().assert_code(0);
    let dry = repo.orch(["gc", "--preserve", "--dry-run"]).run();
    dry.assert_code(0).assert_stdout(&["would remove", "refs/orch/preserved/", "KiB"]);
    assert_eq!((repo.branches(), repo.worktrees()), before);

    repo.orch(["gc", "--preserve"]).run().assert_code(0);
    assert!(repo.worktrees().len() < before.1.len(), "{:?}", repo.worktrees());
    assert!(repo.branches().iter().all(|branch| !branch.contains(&run)), "{:?}", repo.branches());
    for (task, file, text) in [("committed", "a.txt", "1\n"), ("changed", "b.txt", "2\n")] {
        assert_eq!(repo.show(&format!("refs/orch/preserved/{run}/{task}/1"), file), text);
    }
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
}

#[test]
fn the_oldest_records_go_where_all_take_too_much() {
    let repo = TestRepo::new();
    let mut runs = Vec::new();
    for name in ["one", "two", "three"] {
        let plan = Plan::new().task(name, |t| t.script(format!("write {name} 1; flood 50000")));
        runs.push(repo.run(&plan).assert_code(0).report().run_id());
    }
    let there = |run: &String| repo.path().join(".orch/runs").join(run).exists();
    repo.orch(["gc", "--runs", "--max-size", "1GB"]).run().assert_code(0);
    assert!(runs.iter().all(there), "nothing is too much");
    let dry = repo.orch(["gc", "--runs", "--max-size", "150KB", "--dry-run"]).run();
    dry.assert_code(0).assert_stdout(&[&runs[0], "KiB"]);
    repo.orch(["gc", "--runs", "--max-size", "150KB"]).run().assert_code(0);
    assert!(!there(&runs[0]) && there(&runs[2]), "{runs:?}");
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
}
