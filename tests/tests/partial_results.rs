//! What a failed or killed attempt leaves is kept, and the next one is told where.

use orch_tests::{Plan, Signal, Task, TestRepo, until};
use rustix::process::{Pid, Signal as Kill, kill_process};

/// A task whose first attempt commits, changes one file more and says something before it does
/// `the_end`, and whose second takes over both files, or fails.
fn continued(task: Task, expected: &str, the_end: &str) -> Task {
    let line = format!(
        "set -e\n\
         if [ $ORCH_ATTEMPT = 1 ]; then\n\
         test -z \"$ORCH_LAST_FAILURE$ORCH_LAST_OUTPUT$ORCH_LAST_REF\"\n\
         echo committed > one.txt; git add one.txt; git commit --quiet -m one\n\
         echo loose > two.txt; echo the first half is done\n\
         {the_end}\n\
         fi\n\
         case $ORCH_LAST_FAILURE in {expected}) ;; *) echo \"$ORCH_LAST_FAILURE\"; exit 9;; esac\n\
         grep 'first half' \"$ORCH_LAST_OUTPUT\"\n\
         git cherry-pick \"$ORCH_LAST_REF~1\"\n\
         git checkout \"$ORCH_LAST_REF\" -- two.txt"
    );
    task.shell(&line).verify(["git rev-parse --verify \"$ORCH_LAST_REF\" && test -f one.txt"])
}

fn assert_taken_over(repo: &TestRepo) {
    assert_eq!(repo.show("main", "one.txt"), "committed\n");
    assert_eq!(repo.show("main", "two.txt"), "loose\n");
}

#[test]
fn after_a_failure() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("a", |t| continued(t.set("retries", 1), "'agent: ended with exit code 7'", "exit 7"));
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    assert_eq!(outcome.report().task("a")["attempts"], 2);
    assert_taken_over(&repo);
}

#[test]
fn after_a_timeout() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("a", |t| {
        let task = t.set("retries", 1).set("timeout", "3s");
        continued(task, "'timeout: ran longer than 3s'", "exec sleep 100")
    });
    repo.run(&plan).assert_code(0);
    assert_taken_over(&repo);
}

#[test]
fn after_a_failure_and_the_death_of_the_orchestrator() {
    let repo = TestRepo::new();
    let plan = Plan::new().task("a", |t| continued(t.set("retries", 1), "'agent: '*", "exit 7"));
    let mut run = repo.start(&plan);
    run.wait_for_change("a", "retry");
    run.kill();
    let _ = run.wait();
    repo.orch(["resume"]).run().assert_code(0);
    assert_taken_over(&repo);
}

#[test]
fn after_the_death_of_all_of_them() {
    let repo = TestRepo::new();
    let ready = repo.signal("ready");
    let plan = Plan::new().task("a", |t| {
        // The supervisor is the parent of the agent.
        let end = format!("echo $PPID $$ > {ready}; exec sleep 100");
        continued(t, "'interrupted: '*", &end)
    });
    let mut run = repo.start(&plan);
    let pids = run.text_of(&ready);
    // What the supervisor has not read yet dies with it.
    until("the output", || repo.orch(["logs", "a"]).run().stdout.contains("half").then_some(()));
    run.kill();
    let _ = run.wait();
    for pid in pids.split(' ') {
        kill_now(&ready, pid);
    }
    until("the end of all processes", || repo.processes().is_empty().then_some(()));
    repo.orch(["resume"]).run().assert_code(0);
    assert_taken_over(&repo);
}

fn kill_now(from: &Signal, pid: &str) {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    let pid = pid.unwrap_or_else(|| panic!("no process id in {from}"));
    // The agent may have ended with its supervisor.
    let _ = kill_process(pid, Kill::KILL);
}
