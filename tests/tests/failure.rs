//! Agents that fail, hang, flood, leave processes behind or run into one another.

use std::{fs, path::Path};

use orch_tests::{Plan, TestRepo, process_is_alive, until};

#[track_caller]
fn gone(pid: &str) {
    let pid = pid.parse().expect("a process id");
    until(&format!("the end of process {pid}"), || (!process_is_alive(pid)).then_some(()));
}

#[test]
fn a_failed_attempt_is_repeated() {
    let repo = TestRepo::new();
    let record = repo.signal("record");
    let plan = Plan::new().task("flaky", |t| {
        t.set("retries", 2).script(format!("record {record}; fail-times 2; write a.txt 1"))
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    assert_eq!(outcome.report().task("flaky")["attempts"], 3);
    let text = fs::read_to_string(record.path()).expect("a record");
    let attempts: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(attempts, ["1", "2", "3"], "{outcome}");
    assert_eq!(repo.show("main", "a.txt"), "1\n");
}

#[test]
fn retries_come_to_an_end() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("bad", |t| t.set("retries", 1).script("exit 3"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    assert_eq!(report.task("bad")["attempts"], 2);
    assert!(report.error_of("bad").contains("exit code 3"), "{:#}", report.0);
}

#[test]
fn a_new_attempt_does_not_see_what_the_failed_one_left() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("flaky", |t| t.set("retries", 1).script("append a.txt once; fail-times 1; say done"));
    repo.run(&plan).assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "once\n");
}

#[test]
fn locks_of_an_agents_git_that_was_killed_are_in_nobodys_way() {
    let repo = TestRepo::new();
    // What a git leaves that is killed in the middle of its work, while others go on.
    let branch = "$(git rev-parse --git-common-dir)/$(git symbolic-ref HEAD).lock";
    let index = "$(git rev-parse --absolute-git-dir)/index.lock";
    let work = |name: &str, lock: &str, end: &str| {
        format!("echo 1 > {name}.txt && git add . && git commit -qm 1 && touch \"{lock}\" && {end}")
    };
    let packed = "$(git rev-parse --git-common-dir)/packed-refs.lock";
    let once = "test $ORCH_ATTEMPT = 2";
    let plan = Plan::new()
        .task("busy", |t| t.script("sleep 0.5; write busy.txt 1; commit busy"))
        .task("branch", |t| t.set("retries", 1).shell(&work("branch", branch, once)))
        .task("packed", |t| t.set("retries", 1).shell(&work("packed", packed, once)))
        .task("index", |t| t.shell(&work("index", index, "echo 2 > index.txt")));
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    for name in ["busy", "branch", "packed"] {
        assert_eq!(repo.show("main", &format!("{name}.txt")), "1\n");
    }
    assert_eq!(repo.show("main", "index.txt"), "2\n");
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_program_that_does_not_exist_is_not_tried_again() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("typo", |t| t.set("retries", 3).set("run", vec!["no-such-program-anywhere"]));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    assert_eq!(outcome.report().task("typo")["attempts"], 1);
    let error = outcome.report().error_of("typo").to_owned();
    assert!(error.contains("no-such-program-anywhere"), "{error}");
}

#[test]
fn a_timeout_ends_the_agent_and_its_children() {
    let repo = TestRepo::new();
    let (record, child) = (repo.signal("record"), repo.signal("child"));
    let plan = Plan::new().task("slow", |t| {
        t.set("timeout", "2s")
            .script(format!("record {record}; fork-grandchild 100 {child}; say still here; hang"))
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    assert_eq!(report.status_of("slow"), "failed");
    assert!(report.error_of("slow").contains("longer than 2s"), "{:#}", report.0);
    gone(&child.text());
    gone(record.text().rsplit(' ').next().expect("a process id"));
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed() {
    let repo = TestRepo::new();
    let record = repo.signal("record");
    let plan = Plan::new().task("stubborn", |t| {
        t.set("timeout", "1s").script(format!("ignore-term; record {record}; hang"))
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    assert!(outcome.report().error_of("stubborn").contains("longer than 1s"), "{outcome}");
    gone(record.text().rsplit(' ').next().expect("a process id"));
}

#[test]
fn a_process_that_holds_the_output_open_does_not_hold_the_run() {
    let repo = TestRepo::new();
    let child = repo.signal("child");
    let plan = Plan::new()
        .task("leaky", |t| t.script(format!("hold-stdout 100 {child}; write a.txt 1; say done")))
        .task("next", |t| t.script("cat a.txt").needs(["leaky"]));
    // The harness gives up after a minute, long before the process lets go.
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    gone(&child.text());
}

#[test]
fn a_flood_of_output_is_cut() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("flood", |t| {
        t.set("max_output", "64KiB").script("say the beginning; flood 20000000; say the end")
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    let stored = size_of(&repo.path().join(".orch"));
    assert!(stored < 400_000, "{stored} bytes are stored\n{outcome}");
    let logs = repo.orch(["logs", "flood"]).run();
    logs.assert_code(0).assert_stdout(&["the beginning", "the end"]);
    assert!(logs.stdout.len() < 200_000, "{} bytes", logs.stdout.len());
}

#[test]
fn the_output_of_all_tasks_together_is_capped() {
    let repo = TestRepo::new();
    let mut plan = Plan::new()
        .set("max_total_output", "100KB")
        .set("max_concurrency", 1)
        .default_value("isolation", "none");
    for n in 0..5 {
        plan = plan
            .task(format!("t{n}"), |t| t.script("say the beginning; flood 1000000; say the end"));
    }
    let outcome = repo.start(&plan).wait();
    outcome.assert_code(0);
    let warnings: Vec<_> =
        outcome.events.iter().filter(|event| event["event"] == "warning").collect();
    assert_eq!(warnings.len(), 1, "{outcome}");
    assert_eq!(warnings[0]["task"], "t0");
    let message = warnings[0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("100KB (`max_total_output`)"), "{message}");
    let runs = repo.path().join(".orch/runs");
    let stored = size_of(&runs.join(outcome.report().run_id()).join("logs"));
    assert!(stored < 100_000 + 5 * (16 << 10) + 16_384, "{stored} bytes are stored\n{outcome}");
    let logs = repo.orch(["logs", "t4"]).run();
    logs.assert_stdout(&["the beginning", "`max_total_output` is reached]", "the end"]);
}

fn size_of(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).expect("a file of .orch");
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).expect("a folder of .orch");
    entries.map(|entry| size_of(&entry.expect("an entry of .orch").path())).sum()
}

#[test]
fn work_that_fails_verification_is_not_merged() {
    let repo = TestRepo::new();
    let before = repo.head();
    let plan = Plan::new().task("unverified", |t| {
        t.script("write a.txt 1; commit a").verify(["true", "echo it is not there; test -f b.txt"])
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    let error = report.error_of("unverified");
    assert!(error.contains("verification") && error.contains("test -f b.txt"), "{error}");
    let task = report.task("unverified");
    assert!(task["output_tail"].as_str().is_some_and(|t| t.contains("not there")), "{task:#}");
    assert_eq!(repo.head(), before);
    let branch = task["branch"].as_str().expect("the branch is kept");
    assert_eq!(repo.show(branch, "a.txt"), "1\n");
}

#[test]
fn a_task_that_must_change_something_and_does_not_has_failed() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("lazy", |t| t.set("expects", "changes").script("say nothing to do"))
        .task("busy", |t| t.set("expects", "changes").script("write a.txt 1"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    outcome.report().assert_statuses(&[("lazy", "failed"), ("busy", "merged")]);
    let error = outcome.report().error_of("lazy").to_owned();
    assert!(error.contains("no change"), "{error}");
}

#[test]
fn what_needs_a_failed_task_is_skipped_and_the_rest_goes_on() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("bad", |t| t.script("exit 1"))
        .task("child", |t| t.script("write child.txt 1").needs(["bad"]))
        .task("grandchild", |t| t.script("write grandchild.txt 1").needs(["child"]))
        .task("later", |t| t.script("write later.txt 1").after(["bad"]))
        .task("other", |t| t.script("write other.txt 1"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    report.assert_statuses(&[
        ("bad", "failed"),
        ("child", "skipped"),
        ("grandchild", "skipped"),
        ("later", "merged"),
        ("other", "merged"),
    ]);
    assert!(report.error_of("child").contains("bad"), "{:#}", report.0);
    assert!(report.error_of("grandchild").contains("child"), "{:#}", report.0);
    assert_eq!(report.task("child")["attempts"], 0);
}

#[test]
fn a_run_that_stops_on_failure_lets_running_tasks_finish() {
    let repo = TestRepo::new();
    let (started, go) = (repo.signal("started"), repo.signal("go"));
    let plan = Plan::new()
        .set("on_failure", "stop")
        .set("max_concurrency", 2)
        .task("bad", |t| t.script(format!("wait-for {started}; exit 1")))
        .task("running", |t| {
            t.script(format!("touch {started}; wait-for {go}; write running.txt 1"))
        })
        .task("waiting", |t| t.script("write waiting.txt 1"));
    let mut run = repo.start(&plan);
    run.wait_for_change("bad", "failed");
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(1);
    let report = outcome.report();
    report.assert_statuses(&[("bad", "failed"), ("running", "merged"), ("waiting", "skipped")]);
    assert!(report.error_of("waiting").contains("bad"), "{:#}", report.0);
    assert_eq!(repo.show("main", "running.txt"), "1\n");
}

#[test]
fn a_conflict_names_the_files_and_keeps_the_branch() {
    let repo = TestRepo::new();
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    let script = |mine, other| format!("touch {mine}; wait-for {other}; conflict shared.txt");
    let plan = Plan::new()
        .task("one", |t| t.script(script(&one, &two)))
        .task("two", |t| t.script(script(&two, &one)));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    let (winner, loser) =
        if report.status_of("one") == "merged" { ("one", "two") } else { ("two", "one") };
    assert_eq!(report.status_of(winner), "merged");
    assert_eq!(report.status_of(loser), "conflicted");
    assert!(report.error_of(loser).contains("shared.txt"), "{:#}", report.0);
    assert!(outcome.text().contains("shared.txt"), "{outcome}");
    let branch = report.task(loser)["branch"].as_str().expect("the branch is named");
    assert_eq!(repo.show(branch, "shared.txt"), format!("{loser}\n"));
    assert_eq!(repo.show("main", "shared.txt"), format!("{winner}\n"));
    assert_eq!(repo.read("shared.txt"), format!("{winner}\n"), "no conflict markers anywhere");
}

#[test]
fn output_that_is_not_utf8_is_no_trouble() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("odd", |t| t.script("invalid-utf8; long-line 300000; exit 1"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    assert_eq!(outcome.report().status_of("odd"), "failed");
    let logs = repo.orch(["logs", "odd"]).run();
    logs.assert_code(0).assert_stdout(&["UTF-8"]);
}
