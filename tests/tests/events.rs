//! `--json`: events as lines of JSON.

use orch_tests::{Plan, TestRepo, is_run};
use serde_json::Value;

#[test]
fn events_are_numbered_without_gaps_from_the_start_to_the_end() {
    let repo = TestRepo::new();
    let mut plan = Plan::new().task("flaky", |t| t.set("retries", 1).script("fail-times 1"));
    for number in 0..4 {
        plan = plan.task(format!("t{number}"), |t| t.script(format!("write {number}.txt x")));
    }
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(0);
    let lines: Result<Vec<Value>, _> = outcome.stdout.lines().map(serde_json::from_str).collect();
    let lines = lines.unwrap_or_else(|error| panic!("a line is not JSON: {error}\n{outcome}"));
    let numbers: Vec<u64> = lines.iter().filter_map(|event| event["seq"].as_u64()).collect();
    let expected: Vec<u64> = (1..=lines.len() as u64).collect();
    assert_eq!(numbers, expected, "{outcome}");
    assert!(is_run(&lines[0], "run_started"), "{}", lines[0]);
    assert_eq!(lines[0]["header"]["version"], 1);
    let last = &lines[lines.len() - 1];
    assert!(is_run(last, "run_ended"), "{last}");
    assert_eq!(last["status"], "succeeded");
    let times: Vec<&str> = lines.iter().filter_map(|event| event["at"].as_str()).collect();
    assert_eq!(times.len(), lines.len());
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_task_goes_its_way_step_by_step() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("a", |t| t.script("write a.txt 1").verify(["true"]));
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(0);
    let changes: Vec<&str> = outcome
        .events
        .iter()
        .filter(|event| event["task"] == "a")
        .filter_map(|event| event["change"].as_str())
        .collect();
    assert_eq!(
        changes,
        [
            "unblocked",
            "queued",
            "leased",
            "preparing",
            "prepared",
            "started",
            "agent_ended",
            "verified",
            "merged"
        ]
    );
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("a", |t| t.script("write a.txt 1"))
        .task("b", |t| t.script("write b.txt 1").needs(["a"]));
    let file = repo.plan_file(&plan.to_string());
    let orch = orch_tests::binary::orch().display();
    // `head` ends after the first line; what follows goes into a closed pipe.
    let line = format!("set -o pipefail; '{orch}' run --json '{}' | head -n 1", file.display());
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &line]).current_dir(repo.path());
    let output = repo.isolated(command).output().expect("bash can be started");
    assert!(String::from_utf8_lossy(&output.stdout).contains("run_started"), "{output:?}");
    assert_eq!(repo.show("main", "b.txt"), "1\n", "{output:?}");
}
