use super::*;
use crate::{
    event::{EVENT_VERSION, RunHeader, RunSettings},
    id::{AgentName, RunId},
    outcome::{ExitStatus, Failure},
    plan::{Format, parse},
};

fn usage(cents: u64) -> Usage {
    Usage { output_tokens: cents, cost_micro_usd: cents * 10_000, ..Usage::default() }
}

#[test]
fn each_attempt_and_each_worker_has_what_it_used_and_all_of_it_is_the_sum() {
    let text = "version = 1\n[merge]\nresolver = \"b\"\non_conflict = \"resolver\"\n\
                [agents]\na = { command = [\"a\"] }\nb = { command = [\"b\"] }\n\
                [[epic]]\nid = \"e\"\n[[task]]\nid = \"t\"\nepic = \"e\"\nprompt = \"p\"\nagent = \"a\"\n";
    let plan = parse(text, Format::Toml).unwrap();
    let header = RunHeader {
        run: RunId::new("r1").unwrap(),
        version: EVENT_VERSION,
        plan: std::sync::Arc::clone(plan.spec()),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: None,
        pid: 7,
    };
    let model = Some("m2".to_owned());
    let ended = |usage| TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage, model };
    let used = |cents| TaskChange::AgentUsed { usage: usage(cents) };
    let failure = Failure::Interrupted { message: "died".into() };
    let until = Timestamp::from_millis(1);
    let changes = [
        TaskChange::Unblocked,
        TaskChange::Queued,
        TaskChange::Leased { attempt: 1, by: None },
        TaskChange::Preparing,
        TaskChange::Started { agent: None },
        used(3),
        used(5),
        TaskChange::Retry { failure, until },
        TaskChange::Queued,
        TaskChange::Leased { attempt: 2, by: None },
        TaskChange::Preparing,
        TaskChange::Started { agent: None },
        used(9),
        // Its last word is less than what it told before.
        ended(Some(usage(8))),
        TaskChange::Verified { commit: None },
        TaskChange::Resolving { round: 1, files: vec!["f".into()] },
        used(1),
        TaskChange::ResolvingEnded { resolved: true, usage: Some(usage(2)) },
    ];
    let mut expenses = Expenses::default();
    let first = EventKind::RunStarted { header: Box::new(header) };
    let rest = changes
        .into_iter()
        .map(|change| EventKind::Task { task: TaskId::new("t").unwrap(), change });
    for (kind, seq) in std::iter::once(first).chain(rest).zip(1..) {
        expenses.see(&Event { seq, at: Timestamp::from_millis(seq), kind }).unwrap();
    }
    let state = expenses.state.clone().unwrap();
    let all = expenses.into_all();
    let rows: Vec<_> = all
        .iter()
        .map(|e| (e.attempt, e.worker.to_string(), e.is_attempt, e.usage.output_tokens))
        .collect();
    let row =
        |attempt, worker: &str, is_attempt, used| (attempt, worker.to_owned(), is_attempt, used);
    assert_eq!(rows, [row(1, "a", true, 5), row(2, "a", true, 8), row(2, "b", false, 2)]);
    // Who answered is known of an attempt that has ended.
    let models: Vec<_> = all.iter().map(|e| e.model.as_deref()).collect();
    assert_eq!(models, [None, Some("m2"), None]);
    assert_eq!(all[0].epic.as_ref().map(EpicId::as_str), Some("e"));
    assert_eq!(state.tasks[0].used(), usage(15));
    // The state knows the same by worker.
    let by_worker: Vec<_> = state
        .spending
        .iter()
        .map(|s| (s.worker.agent.clone(), s.attempts, s.usage.output_tokens))
        .collect();
    let agent = |name| Some(AgentName::new(name).unwrap());
    assert_eq!(by_worker, [(agent("a"), 2, 13), (agent("b"), 0, 2)]);
}
