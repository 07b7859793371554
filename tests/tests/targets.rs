//! Where the results of a run go.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use orch_tests::{Plan, TestRepo};

/// A bare repository that is the repository's `origin`.
fn remote(repo: &TestRepo) -> PathBuf {
    let bare = repo.beside("bare.git");
    let path = bare.to_string_lossy().into_owned();
    repo.git(["clone", "--quiet", "--bare", ".", &path]);
    repo.git(["remote", "add", "origin", &path]);
    bare
}

fn writes(plan: Plan, task: &str) -> Plan {
    plan.task(task, |t| t.script(format!("write {task} x; commit {task}")))
}

fn hook(bare: &std::path::Path, name: &str, script: &str) {
    let path = bare.join("hooks").join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("hooks can be made");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a hook can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, executable).expect("a hook can be made executable");
}

#[test]
fn a_branch_that_does_not_exist_is_made() {
    let repo = TestRepo::new();
    let before = repo.head();
    let typo = writes(Plan::new().set("target", "mian"), "a");
    repo.orch_run(&typo).run().assert_code(2).assert_stderr(&["did you mean `main`?"]);
    for task in ["a", "b"] {
        let plan = writes(Plan::new().set("target", "results").set("base", "HEAD"), task);
        repo.orch_run(&plan).run().assert_code(0).assert_stdout(&["into results at"]);
        assert_eq!(repo.head(), before);
    }
    let files = repo.files_of("results");
    assert!(["a", "b"].iter().all(|name| files.contains(&(*name).to_owned())), "{files:?}");
    assert_eq!(repo.branches(), ["main", "results"]);
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn results_go_to_a_remote_beside_those_of_others() {
    for strategy in ["merge", "squash", "rebase"] {
        let repo = TestRepo::new();
        let bare = remote(&repo);
        let colleague = repo.beside("colleague");
        repo.git(["clone", "--quiet", &bare.to_string_lossy(), &colleague.to_string_lossy()]);
        fs::write(colleague.join("theirs"), "1").expect("a file can be written");
        repo.git_in(&colleague, ["add", "--all"]);
        let author = ["-c", "user.name=Carl", "-c", "user.email=carl@example.org"];
        let commit = ["commit", "--quiet", "--message", "theirs"];
        repo.git_in(&colleague, author.into_iter().chain(commit));
        let (push, checkout) = (colleague.to_string_lossy().into_owned(), repo.checkout());
        let plan = Plan::new().set("target", "origin/main").merge_value("strategy", strategy);
        let plan = plan.task("first", |t| {
            t.shell(&format!("git -C {push} push --quiet origin main && echo 1 > first"))
        });
        let plan =
            plan.task("second", |t| t.shell("test -e first && echo 2 > second").needs(["first"]));
        let outcome = repo.orch_run(&plan).run();
        outcome.assert_code(0).assert_stdout(&["The results are in origin/main"]);
        let files = repo.git_in(&bare, ["ls-tree", "-r", "--name-only", "main"]);
        for name in ["first", "second", "theirs"] {
            assert!(files.lines().any(|file| file == name), "{files}\n{outcome}");
        }
        assert_eq!(repo.checkout(), checkout, "the checkout has no part in it");
        assert_eq!(repo.branches(), ["main"]);
        repo.orch(["doctor"]).run().assert_code(0);
    }
}

#[test]
fn a_run_that_is_killed_after_its_push_has_pushed_once() {
    let repo = TestRepo::new();
    let bare = remote(&repo);
    let (pushed, go) = (repo.signal("pushed"), repo.signal("go"));
    let script =
        format!("echo x >> pushes; touch {pushed}; while ! test -e {go}; do sleep 0.01; done");
    hook(&bare, "post-receive", &script);
    let plan = writes(writes(Plan::new().set("target", "origin/main"), "a"), "b");
    let mut run = repo.start(&plan);
    run.wait_for(&pushed);
    run.kill();
    drop(run);
    go.raise();
    let there = repo.git_in(&bare, ["rev-parse", "main"]);
    let outcome = repo.orch(["resume"]).run();
    outcome.assert_code(0).assert_stdout(&["The results are in origin/main"]);
    assert_eq!(repo.git_in(&bare, ["rev-parse", "main"]), there);
    assert_eq!(fs::read_to_string(bare.join("pushes")).expect("a push"), "x\n");
    assert_eq!(repo.branches(), ["main"]);
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn a_push_that_is_refused_leaves_the_results_and_says_what_to_type() {
    let repo = TestRepo::new();
    let bare = remote(&repo);
    hook(&bare, "update", "echo the branch is frozen >&2; exit 1");
    let before = repo.git_in(&bare, ["rev-parse", "main"]);
    let outcome = repo.orch_run(&writes(Plan::new().set("target", "origin/main"), "a")).run();
    let branch = format!("orch/{}/target", outcome.report().run_id());
    let hint = format!("git push origin {branch}:refs/heads/main");
    outcome.assert_stdout(&["the branch is frozen", &hint]);
    assert_eq!(repo.git_in(&bare, ["rev-parse", "main"]), before);
    repo.orch(["gc"]).run().assert_code(0);
    assert!(repo.has_branch(&branch));
    fs::remove_file(bare.join("hooks/update")).expect("the hook is there");
    repo.git(hint.split(' ').skip(1));
    assert_eq!(repo.git_in(&bare, ["rev-parse", "main"]), repo.tip(&branch));
    repo.orch(["gc"]).run().assert_code(0);
    assert_eq!(repo.branches(), ["main"]);
}

#[test]
fn a_remote_that_is_not_there_stops_a_run_before_it_begins() {
    let repo = TestRepo::new();
    let bare = remote(&repo);
    fs::remove_dir_all(&bare).expect("it is there");
    let plan = writes(Plan::new().set("target", "origin/main"), "a");
    let outcome = repo.orch_run(&plan).run();
    assert_ne!(outcome.code, Some(0));
    outcome.assert_stderr(&["can't fetch `main` from `origin`"]);
    assert_eq!(repo.branches(), ["main"]);
    let base = writes(Plan::new().set("base", "HEAD"), "a");
    repo.orch_run(&base)
        .run()
        .assert_code(2)
        .assert_stderr(&["`base` has no effect without `target`"]);
}
