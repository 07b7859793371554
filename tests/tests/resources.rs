//! What the machine has left decides what is started.

use std::fs;

use orch_tests::{Plan, TestRepo, is_run};

/// Available memory, in KiB.
fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn without_disk_space_nothing_is_started_and_the_run_says_so() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .set("min_free_disk", "100000TiB")
        .task("a", |t| t.shell("touch a"))
        .task("b", |t| t.shell("touch b").needs(["a"]));
    let mut run = repo.start(&plan);
    let held = run.next_event(|event| is_run(event, "starts_held"));
    assert_eq!(held["shortage"]["resource"], "disk", "{held}");
    assert_eq!(held["shortage"]["wanted_bytes"], (100_000_u64 << 40) + (256 << 20), "{held}");
    repo.orch(["status"]).run().assert_stdout(&["disk space", "100000 TiB is wanted"]);
    run.interrupt();
    let outcome = run.wait();
    outcome.assert_code(130);
    assert!(!outcome.stdout.contains("\"leased\""), "{outcome}");

    let mut again = repo.orch(["resume"]).spawn();
    again.next_line(|line| line.contains("nothing is started for want of disk space"));
    again.interrupt();
    again.wait().assert_code(130);
}

#[test]
fn where_memory_is_scarce_fewer_tasks_run_at_a_time() {
    let repo = TestRepo::new();
    let go = repo.signal("go");
    // There is more than that, and less than twice as much.
    let floor = format!("{}KiB", available() * 2 / 3);
    let mut plan = Plan::new()
        .set("max_concurrency", 4)
        .set("min_free_memory", floor)
        .default_value("isolation", "none");
    for n in 0..6 {
        plan = plan.task(format!("t{n}"), |t| t.script(format!("wait-for {go}")));
    }
    let mut run = repo.start(&plan);
    let changed = run.next_event(|event| is_run(event, "concurrency_changed"));
    assert_eq!(changed["limit"], 2, "{changed}");
    assert!(changed["reason"].as_str().is_some_and(|why| why.contains("of memory")), "{changed}");
    go.raise();
    run.wait().assert_code(0);
}
