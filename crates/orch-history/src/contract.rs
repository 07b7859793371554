//! What every [`History`] must keep, as a test that can be run on any.
//!
//! ```
//! orch_history::contract::history_contract(|| orch_history::MemoryHistory::default());
//! ```

use orch_model::{RunId, RunStatus, Span, TaskId, Timestamp, usage::Usage};

use orch_model::DomainName;

use crate::{History, Part, RunEntry, Session, SessionQuery, SessionStatus, detect_domain};

/// Runs the suite; `make` makes a history that is empty.
///
/// # Panics
/// Where the history does not keep the contract.
pub fn history_contract<H: History>(make: impl Fn() -> H) {
    what_is_recorded_is_found(&make());
    recording_twice_is_recording_once(&make());
    numbers_are_kept_and_never_given_twice(&make());
    a_shorter_journal_replaces_nothing(&make());
    every_field_is_kept(&make());
    questions_are_answered_newest_first(&make());
}

/// A run for tests, of a journal of this length.
///
/// # Panics
/// Where `name` is no id.
#[must_use]
pub fn run(name: &str, journal_bytes: u64) -> RunEntry {
    RunEntry {
        run: RunId::new(name).expect("the name of a run"),
        status: RunStatus::Succeeded,
        undone: false,
        started_at: Timestamp::from_millis(1_000),
        updated_at: Timestamp::from_millis(9_000),
        tasks: 3,
        merged: 2,
        unsuccessful: 1,
        agent_time: Span::from_secs(7),
        usage: Usage { input_tokens: 10, cost_micro_usd: 5, ..Usage::default() },
        journal_bytes,
    }
}

/// A session for tests that succeeded.
///
/// # Panics
/// Where a name is no id.
#[must_use]
pub fn session(run: &str, task: &str, attempt: u32) -> Session {
    Session {
        run: RunId::new(run).expect("the name of a run"),
        task: TaskId::new(task).expect("the name of a task"),
        attempt,
        part: Part::Work,
        agent: Some("fast".into()),
        kind: "codex".into(),
        model: None,
        domain: detect_domain(""),
        status: SessionStatus::Succeeded,
        class: None,
        charged: false,
        began_at: Timestamp::from_millis(1_000 + u64::from(attempt)),
        started_at: Some(Timestamp::from_millis(2_000)),
        ended_at: Some(Timestamp::from_millis(4_000)),
        agent_time: Some(Span::from_secs(1)),
        messages: 1,
        tool_calls: 2,
        session: None,
        usage: None,
    }
}

fn all(history: &impl History) -> Vec<(u64, Session)> {
    history.sessions(&SessionQuery::default()).expect("sessions")
}

fn record(history: &impl History, run: &RunEntry, sessions: &[Session]) {
    assert!(history.record(run, sessions).expect("a record"));
}

fn what_is_recorded_is_found(history: &impl History) {
    assert!(!history.name().is_empty());
    assert!(all(history).is_empty() && history.runs(9).expect("runs").is_empty());
    record(history, &run("r1", 7), &[session("r1", "a", 1)]);
    assert_eq!(history.runs(9).expect("runs"), [run("r1", 7)]);
    let found: Vec<Session> = all(history).into_iter().map(|(_, session)| session).collect();
    assert_eq!(found, [session("r1", "a", 1)]);
    let taken = history.taken_in().expect("what was taken in");
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), [(run("r1", 7).run, 7)]);
    let statistics = history.statistics().expect("statistics");
    assert_eq!(statistics.tasks[&session("r1", "a", 1).task].succeeded, 1);
}

fn recording_twice_is_recording_once(history: &impl History) {
    let mut open = session("r1", "a", 1);
    open.status = SessionStatus::Open;
    record(history, &run("r1", 7), &[open]);
    for _ in 0..2 {
        let mut ended = session("r1", "a", 1);
        ended.usage = Some(Usage { output_tokens: 4, ..Usage::default() });
        record(history, &run("r1", 8), &[ended, session("r1", "a", 2)]);
    }
    let found = all(history);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|(_, session)| session.status == SessionStatus::Succeeded));
    assert_eq!(history.runs(9).expect("runs"), [run("r1", 8)]);
    // What a torn journal does not tell any more is gone.
    record(history, &run("r1", 9), &[session("r1", "a", 2)]);
    assert_eq!(all(history).len(), 1);
}

fn numbers_are_kept_and_never_given_twice(history: &impl History) {
    record(history, &run("r1", 1), &[session("r1", "a", 1), session("r1", "a", 2)]);
    record(history, &run("r2", 1), &[session("r2", "a", 1)]);
    let number = |history: &_, run: &str, attempt: u32| {
        let found = all(history)
            .into_iter()
            .find(|(_, session)| session.run.as_str() == run && session.attempt == attempt);
        found.expect("the session").0
    };
    let before = [("r1", 1), ("r1", 2), ("r2", 1)].map(|(run, n)| number(history, run, n));
    assert!(before[0] < before[1] && before[1] < before[2], "{before:?}");
    record(history, &run("r2", 2), &[]);
    let again = [session("r1", "a", 2), session("r1", "a", 1), session("r1", "a", 3)];
    record(history, &run("r1", 2), &again);
    assert_eq!([number(history, "r1", 1), number(history, "r1", 2)], before[..2]);
    assert!(number(history, "r1", 3) > before[2], "a number was given twice");
}

fn a_shorter_journal_replaces_nothing(history: &impl History) {
    record(history, &run("r1", 9), &[session("r1", "a", 1)]);
    assert!(!history.record(&run("r1", 8), &[]).expect("a record"), "it is older");
    assert_eq!(all(history).len(), 1);
    assert_eq!(history.runs(9).expect("runs"), [run("r1", 9)]);
}

fn every_field_is_kept(history: &impl History) {
    let largest = Usage {
        input_tokens: 1,
        cached_input_tokens: 2,
        output_tokens: 3,
        reasoning_tokens: 4,
        cost_micro_usd: 5,
        unpriced_tokens: 6,
    };
    let full = Session {
        part: Part::Resolve(2),
        model: Some("m".into()),
        domain: DomainName::new("api").expect("a domain"),
        status: SessionStatus::Failed,
        class: Some("verification".into()),
        charged: true,
        session: Some("s-1".into()),
        usage: Some(largest),
        ..session("r1", "a", 1)
    };
    let bare = Session {
        agent: None,
        kind: "command".into(),
        started_at: None,
        ended_at: None,
        agent_time: None,
        status: SessionStatus::Lost,
        ..session("r1", "b", 1)
    };
    let entry =
        RunEntry { undone: true, status: RunStatus::Interrupted, usage: largest, ..run("r1", 1) };
    record(history, &entry, &[full.clone(), bare.clone()]);
    let mut found: Vec<Session> = all(history).into_iter().map(|(_, session)| session).collect();
    found.sort_by(|a, b| a.task.cmp(&b.task));
    assert_eq!(found, [full, bare]);
    assert_eq!(history.runs(9).expect("runs"), [entry]);
}

fn questions_are_answered_newest_first(history: &impl History) {
    let late = RunEntry { started_at: Timestamp::from_millis(5_000), ..run("r2", 1) };
    record(history, &late, &[session("r2", "b", 9)]);
    let mut other = session("r1", "a", 3);
    other.agent = Some("slow".into());
    record(history, &run("r1", 1), &[session("r1", "a", 1), other]);
    let names: Vec<String> =
        history.runs(9).expect("runs").into_iter().map(|run| run.run.to_string()).collect();
    assert_eq!(names, ["r2", "r1"]);
    assert_eq!(history.runs(1).expect("runs").len(), 1);
    let ask = |query: SessionQuery| -> Vec<u32> {
        let found = history.sessions(&query).expect("sessions");
        found.into_iter().map(|(_, session)| session.attempt).collect()
    };
    let any = SessionQuery::default;
    assert_eq!(ask(any()), [9, 3, 1]);
    assert_eq!(ask(SessionQuery { limit: 2, ..any() }), [9, 3]);
    assert_eq!(ask(SessionQuery { run: RunId::new("r1").ok(), ..any() }), [3, 1]);
    assert_eq!(ask(SessionQuery { task: TaskId::new("b").ok(), ..any() }), [9]);
    assert_eq!(ask(SessionQuery { agent: Some("slow".into()), ..any() }), [3]);
    assert_eq!(ask(SessionQuery { agent: Some("codex".into()), ..any() }), [9, 3, 1]);
    assert!(ask(SessionQuery { agent: Some("claude".into()), ..any() }).is_empty());
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::MemoryHistory;

    #[test]
    fn memory_keeps_the_contract() {
        history_contract(MemoryHistory::default);
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn sqlite_keeps_the_contract() {
        let dirs = RefCell::new(Vec::new());
        history_contract(|| {
            let dir = tempfile::tempdir().unwrap();
            let history = crate::SqliteHistory::open(&dir.path().join("history.db")).unwrap();
            dirs.borrow_mut().push(dir);
            history
        });
    }
}
