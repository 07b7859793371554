//! What is known across runs: `orch history`, `orch sessions`, and what the scheduler makes of it.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt};

use orch_tests::{Orch, Plan, TestRepo, is_task};
use serde_json::Value;

/// What is like codex: it says two things, calls a tool and tells what its thread used so far.
fn codex(repo: &TestRepo, work: &str) -> String {
    let script = format!(
        r#"#!/bin/sh
case "$*" in *--version*) echo codex-cli 0.169.0; exit;; esac
cat > /dev/null
echo '{{"type":"thread.started","thread_id":"th-1"}}'
echo '{{"type":"item.completed","item":{{"id":"i0","type":"agent_message","text":"I look."}}}}'
echo '{{"type":"item.started","item":{{"id":"i1","type":"command_execution","command":"ls","status":"in_progress"}}}}'
echo '{{"type":"item.completed","item":{{"id":"i1","type":"command_execution","command":"ls","exit_code":0,"status":"completed"}}}}'
{work}
echo '{{"type":"item.completed","item":{{"id":"i2","type":"agent_message","text":"Done."}}}}'
echo '{{"type":"turn.completed","usage":{{"input_tokens":1200,"cached_input_tokens":200,"output_tokens":34}}}}'
"#
    );
    let path = repo.beside("codex");
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be changed");
    path.to_str().expect("text").to_owned()
}

fn coding_plan(repo: &TestRepo, work: &str, task: &str) -> String {
    format!(
        "version = 1\n[agents.coder]\nkind = \"codex\"\ncommand = ['{}']\nmodel = \"gpt-5\"\n\
         [[task]]\nid = \"a\"\nagent = \"coder\"\nprompt = \"Add a SQL migration\"\n{task}\n",
        codex(repo, work)
    )
}

fn run<'r>(repo: &'r TestRepo, plan: &str) -> Orch<'r> {
    let file = repo.plan_file(plan);
    repo.orch([OsStr::new("run"), file.as_os_str()]).with_report()
}

fn sessions(repo: &TestRepo) -> Vec<Value> {
    let found = repo.orch(["sessions", "--json"]).run();
    found.assert_code(0);
    let found = found.json();
    assert_eq!(found["version"], 1);
    found["sessions"].as_array().expect("a list").clone()
}

fn runs(repo: &TestRepo) -> Vec<Value> {
    let found = repo.orch(["history", "--json"]).run();
    found.assert_code(0);
    found.json()["runs"].as_array().expect("a list").clone()
}

#[test]
fn each_attempt_is_a_session_and_what_it_used_counts_once() {
    let repo = TestRepo::new();
    let verify = "retries = 1\nverify = [\"test $ORCH_ATTEMPT = 2\"]";
    let outcome = run(&repo, &coding_plan(&repo, "echo work > a.txt", verify)).run();
    outcome.assert_code(0);

    let found = sessions(&repo);
    assert_eq!(found.len(), 2, "{found:#?}");
    let [second, first] = [&found[0], &found[1]];
    assert_eq!((&first["number"], &second["number"]), (&1.into(), &2.into()));
    assert_eq!((&first["attempt"], &second["attempt"]), (&1.into(), &2.into()));
    assert_eq!((&first["status"], &first["class"]), (&"failed".into(), &"verification".into()));
    assert_eq!(second["status"], "succeeded");
    for session in [first, second] {
        assert_eq!((&session["kind"], &session["agent"]), (&"codex".into(), &"coder".into()));
        assert_eq!((&session["model"], &session["session"]), (&"gpt-5".into(), &"th-1".into()));
        assert_eq!((&session["messages"], &session["tool_calls"]), (&2.into(), &1.into()));
        assert_eq!(session["domain"], "database");
    }
    // The counts of an agent are those of its thread: the second attempt added nothing.
    assert_eq!(first["usage"]["input_tokens"], 1200);
    assert_eq!(second["usage"]["input_tokens"], 0);
    let report = outcome.report();
    let all = runs(&repo);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["usage"]["cost_micro_usd"], report.task("a")["usage"]["cost_micro_usd"]);
    assert_eq!((&all[0]["merged"], &all[0]["tasks"]), (&1.into(), &1.into()));

    let shown = repo.orch(["sessions"]).run();
    shown.assert_code(0).assert_stdout(&[
        "a.2",
        "codex",
        "gpt-5",
        "succeeded",
        "failed (verification)",
    ]);
    let shown = repo.orch(["sessions", "--agent", "claude"]).run();
    shown.assert_code(0).assert_stdout(&["there is no such session"]);
    repo.orch(["history"]).run().assert_code(0).assert_stdout(&["succeeded", "1/1", "1234"]);
    let tasks = repo.orch(["history", "--tasks", "--json"]).run().json();
    assert_eq!(tasks["tasks"]["a"]["failed"], 1, "{tasks:#}");
    let narrow = tasks["agents"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|row| row["model"] == "gpt-5" && row["domain"] == "database");
    assert_eq!(narrow.expect("the narrowest")["success_percent"], 50, "{tasks:#}");
    repo.orch(["history", "--tasks"]).run().assert_stdout(&["database", "50%", "gpt-5"]);
}

#[test]
fn a_run_that_is_killed_and_resumed_counts_once() {
    let repo = TestRepo::new();
    let (here, go) = (repo.signal("here"), repo.signal("go"));
    let work =
        format!("touch {here}; while ! test -e {go}; do sleep 0.05; done; echo work > a.txt");
    let mut running = run(&repo, &coding_plan(&repo, &work, "")).spawn();
    running.wait_for(&here);
    running.kill();
    drop(running.wait());
    // In the middle: what goes on is there, and not ended.
    let found = sessions(&repo);
    assert_eq!((found.len(), &found[0]["status"]), (1, &"open".into()), "{found:#?}");
    repo.orch(["history"]).run().assert_code(0).assert_stdout(&["stopped", "0/1"]);
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    for _ in 0..2 {
        let found = sessions(&repo);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((&found[0]["number"], &found[0]["status"]), (&1.into(), &"succeeded".into()));
        assert_eq!(found[0]["usage"]["input_tokens"], 1200);
        assert_eq!(runs(&repo)[0]["usage"]["input_tokens"], 1200);
    }
    let before = (sessions(&repo), runs(&repo));
    repo.orch(["history", "--rebuild"]).run().assert_code(0);
    assert_eq!((sessions(&repo), runs(&repo)), before, "it is what the journals say");
}

#[test]
fn the_history_outlives_the_records_and_its_own_damage() {
    let repo = TestRepo::new();
    let shown = repo.orch(["history"]).run();
    shown.assert_code(0).assert_stdout(&["nothing has been run here yet"]);
    assert!(!repo.path().join(".orch").exists(), "looking makes nothing");
    assert!(sessions(&repo).is_empty());

    let plan = Plan::new().task("a", |t| t.script("write a.txt 1"));
    let first = repo.run(&plan).report().run_id();
    repo.run(&Plan::new().task("b", |t| t.script("write b.txt 1"))).assert_code(0);
    repo.orch(["gc", "--runs", "--keep", "1"]).run().assert_code(0);
    assert!(!repo.path().join(".orch/runs").join(&first).exists(), "its records are gone");
    let names: Vec<_> = runs(&repo).iter().map(|run| run["run"].clone()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1], *first);
    repo.orch(["doctor"]).run().assert_code(0);

    fs::write(repo.path().join(".orch/history.db"), vec![b'x'; 9000]).expect("it can be written");
    for file in ["history.db-wal", "history.db-shm"] {
        let _ = fs::remove_file(repo.path().join(".orch").join(file));
    }
    let outcome = repo.run(&Plan::new().task("c", |t| t.script("write c.txt 1")));
    outcome.assert_code(0).assert_stderr(&["history.db was damaged", "history.db.damaged-1"]);
    assert_eq!(runs(&repo).len(), 2, "those whose journals are there");
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn many_processes_take_in_at_once() {
    let repo = TestRepo::new();
    for name in ["a", "b", "c"] {
        let plan = Plan::new().task(name, |t| t.script(format!("write {name}.txt 1")));
        repo.run(&plan).assert_code(0);
    }
    let _ = fs::remove_file(repo.path().join(".orch/history.db"));
    let calls: Vec<_> =
        (0..4).map(|_| repo.orch(["history", "--rebuild", "--json"]).spawn()).collect();
    for call in calls {
        call.wait().assert_code(0);
    }
    let found = sessions(&repo);
    assert_eq!(found.len(), 3, "{found:#?}");
    let mut numbers: Vec<_> = found.iter().map(|s| s["number"].as_u64()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 3);
}

#[test]
fn what_took_longest_in_any_run_before_goes_first() {
    let repo = TestRepo::new();
    let plan = |expected: &str| {
        let mut plan = Plan::new().set("max_concurrency", 1);
        for name in ["quick", "slow"] {
            let sleep = if name == "slow" { "sleep 1; " } else { "" };
            let line = format!("{sleep}echo {expected} > {name}.txt");
            plan = plan.task(name, |t| t.shell(&line));
        }
        plan
    };
    let order = |outcome: &orch_tests::Outcome| -> Vec<String> {
        let started = outcome.events.iter().filter(|event| event["change"] == "started");
        started.map(|event| event["task"].as_str().expect("a task").to_owned()).collect()
    };
    let first = repo.orch_run(&plan("1")).arg("--json").run();
    assert_eq!(order(&first), ["quick", "slow"], "nothing is known: the order of the plan");
    repo.run(&Plan::new().task("other", |t| t.script("write o.txt 1"))).assert_code(0);
    let third = repo.orch_run(&plan("3")).arg("--json").run();
    assert_eq!(order(&third), ["slow", "quick"]);
    assert!(third.events.iter().any(|event| is_task(event, "slow", "merged")));
}

#[test]
fn a_resolver_has_a_session_of_its_own() {
    let repo = TestRepo::new();
    let (here, go) = (repo.signal("here"), repo.signal("go"));
    let plan = Plan::new()
        .agent("fixer", &["write f both"])
        .merge_value("on_conflict", "resolver")
        .merge_value("resolver", "fixer")
        .task("a", |t| t.script(format!("wait-for {here}; write f a")))
        .task("b", |t| t.script(format!("touch {here}; wait-for {go}; write f b")));
    let mut running = repo.start(&plan);
    running.wait_for_change("a", "merged");
    go.raise();
    running.wait().assert_code(0);
    let found = sessions(&repo);
    let parts: Vec<_> = found.iter().map(|s| (&s["task"], &s["part"], &s["status"])).collect();
    assert_eq!(parts.len(), 3, "{parts:?}");
    let resolver = found.iter().find(|s| s["part"] == "resolve-1").expect("the resolver's");
    assert_eq!((&resolver["task"], &resolver["agent"]), (&"b".into(), &"fixer".into()));
    assert_eq!(resolver["status"], "succeeded");
    repo.orch(["sessions", "--task", "b"]).run().assert_stdout(&["b.1 resolve-1", "fixer"]);
}

#[test]
fn a_journal_that_is_damaged_keeps_nothing_else_out() {
    let repo = TestRepo::new();
    let first = repo.run(&Plan::new().task("a", |t| t.script("write a.txt 1"))).report().run_id();
    repo.run(&Plan::new().task("b", |t| t.script("write b.txt 1"))).assert_code(0);
    let journal = repo.path().join(".orch/runs").join(&first).join("journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&journal, bytes).expect("it can be written");
    let _ = fs::remove_file(repo.path().join(".orch/history.db"));
    let shown = repo.orch(["history", "--json"]).run();
    shown.assert_code(0).assert_stderr(&[&format!("run {first} is not in the history")]);
    assert_eq!(shown.json()["runs"].as_array().map(Vec::len), Some(1), "{shown}");
}

#[test]
fn whoever_is_killed_while_it_takes_in_leaves_it_whole() {
    let repo = TestRepo::new();
    let mut plan = Plan::new();
    for n in 0..40 {
        plan = plan.task(format!("t{n}"), |t| t.set("isolation", "none").shell("true"));
    }
    repo.run(&plan).assert_code(0);
    for _ in 0..15 {
        let _ = fs::remove_file(repo.path().join(".orch/history.db"));
        let calls: Vec<_> = (0..2).map(|_| repo.orch(["history", "--rebuild"]).spawn()).collect();
        // Wherever they are in it: the kernel says.
        for call in calls {
            call.kill();
            drop(call.wait());
        }
        assert_eq!(sessions(&repo).len(), 40);
    }
    assert_eq!(runs(&repo).len(), 1);
}
