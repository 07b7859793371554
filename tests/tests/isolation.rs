//! The user's checkout and branches: never touched while a run is in progress, and after it only
//! fast-forwarded, and only while clean.

use orch_tests::{Plan, TestRepo};

#[test]
fn a_dirty_checkout_stays_byte_for_byte_what_it_was() {
    let repo = TestRepo::new();
    repo.make_dirty();
    let before = repo.checkout();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let plan = Plan::new()
        .task("first", |t| t.script("write src/file1.txt from first; write new.txt 1"))
        .task("second", |t| {
            t.script(format!("touch {held}; wait-for {go}; write second.txt 2")).needs(["first"])
        });
    let mut run = repo.start(&plan);
    run.wait_for_change("first", "merged");
    run.wait_for(&held);
    assert_eq!(repo.checkout(), before, "changed while the run was in progress");
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(0);
    assert_eq!(repo.checkout(), before, "changed by the end of the run");

    let report = outcome.report();
    let branch = format!("orch/{}/target", report.run_id());
    assert_eq!(repo.show(&branch, "src/file1.txt"), "from first\n");
    assert_eq!(repo.show(&branch, "second.txt"), "2\n");
    let delivery = &report.0["delivery"];
    assert_eq!(delivery["result"], "waiting", "{delivery:#}");
    assert_eq!(delivery["branch"], branch.as_str());
    let hint = delivery["hint"].as_str().expect("the report says what to type");
    assert!(hint.contains("git") && hint.contains(&branch), "{hint}");
}

#[test]
fn people_are_told_where_the_results_wait_and_what_to_type() {
    let repo = TestRepo::new();
    repo.make_dirty();
    let outcome = repo.run(&Plan::new().task("a", |t| t.script("write new.txt 1")));
    outcome.assert_code(0);
    let hint = outcome.report().0["delivery"]["hint"].as_str().expect("a hint").to_owned();
    assert!(outcome.text().contains(&hint), "{hint}\n{outcome}");
}

#[test]
fn a_target_that_is_not_checked_out_moves_alone() {
    let repo = TestRepo::new();
    repo.git(["checkout", "--quiet", "-b", "elsewhere"]);
    repo.make_dirty();
    let (before, tip) = (repo.checkout(), repo.head());
    let plan = Plan::new().set("target", "main").task("a", |t| t.script("write a.txt 1"));
    repo.run(&plan).assert_code(0);
    assert_eq!(repo.checkout(), before);
    assert_eq!(repo.show("main", "a.txt"), "1\n");
    assert_eq!(repo.tip("elsewhere"), tip, "only main moves");
}

#[test]
fn a_target_that_moves_during_the_run_is_merged_again() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let plan = Plan::new().task("early", |t| t.script("write early.txt 1")).task("late", |t| {
        t.script(format!("touch {held}; wait-for {go}; write late.txt 2")).needs(["early"])
    });
    let mut run = repo.start(&plan);
    run.wait_for(&held);
    repo.write("mine.txt", "the user's\n");
    let mine = repo.commit_all("the user's own commit");
    go.raise();
    run.wait().assert_code(0);
    for (file, content) in [("early.txt", "1\n"), ("late.txt", "2\n"), ("mine.txt", "the user's\n")]
    {
        assert_eq!(repo.show("main", file), content);
        assert_eq!(repo.read(file), content, "the clean checkout was not brought along");
    }
    repo.git(["merge-base", "--is-ancestor", &mine, "main"]);
    assert_eq!(repo.git(["status", "--porcelain"]), "");
}

#[test]
fn worktrees_stand_outside_the_repository() {
    let repo = TestRepo::new();
    let file = repo.signal("where");
    let plan = Plan::new().task("a", |t| t.script(format!("env ORCH_WORKTREE {file}")));
    repo.run(&plan).assert_code(0);
    let worktree = file.text();
    assert!(worktree.starts_with(&*repo.beside("repo.worktrees").to_string_lossy()), "{worktree}");
    assert!(!std::path::Path::new(&worktree).exists());
}

#[test]
fn tasks_of_an_epic_can_share_a_worktree_one_at_a_time() {
    let repo = TestRepo::new();
    repo.write(".gitignore", "cache/\n");
    repo.commit_all("ignore the cache");
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    // What git ignores stays for the next task: that is what sharing a worktree is for.
    let plan = Plan::new()
        .epic("build", &[])
        .task("one", |t| {
            t.set("epic", "build")
                .set("isolation", "epic")
                .script(format!("env ORCH_WORKTREE {one}; write cache/x warm; write one.txt 1"))
        })
        .task("two", |t| {
            t.set("epic", "build")
                .set("isolation", "epic")
                .needs(["one"])
                .script(format!("env ORCH_WORKTREE {two}; cat cache/x; write two.txt 2"))
        })
        .task("three", |t| {
            t.set("epic", "build").set("isolation", "epic").script("write three.txt 3")
        });
    let outcome = repo.orch_run(&plan).args(["--json", "-j", "3"]).run();
    outcome.assert_code(0);
    assert_eq!(one.text(), two.text());
    let intervals = orch_tests::intervals(&outcome.events);
    assert_eq!(orch_tests::Interval::depth(intervals.values().flatten()), 1, "{outcome}");
    for file in ["one.txt", "two.txt", "three.txt"] {
        assert!(repo.files_of("main").contains(&file.to_owned()), "{file}");
    }
    assert!(!repo.files_of("main").contains(&"cache/x".to_owned()));
}

#[test]
fn tasks_without_isolation_run_in_the_repository_itself() {
    let repo = TestRepo::new();
    repo.make_dirty();
    let before = repo.checkout();
    let file = repo.signal("where");
    let plan = Plan::new().task("look", |t| {
        t.set("isolation", "none").script(format!("cat notes/untracked.txt; env ORCH_REPO {file}"))
    });
    repo.run(&plan).assert_code(0);
    assert_eq!(file.text(), repo.path().to_string_lossy());
    assert_eq!(repo.checkout(), before);
    assert_eq!(repo.branches(), ["main"]);
}

#[test]
fn an_agent_that_leaves_its_branch_loses_nothing() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("a", |t| {
        t.script("write a.txt 1; commit on the branch; detach-head; write b.txt 2; commit aside")
    });
    let outcome = repo.run(&plan);
    let report = outcome.report();
    if report.status_of("a") == "merged" {
        assert_eq!(repo.show("main", "a.txt"), "1\n");
        assert_eq!(repo.show("main", "b.txt"), "2\n");
    } else {
        outcome.assert_code(1);
        let worktree = report.task("a")["worktree"].as_str().expect("the worktree is kept");
        assert_eq!(repo.log_subjects("main").len(), 1);
        let subjects = repo.git_in(worktree.as_ref(), ["log", "--format=%s", "-2"]);
        assert_eq!(subjects, "aside\non the branch");
    }
}
