//! What the other commands print: the graph, the schema, the example plan, completions, help.

use orch_tests::{Plan, TestRepo};

fn plan() -> Plan {
    Plan::new()
        .task("schema", |t| t.script("say 1").set("estimate", "10m"))
        .task("login", |t| t.script("say 2").needs(["schema"]).files(["src/**"]))
        .task("logout", |t| t.script("say 3").needs(["schema"]).files(["src/auth.rs"]))
}

#[test]
fn a_plan_is_drawn_in_every_format() {
    let repo = TestRepo::new();
    let file = repo.plan_file(&plan().to_string());
    let draw = |format: &str| {
        let outcome = repo.orch(["plan", "--format", format]).arg(&file).run();
        outcome.assert_code(0).assert_stdout(&["schema", "login", "logout"]);
        outcome
    };
    draw("text").assert_stdout(&["critical path"]);
    draw("mermaid").assert_stdout(&["-->"]);
    draw("dot").assert_stdout(&["digraph", "->"]);
    assert!(draw("json").json().is_object());
    assert!(!repo.path().join(".orch").exists());
}

#[test]
fn the_schema_is_that_of_the_plan() {
    let repo = TestRepo::new();
    let schema = repo.orch(["schema", "plan"]).run();
    schema.assert_code(0);
    let schema = schema.json();
    for key in ["version", "run", "defaults", "agents", "epic", "task"] {
        assert!(schema["properties"].get(key).is_some(), "{key} is missing in {schema:#}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_example_plan_is_valid_and_runs() {
    let repo = TestRepo::new();
    let before: Vec<String> = repo.checkout().paths().map(str::to_owned).collect();
    repo.orch(["init"]).run().assert_code(0);
    let after = repo.checkout();
    let mut new = after.paths().filter(|path| !before.iter().any(|old| old == path));
    let plan = new.next().expect("init writes a plan").to_owned();
    assert_eq!(new.next(), None, "init writes more than a plan");
    assert!(repo.read(&plan).lines().any(|line| line.starts_with('#')), "it is not commented");
    repo.orch(["plan", &plan]).run().assert_code(0);
    repo.commit_all("the plan");
    repo.orch(["run", &plan]).run().assert_code(0);
    let again = repo.orch(["init"]).run();
    again.assert_code(2).assert_stderr(&[&plan]);
}

#[test]
fn shells_get_completions() {
    let repo = TestRepo::new();
    for shell in ["bash", "zsh", "fish"] {
        repo.orch(["completions", shell]).run().assert_code(0).assert_stdout(&["orch", "resume"]);
    }
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let repo = TestRepo::new();
    let help = repo.orch(["--help"]).run();
    help.assert_code(0).assert_stdout(&[
        "run",
        "plan",
        "status",
        "runs",
        "logs",
        "pause",
        "resume",
        "cancel",
        "gc",
        "schema",
        "init",
        "completions",
        "config",
        "130",
    ]);
    repo.orch(["--version"]).run().assert_code(0).assert_stdout(&["orch 0."]);
}

#[test]
fn piped_output_is_plain_text() {
    let repo = TestRepo::new();
    let outcome = repo.run(&plan());
    outcome.assert_code(0);
    assert!(!outcome.text().contains('\u{1b}'), "there are escape sequences\n{outcome}");
    outcome.assert_stdout(&["schema", "login", "logout", "merged"]);
}
