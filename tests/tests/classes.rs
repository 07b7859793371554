//! What a person reads of a failure: its class, and what to do.

use orch_tests::{Plan, TestRepo, binary, is_task};
use serde_json::{Value, json};

#[test]
fn a_hint_is_shown_everywhere() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("typo", |t| t.set("run", vec!["no-such-program-anywhere"]));
    let hint = "install the program, or mend its name in the plan";
    let outcome = repo.orch(["run"]).arg(repo.plan_file(&plan.to_string())).run();
    outcome
        .assert_code(1)
        .assert_stdout(&["failed: could not be started", &format!("hint: {hint}")]);
    repo.orch(["status"]).run().assert_stdout(&[&format!("hint: {hint}")]);

    let status = repo.orch(["status", "--json"]).run().json();
    let task = &status["report"]["tasks"][0];
    assert_eq!((&task["class"], &task["hint"]), (&"spawn".into(), &hint.into()), "{status:#}");
    let state = std::fs::read_to_string(repo.path().join(".orch/parallel-state.json"));
    let state: Value = serde_json::from_str(&state.expect("a state")).expect("JSON");
    assert_eq!(state["tasks"][0]["hint"], hint, "{state:#}");
}

#[test]
fn a_conflict_has_a_class_too() {
    let repo = TestRepo::new();
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    let script = |mine, other| format!("touch {mine}; wait-for {other}; conflict shared.txt");
    let plan = Plan::new()
        .task("one", |t| t.script(script(&one, &two)))
        .task("two", |t| t.script(script(&two, &one)));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    let loser = if report.status_of("one") == "merged" { "two" } else { "one" };
    assert_eq!(report.task(loser)["class"], "conflict");
    assert_eq!(report.task(loser)["hint"], "`orch conflicts` shows where, and what to type");
}

#[test]
fn an_agent_that_gets_no_lock_is_not_charged_for_it() {
    let repo = TestRepo::new();
    let orch = binary::orch().display();
    let (holds, free) = (repo.signal("holds"), repo.signal("free"));
    let plan = Plan::new()
        .default_value("isolation", "none")
        .task("holder", |t| t.lock("db").script(format!("touch {holds}; wait-for {free}")))
        .task("asks", |t| {
            t.shell(&format!(
                "set -e; until test -e {holds}; do sleep 0.01; done\n\
                 test $ORCH_ATTEMPT = 1 || touch {free}\n\
                 {orch} lock acquire db --timeout $((ORCH_ATTEMPT * 20 - 20))s"
            ))
        });
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    let state = std::fs::read_to_string(repo.path().join(".orch/parallel-state.json"));
    let state: Value = serde_json::from_str(&state.expect("a state")).expect("JSON");
    let asks = &state["tasks"][1];
    assert_eq!(asks["failures"], json!({"lock_timeout": 1}), "{outcome}");
    assert_eq!(asks["charged"], 0);
}

#[test]
fn the_end_of_every_agent_is_told_with_its_exit() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .default_value("isolation", "none")
        .task("fails", |t| t.script("exit 3"))
        .task("hangs", |t| t.set("timeout", "1s").script("hang"))
        .task("works", |t| t.script("sleep 0.1"));
    let outcome = repo.start(&plan).wait();
    outcome.assert_code(1);
    let exit = |task: &str| {
        let mut events = outcome.events.iter();
        let event = events.find(|event| is_task(event, task, "agent_ended"));
        event.map(|event| event["exit"].clone()).unwrap_or_default()
    };
    let expected = [json!({"code": 3}), json!({"signal": 15}), json!({"code": 0})];
    assert_eq!(["fails", "hangs", "works"].map(exit), expected, "{outcome}");
    let report = outcome.report();
    let seconds = |task: &str| report.task(task)["agent_seconds"].as_f64().expect("a number");
    // An event is dated when it is taken in, which may be later than its cause.
    assert!(seconds("hangs") > 0.5 && seconds("works") > 0.0, "{outcome}");
    let total = ["fails", "hangs", "works"].map(seconds).iter().sum::<f64>();
    let reported = report.0["agent_seconds"].as_f64().expect("a number");
    assert!((reported - total).abs() < 0.01, "{reported} and {total}: {outcome}");
}
