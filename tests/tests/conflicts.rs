//! Conflicts between real agents, and each policy for them.

use std::{fs, path::PathBuf};

use orch_tests::{
    Outcome, Plan, RunningOrch, Task, TestRepo, is_run, is_task, process_is_alive, until,
};
use serde_json::Value;

/// Two tasks that add a line at the same place. `b` began before `a` was merged, and ends after it.
/// Its second attempt, where there is one, does not wait.
fn clashing(repo: &TestRepo, fill: impl Fn(Task) -> Task) -> Plan {
    let (begun, go) = (repo.signal("b-begun"), repo.signal("a-merged"));
    Plan::new()
        .agent("coder", &[&format!("touch {begun}; wait-for {go}; append f b; commit b")])
        .task("a", |t| t.script(format!("wait-for {begun}; append f a; commit a")))
        .task("b", |t| fill(t.prompt("coder", "Add a line to f.")))
}

fn repo() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("f", "first\n");
    repo.commit_all("f");
    repo
}

/// Starts the plan and lets `b` end once `a` is merged.
fn start<'r>(repo: &'r TestRepo, plan: &Plan) -> RunningOrch<'r> {
    let mut run = repo.start(plan);
    run.wait_for_change("a", "merged");
    repo.signal("a-merged").raise();
    run
}

fn run(repo: &TestRepo, plan: &Plan) -> Outcome {
    start(repo, plan).wait()
}

fn warnings(outcome: &Outcome) -> Vec<&str> {
    let all = outcome.events.iter().filter(|event| is_run(event, "warning"));
    all.filter_map(|event| event["message"].as_str()).collect()
}

fn changes<'o>(outcome: &'o Outcome, change: &str) -> Vec<&'o Value> {
    outcome.events.iter().filter(|event| is_task(event, "b", change)).collect()
}

/// The branch of task `b`.
fn branch(repo: &TestRepo) -> String {
    repo.branches().into_iter().find(|name| name.ends_with("/b")).expect("it is kept")
}

#[track_caller]
fn assert_is_clean(repo: &TestRepo) {
    assert!(repo.worktrees().is_empty(), "{:?}", repo.worktrees());
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn fail_keeps_the_branch_and_names_files_and_hunks() {
    let repo = repo();
    let outcome = run(&repo, &clashing(&repo, |t| t));
    outcome.assert_code(1);
    assert_eq!(outcome.report().status_of("b"), "conflicted");
    let [event] = changes(&outcome, "conflicted")[..] else { panic!("{outcome}") };
    assert_eq!(event["files"], serde_json::json!(["f"]));
    assert_eq!(event["hunks"][0]["line"], 2);
    assert_eq!(repo.show("main", "f"), "first\na\n");
    let branch = branch(&repo);
    assert_eq!(repo.show(&branch, "f"), "first\nb\n");
    let merge = format!("git merge {branch}");
    repo.orch(["conflicts"]).run().assert_stdout(&[
        "b  conflicts in f",
        &merge,
        "f, line 2",
        "| <<<<<<<",
        "| a",
        "| b",
    ]);
    let json = repo.orch(["conflicts", "--json"]).run();
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["conflicts"][0]["waits"], false);
    repo.orch(["resolve", "b"]).run().assert_code(2).assert_stderr(&["git merge"]);
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn rebase_retry_runs_the_agent_again_on_the_new_base() {
    let repo = repo();
    let plan = clashing(&repo, |t| t.set("on_conflict", "rebase-retry"));
    let outcome = run(&repo, &plan);
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "f"), "first\na\nb\n");
    assert_eq!(outcome.report().task("b")["attempts"], 2);
    let [retry] = changes(&outcome, "retry")[..] else { panic!("{outcome}") };
    assert_eq!(retry["failure"]["class"], "conflict");
    // What the agent was told: the conflict, and where its own work is.
    let prompts = repo.path().join(".orch/runs");
    let run = fs::read_dir(prompts).unwrap().next().expect("a run").unwrap().path();
    let prompt = fs::read_to_string(run.join("prompts/b.2.md")).expect("the second prompt");
    let kept = prompt.split_whitespace().find(|word| word.starts_with("refs/orch/preserved/"));
    let kept = kept.expect("its own work").trim_end_matches(':');
    assert!(prompt.starts_with("Add a line to f."), "{prompt}");
    assert!(prompt.contains("f, line 2:\n<<<<<<<"), "{prompt}");
    assert_eq!(repo.show(kept, "f"), "first\nb\n");
    assert_is_clean(&repo);
}

#[test]
fn rebase_retry_has_a_limit_and_ends_with_the_branch() {
    let repo = repo();
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    // The first task moves the same line whenever the second one is at work.
    let plan = Plan::new()
        .task("a", |t| t.script(format!("wait-for {begun}; write f a; commit a; touch {go}")))
        .task("b", |t| {
            t.shell(&format!(
                "touch {begun}; while ! test -e {go}; do sleep 0.01; done; \
                 git checkout -q -B $(git symbolic-ref --short HEAD) $(git rev-list --max-parents=0 HEAD); \
                 echo $ORCH_ATTEMPT > f; git add f; git commit -q -m b; \
                 test -z \"$ORCH_LAST_CONFLICT\" || echo told"
            ))
            .set("on_conflict", "rebase-retry")
        });
    let outcome = repo.orch_run(&plan).arg("--json").run();
    outcome.assert_code(1);
    assert_eq!(outcome.report().status_of("b"), "conflicted");
    assert_eq!(outcome.report().task("b")["attempts"], 5);
    assert_eq!(repo.show(&branch(&repo), "f"), "5\n");
    repo.orch(["logs", "b", "--attempt", "5"]).run().assert_stdout(&["told"]);
}

/// A plan whose conflicts an agent resolves like this.
fn with_resolver(repo: &TestRepo, script: &str, fill: impl Fn(Task) -> Task) -> Plan {
    clashing(repo, fill)
        .agent("fixer", &[script])
        .merge_value("on_conflict", "resolver")
        .merge_value("resolver", "fixer")
}

#[test]
fn a_resolver_gets_the_merge_in_progress_and_verification_decides() {
    let repo = repo();
    // What it finds: both sides, and a description.
    let script = "cat f; env ORCH_CONFLICT seen; rm seen; write f both";
    let plan = with_resolver(&repo, script, |t| t.verify(["grep -c . f"]));
    let outcome = run(&repo, &plan);
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "f"), "both\n");
    let [ended] = changes(&outcome, "resolving_ended")[..] else { panic!("{outcome}") };
    assert_eq!(ended["resolved"], true);
    let work = changes(&outcome, "verified")[0]["commit"].as_str().expect("a commit");
    let merged = changes(&outcome, "merged")[0]["result"]["merge_commit"].as_str().expect("one");
    repo.git(["merge-base", "--is-ancestor", work, merged]);
    let logs = repo.orch(["logs", "b"]).run();
    logs.assert_stdout(&["<<<<<<< HEAD", ">>>>>>> orch/"]);
    logs.assert_stderr(&["resolver of its conflicts", "of what the resolver left"]);
    assert_is_clean(&repo);
}

#[test]
fn a_resolver_may_commit_the_merge_itself_and_the_merge_queue_verifies_it() {
    let repo = repo();
    let plan = with_resolver(&repo, "write f both; commit resolved", |t| t);
    let outcome = run(&repo, &plan.verify_merged("! grep -q '<<<' f"));
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "f"), "both\n");
    assert!(repo.log_subjects("main").contains(&"resolved".to_owned()));
    assert_is_clean(&repo);
}

#[test]
fn what_a_resolver_does_not_resolve_stays_a_conflict() {
    let cases = [
        // It does nothing; says so of its own; commits the markers; fails; breaks the verification.
        ("say done", "conflicts are left in `f`"),
        ("commit done", "conflicts are left in `f`"),
        ("write f both; exit 3", "ended with exit code 3"),
        ("write f bad", "verification `! grep bad f` ended with exit code 1"),
    ];
    for (script, reason) in cases {
        let repo = repo();
        let outcome = run(&repo, &with_resolver(&repo, script, |t| t.verify(["! grep bad f"])));
        outcome.assert_code(1);
        assert_eq!(outcome.report().status_of("b"), "conflicted", "{script}");
        assert_eq!(repo.show("main", "f"), "first\na\n", "{script}");
        assert_eq!(repo.show(&branch(&repo), "f"), "first\nb\n", "{script}");
        let warnings = warnings(&outcome);
        assert!(warnings.iter().any(|said| said.contains(reason)), "{script}: {warnings:?}");
        // What it did is there to be looked at.
        let kept = repo.git(["for-each-ref", "--format=%(refname)", "refs/orch/preserved"]);
        assert!(kept.ends_with("/b/1.merge"), "{script}: {kept}");
        assert_eq!(repo.worktrees().len(), 1, "{script}: that of the task");
        repo.orch(["doctor"]).run().assert_code(0);
    }
}

#[test]
fn a_run_that_is_killed_while_conflicts_are_resolved_does_it_again() {
    let repo = repo();
    let (pids, go) = (repo.signal("pids"), repo.signal("go"));
    let script = format!("append f half; record {pids}; wait-for {go}; write f both");
    let mut run = start(&repo, &with_resolver(&repo, &script, |t| t));
    let resolver = run.text_of(&pids);
    let resolver: u32 = resolver.split(' ').next_back().expect("a pid").parse().expect("a pid");
    run.kill();
    drop(run);
    // The first one never gets to an end.
    let mut resumed = repo.orch(["resume", "--json"]).spawn();
    resumed.wait_for_change("b", "resolving");
    until("the end of the first resolver", || (!process_is_alive(resolver)).then_some(()));
    go.raise();
    let outcome = resumed.wait();
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "f"), "both\n");
    let kept = repo.git(["for-each-ref", "--format=%(refname)", "refs/orch/preserved"]);
    assert!(kept.ends_with("/b/1.merge"), "what the first one had done: {kept}");
    assert_is_clean(&repo);
}

#[test]
fn a_run_that_is_killed_while_a_resolution_is_verified_does_it_again() {
    let repo = repo();
    let (pid, go) = (repo.signal("pid"), repo.signal("go"));
    let line = format!(
        "grep -q both f || exit 0; echo $$ > {pid}.new; mv {pid}.new {pid}; \
         while ! test -e {go}; do sleep 0.01; done"
    );
    let plan = with_resolver(&repo, "write f both; commit resolved", |t| t.verify([&line]));
    let mut run = start(&repo, &plan);
    let verifier: u32 = run.text_of(&pid).trim().parse().expect("a pid");
    run.kill();
    drop(run);
    let mut resumed = repo.orch(["resume", "--json"]).spawn();
    resumed.wait_for_change("b", "resolving");
    until("the end of the first verification", || (!process_is_alive(verifier)).then_some(()));
    // What was not verified was not merged.
    assert_eq!(repo.show("main", "f"), "first\n");
    go.raise();
    resumed.wait().assert_code(0);
    assert_eq!(repo.show("main", "f"), "both\n");
    assert_is_clean(&repo);
}

#[test]
fn a_run_that_is_interrupted_while_conflicts_are_resolved_repeats_no_work() {
    let repo = repo();
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    let script = format!("touch {begun}; wait-for {go}; write f both");
    let mut run = start(&repo, &with_resolver(&repo, &script, |t| t));
    run.wait_for(&begun);
    run.interrupt();
    run.wait().assert_code(130);
    repo.orch(["doctor"]).run().assert_code(0);
    go.raise();
    let outcome = repo.orch(["resume", "--json"]).with_report().run();
    outcome.assert_code(0);
    assert_eq!(outcome.report().task("b")["attempts"], 1);
    assert_eq!(repo.show("main", "f"), "both\n");
    assert_is_clean(&repo);
}

#[test]
fn a_run_can_be_cancelled_while_conflicts_are_resolved() {
    let repo = repo();
    let pids = repo.signal("pids");
    let plan = with_resolver(&repo, &format!("record {pids}; hang"), |t| t);
    let mut run = start(&repo, &plan);
    let resolver = run.text_of(&pids);
    let resolver: u32 = resolver.split(' ').next_back().expect("a pid").parse().expect("a pid");
    repo.orch(["cancel"]).run().assert_code(0);
    let outcome = run.wait();
    outcome.assert_code(1);
    assert_eq!(outcome.report().status_of("b"), "cancelled");
    until("the end of the resolver", || (!process_is_alive(resolver)).then_some(()));
    assert_eq!(repo.show(&branch(&repo), "f"), "first\nb\n");
}

/// A plan whose conflicts a person resolves, and a task that needs the one in conflict.
fn manual(repo: &TestRepo) -> Plan {
    clashing(repo, |t| t)
        .merge_value("on_conflict", "manual")
        .task("c", |t| t.script("cat f; write c done; commit c").needs(["b"]))
}

fn folder(repo: &TestRepo) -> PathBuf {
    let outcome = repo.orch(["resolve", "b"]).run();
    outcome.assert_code(0).assert_stderr(&["To resolve: f"]);
    PathBuf::from(outcome.stdout.trim())
}

#[test]
fn a_person_resolves_a_conflict_and_what_needs_the_task_goes_on() {
    let repo = repo();
    let outcome = run(&repo, &manual(&repo));
    outcome.assert_code(1);
    assert_eq!(outcome.report().status_of("b"), "conflicted");
    assert_eq!(outcome.report().status_of("c"), "blocked");
    outcome.assert_stderr(&["It waits for you: orch conflicts"]);
    // What was merged is delivered already.
    assert_eq!(repo.show("main", "f"), "first\na\n");
    repo.orch(["status"]).run().assert_stdout(&["conflicted", "It waits for you", "waits for b"]);
    repo.orch(["conflicts"]).run().assert_stdout(&["orch resolve b", "f, line 2", "orch resume"]);
    repo.orch(["doctor"]).run().assert_code(0);
    repo.orch(["gc"]).run().assert_code(0);

    // To resume now changes nothing.
    let again = repo.orch(["resume", "--json"]).run();
    again.assert_code(1);
    assert!(warnings(&again)[0].contains("not resolved yet"), "{again}");

    let folder = folder(&repo);
    repo.orch(["doctor"]).run().assert_code(0);
    fs::write(folder.join("f"), "first\nhalf\n").unwrap();
    assert_eq!(self::folder_again(&repo), folder, "the same one, as it is");
    let half = repo.orch(["resume", "--json"]).run();
    half.assert_code(1);
    assert!(warnings(&half)[0].contains("not committed yet"), "{half}");
    assert_eq!(fs::read_to_string(folder.join("f")).unwrap(), "first\nhalf\n");

    fs::write(folder.join("f"), "first\na and b\n").unwrap();
    repo.git_in(&folder, ["commit", "--quiet", "--all", "--message", "both"]);
    let outcome = repo.orch(["resume", "--json"]).with_report().run();
    outcome.assert_code(0);
    assert_eq!(outcome.report().status_of("c"), "merged");
    assert_eq!(repo.show("main", "f"), "first\na and b\n");
    assert_eq!(repo.show("main", "c"), "done\n");
    repo.orch(["logs", "c"]).run().assert_stdout(&["a and b"]);
    assert_is_clean(&repo);
}

fn folder_again(repo: &TestRepo) -> PathBuf {
    PathBuf::from(repo.orch(["resolve", "b"]).run().stdout.trim())
}

#[test]
fn done_takes_what_is_not_committed_and_never_a_file_in_conflict() {
    let repo = repo();
    run(&repo, &manual(&repo)).assert_code(1);
    repo.orch(["resolve", "b", "--done"]).run().assert_code(2).assert_stderr(&["begin one with"]);
    let folder = folder(&repo);
    let refused = repo.orch(["resolve", "b", "--done"]).run();
    refused.assert_code(2).assert_stderr(&["conflicts are left in `f`"]);
    fs::write(folder.join("f"), "first\nab\n").unwrap();
    // Of the work itself only the branch is left.
    let work = repo.worktrees().into_iter().find(|path| path.ends_with("b")).expect("it is kept");
    repo.git(["worktree".as_ref(), "remove".as_ref(), "-ff".as_ref(), work.as_os_str()]);
    repo.orch(["resolve", "b", "--done"]).run().assert_code(0);
    assert!(!folder.exists());
    repo.orch(["resume"]).run().assert_code(0);
    assert_eq!(repo.show("main", "f"), "first\nab\n");
    assert_is_clean(&repo);
}

#[test]
fn what_a_person_gives_up_is_kept() {
    let repo = repo();
    run(&repo, &manual(&repo)).assert_code(1);
    let folder = folder(&repo);
    fs::write(folder.join("f"), "first\nhalf\n").unwrap();
    let outcome = repo.orch(["resolve", "b", "--abort"]).run();
    outcome.assert_code(0);
    let kept = outcome.stdout.split_whitespace().next_back().expect("a reference").to_owned();
    assert_eq!(repo.show(&kept, "f"), "first\nhalf\n");
    assert!(!folder.exists());
    assert!(self::folder(&repo).exists(), "once more");
}

#[test]
fn what_rerere_knows_needs_no_resolver() {
    let repo = repo();
    repo.git(["config", "rerere.enabled", "true"]);
    let base = repo.head();
    run(&repo, &manual(&repo)).assert_code(1);
    let folder = folder(&repo);
    fs::write(folder.join("f"), "first\na and b\n").unwrap();
    repo.orch(["resolve", "b", "--done"]).run().assert_code(0);
    repo.orch(["resume"]).run().assert_code(0);
    // The same conflict again, and a resolver that could do nothing about it.
    repo.git(["reset", "--quiet", "--hard", &base]);
    for signal in ["b-begun", "a-merged"] {
        fs::remove_file(repo.signal(signal).to_string()).unwrap();
    }
    let outcome = run(&repo, &with_resolver(&repo, "exit 1", |t| t));
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "f"), "first\na and b\n");
    assert_is_clean(&repo);
}

#[test]
fn a_conflict_is_told_while_agents_still_work() {
    let repo = repo();
    let go = repo.signal("go");
    let both = format!("append f $; commit it; wait-for {go}");
    let plan = Plan::new()
        .merge_value("on_conflict", "rebase-retry")
        .task("a", |t| t.script(both.replace('$', "a")))
        .task("b", |t| t.script(both.replace('$', "b")))
        .task("c", |t| t.script(format!("write other c; commit c; wait-for {go}")));
    let mut run = repo.start(&plan);
    let event = run.next_event(|event| is_run(event, "conflict_expected"));
    assert_eq!(event["tasks"], serde_json::json!(["a", "b"]));
    assert_eq!(event["files"], serde_json::json!(["f"]));
    let said = "a and b will conflict in f";
    repo.orch(["status"]).run().assert_stdout(&[said]);
    repo.orch(["conflicts"]).run().assert_stdout(&[said]);
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(0);
    let told = outcome.events.iter().filter(|event| is_run(event, "conflict_expected")).count();
    assert_eq!(told, 1, "{outcome}");
    repo.orch(["conflicts"]).run().assert_stdout(&["no conflicts"]);
}
