//! `orch ps`, `orch kill`, and what is told of agents that do nothing.

use orch_tests::{Plan, TestRepo, is_run, process_is_alive, until};
use serde_json::Value;

fn seen(repo: &TestRepo) -> Vec<Value> {
    let outcome = repo.orch(["ps", "--json"]).run();
    outcome.assert_code(0);
    let runs = outcome.json()["runs"].as_array().cloned().unwrap_or_default();
    let lists = runs.iter().filter_map(|run| run["processes"]["processes"].as_array());
    lists.flatten().cloned().collect()
}

#[test]
fn agents_are_listed_and_can_be_killed() {
    let repo = TestRepo::new();
    repo.orch(["ps"]).run().assert_code(0).assert_stdout(&["no agent is at work"]);
    let record = repo.signal("record");
    let plan = Plan::new()
        .task("stubborn", |t| t.script(format!("ignore-term; say hello; record {record}; hang")))
        .task("child", |t| t.script("say never").needs(["stubborn"]));
    repo.configure("grace = \"10m\"\n");
    let mut run = repo.start(&plan);
    let line = run.text_of(&record);
    let pid: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let listed = until("the list of processes", || {
        seen(&repo).into_iter().find(|process| process["task"] == "stubborn")
    });
    assert_eq!(listed["pid"], pid);
    assert_eq!((&listed["attempt"], &listed["status"]), (&1.into(), &"running".into()));
    assert!(listed["command"].as_str().is_some_and(|c| c.contains("fake-agent")), "{listed:#}");
    assert!(listed["memory_bytes"].as_u64() > Some(0), "{listed:#}");
    let table = repo.orch(["ps"]).run();
    table.assert_code(0).assert_stdout(&["TASK", "stubborn", &pid.to_string(), "running"]);

    repo.orch(["kill", "nobody"]).run().assert_code(2).assert_stderr(&["nobody"]);
    repo.orch(["kill", "stubborn"]).run().assert_code(0);
    let outcome = run.wait();
    outcome.assert_code(1);
    outcome.report().assert_statuses(&[("stubborn", "cancelled"), ("child", "skipped")]);
    assert!(!process_is_alive(pid), "no grace of ten minutes");
    // The supervisor ends after the orchestrator, and its list goes with it.
    until("an empty list", || seen(&repo).is_empty().then_some(()));
    repo.orch(["kill", "stubborn"]).run().assert_code(2).assert_stderr(&["no run goes on"]);
}

#[test]
fn silence_is_told_and_kills_nobody() {
    let repo = TestRepo::new();
    repo.configure("silence = \"500ms\"\n");
    let go = repo.signal("go");
    let line = format!("sleep 2; while [ ! -e {go} ]; do sleep 0.2; done");
    let plan = Plan::new().set("max_concurrency", 2).task("quiet", |t| t.shell(&line));
    let mut run = repo.start(&plan);
    let warning = run.next_event(|event| is_run(event, "warning"));
    assert_eq!(warning["task"], "quiet");
    let message = warning["message"].as_str().unwrap_or_default();
    assert!(message.contains("nothing for") && message.contains("orch kill quiet"), "{message}");
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(0);
}

#[test]
fn silence_ends_whom_the_plan_says_and_nobody_else() {
    let repo = TestRepo::new();
    let pid = repo.signal("pid");
    let quiet = format!("echo $$ > {pid}; trap 'exit 0' TERM; sleep 1000 & wait");
    let plan = Plan::new()
        .set("max_concurrency", 3)
        .default_value("isolation", "none")
        .default_value("silence_timeout", "1s")
        .task("quiet", |t| t.shell(&quiet))
        .task("talking", |t| t.shell("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done"))
        .task("patient", |t| t.set("silence_timeout", "1h").shell("sleep 3"))
        .task("checked", |t| t.shell("true").verify(["sleep 1000"]));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    report.assert_statuses(&[
        ("quiet", "failed"),
        ("talking", "merged"),
        ("patient", "merged"),
        ("checked", "failed"),
    ]);
    for task in ["quiet", "checked"] {
        let error = report.error_of(task);
        assert_eq!(error, "printed nothing and computed nothing for 1s", "{task}");
    }
    let pid: u32 = pid.text().trim().parse().expect("a process id");
    assert!(!process_is_alive(pid), "nothing of it is left");
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn agents_see_what_they_may_and_secrets_are_written_nowhere() {
    let repo = TestRepo::new();
    repo.configure("pass_env = \"DATABASE_*\"\nredact = ['cust-[0-9]+', 'iban \\S+']\n");
    let plan = Plan::new().task("curious", |t| {
        t.env("DEPLOY_TOKEN", "tok-3141592653").shell(
            "echo \"$OPENAI_API_KEY $DEPLOY_TOKEN ${DATABASE_URL-hidden} ${AWS_PROFILE-hidden}\"; \
                 printf tok-31415; sleep 0.1; echo 92653; \
                 printf 'for cust-17'; sleep 0.1; echo '42 and iban DE0231'; exit 1",
        )
    });
    let outcome = repo
        .orch_run(&plan)
        .env("OPENAI_API_KEY", "sk-2718281828")
        .env("DATABASE_URL", "postgres://localhost/x")
        .env("AWS_PROFILE", "mine")
        .run();
    outcome.assert_code(1);
    let shown = repo.orch(["logs", "curious"]).run();
    shown.assert_stdout(&["[redacted] [redacted] postgres://localhost/x hidden\n[redacted]\n\
        for [redacted] and [redacted]\n"]);
    let mut folders = vec![repo.path().join(".orch")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("sk-2718281828"), "{}: {text}", path.display());
                // The plan names it: it is in the journal, as it is in the plan's file.
                let is_journal = path.ends_with("journal");
                assert!(is_journal || !text.contains("tok-3141592653"), "{}", path.display());
            }
        }
    }
}
