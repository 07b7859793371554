//! A service that takes no more requests.

use std::fs;

use orch_tests::{Plan, TestRepo, is_run};
use serde_json::Value;

/// A program whose calls are limited while a file is there.
fn limited(repo: &TestRepo, retry_after: &str) -> std::path::PathBuf {
    let program = repo.beside("service");
    let flag = repo.signal("limited");
    let text = format!(
        "#!/bin/sh\necho call >> {calls}\n\
         if [ -e {flag} ]; then\n\
         echo '::orch failure class=rate_limit retry_after={retry_after} too much'; exit 1\n\
         fi\nsleep 0.02\n",
        calls = repo.signal("calls")
    );
    fs::write(&program, text).expect("it can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("it can be made executable");
    program
}

fn calls(repo: &TestRepo) -> usize {
    fs::read_to_string(repo.signal("calls").path()).unwrap_or_default().lines().count()
}

fn named<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn a_storm_of_rate_limits_charges_no_task() {
    let repo = TestRepo::new();
    let program = limited(&repo, "300ms");
    let flag = repo.signal("limited");
    flag.raise();
    let mut plan = Plan::new().set("max_concurrency", 8).default_value("isolation", "none");
    for n in 0..50 {
        plan = plan.task(format!("t{n}"), |t| t.shell(program.to_str().expect("text")));
    }
    let mut run = repo.start(&plan);
    run.next_event(|event| is_run(event, "breaker_opened"));
    let status = repo.orch(["status"]).run();
    status.assert_stdout(&["service until", "too much"]);
    fs::remove_file(flag.path()).expect("it is there");
    run.next_event(|event| is_run(event, "breaker_closed"));
    let outcome = run.wait();
    outcome.assert_code(0);

    let events: Vec<Value> =
        outcome.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let opened = named(&events, "breaker_opened").len();
    assert_eq!(named(&events, "breaker_closed").len(), 1);
    // Those under way when it opened, then one at a time.
    let repeated = calls(&repo) - 50;
    assert!(repeated < 8 + opened, "{repeated} calls were repeated, opened {opened} times");
    let limits: Vec<u64> = named(&events, "concurrency_changed")
        .iter()
        .map(|event| event["limit"].as_u64().expect("a number"))
        .collect();
    assert_eq!(limits.first(), Some(&4), "it is halved");
    assert_eq!(limits.last(), Some(&8), "and comes back: {limits:?}");
    let state = fs::read_to_string(repo.path().join(".orch/parallel-state.json")).expect("a state");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    let tasks = state["tasks"].as_array().expect("tasks");
    assert!(
        tasks.iter().all(|task| task["charged"] == 0 && task["state"] == "merged"),
        "{state:#}"
    );
    assert!(tasks.iter().any(|task| task["failures"]["rate_limit"].as_u64() >= Some(1)));
}

#[test]
fn others_go_on_and_a_resumed_run_knows_of_the_limit() {
    let repo = TestRepo::new();
    let program = limited(&repo, "10m");
    repo.signal("limited").raise();
    let done = repo.signal("done");
    let plan = Plan::new()
        .set("max_concurrency", 2)
        .default_value("isolation", "none")
        .task("limited", |t| t.set("priority", 0).shell(program.to_str().expect("text")))
        .task("other", |t| t.shell(&format!("sleep 0.2; touch {done}")));
    let mut run = repo.start(&plan);
    run.next_event(|event| is_run(event, "breaker_opened"));
    run.wait_for(&done);
    run.interrupt();
    run.wait().assert_code(130);

    let mut resumed = repo.orch(["resume", "--json"]).spawn();
    resumed.next_event(|event| is_run(event, "run_reopened"));
    repo.orch(["status"]).run().assert_stdout(&["limited", "service until"]);
    assert_eq!(calls(&repo), 1, "it was not tried again");
    resumed.interrupt();
    resumed.wait().assert_code(130);
}

#[test]
fn who_is_not_logged_in_is_told_at_once() {
    let repo = TestRepo::new();
    let plan = Plan::new().default_value("isolation", "none").task("a", |t| {
        t.set("retries", 5)
            .shell("echo '::orch failure class=authentication run login first'; exit 1")
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    assert_eq!(outcome.report().task("a")["attempts"], 1);
    assert!(outcome.report().error_of("a").contains("not logged in: run login first"));
}
