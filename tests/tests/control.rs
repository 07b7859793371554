//! Looking at a run and steering it from another process, and stopping it with Ctrl-C.

use std::fs;

use orch_tests::{Plan, TestRepo, is_run, process_is_alive, process_is_stopped, until};

/// Whether a line of the text names all of these.
fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn status_shows_what_runs_and_why_the_rest_waits() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let plan = Plan::new()
        .set("max_concurrency", 1)
        .task("builder", |t| t.script(format!("touch {held}; wait-for {go}")))
        .task("tester", |t| t.script("say hi").needs(["builder"]))
        .task("writer", |t| t.script("say hi"));
    let mut run = repo.orch_run(&plan).spawn();
    run.wait_for(&held);
    let status = repo.orch(["status"]).run();
    status.assert_code(0);
    assert!(has_line(&status.stdout, &["builder", "running"]), "{status}");
    assert!(has_line(&status.stdout, &["tester", "builder"]), "{status}");
    assert!(has_line(&status.stdout, &["writer", "slot"]), "{status}");
    let state: serde_json::Value = serde_json::from_str(
        &fs::read_to_string(repo.path().join(".orch/parallel-state.json")).expect("the state file"),
    )
    .expect("the state file is JSON");
    assert_eq!(state["status"], "running", "{state:#}");
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(0);
    let status = repo.orch(["status"]).run();
    status.assert_code(0).assert_stdout(&["succeeded"]);
    let runs = repo.orch(["runs"]).run();
    runs.assert_code(0).assert_stdout(&[&outcome.report().run_id(), "succeeded"]);
}

#[test]
fn a_paused_run_starts_nothing_until_it_is_resumed() {
    let repo = TestRepo::new();
    let (held, go, second) = (repo.signal("held"), repo.signal("go"), repo.signal("second"));
    let plan = Plan::new()
        .task("first", |t| t.script(format!("touch {held}; wait-for {go}")))
        .task("second", |t| t.script(format!("touch {second}")).needs(["first"]));
    let mut run = repo.start(&plan);
    run.wait_for(&held);
    repo.orch(["pause"]).run().assert_code(0);
    run.next_event(|event| is_run(event, "run_paused"));
    go.raise();
    run.wait_for_change("first", "merged");
    let status = repo.orch(["status"]).run();
    assert!(has_line(&status.stdout, &["second", "paused"]), "{status}");
    assert!(!second.is_raised(), "a task was started while the run was paused");
    repo.orch(["resume"]).run().assert_code(0);
    run.next_event(|event| is_run(event, "run_resumed"));
    run.wait().assert_code(0);
    assert!(second.is_raised());
}

#[test]
fn a_frozen_run_stops_its_agents_too() {
    let repo = TestRepo::new();
    let (record, go) = (repo.signal("record"), repo.signal("go"));
    let plan = Plan::new().task("a", |t| t.script(format!("record {record}; wait-for {go}")));
    let mut run = repo.start(&plan);
    let pid = run.text_of(&record).rsplit(' ').next().expect("a process id").to_owned();
    let pid = pid.parse().expect("a number");
    let is_stopped = || process_is_stopped(pid);
    repo.orch(["pause", "--freeze"]).run().assert_code(0);
    until("the agent to be stopped", || is_stopped().then_some(()));
    repo.orch(["resume"]).run().assert_code(0);
    until("the agent to go on", || (!is_stopped()).then_some(()));
    go.raise();
    run.wait().assert_code(0);
}

#[test]
fn one_task_can_be_cancelled() {
    let repo = TestRepo::new();
    let (held, go, other) = (repo.signal("held"), repo.signal("go"), repo.signal("other"));
    let plan = Plan::new()
        .task("unwanted", |t| t.script(format!("touch {held}; hang")))
        .task("its-child", |t| t.script("say hi").needs(["unwanted"]))
        .task("wanted", |t| t.script(format!("touch {other}; wait-for {go}; write a.txt 1")));
    let mut run = repo.start(&plan);
    run.wait_for(&held);
    run.wait_for(&other);
    repo.orch(["cancel", "unwanted"]).run().assert_code(0);
    run.wait_for_change("unwanted", "cancelled");
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(1);
    outcome.report().assert_statuses(&[
        ("unwanted", "cancelled"),
        ("its-child", "skipped"),
        ("wanted", "merged"),
    ]);
}

#[test]
fn a_whole_run_can_be_cancelled() {
    let repo = TestRepo::new();
    let record = repo.signal("record");
    let plan = Plan::new()
        .task("done", |t| t.script("write done.txt 1"))
        .task("running", |t| t.script(format!("record {record}; hang")).needs(["done"]))
        .task("waiting", |t| t.script("say hi").needs(["running"]));
    let mut run = repo.start(&plan);
    let pid =
        run.text_of(&record).rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    repo.orch(["cancel"]).run().assert_code(0);
    let outcome = run.wait();
    outcome.assert_code(1);
    let report = outcome.report();
    assert_eq!(report.status(), "cancelled");
    report.assert_statuses(&[
        ("done", "merged"),
        ("running", "cancelled"),
        ("waiting", "cancelled"),
    ]);
    assert!(!process_is_alive(pid), "the agent outlives the run");
    assert_eq!(repo.show("main", "done.txt"), "1\n", "what was merged is delivered");
}

#[test]
fn commands_without_a_run_say_so() {
    let repo = TestRepo::new();
    for arguments in [&["pause"][..], &["cancel"], &["resume"]] {
        let outcome = repo.orch(arguments).run();
        outcome.assert_code(2);
        outcome.assert_stderr(&["run"]);
        assert!(!repo.path().join(".orch").exists(), "{arguments:?} made a folder");
    }
    let unknown = repo.orch(["cancel", "nobody"]).run();
    assert_eq!(unknown.code, Some(2), "{unknown}");
}

#[test]
fn ctrl_c_stops_gracefully_and_resume_finishes() {
    let repo = TestRepo::new();
    let (record, go, once) = (repo.signal("record"), repo.signal("go"), repo.signal("once"));
    let plan = Plan::new()
        .task("done", |t| t.script(format!("append {once} x; write done.txt 1")))
        .task("cut-off", |t| {
            t.needs(["done"]).script(format!("record {record}; wait-for {go}; write cut.txt 2"))
        })
        .task("last", |t| t.script("cat cut.txt; write last.txt 3").needs(["cut-off"]));
    let mut run = repo.orch_run(&plan).spawn();
    let pid =
        run.text_of(&record).rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    run.interrupt();
    let outcome = run.wait();
    outcome.assert_code(130);
    assert_eq!(outcome.report().status(), "interrupted", "{outcome}");
    assert_eq!(outcome.report().status_of("done"), "merged");
    assert!(!process_is_alive(pid), "the agent outlives the run");
    assert!(outcome.text().contains("orch resume"), "people are told how to go on\n{outcome}");

    go.raise();
    let resumed = repo.orch(["resume"]).with_report().run();
    resumed.assert_code(0);
    let report = resumed.report();
    assert_eq!(report.run_id(), outcome.report().run_id());
    report.assert_statuses(&[("done", "merged"), ("cut-off", "merged"), ("last", "merged")]);
    assert_eq!(fs::read_to_string(once.path()).expect("a record"), "x\n", "done was run again");
    assert_eq!(repo.show("main", "last.txt"), "3\n");
}

#[test]
fn the_second_ctrl_c_kills() {
    let repo = TestRepo::new();
    repo.configure("grace = \"10m\"\n");
    let record = repo.signal("record");
    let plan =
        Plan::new().task("stubborn", |t| t.script(format!("ignore-term; record {record}; hang")));
    let mut run = repo.start(&plan);
    let pid =
        run.text_of(&record).rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    run.interrupt();
    run.next_event(|event| is_run(event, "run_interrupting"));
    assert!(process_is_alive(pid), "the grace was not given");
    run.interrupt();
    let outcome = run.wait();
    outcome.assert_code(130);
    until("the end of the agent", || (!process_is_alive(pid)).then_some(()));
}

#[test]
fn sigterm_is_taken_as_the_first_ctrl_c() {
    let repo = TestRepo::new();
    let held = repo.signal("held");
    let plan = Plan::new().task("a", |t| t.script(format!("touch {held}; hang")));
    let mut run = repo.start(&plan);
    run.wait_for(&held);
    run.signal(rustix::process::Signal::TERM);
    let outcome = run.wait();
    outcome.assert_code(130);
    assert_eq!(outcome.report().status(), "interrupted");
}
