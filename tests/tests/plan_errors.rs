//! A wrong plan: one report with every mistake, and nothing is created.

use std::fs;

use orch_tests::{Plan, TestRepo};

const EVERY_MISTAKE: &str = r#"version = 1
[run]
max_concurency = 4
[defaults]
timeout = "ten minutes"
[[epic]]
id = "infra"
needs = ["auth"]
[[epic]]
id = "auth"
needs = ["infra"]
[[task]]
id = "schema"
run = "make schema"
priority = 9
[[task]]
id = "schema"
run = "make schema again"
[[task]]
id = "login"
run = "make login"
needs = ["shcema"]
[[task]]
id = "one"
run = "true"
needs = ["two"]
[[task]]
id = "two"
run = "true"
needs = ["one"]
[[task]]
id = "empty"
[[task]]
id = "both"
run = "true"
prompt = "also this"
[[task]]
id = "agentless"
prompt = "do it"
agent = "nobody"
[[task]]
id = "Bad Id"
run = "true"
[[task]]
id = "globs"
run = "true"
files = ["src/[oops"]
max_output = "5 parsecs"
"#;

#[track_caller]
fn assert_nothing_was_created(repo: &TestRepo) {
    assert!(!repo.path().join(".orch").exists(), "there is an .orch");
    assert_eq!(repo.branches(), ["main"]);
    assert!(!repo.beside("repo.worktrees").exists(), "there is a folder of worktrees");
    assert_eq!(repo.git(["status", "--porcelain"]), "");
}

#[test]
fn every_mistake_is_reported_at_once_and_nothing_is_created() {
    let repo = TestRepo::new();
    let before = repo.checkout();
    let file = repo.plan_file(EVERY_MISTAKE);
    for command in ["run", "plan"] {
        let outcome = repo.orch([command]).arg(&file).run();
        outcome.assert_code(2);
        outcome.assert_stderr(&[
            "max_concurency",
            "max_concurrency",
            "ten minutes",
            "priority",
            "schema",
            "shcema",
            "one -> two -> one",
            "infra",
            "empty",
            "both",
            "nobody",
            "Bad Id",
            "src/[oops",
            "5 parsecs",
        ]);
        let name = file.file_name().expect("a file name").to_string_lossy();
        for line in [3, 5, 17, 22, 47] {
            let place = format!("{name}:{line}:");
            assert!(outcome.stderr.contains(&place), "{place} is not named\n{outcome}");
        }
        assert!(outcome.stdout.is_empty(), "{outcome}");
        assert_nothing_was_created(&repo);
        assert_eq!(repo.checkout(), before);
    }
}

#[test]
fn yaml_and_json_are_plans_too() {
    let repo = TestRepo::new();
    let yaml = repo.beside("plan.yaml");
    fs::write(&yaml, "version: 1\ntask:\n  - id: a\n    run: echo 1 > a.txt\n").expect("a plan");
    let json = repo.beside("plan.json");
    let text = r#"{"version": 1, "task": [{"id": "b", "run": ["sh", "-c", "echo 2 > b.txt"]}]}"#;
    fs::write(&json, text).expect("a plan");
    for (plan, file, content) in [(&yaml, "a.txt", "1\n"), (&json, "b.txt", "2\n")] {
        repo.orch(["run"]).arg(plan).run().assert_code(0);
        assert_eq!(repo.show("main", file), content);
    }
}

#[test]
fn a_plan_of_a_later_version_and_one_that_is_missing_are_wrong_input() {
    let repo = TestRepo::new();
    let later = repo.plan_file("version = 2\n[[task]]\nid = \"a\"\nrun = \"true\"\n");
    repo.orch(["run"]).arg(later).run().assert_code(2).assert_stderr(&["version"]);
    let missing = repo.orch(["run", "no-such-plan.toml"]).run();
    missing.assert_code(2).assert_stderr(&["no-such-plan.toml"]);
    let flag = repo.orch(["run", "--no-such-flag"]).run();
    flag.assert_code(2).assert_stderr(&["--no-such-flag"]);
    assert_nothing_was_created(&repo);
}

#[test]
fn a_target_that_does_not_exist_is_wrong_input() {
    let repo = TestRepo::new();
    let plan = Plan::new().set("target", "no-such-branch").task("a", |t| t.script("say hi"));
    repo.run(&plan).assert_code(2).assert_stderr(&["no-such-branch"]);
    assert_eq!(repo.branches(), ["main"]);
    assert!(repo.worktrees().is_empty());
}

#[test]
fn a_dry_run_shows_the_plan_and_creates_nothing() {
    let repo = TestRepo::new();
    let before = repo.checkout();
    let plan = Plan::new()
        .task("first", |t| t.script("write a.txt 1"))
        .task("second", |t| t.script("write b.txt 1").needs(["first"]));
    let outcome = repo.orch(["run", "--dry-run"]).arg(repo.plan_file(&plan.to_string())).run();
    outcome.assert_code(0).assert_stdout(&["first", "second"]);
    assert_nothing_was_created(&repo);
    assert_eq!(repo.checkout(), before);
}
