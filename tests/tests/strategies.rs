//! What the work of tasks becomes in the history of the target.

use orch_tests::{Outcome, Plan, TestRepo, until};

/// Two commits by an agent, and a change that it leaves uncommitted.
fn works(plan: Plan, task: &str, needs: &[&str]) -> Plan {
    let line = format!(
        "echo 1 > {task} && git add . && git commit -qm 'Begin {task}' && echo 2 > {task} && git commit -qam 'Go on with {task}' && echo 3 > {task}"
    );
    let after = needs.iter().map(|name| format!("test -e {name} && ")).collect::<String>();
    plan.task(task, |t| {
        let t = t.shell(&format!("{after}{line}")).set("title", format!("The {task}"));
        if needs.is_empty() {
            t
        } else {
            t.set("needs", needs.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
    })
}

fn strategy(name: &str) -> Plan {
    Plan::new().merge_value("strategy", name)
}

/// A plan of tasks of which one needs the other.
fn chain(plan: Plan) -> Plan {
    works(works(plan, "first", &[]), "second", &["first"])
}

fn log(repo: &TestRepo, format: &str) -> Vec<String> {
    let format = format!("--format={format}");
    let text = repo.git(["log", "--reverse", &format, "main"]);
    text.lines().skip(1).map(str::to_owned).collect()
}

fn check(repo: &TestRepo, outcome: &Outcome) {
    outcome.assert_code(0);
    for task in ["first", "second"] {
        assert_eq!(repo.show("main", task), "3\n", "{outcome}");
    }
    assert!(repo.worktrees().is_empty() && repo.branches() == ["main"], "{:?}", repo.branches());
    repo.orch(["doctor"]).run().assert_code(0);
}

#[test]
fn a_squash_is_one_commit_per_task() {
    for verify in [None, Some("test -e first")] {
        let repo = TestRepo::new();
        let plan = chain(strategy("squash").merge_value("message", "{task}: {title}\n\n{commits}"));
        let plan = verify.into_iter().fold(plan, Plan::verify_merged);
        let outcome = repo.orch_run(&plan).run();
        check(&repo, &outcome);
        assert_eq!(log(&repo, "%s"), ["first: The first", "second: The second"]);
        assert_eq!(repo.git(["rev-list", "--merges", "--count", "main"]), "0");
        let body = repo.git(["log", "-1", "--format=%b", "main"]);
        let commits = "* Begin second\n* Go on with second\n* second: The second\n\nOrch-Run: ";
        assert!(body.starts_with(commits), "{body}");
        let report = outcome.report();
        let (run, commit) = (report.run_id(), report.task("second")["commit"].clone());
        let kept = repo.tip(&format!("refs/orch/preserved/{run}/second/merged"));
        assert_eq!(commit, kept.as_str(), "the work itself stays");
        repo.orch(["gc"]).run().assert_code(0);
        assert_eq!(repo.tip(&format!("refs/orch/preserved/{run}/second/merged")), kept);
        repo.orch(["doctor"]).run().assert_code(0);
    }
}

#[test]
fn a_rebase_is_a_line_of_the_tasks_own_commits() {
    for verify in [None, Some("true")] {
        let repo = TestRepo::new();
        let plan = verify.into_iter().fold(chain(strategy("rebase")), Plan::verify_merged);
        check(&repo, &repo.orch_run(&plan).run());
        let subjects = log(&repo, "%s|%(trailers:key=Orch-Task,valueonly,separator=%x2c)");
        let expected = ["first", "second"].map(|task| {
            [
                format!("Begin {task}|{task}"),
                format!("Go on with {task}|{task}"),
                format!("{task}: The {task}|{task}"),
            ]
        });
        assert_eq!(subjects, expected.concat());
        assert_eq!(repo.git(["rev-list", "--merges", "--count", "main"]), "0");
    }
}

#[test]
fn without_merging_verified_work_stays_on_its_branches() {
    let repo = TestRepo::new();
    let before = repo.head();
    let plan = works(works(strategy("none"), "first", &[]), "second", &[])
        .task("empty", |t| t.shell("true"));
    let outcome = repo.orch_run(&plan).run();
    outcome.assert_code(0);
    assert_eq!(repo.head(), before);
    let (report, status) = (outcome.report(), repo.orch(["status"]).run());
    for task in ["first", "second"] {
        let branch = format!("orch/{}/{task}", report.run_id());
        assert_eq!(report.task(task)["branch"], branch.as_str());
        assert_eq!(repo.show(&branch, task), "3\n");
        status.assert_stdout(&[&format!("on branch {branch}")]);
    }
    assert!(repo.worktrees().is_empty(), "{:?}", repo.worktrees());
    assert_eq!(repo.branches().len(), 3, "{:?}", repo.branches());
    repo.orch(["doctor"]).run().assert_code(0);
    repo.orch(["gc"]).run().assert_code(0).assert_stdout(&["on no other branch"]);
    assert_eq!(repo.branches().len(), 3, "{:?}", repo.branches());
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let repo = TestRepo::new();
    let none = chain(strategy("none")).merge_value("message", "x");
    repo.orch_run(&none).run().assert_code(2).assert_stderr(&[
        "`second` would not find the work of `first`",
        "`message` has no effect where nothing is merged",
    ]);
    let typo = chain(Plan::new().merge_value("message", "{titel}"));
    let plan = typo.to_string();
    let line = 1 + plan.lines().position(|line| line.contains("titel")).expect("the message");
    repo.orch_run(&typo).run().assert_code(2).assert_stderr(&[
        "unknown placeholder `{titel}`",
        "did you mean `{title}`?",
        &format!(":{line}:"),
    ]);
    repo.orch_run(&chain(strategy("octopus"))).run().assert_code(2).assert_stderr(&["octopus"]);
    assert_eq!(repo.branches(), ["main"]);
}

#[test]
fn a_merge_has_the_message_of_the_plan() {
    let repo = TestRepo::new();
    let message = "[{epic}] {task} by {agent}, try {attempt} of {run}\n\nReviewed-by: {title}";
    let plan = Plan::new().merge_value("message", message).epic("core", &[]);
    let plan = plan.agent("coder", &[]).task("login", |t| {
        t.prompt("coder", "write a b; commit it").set("epic", "core").set("title", "A  person")
    });
    let outcome = repo.orch_run(&plan).run();
    outcome.assert_code(0);
    let run = outcome.report().run_id();
    assert_eq!(
        repo.git(["log", "-1", "--format=%B", "main"]),
        format!(
            "[core] login by coder, try 1 of {run}\n\nReviewed-by: A person\nOrch-Run: {run}\nOrch-Task: login\nOrch-Attempt: 1"
        )
    );
}

/// The results are moved and the orchestrator is killed before or while it records that.
#[test]
fn a_run_that_is_killed_as_it_merges_merges_once() {
    for name in ["squash", "rebase"] {
        for round in 0..3 {
            let repo = TestRepo::new();
            let plan = ["a", "b", "c"].iter().fold(strategy(name), |p, t| works(p, t, &[]));
            let run = repo.start(&plan);
            until("the record of a merge", || {
                let refs = repo.git(["for-each-ref", "--format=%(refname)", "refs/orch/preserved"]);
                (refs.lines().filter(|name| name.ends_with("/merged")).count() > round)
                    .then_some(())
            });
            run.kill();
            drop(run);
            let outcome = repo.orch(["resume", "--json"]).run();
            // All of them may have been recorded before the kill.
            assert!(outcome.code == Some(0) || outcome.text().contains("has ended"), "{outcome}");
            let commits = log(&repo, "%(trailers:key=Orch-Task,valueonly,separator=%x2c)");
            for task in ["a", "b", "c"] {
                let count = commits.iter().filter(|name| *name == task).count();
                assert_eq!(count, if name == "squash" { 1 } else { 3 }, "{name} {task}: {outcome}");
            }
            assert!(repo.worktrees().is_empty(), "{:?}", repo.worktrees());
            repo.orch(["doctor"]).run().assert_code(0);
        }
    }
}
