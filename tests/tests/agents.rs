//! Agents that get a prompt, and what every agent sees in its environment.

use orch_tests::{Plan, TestRepo};

#[test]
fn a_prompt_reaches_the_agent_by_argument_file_or_standard_input() {
    let repo = TestRepo::new();
    repo.write("prompts/three.txt", "write three.txt from a file of the repository\n");
    repo.commit_all("a prompt");
    let plan = Plan::new()
        .agent("argument", &["{prompt}"])
        .agent("file", &["--script-file", "{prompt_file}"])
        .agent("input", &[])
        .task("one", |t| t.prompt("argument", "write one.txt 'quotes' \"and\" $HOME stay"))
        .task("two", |t| t.prompt("input", "write two.txt first\nappend two.txt second"))
        .task("three", |t| t.set("agent", "file").set("prompt_file", "prompts/three.txt"))
        .task("four", |t| t.prompt("file", "write four.txt inline"));
    repo.run(&plan).assert_code(0);
    assert_eq!(repo.show("main", "one.txt"), "'quotes' \"and\" $HOME stay\n");
    assert_eq!(repo.show("main", "two.txt"), "first\nsecond\n");
    assert_eq!(repo.show("main", "three.txt"), "from a file of the repository\n");
    assert_eq!(repo.show("main", "four.txt"), "inline\n");
    assert_eq!(
        repo.files_of("main").len(),
        4 + 1 + 4,
        "a prompt file of the engine's own was committed: {:?}",
        repo.files_of("main")
    );
}

#[test]
fn templates_know_the_worktree_and_the_model() {
    let repo = TestRepo::new();
    let (path, seen) = (repo.signal("path"), repo.signal("seen"));
    let script = format!("env ORCH_WORKTREE {path}; write {seen} {{worktree}} {{model}}");
    let plan = Plan::new()
        .agent("templated", &[&script])
        .task("a", |t| t.prompt("templated", "unused").set("model", "large-1"));
    repo.run(&plan).assert_code(0);
    assert_eq!(seen.text(), format!("{} large-1", path.text()));
}

#[test]
fn a_task_without_a_prompt_reads_the_end_of_its_input_at_once() {
    let repo = TestRepo::new();
    // Would wait for ever on an input that stays open.
    let plan = Plan::new().task("a", |t| t.shell("cat > input.txt"));
    repo.run(&plan).assert_code(0);
    assert_eq!(repo.show("main", "input.txt"), "");
}

#[test]
fn agents_see_where_they_are() {
    let repo = TestRepo::new();
    let names = ["ORCH_RUN_ID", "ORCH_TASK_ID", "ORCH_ATTEMPT", "ORCH_WORKTREE", "ORCH_REPO"];
    let signals = names.map(|name| repo.signal(name));
    let script: Vec<String> =
        names.iter().zip(&signals).map(|(name, signal)| format!("env {name} {signal}")).collect();
    let plan = Plan::new().task("look", |t| {
        t.set("retries", 1).script(format!("{}; fail-times 1", script.join("; ")))
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    let [run, task, attempt, worktree, repository] = signals.map(|signal| signal.text());
    assert_eq!(run, outcome.report().run_id());
    assert_eq!((&*task, &*attempt), ("look", "2"));
    assert_eq!(repository, repo.path().to_string_lossy());
    assert!(worktree.ends_with("/look") && worktree.contains(&run), "{worktree}");
}

#[test]
fn a_plan_sets_variables_and_nothing_of_git_leaks_in() {
    let repo = TestRepo::new();
    let (level, colour, index) =
        (repo.signal("level"), repo.signal("colour"), repo.signal("index"));
    let mut plan = Plan::new().task("a", |t| {
        t.env("LEVEL", "of the task").shell(&format!(
            "echo \"$LEVEL\" > {level}; echo \"$COLOUR\" > {colour}; \
             echo \"${{GIT_INDEX_FILE:-unset}}\" > {index}"
        ))
    });
    let defaults = [("LEVEL", "of the defaults"), ("COLOUR", "green")];
    let table = defaults.map(|(name, value)| (name.to_owned(), value.into()));
    plan = plan.default_value("env", toml::Table::from_iter(table));
    let outcome = repo.orch_run(&plan).env("GIT_INDEX_FILE", "/nonexistent/index").run();
    outcome.assert_code(0);
    assert_eq!(level.text(), "of the task");
    assert_eq!(colour.text(), "green");
    assert_eq!(index.text(), "unset");
}
