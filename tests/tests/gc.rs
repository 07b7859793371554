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
