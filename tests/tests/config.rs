//! Configuration: built-in < user < repository < environment < flags.

use orch_tests::{Orch, Outcome, Plan, TestRepo};

/// The line of `orch config` about the number of tasks that run at the same time.
#[track_caller]
fn limit(outcome: &Outcome) -> String {
    outcome.assert_code(0);
    let line = outcome.stdout.lines().find(|line| line.contains("max_concurrency"));
    line.unwrap_or_else(|| panic!("no line about max_concurrency\n{outcome}")).to_owned()
}

#[test]
fn each_layer_wins_over_the_one_before_and_is_named() {
    let repo = TestRepo::new();
    let config = || -> Orch<'_> { repo.orch(["config"]) };
    let table: [(&str, &dyn Fn(), &str); 3] = [
        ("3", &|| (), "default"),
        ("5", &|| repo.configure("max_concurrency = 5\n"), "config.toml"),
        ("6", &|| repo.write("orch.toml", "max_concurrency = 6\n"), "orch.toml"),
    ];
    for (value, add_layer, origin) in table {
        add_layer();
        let line = limit(&config().run());
        assert!(line.contains(value) && line.contains(origin), "{value} from {origin}: {line}");
    }
    let line = limit(&config().env("ORCH_MAX_CONCURRENCY", "7").run());
    assert!(line.contains('7') && line.contains("ORCH_MAX_CONCURRENCY"), "{line}");
    let line = limit(&config().env("ORCH_MAX_CONCURRENCY", "7").args(["-j", "8"]).run());
    assert!(line.contains('8') && line.contains("-"), "{line}");
}

#[test]
fn a_wrong_configuration_is_wrong_input() {
    let repo = TestRepo::new();
    repo.configure("max_concurency = 5\n");
    let plan = Plan::new().task("a", |t| t.script("say hi"));
    let outcome = repo.run(&plan);
    outcome.assert_code(2).assert_stderr(&["max_concurency", "max_concurrency", "config.toml"]);
    assert!(!repo.path().join(".orch").exists());
    repo.configure("");
    repo.orch(["config"])
        .env("ORCH_MAX_CONCURRENCY", "many")
        .run()
        .assert_code(2)
        .assert_stderr(&["ORCH_MAX_CONCURRENCY", "many"]);
}

#[test]
fn the_configured_limit_is_the_one_that_a_run_keeps() {
    let repo = TestRepo::new();
    repo.configure("max_concurrency = 1\n");
    let plan = Plan::new()
        .task("a", |t| t.set("isolation", "none").script("say a"))
        .task("b", |t| t.set("isolation", "none").script("say b"));
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(0);
    assert_eq!(outcome.events[0]["header"]["settings"]["max_concurrency"], 1, "{outcome}");
}
