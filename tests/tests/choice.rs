//! Which agent does a task, and by which model. The agents are scripts: what tells their services apart is the
//! name of the program.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt};

use orch_tests::{Orch, TestRepo, binary, is_run};
use serde_json::Value;

/// `[agents.NAME]` with a script of that name, in which `$fake` is the fake agent.
fn agent(repo: &TestRepo, name: &str, more: &str, script: &str) -> String {
    let path = repo.beside(name);
    let fake = binary::fake_agent().display();
    let calls = repo.signal(&format!("{name}-calls"));
    let text = format!("#!/bin/sh\nfake='{fake}'\necho \"$*\" >> {calls}\n{script}\n");
    fs::write(&path, text).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be changed");
    format!("[agents.{name}]\ncommand = ['{}'{more}]\n", path.display())
}

fn calls(repo: &TestRepo, name: &str) -> Vec<String> {
    let text = fs::read_to_string(repo.signal(&format!("{name}-calls")).path()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn plan(agents: &[String], rest: &str) -> String {
    let agents = agents.concat();
    format!("version = 1\n[merge]\nmessage = '{{task}} by {{agent}}'\n{agents}{rest}")
}

fn task(id: &str, more: &str) -> String {
    format!("[[task]]\nid = '{id}'\nprompt = 'do it'\n{more}\n")
}

fn orch<'r>(repo: &'r TestRepo, command: &str, plan: &str) -> Orch<'r> {
    let file = repo.plan_file(plan);
    repo.orch([OsStr::new(command), file.as_os_str()])
}

fn by(task: &Value) -> (&str, &str) {
    let text = |key: &str| task["by"][key].as_str().expect("text");
    (text("agent"), text("reason"))
}

/// Commits a file with the name of the task.
const WORK: &str = "exec $fake \"write $ORCH_TASK_ID.txt 1; commit work\"";

#[test]
fn where_an_agent_is_missing_the_next_one_does_its_tasks() {
    let repo = TestRepo::new();
    let first = "[agents.first]\nkind = 'codex'\ncommand = ['/no/such/codex']\n".to_owned();
    let agents = [first, agent(&repo, "second", "", WORK)];
    let text = plan(&agents, &task("a", "agent = 'first'\nfallback_agents = ['second']"));
    let drawn = orch(&repo, "plan", &text).run();
    drawn.assert_code(0).assert_stdout(&["by first: named by the task; else by second"]);

    let outcome = orch(&repo, "run", &text).with_report().run();
    outcome
        .assert_code(0)
        .assert_stdout(&["warning: agent `first` is not used", "by second, fallback"]);
    let report = outcome.report();
    let (agent, reason) = by(report.task("a"));
    assert_eq!(agent, "second");
    assert!(
        reason.starts_with("fallback; first: there is no program `/no/such/codex`"),
        "{reason}"
    );
    assert_eq!(report.task("a")["attempts"], 1);
    assert_eq!(repo.log_subjects("main")[0], "a by second");
    repo.orch(["show", "a"]).run().assert_code(0).assert_stdout(&["by second", "fallback; first"]);

    // Where nobody stands in for it, nothing is begun.
    let text = text.replace("['second']", "[]");
    let refused = orch(&repo, "run", &text).run();
    refused.assert_code(2).assert_stderr(&["agent `first`: there is no program"]);
}

#[test]
fn a_limited_agent_is_stood_in_for_at_once_and_no_attempt_is_charged() {
    let repo = TestRepo::new();
    let limited = "echo '::orch failure class=rate_limit retry_after=1h too much'; exit 1";
    let agents = [agent(&repo, "one", "", limited), agent(&repo, "two", "", WORK)];
    let tasks: String = (0..4).map(|n| task(&format!("t{n}"), "")).collect();
    let defaults =
        "[run]\nmax_concurrency = 1\n[defaults]\nagent = 'one'\nfallback_agents = ['two']\n";
    let outcome =
        orch(&repo, "run", &plan(&agents, &(defaults.to_owned() + &tasks))).with_report().run();
    outcome.assert_code(0);
    let report = outcome.report();
    for (at, id) in ["t0", "t1", "t2", "t3"].into_iter().enumerate() {
        let task = report.task(id);
        let (agent, reason) = by(task);
        assert_eq!(agent, "two");
        assert!(
            reason.contains("one waits for one until") && reason.contains("too much"),
            "{reason}"
        );
        assert_eq!(task["attempts"], if at == 0 { 2 } else { 1 }, "the others know of the limit");
    }
    assert_eq!((calls(&repo, "one").len(), calls(&repo, "two").len()), (1, 4));
    let state: Value = serde_json::from_str(&repo.read(".orch/parallel-state.json")).expect("JSON");
    let tasks = state["tasks"].as_array().expect("tasks");
    assert!(tasks.iter().all(|task| task["charged"] == 0), "{state:#}");
}

#[test]
fn who_is_not_logged_in_makes_way_for_the_next_one() {
    let repo = TestRepo::new();
    let outside = "echo '::orch failure class=authentication log in first'; exit 1";
    let agents = [agent(&repo, "one", "", outside), agent(&repo, "two", "", WORK)];
    let text = plan(&agents, &task("a", "agent = 'one'\nfallback_agents = ['two']"));
    let outcome = orch(&repo, "run", &text).with_report().run();
    outcome.assert_code(0);
    let report = outcome.report();
    assert_eq!(by(report.task("a")), ("two", "fallback; one: not logged in: log in first"));
    assert_eq!((calls(&repo, "one").len(), calls(&repo, "two").len()), (1, 1));
}

#[test]
fn a_resumed_run_keeps_who_was_chosen() {
    let repo = TestRepo::new();
    let (started, go) = (repo.signal("started"), repo.signal("go"));
    let limited = "echo '::orch failure class=rate_limit retry_after=1h too much'; exit 1";
    let waits =
        format!("exec $fake \"write a.txt 1; commit work; touch {started}; wait-for {go}\"");
    let agents = [agent(&repo, "one", "", limited), agent(&repo, "two", "", &waits)];
    let text = plan(&agents, &task("a", "agent = 'one'\nfallback_agents = ['two']"));
    let mut run = orch(&repo, "run", &text).arg("--json").spawn();
    run.wait_for(&started);
    run.wait_for_change("a", "started");
    run.kill();
    let _ = run.wait();
    repo.orch(["status"]).run().assert_stdout(&["one is not started for"]);

    let mut resumed = repo.orch(["resume", "--json"]).with_report().spawn();
    resumed.next_event(|event| is_run(event, "run_reopened"));
    repo.orch(["status"]).run().assert_stdout(&["running (attempt 2) by two"]);
    go.raise();
    let outcome = resumed.wait();
    outcome.assert_code(0);
    let report = outcome.report();
    let (agent, reason) = by(report.task("a"));
    assert!(agent == "two" && reason.starts_with("fallback; one waits for one"), "{reason}");
    assert_eq!(report.task("a")["attempts"], 2);
    assert_eq!((calls(&repo, "one").len(), calls(&repo, "two").len()), (1, 1));
    assert_eq!(repo.log_subjects("main")[0], "a by two");
}

#[test]
fn a_description_tells_the_agent_and_a_plan_may_say_how() {
    let repo = TestRepo::new();
    let agents = [
        agent(&repo, "test-automator", "", WORK),
        agent(&repo, "backend-architect", "", WORK),
        agent(&repo, "writer", "", WORK),
    ];
    let rest = "[detect]\nwriter = ['handbook']\n".to_owned()
        + &task("a", "title = 'Tests of the shop'")
        + &task("b", "title = 'A server for the API'")
        + &task("c", "title = 'The handbook'");
    let text = plan(&agents, &rest);
    orch(&repo, "plan", &text).run().assert_code(0).assert_stdout(&[
        "by test-automator: `test` in its title",
        "by backend-architect: `API`, `server` in its title",
        "by writer: `handbook` in its title",
    ]);
    let file = repo.plan_file(&text);
    let plan = repo.orch([OsStr::new("plan"), file.as_os_str()]).args(["--format", "json"]).run();
    assert_eq!(by(&plan.json()["tasks"][0]), ("test-automator", "`test` in its title"));
    let outcome = orch(&repo, "run", &text).with_report().run();
    outcome.assert_code(0);
    for name in ["test-automator", "backend-architect", "writer"] {
        assert_eq!(calls(&repo, name).len(), 1, "{name}");
    }

    let unknown =
        text.replace("The handbook", "Something").replace("'A server for the API'", "'Audit it'");
    orch(&repo, "run", &unknown).run().assert_code(2).assert_stderr(&[
        "task `b` has a prompt and no agent",
        "`[agents.security-auditor]`, for which `audit` in its title speaks",
        "task `c` has a prompt and no agent",
    ]);
}

#[test]
fn a_model_is_chosen_only_where_the_plan_offers_some_and_names_none() {
    let repo = TestRepo::new();
    let agents = [agent(&repo, "coder", ", '{model}'", WORK)];
    let models = "models = { small = 'tiny', large = 'huge' }\n";
    let hard = "title = 'Redesign the concurrency: a race, a deadlock'\nfiles = ['src/**', 'b/**']\n\
                needs = ['a']";
    let rest = task("a", "") + &task("b", hard) + &task("c", "model = 'mine'\nneeds = ['b']");
    let text = plan(&[agents.concat() + models], &rest);
    orch(&repo, "plan", &text).run().assert_code(0).assert_stdout(&[
        "by coder (tiny): the only agent of the plan; model tiny: complexity 0 of 100",
        "by coder (huge): the only agent of the plan; model huge: complexity",
        "by coder (mine): the only agent of the plan\n",
    ]);
    let outcome = orch(&repo, "run", &text).with_report().run();
    outcome.assert_code(0);
    assert_eq!(calls(&repo, "coder"), ["tiny", "huge", "mine"]);
    let report = outcome.report();
    assert_eq!(report.task("b")["by"]["model"], "huge");
}
