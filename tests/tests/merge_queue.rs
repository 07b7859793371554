//! The merge queue: what merging tasks gives is verified before it becomes the results.

use std::fs;

use orch_tests::{Outcome, Plan, TestRepo, is_run, process_is_alive, until};
use serde_json::Value;

/// How many candidates were verified, and how many tasks each had.
fn candidates(outcome: &Outcome) -> Vec<usize> {
    let made = outcome.events.iter().filter(|event| is_run(event, "candidate_made"));
    made.map(|event| event["tasks"].as_array().expect("a list").len()).collect()
}

/// A task that writes a file of its own.
fn writes(plan: Plan, task: &str) -> Plan {
    plan.task(task, |t| t.script(format!("write {task} x; commit {task}")))
}

#[test]
fn two_tasks_that_pass_apart_and_fail_together_never_both_get_in() {
    let repo = TestRepo::new();
    let both = "if test -e one && test -e two; then echo they clash; exit 3; fi";
    let mut plan = Plan::new().verify_merged(both);
    for task in ["one", "two"] {
        plan = plan.task(task, |t| {
            t.script(format!("write {task} x; commit {task}"))
                .verify([both, "test -e one || test -e two"])
        });
    }
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(1);
    let files = repo.files_of("main");
    let merged: Vec<_> =
        ["one", "two"].into_iter().filter(|t| files.contains(&(*t).into())).collect();
    let [merged] = merged[..] else { panic!("{files:?}\n{outcome}") };
    let refused = if merged == "one" { "two" } else { "one" };
    let branch =
        repo.branches().into_iter().find(|name| name.ends_with(refused)).expect("its work");
    assert!(repo.files_of(&branch).contains(&refused.to_owned()));
    let logs = repo.orch(["logs", refused]).run();
    logs.assert_stdout(&["they clash"]).assert_stderr(&["verification 1 of the merged result"]);
    // Each task alone, and the refused one once more.
    assert_eq!(candidates(&outcome), [1, 1, 1], "{outcome}");
    let plain = repo.orch(["status"]).run();
    plain.assert_stdout(&["of the merged result ended with exit code 3"]);
    assert!(repo.worktrees().iter().all(|path| path.ends_with(refused)), "{:?}", repo.worktrees());
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn the_one_that_breaks_a_batch_is_found_by_halving() {
    let repo = TestRepo::new();
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    // The first candidate is held until everybody else waits.
    let hold = format!("touch {begun}; while ! test -e {go}; do sleep 0.01; done; ! test -e bad");
    let tasks = ["first", "a", "b", "c", "d", "e", "bad", "f"];
    let plan = Plan::new().set("max_concurrency", 8).verify_merged(&hold).merge_value("batch", 7);
    let plan = tasks.into_iter().fold(plan, |plan, task| {
        if task == "first" {
            return writes(plan, task);
        }
        plan.task(task, |t| t.script(format!("wait-for {begun}; write {task} x; commit {task}")))
    });
    let mut run = repo.start(&plan);
    run.wait_for(&begun);
    for _ in &tasks[1..] {
        run.next_event(|event| event["change"] == "verified" && event["task"] != "first");
    }
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(1);
    let files = repo.files_of("main");
    for task in tasks {
        assert_eq!(files.contains(&task.to_owned()), task != "bad", "{task}: {outcome}");
    }
    let candidates = candidates(&outcome);
    assert_eq!(candidates[..2], [1, 7], "{outcome}");
    // One by one: seven, and the bad one once more.
    assert!(candidates[1..].len() < 8, "{candidates:?}");
}

#[test]
fn a_verification_that_fails_by_chance_refuses_nobody() {
    let repo = TestRepo::new();
    let mark = repo.signal("mark");
    let line = format!("test -e {mark} || {{ touch {mark}; exit 1; }}");
    let outcome = repo.orch_run(&writes(Plan::new().verify_merged(&line), "a")).arg("--json").run();
    outcome.assert_code(0);
    let passed: Vec<&Value> = outcome
        .events
        .iter()
        .filter(|event| is_run(event, "candidate_verified"))
        .map(|event| &event["passed"])
        .collect();
    assert_eq!(passed, [&Value::Bool(false), &Value::Bool(true)]);
}

#[test]
fn build_products_stay_from_one_candidate_to_the_next() {
    let repo = TestRepo::new();
    repo.write(".gitignore", "/cache\n");
    repo.commit_all("ignores");
    let line = "date >> cache; touch litter; test $(ls | grep -c litter) = 1; cat cache | wc -l";
    let plan = writes(writes(Plan::new().verify_merged(line), "a"), "b");
    let plan = plan.set("max_concurrency", 1);
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(0);
    let printed: Vec<_> = ["a", "b"].map(|task| repo.orch(["logs", task]).run().text()).into();
    assert!(printed[0].contains('1') && printed[1].contains('2'), "{printed:?}");
    assert!(!repo.files_of("main").contains(&"litter".to_owned()));
    assert!(repo.worktrees().is_empty(), "{:?}", repo.worktrees());
}

#[test]
fn a_run_that_is_killed_while_it_verifies_goes_on() {
    let repo = TestRepo::new();
    let (pid, go) = (repo.signal("pid"), repo.signal("go"));
    let line = format!(
        "test -e {go} || {{ echo $$ > {pid}.new; mv {pid}.new {pid}; while :; do sleep 0.01; done; }}"
    );
    let plan = writes(writes(Plan::new().verify_merged(&line), "a"), "b");
    let mut run = repo.start(&plan);
    let verifier: u32 = run.text_of(&pid).trim().parse().expect("a pid");
    for _ in 0..2 {
        run.next_event(|event| event["change"] == "verified");
    }
    run.kill();
    drop(run);
    go.raise();
    let outcome = repo.orch(["resume", "--json"]).run();
    outcome.assert_code(0);
    assert!(!process_is_alive(verifier));
    let merges = repo.log_subjects("main").into_iter().filter(|s| s.starts_with("Merge")).count();
    assert_eq!(merges, 2, "{outcome}");
    assert!(repo.worktrees().is_empty(), "{:?}", repo.worktrees());
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn a_cancelled_run_does_not_wait_for_the_queue() {
    let repo = TestRepo::new();
    let pid = repo.signal("pid");
    let line = format!("echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600");
    let mut run = repo.start(&writes(writes(Plan::new().verify_merged(&line), "a"), "b"));
    let verifier: u32 = run.text_of(&pid).trim().parse().expect("a pid");
    repo.orch(["cancel"]).run().assert_code(0);
    let before = repo.tip("main");
    run.wait().assert_code(1);
    until("the end of the verification", || (!process_is_alive(verifier)).then_some(()));
    assert_eq!(repo.tip("main"), before);
    let kept = fs::read_dir(repo.beside("repo.worktrees")).map_or(0, Iterator::count);
    assert!(kept <= 1, "the run's folder alone");
}
