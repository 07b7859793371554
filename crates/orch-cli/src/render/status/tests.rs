use std::time::Duration;

use orch_model::{
    CommitId, Event, EventKind, PlanSpec, RunId, TaskChange,
    event::{EVENT_VERSION, RunHeader, RunSettings},
    outcome::{ExitStatus, Failure},
    plan::{AgentChoice, spec::TaskSpec},
    progress::{Counts, RunningTask, WaitReason, WaitingTask},
};

use super::*;

fn id(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

/// A run of four tasks, of which one was merged, one failed, one runs and one waits for that.
fn state() -> RunState {
    let task = |name| TaskSpec::new(id(name)).run("true");
    let plan = PlanSpec::new()
        .task(task("schema"))
        .task(task("broken"))
        .task(task("login"))
        .task(task("tests").needs(id("login")));
    let header = RunHeader {
        run: RunId::new("r1").unwrap(),
        version: EVENT_VERSION,
        plan: plan.into(),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: None,
        pid: 7,
    };
    let started = EventKind::RunStarted { header: Box::new(header) };
    let begun = |attempt| {
        [
            TaskChange::Unblocked,
            TaskChange::Queued,
            TaskChange::Leased { attempt, by: None },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
        ]
    };
    let failure = Failure::Agent { exit: ExitStatus::Code(3), output_tail: String::new() };
    let commit = CommitId::new("fedcba9876543210");
    let schema = begun(1).into_iter().chain([
        TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None },
        TaskChange::Verified { commit: Some(commit.clone()) },
        TaskChange::Merged {
            result: Merged::Commit { commit: commit.clone(), merge_commit: commit },
        },
    ]);
    let broken = begun(1).into_iter().chain([TaskChange::Failed { failure }]);
    let usage = Usage { input_tokens: 1200, cost_micro_usd: 60_000, ..Usage::default() };
    let changes = schema
        .map(|change| ("schema", change))
        .chain(broken.map(|change| ("broken", change)))
        .chain(begun(1).map(|change| ("login", change)))
        .chain([("login", TaskChange::AgentUsed { usage })])
        .map(|(task, change)| EventKind::Task { task: id(task), change });
    let events: Vec<Event> = [started]
        .into_iter()
        .chain(changes)
        .zip(1..)
        .map(|(kind, seq)| Event { seq, at: Timestamp::from_millis(seq * 1000), kind })
        .collect();
    RunState::replay(&events).unwrap().unwrap()
}

fn progress(state: &RunState) -> Progress {
    let by = AgentChoice {
        agent: "codex".parse().unwrap(),
        model: Some("gpt-5".into()),
        is_fallback: false,
        reason: "named by the task".into(),
    };
    Progress {
        run: state.run().clone(),
        status: RunStatus::Running,
        at: Timestamp::from_millis(81_000),
        seq: state.seq,
        started_at: state.started_at,
        counts: Counts {
            total: 4,
            merged: 1,
            failed: 1,
            active: 1,
            waiting: 1,
            ..Counts::default()
        },
        max_concurrency: 3,
        slowdown: None,
        breakers: BTreeMap::new(),
        current_wave: 1,
        waves: 2,
        budget_stops: Vec::new(),
        running: vec![RunningTask {
            task: id("login"),
            title: "Login".into(),
            state: "running".into(),
            attempt: 2,
            since: Timestamp::from_millis(21_000),
            pid: Some(99),
            by: Some(Box::new(by)),
        }],
        waiting: vec![WaitingTask {
            task: id("tests"),
            reason: WaitReason::Tasks { tasks: vec![id("login")], total: 1 },
        }],
        eta: Some(Duration::from_secs(90)),
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_run_under_way_tells_what_runs_and_why_the_rest_waits() {
    let state = state();
    let expected = "\
run r1 running: 50 % of 4 tasks, wave 1 of 2, for 1m 20s, at least 1m 30s left

Running
  login   running (attempt 2) by codex (gpt-5) for 1m 0s, 1,200 tokens, $0.06  process 99

Waiting
  tests   waits for login

Ended
  broken  failed: ended with exit code 3
          hint: look at its output
  schema  merged fedcba9876";
    assert_eq!(plain(&live(&state, &progress(&state), false)), expected);
}

#[test]
fn a_run_whose_orchestrator_died_says_how_to_go_on() {
    let state = state();
    let now = state.updated_at + Duration::from_secs(60);
    let expected = "\
run r1 stopped, 1m 0s ago, after 20s
Its orchestrator (process 7) is gone. Continue it with `orch resume`.

Not ended
  login   was running (attempt 1)
  tests   waits for login

Ended
  broken  failed: ended with exit code 3
          hint: look at its output
  schema  merged fedcba9876";
    assert_eq!(plain(&at_rest(&state, None, now, false)), expected);
    let mute = plain(&at_rest(&state, Some(7), now, false));
    assert!(mute.contains("run r1 running"), "{mute}");
    assert!(
        mute.contains(
            "Process 7 is at work on it and does not answer; if somebody stopped it, `kill -CONT 7`"
        ),
        "{mute}"
    );
}

#[test]
fn long_lists_are_folded() {
    let state = state();
    let mut progress = progress(&state);
    progress.waiting = (0..40)
        .map(|n| WaitingTask { task: id(&format!("t{n}")), reason: WaitReason::Slot })
        .collect();
    let folded = live(&state, &progress, false);
    assert!(folded.contains("t29") && !folded.contains("t30"), "{folded}");
    assert!(folded.contains("... and 10 more (--all shows them)"), "{folded}");
    assert!(live(&state, &progress, true).contains("t39"));
}

#[test]
fn what_is_limited_is_told_with_its_reason() {
    let mut state = state();
    let at = Timestamp::from_millis(71_000);
    state.concurrency = Some(1);
    state.slowdown = Some(Slowdown { at, reason: "claude: rate limited: slow down".into() });
    let breaker = |seconds: u64| Breaker {
        until: Timestamp::from_millis(seconds * 1000),
        opened: 1,
        reason: "rate limited: slow down".into(),
    };
    state.breakers = [("claude".into(), breaker(111)), ("codex".into(), breaker(80))].into();
    let mut progress = progress(&state);
    progress.max_concurrency = 1;
    progress.slowdown = state.slowdown.clone();
    progress.breakers = state.breakers.clone();
    let expected = "
1 at a time instead of 3, since 10s ago: claude: rate limited: slow down
claude is not started for 30s, until 1970-01-01T00:01:51.000Z (rate limited: slow down)
codex is tried again by one task (rate limited: slow down)
";
    let shown = plain(&live(&state, &progress, false));
    assert!(shown.contains(expected), "{shown}");
    let shown = plain(&at_rest(&state, None, progress.at, false));
    assert!(shown.contains(expected), "{shown}");
    state.status = RunStatus::Failed;
    let shown = plain(&at_rest(&state, None, progress.at, false));
    assert!(!shown.contains("claude"), "it is over: {shown}");
}
