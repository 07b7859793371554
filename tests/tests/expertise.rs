//! What runs teach: kept by domain, where that is wanted, and never by surprise.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt};

use orch_tests::{Orch, Outcome, TestRepo};

/// What is like codex: a command fails, a file is changed, the command works.
fn plan(repo: &TestRepo, file: &str, task: &str) -> String {
    let script = format!(
        r#"#!/bin/sh
case "$*" in *--version*) echo codex-cli 0.169.0; exit;; esac
cat > /dev/null
command="/bin/bash -lc 'make migrate'"
ran() {{
  printf '{{"type":"item.started","item":{{"id":"%s","type":"command_execution","command":"%s","status":"in_progress"}}}}\n' "$1" "$command"
  printf '{{"type":"item.completed","item":{{"id":"%s","type":"command_execution","command":"%s","aggregated_output":"%s","exit_code":%s,"status":"completed"}}}}\n' "$1" "$command" "$2" "$3"
}}
echo '{{"type":"thread.started","thread_id":"th-1"}}'
ran i1 'Error: no table 42 in /tmp/x, password=hunter2hunter2' 2
echo work > {file}
echo '{{"type":"item.completed","item":{{"id":"i2","type":"file_change","changes":[{{"path":"{file}","kind":"add"}}],"status":"completed"}}}}'
ran i3 ok 0
echo '{{"type":"item.completed","item":{{"id":"i4","type":"agent_message","text":"Done."}}}}'
echo '{{"type":"turn.completed","usage":{{"input_tokens":10,"cached_input_tokens":0,"output_tokens":1}}}}'
"#
    );
    let path = repo.beside("codex");
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be changed");
    format!(
        "version = 1\n[agents.coder]\nkind = \"codex\"\ncommand = ['{}']\n\
         [[task]]\nid = \"a\"\nagent = \"coder\"\nprompt = \"Add a SQL migration\"\n{task}\n",
        path.display()
    )
}

fn run<'r>(repo: &'r TestRepo, plan: &str) -> Orch<'r> {
    let file = repo.plan_file(plan);
    repo.orch([OsStr::new("run"), file.as_os_str()]).with_report()
}

fn configured(text: &str) -> TestRepo {
    let repo = TestRepo::new();
    repo.write("orch.toml", text);
    repo.commit_all("a configuration");
    repo
}

const FILE: &str = "docs/expertise/database.yaml";

#[test]
fn nothing_is_written_by_surprise() {
    let repo = TestRepo::new();
    repo.write(FILE, "overview: ours # with a comment\ncore_files: [gone.sql]\n");
    repo.commit_all("what we know");
    let before = repo.show("main", FILE);
    run(&repo, &plan(&repo, "a.sql", "")).run().assert_code(0);
    assert_eq!(repo.show("main", FILE), before);
}

#[test]
fn what_runs_teach_is_committed_with_their_results() {
    let repo = configured("expertise = \"commit\"\n");
    repo.write(FILE, "overview: Ours.\ncore_files:\n- a.sql\n- gone.sql\nowner: ann\n");
    repo.commit_all("what we know");
    let base = repo.head();
    let first = run(&repo, &plan(&repo, "a.sql", "")).run();
    first.assert_code(0);
    let text = repo.show("main", FILE);
    for part in [
        "overview: Ours.",
        "owner: ann",
        "`make migrate` failed",
        "Error: no table 42 in /tmp/x, password=[redacted]",
        "after changes of a.sql",
        "count: 1",
        &format!("{}/a.1", first.report().run_id()),
        "path: gone.sql",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(text.matches("missing: true").count(), 1, "{text}");
    assert_eq!(repo.read(FILE), text, "the checkout followed");
    assert_eq!(repo.git(["status", "--porcelain", "--untracked-files=no"]), "");
    let message = repo.git(["log", "-1", "--format=%B", "main"]);
    assert!(message.contains(&format!("Orch-Run: {}", first.report().run_id())), "{message}");
    repo.orch(["doctor"]).run().assert_code(0);

    // Seen again it is counted, not repeated.
    run(&repo, &plan(&repo, "b.sql", "")).run().assert_code(0);
    let text = repo.show("main", FILE);
    assert_eq!(text.matches("issue:").count(), 1, "{text}");
    assert!(text.contains("count: 2"), "{text}");

    repo.orch(["undo", "--yes"]).run().assert_code(0);
    assert!(repo.show("main", FILE).contains("count: 1"), "it goes with its run");
    assert!(repo.git(["merge-base", "--is-ancestor", &base, "main"]).is_empty());
}

#[test]
fn what_failed_teaches_too() {
    let repo = configured("expertise = \"commit\"\nexpertise_dir = \"known\"\n");
    run(&repo, &plan(&repo, "a.sql", "verify = [\"echo never; false\"]")).run().assert_code(1);
    assert!(repo.show("main", "known/database.yaml").contains("`make migrate` failed"));
    assert!(!repo.files_of("main").contains(&"a.sql".to_owned()), "the work was not accepted");
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn a_file_that_is_wrong_is_left_alone_and_told() {
    let repo = configured("expertise = \"commit\"\n");
    repo.write(FILE, "overview: [broken\n");
    repo.commit_all("a slip");
    let outcome = run(&repo, &plan(&repo, "a.sql", "")).run();
    outcome.assert_code(0);
    assert!(outcome.text().contains("nothing is learned of these: database.yaml"), "{outcome}");
    assert_eq!(repo.show("main", FILE), "overview: [broken\n");
    // A file in the way of the folder.
    let repo = configured("expertise = \"commit\"\nexpertise_dir = \"orch.toml/x\"\n");
    let outcome: Outcome = run(&repo, &plan(&repo, "a.sql", "")).run();
    outcome.assert_code(0);
    assert!(outcome.text().contains("before the delivery"), "{outcome}");
    assert_eq!(repo.show("main", "a.sql"), "work\n");
}

#[test]
fn a_place_outside_of_git_is_possible() {
    let repo = configured("expertise = \"folder\"\n");
    run(&repo, &plan(&repo, "a.sql", "")).run().assert_code(2).assert_stderr(&["expertise_dir"]);
    let folder = repo.beside("known");
    repo.write(
        "orch.toml",
        &format!("expertise = \"folder\"\nexpertise_dir = '{}'\n", folder.display()),
    );
    repo.commit_all("a place");
    run(&repo, &plan(&repo, "a.sql", "")).run().assert_code(0);
    let text = fs::read_to_string(folder.join("database.yaml")).expect("it is there");
    assert!(text.contains("`make migrate` failed"), "{text}");
    assert!(!repo.files_of("main").iter().any(|file| file.contains("expertise")));
}

#[test]
fn a_run_that_is_killed_at_its_end_teaches_once() {
    let repo = configured("expertise = \"commit\"\n");
    let go = repo.signal("go");
    // The work of one task is delivered with what another teaches, whose end is awaited over a crash.
    let wait = format!("verify = [\"while ! test -e {go}; do sleep 0.05; done\"]");
    let mut running = run(&repo, &plan(&repo, "a.sql", &wait)).arg("--json").spawn();
    running.wait_for_change("a", "agent_ended");
    running.kill();
    drop(running.wait());
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    let text = repo.show("main", FILE);
    assert!(text.contains("count: 1") && text.matches("issue:").count() == 1, "{text}");
}
