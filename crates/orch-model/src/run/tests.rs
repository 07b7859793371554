use super::*;
use crate::{
    event::{EVENT_VERSION, RunSettings},
    outcome::Failure,
    plan::spec::{PlanSpec, TaskSpec},
};

fn started() -> Event {
    let plan = PlanSpec::new()
        .task(TaskSpec::new(TaskId::new("a").unwrap()).run("true"))
        .task(TaskSpec::new(TaskId::new("b").unwrap()).run("true"));
    Event {
        seq: 1,
        at: Timestamp::from_millis(1),
        kind: EventKind::RunStarted {
            header: Box::new(RunHeader {
                run: RunId::new("r1").unwrap(),
                version: EVENT_VERSION,
                plan: plan.into(),
                settings: RunSettings::default(),
                repository: "/repo".into(),
                base: None,
                pid: 7,
            }),
        },
    }
}

fn task(seq: u64, id: &str, change: TaskChange) -> Event {
    Event {
        seq,
        at: Timestamp::from_millis(seq),
        kind: EventKind::Task { task: TaskId::new(id).unwrap(), change },
    }
}

#[test]
fn replay_adds_up() {
    let interrupted = Failure::Interrupted { message: "stopped".into() };
    let events = [
        started(),
        task(2, "a", TaskChange::Unblocked),
        task(3, "a", TaskChange::Queued),
        task(4, "a", TaskChange::Leased { attempt: 1, by: None }),
        task(5, "a", TaskChange::Preparing),
        task(6, "a", TaskChange::Started { agent: None }),
        task(7, "a", TaskChange::Retry { failure: interrupted, until: Timestamp::from_millis(9) }),
        Event {
            seq: 8,
            at: Timestamp::from_millis(8),
            kind: EventKind::RunEnded { status: RunStatus::Interrupted },
        },
        Event { seq: 9, at: Timestamp::from_millis(9), kind: EventKind::RunReopened { pid: 8 } },
    ];
    let state = RunState::replay(&events).unwrap().unwrap();
    assert_eq!(state.status, RunStatus::Running);
    assert_eq!((state.pid, state.seq), (8, 9));
    let a = &state.tasks[0];
    assert_eq!((a.attempts, a.charged), (1, 0), "an interrupted attempt isn't charged");
    let last = a.last_failure.as_ref().map(|last| (last.attempt, last.to_string()));
    assert_eq!(last, Some((1, "interrupted: stopped".into())));
    assert_eq!(a.started_at, Some(Timestamp::from_millis(6)));
    assert_eq!(a.entered_at, Timestamp::from_millis(7));
    assert_eq!(state.tasks[1].state, TaskState::Blocked);

    let text = serde_json::to_string(&state).unwrap();
    let mut read: RunState = serde_json::from_str(&text).unwrap();
    read.index();
    assert_eq!(read, state);
}

#[test]
fn time_for_which_an_agent_was_frozen_does_not_count() {
    let event = |seq, at, kind| Event { seq, at: Timestamp::from_millis(at), kind };
    let mut state = RunState::begin(&started()).unwrap();
    let begin = [
        TaskChange::Unblocked,
        TaskChange::Queued,
        TaskChange::Leased { attempt: 1, by: None },
        TaskChange::Preparing,
        TaskChange::Started { agent: None },
    ];
    for change in begin {
        state.apply(&task(state.seq + 1, "a", change)).unwrap();
    }
    // Another orchestrator takes the run up, and it is frozen once more.
    for (seq, at, kind) in [
        (7, 106, EventKind::RunPaused { frozen: true }),
        (8, 1106, EventKind::RunReopened { pid: 8 }),
        (9, 1206, EventKind::RunPaused { frozen: true }),
        (10, 1306, EventKind::RunPaused { frozen: true }),
        (11, 2206, EventKind::RunResumed),
    ] {
        state.apply(&event(seq, at, kind)).unwrap();
    }
    assert_eq!(state.tasks[0].agent_since, Some(Timestamp::from_millis(2006)));
    assert_eq!(state.frozen_since, None);
}

#[test]
fn what_failed_attempts_used_counts() {
    let usage = Usage { output_tokens: 5, cost_micro_usd: 7, ..Usage::default() };
    let ended = |code| TaskChange::AgentEnded {
        exit: crate::outcome::ExitStatus::Code(code),
        usage: Some(usage),
        model: None,
    };
    let failure = || Failure::NoChanges;
    let retry = TaskChange::Retry { failure: failure(), until: Timestamp::from_millis(1) };
    let changes = [
        TaskChange::Unblocked,
        TaskChange::Queued,
        TaskChange::Leased { attempt: 1, by: None },
        TaskChange::Preparing,
        TaskChange::Started { agent: None },
        ended(1),
        // Seen again by the next orchestrator.
        ended(1),
        retry,
        TaskChange::Queued,
        TaskChange::Leased { attempt: 2, by: None },
        TaskChange::Preparing,
        TaskChange::Started { agent: None },
        ended(0),
        TaskChange::Failed { failure: failure() },
    ];
    let events = changes.into_iter().zip(2..).map(|(change, seq)| task(seq, "a", change));
    let events: Vec<_> = std::iter::once(started()).chain(events).collect();
    let state = RunState::replay(&events).unwrap().unwrap();
    let a = &state.tasks[0];
    assert_eq!((a.usage.output_tokens, a.usage.cost_micro_usd), (10, 14));
    assert_eq!(a.agent_time, Span(std::time::Duration::from_millis(2)));
    let report = crate::Report::of(&state);
    assert_eq!((report.usage.output_tokens, report.agent_seconds), (10, 0.002));
}

#[test]
fn what_an_agent_used_counts_once_also_where_nobody_saw_its_end() {
    let usage = |output_tokens| Usage { output_tokens, ..Usage::default() };
    let used = |tokens| TaskChange::AgentUsed { usage: usage(tokens) };
    let failure = Failure::Interrupted { message: "it died".into() };
    let retry = TaskChange::Retry { failure, until: Timestamp::from_millis(1) };
    let begin = |attempt| {
        [
            TaskChange::Queued,
            TaskChange::Leased { attempt, by: None },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
        ]
    };
    let end = |usage| TaskChange::AgentEnded {
        exit: crate::outcome::ExitStatus::Code(0),
        usage,
        model: None,
    };
    let steps = [
        (vec![TaskChange::Unblocked], 0),
        (begin(1).into(), 0),
        (vec![used(3), used(5)], 5),
        // Its end was not seen.
        (vec![retry], 5),
        (begin(2).into(), 5),
        (vec![used(2)], 7),
        (vec![end(Some(usage(4)))], 9),
    ];
    let mut state = RunState::begin(&started()).unwrap();
    for (changes, sum) in steps {
        for change in changes {
            state.apply(&task(state.seq + 1, "a", change)).unwrap();
        }
        assert_eq!(state.tasks[0].used().output_tokens, sum, "{:?}", state.tasks[0].state);
    }
    assert_eq!(state.tasks[0].in_flight, None);
}

#[test]
fn a_journal_that_does_not_add_up_is_refused() {
    assert_eq!(RunState::replay([]).unwrap(), None);
    let first = task(1, "a", TaskChange::Unblocked);
    assert_eq!(RunState::replay([&first]), Err(ApplyError::NotStarted { seq: 1 }));
    let gap = task(3, "a", TaskChange::Unblocked);
    assert_eq!(
        RunState::replay([&started(), &gap]),
        Err(ApplyError::Gap { expected: 2, found: 3 })
    );
    let unknown = task(2, "z", TaskChange::Unblocked);
    assert!(matches!(
        RunState::replay([&started(), &unknown]),
        Err(ApplyError::UnknownTask { .. })
    ));
    let mut state = RunState::begin(&started()).unwrap();
    let before = state.clone();
    let illegal = task(2, "a", TaskChange::Preparing);
    assert!(matches!(state.apply(&illegal), Err(ApplyError::Illegal { .. })));
    assert_eq!(state, before);
}
