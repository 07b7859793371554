//! `schedule = "waves"`: the same machine, in batches.

use orch_tests::{Interval, Plan, TestRepo, intervals};

#[test]
fn a_wave_begins_when_every_task_of_the_one_before_has_ended() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .set("schedule", "waves")
        .task("slow", |t| t.script("sleep 0.1"))
        .task("quick", |t| t.script("say quick"))
        .task("next", |t| t.script("say next").needs(["quick"]));
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(0);
    let all = intervals(&outcome.events);
    assert!(all["slow"][0].to < all["next"][0].from, "{outcome}");
}

#[test]
fn a_failure_does_not_hold_the_next_wave_up() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .set("schedule", "waves")
        .task("bad", |t| t.script("exit 1"))
        .task("good", |t| t.script("say good"))
        .task("next", |t| t.script("say next").needs(["good"]));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    outcome.report().assert_statuses(&[("bad", "failed"), ("good", "merged"), ("next", "merged")]);
}

#[test]
fn a_wave_has_no_more_tasks_than_allowed() {
    let repo = TestRepo::new();
    let mut plan = Plan::new().set("max_per_wave", 2).set("wave_delay", "10ms");
    for number in 0..5 {
        plan = plan.task(format!("t{number}"), |t| t.set("isolation", "none").script("say hi"));
    }
    let outcome = repo.orch_run(&plan).args(["--json", "-j", "8", "--schedule", "waves"]).run();
    outcome.assert_code(0);
    let all = intervals(&outcome.events);
    assert!(Interval::depth(all.values().flatten()) <= 2, "{outcome}");
    let end_of_first = all["t0"][0].to.max(all["t1"][0].to);
    assert!(all["t2"][0].from > end_of_first && all["t3"][0].from > end_of_first, "{outcome}");
}
