//! `orch logs`.

use orch_tests::{Plan, TestRepo};

#[test]
fn logs_show_what_an_agent_printed() {
    let repo = TestRepo::new();
    let plan = Plan::new()
        .task("talker", |t| {
            t.set("retries", 1).script("say hello from the talker; fail-times 1; say at last")
        })
        .task("checked", |t| t.script("say work").verify(["echo verified well"]));
    repo.run(&plan).assert_code(0);
    let logs = repo.orch(["logs", "talker"]).run();
    logs.assert_code(0).assert_stdout(&["hello from the talker", "at last"]);
    let logs = repo.orch(["logs", "checked"]).run();
    logs.assert_code(0).assert_stdout(&["work"]);
    let unknown = repo.orch(["logs", "talkr"]).run();
    unknown.assert_code(2).assert_stderr(&["talkr"]);
}

#[test]
fn logs_follow_a_running_task_to_its_end() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let script = format!("say before; touch {held}; wait-for {go}; say after");
    let plan = Plan::new().task("a", |t| t.script(script));
    let mut run = repo.orch_run(&plan).spawn();
    run.wait_for(&held);
    let mut logs = repo.orch(["logs", "a", "-f"]).spawn();
    logs.next_line(|line| line.contains("before"));
    go.raise();
    logs.next_line(|line| line.contains("after"));
    logs.wait().assert_code(0);
    run.wait().assert_code(0);
}
