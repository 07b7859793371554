//! Locks and claims on files: what excludes one another never runs together, and nothing else waits.

use orch_tests::{Interval, Outcome, Plan, TestRepo, intervals};

/// The largest number of attempts that held their locks at the same moment.
fn depth(outcome: &Outcome) -> usize {
    Interval::depth(intervals(&outcome.events).values().flatten())
}

fn run(repo: &TestRepo, plan: &Plan) -> Outcome {
    let outcome = repo.orch_run(plan).args(["--json", "-j", "8"]).run();
    outcome.assert_code(0);
    outcome
}

/// Two tasks that can end only if they run at the same time.
fn rendezvous(repo: &TestRepo) -> [String; 2] {
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    [format!("touch {one}; wait-for {two}"), format!("touch {two}; wait-for {one}")]
}

#[test]
fn holders_of_an_exclusive_lock_run_one_at_a_time() {
    let repo = TestRepo::new();
    let mut plan = Plan::new();
    for number in 0..5 {
        plan = plan.task(format!("t{number}"), |t| {
            t.lock("db").set("isolation", "none").script("sleep 0.02")
        });
    }
    assert_eq!(depth(&run(&repo, &plan)), 1);
}

#[test]
fn a_lock_holds_nobody_else_up() {
    let repo = TestRepo::new();
    let [one, two] = rendezvous(&repo);
    let plan = Plan::new()
        .task("one", |t| t.lock("db").script(one))
        .task("two", |t| t.lock("net").script(two));
    assert_eq!(depth(&run(&repo, &plan)), 2);
}

#[test]
fn shared_holders_run_together_and_an_exclusive_one_alone() {
    let repo = TestRepo::new();
    let [one, two] = rendezvous(&repo);
    let plan = Plan::new()
        .task("reader-1", |t| t.shared_lock("db").script(one))
        .task("reader-2", |t| t.shared_lock("db").script(two))
        .task("writer", |t| t.lock("db").script("sleep 0.02"));
    let outcome = run(&repo, &plan);
    let all = intervals(&outcome.events);
    let writer = all["writer"][0];
    assert!(!writer.overlaps(all["reader-1"][0]), "{outcome}");
    assert!(!writer.overlaps(all["reader-2"][0]), "{outcome}");
    assert!(all["reader-1"][0].overlaps(all["reader-2"][0]), "{outcome}");
}

#[test]
fn a_counted_lock_has_so_many_holders() {
    let repo = TestRepo::new();
    let [one, two] = rendezvous(&repo);
    let mut plan = Plan::new()
        .task("one", |t| t.counted_lock("gpu", 1, 2).script(one))
        .task("two", |t| t.counted_lock("gpu", 1, 2).script(two));
    for number in 0..3 {
        plan = plan
            .task(format!("more-{number}"), |t| t.counted_lock("gpu", 1, 2).script("sleep 0.02"));
    }
    plan = plan.task("all", |t| t.counted_lock("gpu", 2, 2).script("sleep 0.02"));
    let outcome = run(&repo, &plan);
    assert_eq!(depth(&outcome), 2, "{outcome}");
    let all = intervals(&outcome.events);
    for (task, its) in all.iter().filter(|(task, _)| *task != "all") {
        assert!(!all["all"][0].overlaps(its[0]), "{task} ran beside the one that takes all");
    }
}

#[test]
fn overlapping_claims_on_files_exclude_one_another() {
    let repo = TestRepo::new();
    let [one, two] = rendezvous(&repo);
    let plan = Plan::new()
        .task("whole", |t| t.files(["src/auth/**"]).script(one + "; append src/auth/mod.rs a"))
        .task("part", |t| t.files(["src/auth/mod.rs"]).script("append src/auth/mod.rs b"))
        .task("docs", |t| t.files(["docs/**"]).script(two + "; write docs/a.md c"));
    let outcome = run(&repo, &plan);
    let all = intervals(&outcome.events);
    assert!(!all["whole"][0].overlaps(all["part"][0]), "{outcome}");
    assert!(all["whole"][0].overlaps(all["docs"][0]), "{outcome}");
    // The second one began from the result of the first, so there was no conflict either.
    assert_eq!(repo.show("main", "src/auth/mod.rs").lines().count(), 2);
}

#[test]
fn a_lock_excludes_tasks_of_other_runs_on_the_same_repository() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let script = format!("touch {held}; wait-for {go}");
    let first =
        Plan::new().task("holder", |t| t.lock("db").set("isolation", "none").script(script));
    let second =
        Plan::new().task("guest", |t| t.lock("db").set("isolation", "none").script("say hi"));
    let mut running = repo.start(&first);
    running.wait_for(&held);
    let mut waiting = repo.start(&second);
    waiting.wait_for_change("guest", "queued");
    go.raise();
    running.wait().assert_code(0);
    waiting.wait().assert_code(0);
}
