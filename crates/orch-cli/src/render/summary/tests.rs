use orch_model::{
    CommitId, RunId, TaskId, Timestamp,
    event::Delivery,
    report::{REPORT_VERSION, TaskReport},
};

use super::*;

fn task(id: &str, status: &str) -> TaskReport {
    TaskReport {
        id: TaskId::new(id).unwrap(),
        status: status.into(),
        attempts: 1,
        commit: None,
        merge_commit: None,
        started_at: Some(Timestamp::from_millis(1)),
        finished_at: Some(Timestamp::from_millis(2)),
        error: None,
        class: None,
        hint: None,
        output_tail: None,
        conflict: None,
        worktree: None,
        branch: None,
        by: None,
        usage: Usage::default(),
        agent_seconds: 0.0,
    }
}

fn report(status: RunStatus, delivery: Delivery, tasks: Vec<TaskReport>) -> Report {
    Report {
        version: REPORT_VERSION,
        run_id: RunId::new("r1").unwrap(),
        status,
        wall_seconds: 75.0,
        agent_seconds: 0.0,
        delivery: Some(delivery),
        undone: None,
        usage: Usage::default(),
        budget_stops: Vec::new(),
        tasks,
    }
}

fn shown(report: &Report) -> String {
    anstream::adapter::strip_str(&of(report)).to_string()
}

#[test]
fn a_success_is_two_lines() {
    let delivery =
        Delivery::Target { target: "main".into(), commit: CommitId::new("0123456789abc") };
    let tasks = vec![task("a", "merged"), task("b", "merged")];
    let mut report = report(RunStatus::Succeeded, delivery, tasks);
    let plain = "run r1 succeeded in 1m 15s: 2 merged\n\nThe results are in main at 0123456789.";
    assert_eq!(shown(&report), plain);
    report.usage.input_tokens = 1200;
    report.usage.output_tokens = 34;
    report.usage.cost_micro_usd = 1_234_567;
    let with_usage = format!("{plain}\nTokens: 1200 in, 34 out; cost: $1.23.");
    assert_eq!(shown(&report), with_usage);
    report.usage.unpriced_tokens = 34;
    assert!(shown(&report).ends_with("$1.23, and that of 34 tokens, which is unknown."));
    report.usage.cost_micro_usd = 0;
    assert!(shown(&report).ends_with("cost: unknown."));
}

#[test]
fn what_did_not_succeed_is_told_with_what_to_do() {
    let delivery = Delivery::Waiting {
        target: "main".into(),
        branch: "orch/r1/target".into(),
        commit: CommitId::new("0123456789abc"),
        reason: "/repo has uncommitted changes".into(),
        hint: "git -C /repo merge --ff-only orch/r1/target".into(),
    };
    let mut failed = task("broken", "failed");
    failed.attempts = 2;
    failed.error = Some("ended with exit code 3".into());
    failed.worktree = Some("/repo.worktrees/r1/broken".into());
    failed.branch = Some("orch/r1/broken".into());
    let mut conflicted = task("clash", "conflicted");
    conflicted.error = Some("conflicts with the target in a.txt".into());
    conflicted.branch = Some("orch/r1/clash".into());
    let mut skipped = task("child", "skipped");
    skipped.started_at = None;
    skipped.error = Some("broken, which it needs, did not succeed".into());
    let mut cancelled = task("late", "cancelled");
    cancelled.started_at = None;
    cancelled.error = Some("cancelled".into());
    let tasks = vec![task("a", "merged"), failed, conflicted, skipped, cancelled];
    let expected = "\
run r1 failed in 1m 15s: 1 merged, 1 failed, 1 conflicted, 1 skipped, 1 cancelled

  broken  failed after 2 attempts: ended with exit code 3
            worktree  /repo.worktrees/r1/broken
            branch    orch/r1/broken
            output    orch logs broken
  clash   conflicted: conflicts with the target in a.txt
            branch    orch/r1/clash
            merge     git merge orch/r1/clash
            output    orch logs clash
  child   skipped: broken, which it needs, did not succeed
  late    cancelled

The results are not in main yet: /repo has uncommitted changes.
They wait on orch/r1/target. To bring them in:

    git -C /repo merge --ff-only orch/r1/target";
    assert_eq!(shown(&report(RunStatus::Failed, delivery, tasks)), expected);
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let mut open = task("b", "queued");
    open.finished_at = None;
    let tasks = vec![task("a", "merged"), open];
    let expected = "run r1 interrupted in 1m 15s: 1 merged, 1 not ended\n\n\
                    Continue it with orch resume.";
    assert_eq!(shown(&report(RunStatus::Interrupted, Delivery::Nothing, tasks)), expected);
}

#[test]
fn a_long_list_is_cut() {
    let tasks = (0..60).map(|n| task(&format!("t{n}"), "failed")).collect();
    let text = shown(&report(RunStatus::Failed, Delivery::Nothing, tasks));
    assert!(text.contains("t49") && !text.contains("t50"), "{text}");
    assert!(text.ends_with("... and 10 more; see `orch status --all`"), "{text}");
}
