//! `orch doctor` finds each fault that is planted, repairs what loses nothing, and finds nothing
//! where all is well.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use orch_tests::{Plan, TestRepo, binary, until};
use serde_json::Value;

/// A repository in which one run has ended: task `good` was merged, `bad` failed.
fn after_a_run() -> (TestRepo, String) {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("good", |t| t.script("write good.txt 1; commit good"))
        .task("bad", |t| t.script("write bad.txt 1; commit bad; exit 1"));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    assert_eq!(repo.doctor(), Vec::<Value>::new(), "{outcome}");
    (repo, outcome.report().run_id())
}

/// The invariants of what is found, and whether it can be repaired.
fn found(repo: &TestRepo) -> Vec<(String, bool)> {
    let mut found: Vec<(String, bool)> = repo
        .doctor()
        .iter()
        .map(|finding| {
            let text = finding["invariant"].as_str().expect("an invariant");
            (text.to_owned(), finding["is_repairable"] == true)
        })
        .collect();
    found.dedup();
    found
}

fn one(invariant: &str, is_repairable: bool) -> Vec<(String, bool)> {
    vec![(invariant.to_owned(), is_repairable)]
}

/// Asserts that exactly this is found, and that a repair puts it right.
#[track_caller]
fn assert_repaired(repo: &TestRepo, invariant: &str) {
    assert_eq!(found(repo), one(invariant, true));
    let outcome = repo.orch(["doctor", "--repair"]).run();
    outcome.assert_code(0).assert_stdout(&["repaired", "all is well"]);
    assert_eq!(repo.doctor(), Vec::<Value>::new());
}

/// Asserts that exactly this is found, that it is told what to do, and that a repair leaves it.
#[track_caller]
fn assert_found(repo: &TestRepo, invariant: &str, parts: &[&str]) {
    assert_eq!(found(repo), one(invariant, false));
    repo.orch(["doctor", "--repair"]).run().assert_code(1).assert_stdout(parts);
    assert_eq!(found(repo), one(invariant, false));
}

#[test]
fn where_nothing_was_run_all_is_well() {
    let repo = TestRepo::new();
    let outcome = repo.orch(["doctor"]).run();
    outcome.assert_code(0).assert_stdout(&["all is well"]);
    assert!(!repo.path().join(".orch").exists(), "a look makes no files");
}

#[test]
fn records_that_do_not_agree() {
    let (repo, run) = after_a_run();
    let state = repo.path().join(".orch/parallel-state.json");
    let whole = fs::read_to_string(&state).expect("the state file");
    for damaged in [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("\"merged\"", "\"blocked\""),
        whole.replace(&run, "another-run"),
    ] {
        fs::write(&state, damaged).expect("the state file can be written");
        assert_repaired(&repo, "records_agree");
        assert_eq!(fs::read_to_string(&state).expect("the state file"), whole);
    }
    fs::remove_file(&state).expect("the state file can be removed");
    assert_repaired(&repo, "records_agree");
    for current in ["", "another-run"] {
        fs::write(repo.path().join(".orch/current"), current).expect("it can be written");
        assert_repaired(&repo, "records_agree");
    }
    let half = repo.path().join(".orch/runs").join(&run).join(".orch-tmp-x");
    fs::write(&half, "half").expect("a file can be written");
    assert_repaired(&repo, "records_agree");
    assert!(!half.exists());

    let journal = repo.path().join(".orch/runs").join(&run).join("journal");
    let mut bytes = fs::read(&journal).expect("the journal");
    bytes[200] ^= 1;
    fs::write(&journal, &bytes).expect("the journal can be written");
    assert_found(&repo, "records_agree", &["damaged at byte", "journal", "backup"]);
    assert_eq!(fs::read(&journal).expect("the journal"), bytes, "it is left as it is");
}

#[test]
fn work_that_is_lost() {
    let (repo, run) = after_a_run();
    // A second run whose results wait: they are still in the engine's care.
    repo.make_dirty();
    let plan = Plan::new().task("late", |t| t.script("write late.txt 1; commit late"));
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    assert_eq!(repo.doctor(), Vec::<Value>::new());
    let results = format!("orch/{}/target", outcome.report().run_id());
    let tip = repo.tip(&results);
    repo.git(["branch", "--quiet", "-D", &results]);
    assert_found(&repo, "work_is_kept", &["part of no reference", &tip, "git branch rescued-late"]);
    repo.git(["branch", &results, &tip]);
    assert_eq!(repo.doctor(), Vec::<Value>::new());

    let (folder, file) = tip.split_at(2);
    let object = repo.path().join(".git/objects").join(folder).join(file);
    fs::remove_file(&object).expect("an object can be removed");
    let findings = repo.doctor();
    assert!(findings.iter().any(|f| f["invariant"] == "work_is_kept"), "{findings:#?}");
    assert!(!findings.iter().any(|f| f["run"] == *run), "{findings:#?}");
}

#[test]
fn places_that_belong_to_nobody() {
    let (repo, run) = after_a_run();
    let root = repo.beside("repo.worktrees").join(&run);
    let branch = format!("orch/{run}/good");
    let leave = || {
        let path = root.join("good");
        let path = path.to_str().expect("a path");
        repo.git(["worktree", "add", "--quiet", "--lock", "-b", &branch, path, "main"]);
    };
    leave();
    assert_repaired(&repo, "places_match");
    assert!(!repo.has_branch(&branch) && !root.join("good").exists());

    // With something in it that is nowhere else it stays, and it is said why.
    leave();
    fs::write(root.join("good/new.txt"), "mine").expect("a file can be written");
    let outcome = repo.orch(["doctor", "--repair"]).run();
    outcome.assert_code(1).assert_stdout(&["failed", "new.txt"]);
    assert_eq!(fs::read_to_string(root.join("good/new.txt")).expect("a file"), "mine");
    fs::remove_file(root.join("good/new.txt")).expect("a file can be removed");
    assert_repaired(&repo, "places_match");

    repo.git(["branch", &branch, "main"]);
    assert_repaired(&repo, "places_match");
    assert!(!repo.has_branch(&branch));

    fs::create_dir_all(root.join("empty")).expect("a folder can be made");
    assert_repaired(&repo, "places_match");
    fs::create_dir_all(root.join("stray")).expect("a folder can be made");
    fs::write(root.join("stray/file"), "").expect("a file can be written");
    assert_found(&repo, "places_match", &["stray", "no task of the run"]);
    fs::remove_dir_all(root.join("stray")).expect("a folder can be removed");

    // The orchestrator was killed after it had made the branch, and before or after the folder.
    repo.git(["branch", "orch/killed/target", "main"]);
    assert_found(&repo, "places_match", &["no run is recorded", "orch gc"]);
    repo.orch(["gc"]).run().assert_code(0);
    let folder = repo.path().join(".orch/runs/killed");
    fs::create_dir(&folder).expect("a folder can be made");
    assert_eq!(repo.doctor(), Vec::<Value>::new(), "a folder without a journal is no run");
    let journal = folder.with_file_name(&run).join("journal");
    let header = fs::read_to_string(journal).expect("the journal");
    fs::write(folder.join("journal"), header.lines().next().expect("a header").to_owned() + "\n")
        .expect("a journal can be written");
    repo.git(["branch", "orch/killed/target", "main"]);
    repo.orch(["gc"]).run().assert_code(0);
    assert!(!repo.has_branch("orch/killed/target"));
    assert_repaired(&repo, "records_agree");
    assert!(!folder.exists());

    // What a failed task left is for a person, and no fault.
    assert!(root.join("bad/bad.txt").exists());
    assert_eq!(repo.doctor(), Vec::<Value>::new());
}

#[test]
fn a_checkout_that_something_was_done_to() {
    let (repo, _) = after_a_run();
    fs::write(repo.path().join(".git/MERGE_HEAD"), repo.head()).expect("a file can be written");
    assert_found(&repo, "places_match", &["a merge was begun"]);
    fs::remove_file(repo.path().join(".git/MERGE_HEAD")).expect("a file can be removed");
    repo.git(["config", "core.bare", "true"]);
    assert_found(&repo, "places_match", &["core.bare false"]);
    repo.git(["config", "core.bare", "false"]);
    assert_eq!(repo.doctor(), Vec::<Value>::new());
}

#[test]
fn locks_of_a_git_that_was_killed() {
    let (repo, run) = after_a_run();
    let git = repo.path().join(".git");
    let plant = |name: &str| {
        let path = git.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        fs::write(&path, "").expect("a lock can be made");
        path
    };
    for name in
        ["packed-refs.lock", "refs/heads/main.lock", &format!("refs/heads/orch/{run}/x.lock")]
    {
        let path = plant(name);
        assert_repaired(&repo, "locks_are_free");
        assert!(!path.exists());
    }
    let path = plant("index.lock");
    assert_found(&repo, "locks_are_free", &["index.lock", "rm "]);
    // While somebody has it open it is in use.
    let open = fs::File::open(&path).expect("the lock can be opened");
    assert_eq!(repo.doctor(), Vec::<Value>::new());
    drop(open);
    assert_eq!(found(&repo), one("locks_are_free", false));
}

#[test]
fn leases_of_the_dead_and_tables_that_make_no_sense() {
    let (repo, _) = after_a_run();
    let held = repo.signal("held");
    let line =
        format!("{} lock acquire db && : > {held} && exec sleep 60", binary::orch().display());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).current_dir(repo.path()).stdin(Stdio::null());
    let mut holder = repo.isolated(shell).spawn().expect("a shell can be started");
    held.wait();
    assert_eq!(repo.doctor(), Vec::<Value>::new());
    holder.kill().expect("a child can be killed");
    holder.wait().expect("a child can be waited for");
    assert_repaired(&repo, "locks_are_free");

    let entries = fs::read_dir(repo.path().join(".orch/locks")).expect("the locks").flatten();
    let mut tables = entries.map(|entry| entry.path());
    let table = tables.find(|path| path.to_string_lossy().contains("@leases.")).expect("a table");
    let empty = fs::read_to_string(&table).expect("the table");
    fs::write(table.with_file_name("@leases.00000000"), "old").expect("it can be written");
    assert_repaired(&repo, "locks_are_free");
    assert!(!table.with_file_name("@leases.00000000").exists());

    for (damaged, part) in [
        (&empty[..empty.len() / 2], "can't be read"),
        ("", "can't be read"),
        (r#"{"version":99}"#, "use the orch that the other runs use"),
    ] {
        fs::write(&table, damaged).expect("the table can be written");
        assert_found(&repo, "locks_are_free", &[part, "when no run is going on"]);
        assert_eq!(fs::read_to_string(&table).expect("the table"), damaged, "it is left");
        repo.orch(["lock", "list"]).run().assert_code(3).assert_stderr(&[part]);
    }
    fs::remove_file(&table).expect("the table can be removed");
    assert_eq!(repo.doctor(), Vec::<Value>::new());
}

#[test]
fn a_run_whose_git_was_killed_goes_on() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let plan = Plan::new()
        .task("a", |t| t.script(format!("touch {held}; wait-for {go}; write a.txt 1; commit a")));
    let mut orch = repo.orch_run(&plan).spawn();
    orch.wait_for(&held);
    orch.kill();
    let _ = orch.wait();
    go.raise();
    repo.wait_until_quiet();
    let runs = repo.orch(["runs", "--json"]).run().json();
    let run = runs["runs"][0]["run"].as_str().expect("a run").to_owned();
    for name in ["packed-refs.lock", &format!("refs/heads/orch/{run}/target.lock")] {
        fs::write(repo.path().join(".git").join(name), "").expect("a lock can be made");
    }
    assert_eq!(repo.doctor(), Vec::<Value>::new(), "whoever resumes the run removes them");
    repo.orch(["resume"]).run().assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "1\n");
    assert_eq!(repo.doctor(), Vec::<Value>::new());
}

#[test]
fn processes_of_attempts_that_are_over() {
    let (repo, run) = after_a_run();
    let marked = |task: &str, repository: &Path| {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null());
        repo.isolated(command)
            .env("ORCH_REPO", repository)
            .env("ORCH_RUN_ID", &run)
            .env("ORCH_TASK_ID", task)
            .env("ORCH_ATTEMPT", "1")
            .spawn()
            .expect("sleep can be started")
    };
    let mut elsewhere = marked("good", Path::new("/"));
    assert_eq!(repo.doctor(), Vec::<Value>::new());
    let mut orphan = marked("good", repo.path());
    assert_found(
        &repo,
        "no_orphans",
        &[&format!("kill {}", orphan.id()), "attempt 1 of task good"],
    );
    for child in [&mut elsewhere, &mut orphan] {
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }
    until("the processes to be gone", || repo.doctor().is_empty().then_some(()));
}

#[test]
fn a_live_run_is_in_order_at_any_moment() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let mut plan = Plan::new().set("max_concurrency", 4);
    for number in 0..8 {
        plan = plan.task(format!("t{number}"), |t| {
            t.script(format!("write t{number}.txt 1; commit t{number}"))
        });
    }
    let plan =
        plan.task("last", |t| t.script(format!("touch {held}; wait-for {go}")).needs(["t7"]));
    let mut orch = repo.orch_run(&plan).spawn();
    for _ in 0..5 {
        assert_eq!(repo.doctor(), Vec::<Value>::new());
    }
    orch.wait_for(&held);
    assert_eq!(repo.doctor(), Vec::<Value>::new());
    go.raise();
    orch.wait().assert_code(0);
    assert_eq!(repo.doctor(), Vec::<Value>::new());
}

#[test]
fn what_is_left_in_the_control_group_of_a_run_is_ended() {
    let (repo, run) = after_a_run();
    let Some(home) = repo.control_groups() else { return };
    let group = home.join(format!("orch-{run}"));
    fs::create_dir_all(group.join("good.1")).expect("a control group");
    let record = repo.path().join(".orch/runs").join(&run).join("cgroup");
    fs::write(record, group.to_str().expect("UTF-8")).expect("the run's folder");
    let mut left = Command::new("sleep").arg("1000").spawn().expect("sleep");
    fs::write(group.join("good.1/cgroup.procs"), left.id().to_string()).expect("it moves there");
    assert_repaired(&repo, "no_orphans");
    let ended = left.wait().expect("it is a child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
    assert!(!group.exists());
}
