//! Budgets through the whole of orch: where a run stops, what it says, and how it goes on.

use std::fmt::Write as _;

use orch_tests::{Orch, TestRepo, binary, is_run, is_task};
use serde_json::Value;

/// A plan whose agent tells in a line of JSON that it used $0.30, as its last word.
fn plan(repo: &TestRepo, tasks: usize, run: &str, script: &str) -> std::path::PathBuf {
    let agent = binary::fake_agent().display();
    let mut text = format!(
        "version = 1\n[run]\nmax_concurrency = 4\n{run}\n[agents.coder]\n\
         command = ['{agent}', '{{prompt}}']\noutput = \"jsonl\"\n\
         events = [{{ event = \"usage_so_far\", when = {{ \"/type\" = \"usage\" }}, \
         take = {{ input = \"/in\", output = \"/out\", cost = \"/usd\" }} }}]\n\
         [[epic]]\nid = \"api\"\n"
    );
    for number in 1..=tasks {
        let epic = if number == 1 { "epic = \"api\"\n" } else { "" };
        let script = script.replace("{n}", &number.to_string());
        let _ = write!(
            text,
            "[[task]]\nid = \"t{number}\"\nagent = \"coder\"\n{epic}prompt = '''\n{script}\nwrite f{number} work\n\
             say {{\"type\":\"usage\",\"in\":1000,\"out\":100,\"usd\":0.30}}\n'''\n"
        );
    }
    repo.plan_file(&text)
}

fn orch<'r>(repo: &'r TestRepo, words: &[&str]) -> Orch<'r> {
    repo.orch(words)
}

fn run<'r>(repo: &'r TestRepo, plan: &std::path::Path) -> Orch<'r> {
    repo.orch(["run".as_ref(), plan.as_os_str()]).with_report()
}

fn spent(repo: &TestRepo) -> Value {
    let cost = orch(repo, &["cost", "--json"]).run();
    cost.assert_code(0);
    serde_json::from_str(&cost.stdout).expect("JSON")
}

#[test]
fn a_dollar_for_agents_of_thirty_cents_is_never_exceeded_and_more_goes_on() {
    let repo = TestRepo::new();
    let plan = plan(&repo, 6, "budget = { usd = \"1.00\" }", "");
    let outcome = run(&repo, &plan).run();
    outcome.assert_code(6);
    let said = "the budget of the run has no room for another attempt: $0.90 of $1.00 is spent, and one \
                takes about $0.30";
    outcome.assert_stdout(&["out of budget", said, "orch resume --budget 2.00"]);
    let report = outcome.report();
    assert_eq!(report.status(), "out_of_budget");
    assert_eq!(report.0["usage"]["cost_micro_usd"], 900_000);
    assert_eq!(report.0["budget_stops"][0]["spent"]["usd"], "0.90");
    orch(&repo, &["status"])
        .run()
        .assert_code(0)
        .assert_stdout(&[said, "orch resume --budget 2.00"]);
    orch(&repo, &["runs"]).run().assert_code(0).assert_stdout(&["out of budget", "3/6"]);
    assert_eq!(spent(&repo)["total"]["cost_usd"], "0.90");

    // Without more it would stop where it stands.
    orch(&repo, &["resume"])
        .run()
        .assert_code(2)
        .assert_stderr(&[said, "orch resume --budget 2.00"]);
    orch(&repo, &["resume", "--budget", "epic:no=1"]).run().assert_stderr(&["no such epic"]);
    let more = orch(&repo, &["resume", "--budget", "1.30"]).with_report().run();
    more.assert_code(6).assert_stdout(&["the budget of the run is $1.30 now", "$1.20 of $1.30"]);
    let more = orch(&repo, &["resume", "--budget", "5"]).with_report().run();
    more.assert_code(0);
    assert_eq!(repo.show("main", "f6"), "work\n");
    let total = &spent(&repo)["total"];
    assert_eq!((&total["cost_usd"], &total["attempts"]), (&"1.80".into(), &6.into()));
    assert_eq!(total["input_tokens"], 6000);
    let table = orch(&repo, &["cost", "--by", "epic"]).run();
    table.assert_code(0).assert_stdout(&["api", "$0.30", "(none)", "$1.50", "total", "$1.80"]);

    // The next run knows what to expect: no attempt is needed to find it out, and none has room.
    let dry = repo.orch(["plan".as_ref(), plan.as_os_str()]).run();
    dry.assert_code(0)
        .assert_stdout(&["Estimate, from earlier runs: about $1.80 and 6,600 tokens."]);
    let next = run(&repo, &plan).args(["--budget", "0.20"]).run();
    next.assert_code(6).assert_stdout(&["$0.00 of $0.20 is spent, and one takes about $0.30"]);
    let all = orch(&repo, &["cost", "--all", "--by", "agent"]).run();
    all.assert_code(0).assert_stdout(&["2 runs", "coder", "$1.80"]);
}

#[test]
fn a_run_whose_orchestrator_is_killed_knows_what_was_spent() {
    let repo = TestRepo::new();
    let (go, held) = (repo.signal("go"), repo.signal("held"));
    // The first one shows what it costs; the others wait.
    let script = format!("append {held} {{n}}\nwait-for {go}{{n}}");
    let plan = plan(&repo, 6, "budget = { usd = \"1.00\" }", &script);
    std::fs::write(format!("{go}1"), "").expect("a signal");
    let mut killed = run(&repo, &plan).arg("--json").spawn();
    // In no particular order.
    let awaited = [("t1", "merged"), ("t2", "started"), ("t3", "started")];
    for _ in awaited {
        killed.next_event(|event| awaited.iter().any(|(task, how)| is_task(event, task, how)));
    }
    killed.kill();
    let _ = killed.wait();
    for number in 2..=6 {
        std::fs::write(format!("{go}{number}"), "").expect("a signal");
    }
    let resumed = orch(&repo, &["resume"]).with_report().run();
    resumed.assert_code(6).assert_stdout(&["$0.90 of $1.00 is spent"]);
    let total = &spent(&repo)["total"];
    assert_eq!((&total["cost_usd"], &total["attempts"]), (&"0.90".into(), &3.into()));
}

#[test]
fn at_a_budget_that_stops_the_rest_is_skipped() {
    let repo = TestRepo::new();
    let plan = plan(&repo, 5, "budget = { usd = \"0.70\" }\non_budget = \"stop\"", "");
    let outcome = run(&repo, &plan).run();
    outcome.assert_code(1).assert_stdout(&[
        "$0.60 of $0.70",
        "skipped",
        "the budget of the run is used up",
    ]);
    let report = outcome.report();
    assert_eq!(report.status(), "failed");
    let merged = report.statuses().iter().filter(|(_, status)| status == "merged").count();
    assert_eq!(merged, 2);
    // What was merged is delivered.
    assert_eq!(repo.show("main", "f1"), "work\n");
}

#[test]
fn a_run_that_pauses_for_an_unknown_cost_can_be_told_to_go_on_while_it_works() {
    let repo = TestRepo::new();
    let (go, held) = (repo.signal("go"), repo.signal("held"));
    let agent = binary::fake_agent().display();
    let text = format!(
        "version = 1\n[run]\nbudget.usd = 1\n[agents]\nmute = {{ command = ['{agent}', '{{prompt}}'] }}\n\
         slow = {{ command = ['{agent}', '{{prompt}}'] }}\n\
         [[task]]\nid = \"a\"\nagent = \"slow\"\nprompt = 'touch {held}; wait-for {go}; write a a'\n\
         [[task]]\nid = \"b\"\nagent = \"mute\"\nprompt = 'wait-for {held}; write b b'\n\
         [[task]]\nid = \"c\"\nagent = \"mute\"\nprompt = 'write c c'\n"
    );
    let file = repo.plan_file(&text);
    let mut paused = run(&repo, &file).arg("--json").spawn();
    paused.next_event(|event| is_run(event, "budget_reached"));
    paused.next_event(|event| is_run(event, "run_paused"));
    let status = orch(&repo, &["status"]).run();
    status.assert_code(0).assert_stdout(&[
        "mute does not tell what it costs",
        "orch resume goes on without counting mute",
    ]);
    orch(&repo, &["resume"]).run().assert_code(0).assert_stdout(&["goes on"]);
    paused.wait_for_change("c", "merged");
    go.raise();
    // Nor does the other agent, which is said too, with nothing left to do.
    paused.wait().assert_code(0);
    assert_eq!(repo.show("main", "c"), "c\n");
    orch(&repo, &["cost"]).run().assert_code(0).assert_stdout(&["not told"]);
}
