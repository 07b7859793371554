use orch_model::{
    CommitId, PlanSpec, RunId,
    event::{EVENT_VERSION, RunBase, RunHeader, RunSettings},
    outcome::ExitStatus,
    plan::spec::TaskSpec,
};

use super::*;

fn id(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn header(plan: &ValidPlan) -> EventKind {
    EventKind::RunStarted {
        header: Box::new(RunHeader {
            run: RunId::new("r1").unwrap(),
            version: EVENT_VERSION,
            plan: plan.spec().clone(),
            settings: RunSettings::default(),
            repository: "/repo".into(),
            base: Some(RunBase { target: "main".into(), commit: CommitId::new("0123456789abc") }),
            pid: 7,
        }),
    }
}

fn task(name: &str, change: TaskChange) -> EventKind {
    EventKind::Task { task: id(name), change }
}

/// What is shown of events, half a second apart, without colours.
fn shown(events: impl IntoIterator<Item = EventKind>) -> String {
    let plan = PlanSpec::new()
        .task(TaskSpec::new(id("schema")).run("true"))
        .task(TaskSpec::new(id("login")).run("true"));
    let plan = plan.validate().unwrap();
    let mut lines = Lines::new(&plan);
    let mut text = String::new();
    for (number, kind) in [header(&plan)].into_iter().chain(events).enumerate() {
        let seq = number as u64 + 1;
        let event = Event { seq, at: Timestamp::from_millis(seq * 500), kind };
        if let Some(line) = lines.of(&event) {
            text.push_str(&anstream::adapter::strip_str(&line).to_string());
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_way_of_a_task_is_told_in_three_lines() {
    let commit = CommitId::new("fedcba9876543210");
    let result = Merged::Commit { commit: commit.clone(), merge_commit: commit.clone() };
    let text = shown([
        task("schema", TaskChange::Unblocked),
        task("schema", TaskChange::Queued),
        task("schema", TaskChange::Leased { attempt: 1, by: None }),
        task("schema", TaskChange::Preparing),
        task("schema", TaskChange::Started { agent: None }),
        task(
            "schema",
            TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None },
        ),
        task("schema", TaskChange::Verified { commit: Some(commit) }),
        task("schema", TaskChange::Merged { result }),
        task("login", TaskChange::Merged { result: Merged::Nothing }),
        EventKind::RunEnded { status: RunStatus::Succeeded },
    ]);
    let expected = "   0.0s  run r1: 2 tasks into main at 0123456789, 3 at a time
   2.5s  schema  started
   4.0s  schema  merged fedcba9876
   4.5s  login   done, nothing to merge
";
    assert_eq!(text, expected);
}

#[test]
fn a_failure_comes_with_the_end_of_its_output() {
    let lines: String = (1..=20).map(|n| format!("\u{1b}[31mline {n}\u{1b}[0m\n\n")).collect();
    let failure = Failure::Agent { exit: ExitStatus::Code(3), output_tail: lines };
    let until = Timestamp::from_millis(3_000);
    let text = shown([
        task("login", TaskChange::Retry { failure, until }),
        task("login", TaskChange::Leased { attempt: 2, by: None }),
        task("login", TaskChange::Started { agent: None }),
        task(
            "login",
            TaskChange::Failed { failure: Failure::Timeout { after: "2s".parse().unwrap() } },
        ),
        task(
            "schema",
            TaskChange::Skipped { because: SkipReason::Dependency { task: id("login") } },
        ),
    ]);
    let output: String = (9..=20).map(|n| format!("                 | line {n}\n")).collect();
    let expected = format!(
        "   0.0s  run r1: 2 tasks into main at 0123456789, 3 at a time
   0.5s  login   failed: ended with exit code 3; next attempt in 2.0s
{output}   1.5s  login   started, attempt 2
   2.0s  login   failed: ran longer than 2s
                 hint: give it a longer `timeout`, or less to do
   2.5s  schema  skipped: login, which it needs, did not succeed
"
    );
    assert_eq!(text, expected);
}

#[test]
fn what_others_wrote_can_not_pass_for_a_line_of_ours() {
    let files = vec!["a\n   9.9s  schema  merged".into(), "\u{1b}[2Jb".into()];
    let commit = CommitId::new("c");
    let text = shown([
        task(
            "login",
            TaskChange::Conflicted { commit, branch: "b".into(), files, hunks: Vec::new() },
        ),
        EventKind::Warning { task: Some(id("schema")), message: "odd\r\nthing".into() },
        EventKind::Warning { task: None, message: "odder".into() },
        task("schema", TaskChange::Lost { known: "it is gone".into(), hint: "look".into() }),
    ]);
    let expected = "   0.0s  run r1: 2 tasks into main at 0123456789, 3 at a time
   0.5s  login   conflicts with the target in a    9.9s  schema  merged, b
   1.0s  schema  warning: odd thing
   1.5s  warning: odder
   2.0s  schema  needs attention: it is gone; look
";
    assert_eq!(text, expected);
}

#[test]
fn a_conflict_is_told_with_both_sides() {
    let text = "<<<<<<< the results\na\n=======\n\u{1b}[2Jb\n>>>>>>> the task".into();
    let hunks = vec![Hunk { file: "src/a.rs".into(), line: Some(3), text }];
    let files = vec!["src/a.rs".to_owned()];
    let expected = |files: &[String]| EventKind::ConflictExpected {
        tasks: [id("login"), id("schema")],
        files: files.into(),
    };
    let (commit, branch) = (CommitId::new("c"), "b".to_owned());
    let failure = Failure::Conflict { branch, files: files.clone(), hunks: hunks.clone() };
    let text = shown([
        expected(&files),
        expected(&[]),
        task("login", TaskChange::Resolving { round: 1, files: files.clone() }),
        task("login", TaskChange::ResolvingEnded { resolved: false, usage: None }),
        task("login", TaskChange::Retry { failure, until: Timestamp::from_millis(4000) }),
        task("login", TaskChange::Conflicted { commit, branch: "b".into(), files, hunks }),
        task("login", TaskChange::Resolved),
    ]);
    let both = "                 | src/a.rs, line 3
                 | <<<<<<< the results
                 | a
                 | =======
                 | b
                 | >>>>>>> the task
";
    let expected = format!(
        "   0.0s  run r1: 2 tasks into main at 0123456789, 3 at a time
   0.5s  warning: login and schema will conflict in src/a.rs
   1.0s  login and schema don't conflict any more
   1.5s  login   conflicts in src/a.rs; the resolver is at work
   2.0s  login   its conflicts are not resolved
   2.5s  login   conflicts with the target in src/a.rs; begins anew on the results in 1.0s
{both}   3.0s  login   conflicts with the target in src/a.rs
{both}   3.5s  login   its conflicts are resolved
"
    );
    assert_eq!(text, expected);
}

#[test]
fn control_of_a_run_is_told() {
    let text = shown([
        EventKind::RunPaused { frozen: false },
        EventKind::RunPaused { frozen: true },
        EventKind::RunResumed,
        EventKind::RunCancelling,
        task("login", TaskChange::Cancelled),
        EventKind::RunReopened { pid: 9 },
    ]);
    let expected = "   0.0s  run r1: 2 tasks into main at 0123456789, 3 at a time
   0.5s  paused: nothing new is started; `orch resume` goes on
   1.0s  frozen: running agents stand still; `orch resume` goes on
   1.5s  resumed
   2.0s  cancelling
   2.5s  login   cancelled
   3.0s  the run goes on
";
    assert_eq!(text, expected);
}
