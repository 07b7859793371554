//! `orch diff`, `orch show`, `orch keep` and `orch undo`: a look back at what tasks did, and the way
//! back.

use orch_tests::{Plan, TestRepo};

/// A run of which one task is merged, one fails and one conflicts.
fn mixed(repo: &TestRepo) -> String {
    let [there, go] = ["there", "go"].map(|name| repo.signal(name));
    let plan = Plan::new()
        .set("target", "main")
        .task("good", |t| {
            t.script("write src/good.txt one; commit good work; write late.txt 2")
                .verify(["echo it was verified"])
        })
        .task("bad", |t| {
            t.script("write bad.txt half; commit half of it; write rest.txt 1; exit 3")
        })
        .task("ours", |t| {
            t.script(format!("wait-for {there}; write src/file1.txt ours; commit ours"))
        })
        .task("theirs", |t| {
            let script = format!("touch {there}; wait-for {go}; write src/file1.txt theirs");
            t.script(format!("{script}; commit theirs"))
        });
    let mut run = repo.start(&plan);
    run.wait_for_change("ours", "merged");
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(1);
    outcome.report().run_id()
}

fn diff(repo: &TestRepo, task: &str) -> String {
    let outcome = repo.orch(["diff", task]).run();
    outcome.assert_code(0);
    outcome.stdout
}

#[test]
fn a_difference_can_be_applied_wherever_the_work_is_by_now() {
    let repo = TestRepo::new();
    let run = mixed(&repo);
    let good = diff(&repo, "good");
    assert!(good.contains("+++ b/src/good.txt") && good.contains("+++ b/late.txt"), "{good}");
    assert!(!good.contains("bad.txt") && !good.contains('\u{1b}'), "{good}");
    let bad = diff(&repo, "bad");
    // Also what the failed attempt had not committed.
    assert!(bad.contains("+++ b/bad.txt") && bad.contains("+++ b/rest.txt"), "{bad}");
    let conflicted = ["ours", "theirs"].map(|task| diff(&repo, task));
    assert!(conflicted[0].contains("+ours") && conflicted[1].contains("+theirs"), "{conflicted:?}");
    let stat = repo.orch(["diff", "bad", "--stat"]).run();
    stat.assert_code(0).assert_stdout(&["bad.txt", "rest.txt", "2 files changed"]);

    repo.git(["branch", "keep-it", &format!("orch/{run}/bad")]);
    repo.orch(["gc"]).run().assert_code(0);
    assert_eq!(diff(&repo, "good"), good);
    let patch = repo.beside("good.patch");
    std::fs::write(&patch, &good).unwrap();
    repo.git(["checkout", "--quiet", "-b", "elsewhere", "main~1"]);
    let base = repo.git(["log", "--format=%H", "--grep=the beginning", "main"]);
    repo.git(["reset", "--quiet", "--hard", &base]);
    repo.git(["apply", "--index", &patch.display().to_string()]);
    assert_eq!(repo.read("late.txt"), "2\n");
}

#[test]
fn a_task_at_work_is_shown_with_what_it_has_not_committed() {
    at_work("worktree");
}

#[test]
fn so_is_one_in_a_worktree_of_the_pool() {
    at_work("pool");
}

#[test]
fn so_is_one_in_layers_where_they_work() {
    at_work("overlay");
}

fn at_work(kind: &str) {
    let repo = TestRepo::new();
    repo.configure(&format!("worktree_kind = \"{kind}\"\n"));
    let found = repo.orch(["doctor", "--json"]).run().json();
    if found["worktrees"]["kind"] != kind {
        assert_eq!(kind, "overlay", "the others work everywhere");
        return;
    }
    let [there, go] = ["there", "go"].map(|name| repo.signal(name));
    let plan = Plan::new().task("busy", |t| {
        t.script(format!(
            "write one.txt 1; commit one; write two.txt 2; touch {there}; wait-for {go}; commit two"
        ))
    });
    let mut run = repo.start(&plan);
    run.wait_for(&there);
    let is_shared =
        |path: &std::path::PathBuf| path.components().any(|c| c.as_os_str() == ".overlay");
    let worktree =
        repo.worktrees().into_iter().find(|path| !is_shared(path)).expect("its worktree");
    let index = || {
        let admin = repo.git_in(&worktree, ["rev-parse", "--absolute-git-dir"]);
        std::fs::read(format!("{admin}/index")).unwrap()
    };
    let objects = || repo.git(["count-objects"]);
    let before = (index(), objects());
    let patch = diff(&repo, "busy");
    assert!(patch.contains("+++ b/one.txt") && patch.contains("+++ b/two.txt"), "{patch}");
    let shown = repo.orch(["show", "busy", "--json"]).run().json();
    assert_eq!(before, (index(), objects()), "nothing was written");
    assert_eq!(shown["version"], 1);
    assert_eq!(shown["task"]["status"], "running");
    assert_eq!(shown["work"]["uncommitted"], true);
    assert_eq!(shown["work"]["commits"][0]["subject"], "one");
    assert_eq!(shown["work"]["files"].as_array().map(Vec::len), Some(2));
    go.raise();
    run.wait().assert_code(0);
    assert_eq!(diff(&repo, "busy"), patch);
}

#[test]
fn no_program_of_a_configuration_is_run_to_show_a_difference() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("a", |t| {
        t.script("write .gitattributes *.txt diff=evil; write a.txt 1; commit a; exit 1")
    });
    repo.run(&plan).assert_code(1);
    let ran = repo.signal("ran");
    let program = format!("touch {ran}; cat");
    let settings = ["diff.external", "diff.evil.command", "diff.evil.textconv", "core.pager"];
    for setting in settings.into_iter().chain(["pager.diff-tree", "core.fsmonitor"]) {
        repo.git(["config", setting, &program]);
    }
    repo.git(["config", "diff.noprefix", "true"]);
    repo.git(["config", "color.ui", "always"]);
    let patch = diff(&repo, "a");
    assert!(patch.contains("+++ b/a.txt") && !patch.contains('\u{1b}'), "{patch}");
    repo.orch(["show", "a"]).run().assert_code(0).assert_stdout(&["a.txt"]);
    assert!(!ran.is_raised());
}

#[test]
fn a_task_is_shown_with_its_attempts_and_what_verified_it() {
    let repo = TestRepo::new();
    let run = mixed(&repo);
    repo.orch(["show", "good"]).run().assert_code(0).assert_stdout(&[
        &format!("task good of run {run}: merged"),
        "2 commits",
        "good work",
        "+1     -0  src/good.txt",
        "Verification: echo it was verified\n  | it was verified",
        "orch diff good",
    ]);
    let bad = repo.orch(["show", "bad"]).run();
    bad.assert_code(0).assert_stdout(&["failed (agent): ended with exit code 3", "orch keep bad"]);
    let json = repo.orch(["show", "bad", "--json", "--run", &run]).run().json();
    assert_eq!(json["attempts"][0]["end"]["failure"]["class"], "agent");
    assert_eq!(json["references"][0]["name"], format!("refs/heads/orch/{run}/bad"));
    let missing = repo.orch(["show", "nobody"]).run();
    missing.assert_code(2).assert_stderr(&["there is no task nobody"]);
}

#[test]
fn a_task_that_left_nothing_says_so() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("idle", |t| t.script("sleep 0.01"))
        .task("gone", |t| t.script("write x.txt 1; commit x; exit 1"))
        .task("never", |t| t.script("sleep 0").needs(["gone"]));
    repo.run(&plan).assert_code(1);
    for task in ["idle", "never"] {
        let outcome = repo.orch(["diff", task]).run();
        outcome.assert_code(0).assert_stderr(&["has left no changes"]);
        assert_eq!(outcome.stdout, "");
        repo.orch(["keep", task]).run().assert_code(2).assert_stderr(&["left nothing"]);
    }
    let worktree = repo.worktrees().remove(0);
    repo.git(["worktree", "remove", "--force", "--force", &worktree.display().to_string()]);
    let branch = repo.branches().into_iter().find(|name| name.ends_with("/gone")).unwrap();
    assert!(diff(&repo, "gone").contains("+++ b/x.txt"), "its branch is left");
    repo.git(["branch", "-D", &branch]);
    let gone = repo.orch(["diff", "gone"]).run();
    gone.assert_code(2).assert_stderr(&["nothing is left of the work of task gone"]);
}

#[test]
fn what_is_kept_outlives_every_clean_up() {
    let repo = TestRepo::new();
    let run = mixed(&repo);
    let worktree = repo.worktrees().into_iter().find(|path| path.ends_with("theirs")).unwrap();
    let name = |task: &str| format!("refs/orch/{run}/kept/{task}/1");
    for task in ["good", "bad", "theirs"] {
        repo.orch(["keep", task]).run().assert_code(0).assert_stdout(&[&name(task)]);
        let again = repo.orch(["keep", task]).run();
        again.assert_code(0).assert_stdout(&["kept already", &name(task)]);
    }
    assert_eq!(repo.files_of(&name("good")).len(), 6, "{:?}", repo.files_of(&name("good")));
    // What was not committed is kept as well.
    assert!(repo.files_of(&name("bad")).contains(&"rest.txt".to_owned()));
    // Its commits are on another branch too, so that nothing but `keep` keeps its worktree.
    let branch = format!("orch/{run}/theirs");
    repo.git(["branch", "copy", &branch]);
    let gc = repo.orch(["gc"]).run();
    gc.assert_code(0).assert_stdout(&["`orch keep` keeps it"]);
    assert!(worktree.is_dir() && repo.has_branch(&branch));
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());

    repo.git(["update-ref", "-d", &name("theirs")]);
    repo.orch(["gc"]).run().assert_code(0);
    assert!(!worktree.exists() && !repo.has_branch(&branch));
}

/// Two tasks, merged into `main`; gives the run.
fn merged(repo: &TestRepo) -> String {
    let plan = Plan::new()
        .set("target", "main")
        .task("a", |t| t.script("write a.txt 1; commit a"))
        .task("b", |t| t.script("write b.txt 1").needs(["a"]));
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    outcome.report().run_id()
}

#[test]
fn undo_brings_a_target_back_that_is_checked_out_nowhere() {
    let repo = TestRepo::new();
    repo.git(["checkout", "--quiet", "-b", "mine"]);
    repo.make_dirty();
    let checkout = repo.checkout();
    let began = repo.tip("main");
    let run = merged(&repo);
    let delivered = repo.tip("main");
    assert_ne!(delivered, began);
    let planned = repo.orch(["undo", "--dry-run"]).run();
    planned.assert_code(0).assert_stdout(&["would be done"]);
    assert_eq!(repo.tip("main"), delivered);
    assert_eq!(repo.git(["for-each-ref", &format!("refs/orch/{run}")]), "");

    repo.orch(["undo"]).run().assert_code(0).assert_stdout(&["undone: main is at"]);
    assert_eq!((repo.tip("main"), repo.checkout()), (began.clone(), checkout));
    let kept = format!("refs/orch/{run}/undone/1/target");
    assert_eq!(repo.tip(&kept), delivered);
    // Once more, it is done already.
    repo.orch(["undo", &run]).run().assert_code(0).assert_stdout(&["undone already"]);
    repo.orch(["status"]).run().assert_code(0).assert_stdout(&["The run was undone", &kept]);
    let resumed = repo.orch(["resume", &run]).run();
    resumed.assert_code(2).assert_stderr(&["it has ended and was undone"]);
    assert_eq!(repo.tip("main"), began);
    assert_eq!(repo.doctor(), Vec::<serde_json::Value>::new());
    assert!(diff(&repo, "a").contains("+++ b/a.txt"));
    repo.orch(["gc"]).run().assert_code(0);
    assert_eq!(repo.tip(&kept), delivered);

    // It can be brought back, and undone again.
    repo.git(["fetch", "--quiet", ".", &format!("{kept}:main")]);
    repo.orch(["undo", "--json"]).run().assert_code(0);
    assert_eq!(repo.tip("main"), began);
    // The next run begins where this one did.
    let next = merged(&repo);
    assert_eq!(repo.git(["rev-parse", &format!("refs/orch/runs/{next}/base")]), began);
    let first = repo.orch(["undo", &run]).run();
    first.assert_code(2).assert_stderr(&["that are not the run's"]);
}

#[test]
fn undo_moves_a_clean_checkout_along_and_no_other() {
    let repo = TestRepo::new();
    repo.write("gone.txt", "comes back\n");
    repo.commit_all("a file that the run removes");
    let began = repo.head();
    let files = repo.files_of("HEAD");
    let plan = Plan::new().task("a", |t| {
        t.shell("git rm --quiet gone.txt && echo '*.log' > .gitignore && echo 1 > a.txt && git add . && git commit --quiet -m a")
    });
    let run = repo.run(&plan).report().run_id();
    let delivered = repo.head();
    let refuse = |why: &str| {
        let outcome = repo.orch(["undo", "--yes"]).run();
        outcome.assert_code(2).assert_stderr(&[why]);
        assert_eq!(repo.head(), delivered);
        assert_eq!(repo.git(["for-each-ref", &format!("refs/orch/{run}")]), "");
    };
    repo.write("README.md", "changed\n");
    refuse("has uncommitted changes: `README.md`");
    repo.git(["checkout", "--quiet", "README.md"]);
    repo.write("gone.txt", "mine\n");
    refuse("gone.txt is in the way");
    std::fs::remove_file(repo.path().join("gone.txt")).unwrap();

    repo.write("notes.txt", "untracked\n");
    repo.orch(["undo", "--yes"]).run().assert_code(0).assert_stdout(&["undone"]);
    assert_eq!((repo.head(), repo.files_of("HEAD")), (began, files));
    assert_eq!(repo.git(["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(repo.read("gone.txt"), "comes back\n");
    assert_eq!(repo.git(["status", "--porcelain"]), "?? notes.txt");
    assert!(!repo.path().join("a.txt").exists());
    let undone = format!("refs/orch/{run}/undone/1/target");
    repo.git(["merge", "--quiet", "--ff-only", &undone]);
    assert_eq!(repo.head(), delivered);
}

#[test]
fn undo_never_takes_the_commits_of_others_away() {
    let repo = TestRepo::new();
    let run = merged(&repo);
    repo.write("mine.txt", "1\n");
    let mine = repo.commit_all("mine, after the run");
    let outcome = repo.orch(["undo"]).run();
    outcome.assert_code(2).assert_stderr(&["mine, after the run", "git rebase --onto"]);
    assert_eq!(repo.head(), mine);
    repo.git(["reset", "--quiet", "--hard", "HEAD~1"]);
    repo.orch(["undo", &run]).run().assert_code(0);

    // One that was made while the run went on, and was taken into the results.
    let [there, go] = ["there", "go"].map(|name| repo.signal(name));
    let plan = Plan::new()
        .task("c", |t| t.script(format!("touch {there}; wait-for {go}; write c.txt 1; commit c")));
    let mut run = repo.start(&plan);
    run.wait_for(&there);
    let live = repo.orch(["undo"]).run();
    live.assert_code(2).assert_stderr(&["goes on; undo when it has ended"]);
    repo.write("between.txt", "1\n");
    repo.commit_all("mine, meanwhile");
    go.raise();
    run.wait().assert_code(0);
    let tip = repo.head();
    assert!(repo.path().join("c.txt").exists());
    let outcome = repo.orch(["undo"]).run();
    outcome.assert_code(2).assert_stderr(&["mine, meanwhile"]);
    assert_eq!(repo.head(), tip);
}

#[test]
fn a_run_that_can_be_resumed_is_not_undone() {
    let repo = TestRepo::new();
    let go = repo.signal("go");
    let plan = Plan::new().task("a", |t| t.script(format!("wait-for {go}; write a.txt 1")));
    let mut run = repo.start(&plan);
    let id = run.next_event(|event| event["event"] == "run_started")["run"].clone();
    run.wait_for_change("a", "started");
    run.interrupt();
    run.wait().assert_code(130);
    let outcome = repo.orch(["undo", id.as_str().unwrap()]).run();
    outcome.assert_code(2).assert_stderr(&["can be resumed"]);
    repo.orch(["undo"]).run().assert_code(2).assert_stderr(&["no run has ended here"]);
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    repo.orch(["undo"]).run().assert_code(0).assert_stdout(&["undone"]);
    assert!(!repo.path().join("a.txt").exists());
}
