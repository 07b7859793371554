//! The main job: a plan of dependent tasks, verified, merged, recorded and reported.

use orch_tests::{Plan, TestRepo};

fn diamond() -> Plan {
    Plan::new()
        .task("base", |t| t.script("write base.txt base; commit base"))
        .task("left", |t| {
            t.script("cat base.txt; write left.txt left; commit left").needs(["base"])
        })
        .task("right", |t| {
            t.script("cat base.txt; write right.txt right")
                .needs(["base"])
                .verify(["test -f right.txt", "test -f base.txt"])
        })
        .task("top", |t| {
            t.script("cat left.txt; cat right.txt; write top.txt top").needs(["left", "right"])
        })
}

#[test]
fn a_diamond_is_run_verified_and_merged() {
    let repo = TestRepo::new();
    let before = repo.head();
    let outcome = repo.run(&diamond());
    outcome.assert_code(0);
    let report = outcome.report();
    report.assert_statuses(&[
        ("base", "merged"),
        ("left", "merged"),
        ("right", "merged"),
        ("top", "merged"),
    ]);
    assert_eq!(report.status(), "succeeded");
    for (file, content) in [
        ("base.txt", "base\n"),
        ("left.txt", "left\n"),
        ("right.txt", "right\n"),
        ("top.txt", "top\n"),
    ] {
        assert_eq!(repo.show("main", file), content);
        assert_eq!(
            repo.read(file),
            content,
            "the checked-out branch is fast-forwarded while clean"
        );
    }
    assert_eq!(repo.git(["status", "--porcelain"]), "");
    assert_eq!(repo.git(["merge-base", &before, "main"]), before, "history was rewritten");
    assert_eq!(repo.worktrees(), Vec::<std::path::PathBuf>::new(), "worktrees of merged tasks go");
    assert_eq!(repo.branches(), ["main"], "branches of merged tasks go");
    repo.git(["fsck", "--no-dangling"]);
}

#[test]
fn the_report_says_all_that_it_promises() {
    let repo = TestRepo::new();
    let outcome = repo.run(&diamond());
    outcome.assert_code(0);
    let report = outcome.report();
    assert_eq!(report.0["version"], 1);
    assert!(!report.run_id().is_empty());
    assert!(report.0["wall_seconds"].as_f64().is_some_and(|s| s > 0.0), "{:#}", report.0);
    for (id, _) in report.statuses() {
        let task = report.task(&id);
        assert_eq!(task["attempts"], 1, "{task:#}");
        assert!(task["error"].is_null(), "{task:#}");
        let time = |field: &str| task[field].as_str().map(str::to_owned).expect("a time");
        assert!(time("started_at") <= time("finished_at"), "{task:#}");
        for field in ["commit", "merge_commit"] {
            let commit = task[field].as_str().expect("a commit");
            repo.git(["merge-base", "--is-ancestor", commit, "main"]);
        }
    }
    let finished = |id: &str| report.task(id)["finished_at"].as_str().map(str::to_owned);
    let started = |id: &str| report.task(id)["started_at"].as_str().map(str::to_owned);
    assert!(finished("base") <= started("left"), "a task started before what it needs was merged");
    assert!(finished("right") <= started("top"));
}

#[test]
fn what_a_task_leaves_uncommitted_is_committed_with_trailers() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("docs", |t| {
        t.set("title", "Write the docs").script("write docs/a.md hello; rm src/file0.txt")
    });
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    let report = outcome.report();
    let commit = report.task("docs")["commit"].as_str().expect("a commit").to_owned();
    let trailer = |name: &str| {
        let format = format!("--format=%(trailers:key={name},valueonly)");
        repo.git(["log", "-1", &format, &commit])
    };
    assert_eq!(trailer("Orch-Run"), report.run_id());
    assert_eq!(trailer("Orch-Task"), "docs");
    assert_eq!(trailer("Orch-Attempt"), "1");
    let changed = repo.git(["show", "--format=", "--name-status", &commit]);
    assert_eq!(changed, "A\tdocs/a.md\nD\tsrc/file0.txt", "something of the engine's own is in it");
}

#[test]
fn a_task_that_leaves_nothing_is_merged_with_nothing() {
    let repo = TestRepo::new();
    let before = repo.head();
    let outcome = repo.run(&Plan::new().task("look", |t| t.script("cat README.md")));
    outcome.assert_code(0);
    assert_eq!(outcome.report().status_of("look"), "merged");
    assert!(outcome.report().task("look")["merge_commit"].is_null());
    assert_eq!(repo.head(), before);
}

#[test]
fn independent_tasks_run_at_the_same_time() {
    let repo = TestRepo::new();
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    let plan = Plan::new()
        .task("one", |t| t.script(format!("touch {one}; wait-for {two}; write one.txt 1")))
        .task("two", |t| t.script(format!("touch {two}; wait-for {one}; write two.txt 2")));
    // Each waits for the other: one after the other they would never end.
    repo.run(&plan).assert_code(0);
    assert_eq!(repo.show("main", "one.txt"), "1\n");
    assert_eq!(repo.show("main", "two.txt"), "2\n");
}

#[test]
fn a_dependency_need_not_wait_for_the_rest_of_its_wave() {
    let repo = TestRepo::new();
    let second = repo.signal("second");
    let plan = Plan::new()
        .task("slow", |t| t.script(format!("wait-for {second}")))
        .task("first", |t| t.script("say quick"))
        .task("second", |t| t.script(format!("touch {second}")).needs(["first"]));
    repo.run(&plan).assert_code(0);
}

#[test]
fn one_failure_makes_the_exit_code_1_and_keeps_the_worktree() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("good", |t| t.script("write good.txt 1"))
        .task("bad", |t| t.script("write half.txt done; say about to fail; exit 7"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    report.assert_statuses(&[("good", "merged"), ("bad", "failed")]);
    assert_eq!(report.status(), "failed");
    assert!(report.error_of("bad").contains("exit code 7"), "{:#}", report.0);
    let task = report.task("bad");
    assert!(task["output_tail"].as_str().is_some_and(|t| t.contains("about to fail")), "{task:#}");
    let worktree = task["worktree"].as_str().expect("the worktree is named");
    let half = std::path::Path::new(worktree).join("half.txt");
    assert_eq!(std::fs::read_to_string(half).expect("the work is kept"), "done\n");
    assert!(outcome.text().contains(worktree), "the worktree is named for people\n{outcome}");
    assert!(repo.has_branch(task["branch"].as_str().expect("the branch is named")));
    assert_eq!(repo.show("main", "good.txt"), "1\n");
    assert_eq!(repo.worktrees().len(), 1);
}

#[test]
fn a_folder_without_a_repository_is_wrong_input() {
    let repo = TestRepo::new();
    let folder = repo.beside("home");
    let outcome = repo.orch_run(&diamond()).from(&folder).run();
    outcome.assert_code(2);
    outcome.assert_stderr(&["git"]);
    assert!(!folder.join(".orch").exists());
}

#[test]
fn a_repository_can_be_named_from_elsewhere() {
    let repo = TestRepo::new();
    let outcome =
        repo.orch_run(&diamond()).arg("-C").arg(repo.path()).from(repo.beside("home")).run();
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "top.txt"), "top\n");
    let subfolder = repo.orch(["runs"]).from(repo.path().join("src")).run();
    subfolder.assert_code(0).assert_stdout(&[&outcome.report().run_id()]);
}

#[test]
fn the_limit_is_kept() {
    let repo = TestRepo::new();
    let mut plan = Plan::new();
    for number in 0..6 {
        plan = plan.task(format!("t{number}"), |t| t.script("say hi").set("isolation", "none"));
    }
    let outcome = repo.orch_run(&plan).args(["--json", "-j", "2"]).run();
    outcome.assert_code(0);
    let intervals = orch_tests::intervals(&outcome.events);
    assert_eq!(intervals.len(), 6, "{outcome}");
    assert!(orch_tests::Interval::depth(intervals.values().flatten()) <= 2, "{outcome}");
    let outcome = repo.orch_run(&plan).args(["--json", "--sequential"]).run();
    let intervals = orch_tests::intervals(&outcome.events);
    assert_eq!(orch_tests::Interval::depth(intervals.values().flatten()), 1, "{outcome}");
}
