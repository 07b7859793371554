//! What the attempts of a run teach: commands that failed and then worked, verifications that failed and
//! then passed, and what was checked where work was accepted at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use orch_agents::session::RunFolder;
use orch_model::{
    EventKind, RunId, RunState, TaskChange, TaskId,
    attempts::{AttemptRecord, Attempts},
    outcome::Failure,
    ports::{Purpose, StateStore as _, StoreError},
};
use orch_state::FileStore;

use super::{
    clean::normal,
    steps::{Steps, quoted, telling},
};
use orch_model::DomainName;

use crate::domain::domain_of;

/// What a run teaches of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lessons {
    /// What went wrong, and what helped.
    pub learned: Vec<Lesson>,
    /// What was checked where work was accepted at once, with the session.
    pub effective: Vec<(String, String)>,
}

/// Something that went wrong, and what helped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// What was tried.
    pub issue: String,
    /// What was said.
    pub error: String,
    /// What helped.
    pub solution: String,
    /// Who saw it: `<run>/<task>.<attempt>`.
    pub session: String,
}

/// What the attempts of a run teach, by domain. What can't be read of them teaches nothing.
///
/// # Errors
/// Where the journal can't be read.
///
/// # Cancel safety
/// Nothing is changed.
pub async fn lessons(
    store: &FileStore,
    run: &RunId,
) -> Result<BTreeMap<DomainName, Lessons>, StoreError> {
    let mut reader = store.read(run, 1).await?;
    let mut state = None;
    let mut attempts: HashMap<TaskId, Attempts> = HashMap::new();
    loop {
        let events = reader.next().await?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            if state.is_none() {
                RunState::follow(&mut state, event)
                    .map_err(|source| StoreError::Inconsistent { run: run.clone(), source })?;
            }
            if let EventKind::Task { task, change } = &event.kind {
                attempts.entry(task.clone()).or_default().see(change, event.at);
            }
        }
    }
    let mut by_domain: BTreeMap<DomainName, Lessons> = BTreeMap::new();
    let Some(state) = state else { return Ok(by_domain) };
    let folder = RunFolder::new(store.dir(), run);
    for task in &state.header.plan.tasks {
        let Some(attempts) = attempts.remove(&task.id) else { continue };
        let found = of_task(run, &task.id, &attempts.into_records(), |attempt| {
            // Only coding agents leave events.
            let record = folder.read_for(&task.id, attempt, Purpose::Work).ok().flatten()?;
            let path = folder.events(&task.id, attempt, Purpose::Work);
            Steps::read(&path, record.directory).ok()
        });
        if found != Lessons::default() {
            let known = by_domain.entry(domain_of(task)).or_default();
            known.learned.extend(found.learned);
            known.effective.extend(found.effective);
        }
    }
    Ok(by_domain)
}

/// What the attempts at a task teach; `steps` gives what an attempt did.
fn of_task(
    run: &RunId,
    task: &TaskId,
    attempts: &[AttemptRecord],
    steps: impl Fn(u32) -> Option<Steps>,
) -> Lessons {
    let mut lessons = Lessons::default();
    let name = |record: &AttemptRecord| format!("{run}/{task}.{}", record.attempt);
    let done: Vec<Option<Steps>> = attempts.iter().map(|record| steps(record.attempt)).collect();
    for (record, steps) in attempts.iter().zip(&done) {
        let Some(steps) = steps else { continue };
        lessons.learned.extend(steps.fixed(&name(record)));
    }
    let merged = |record: &AttemptRecord| matches!(record.end, Some(TaskChange::Merged { .. }));
    if let [first, ..] = attempts
        && merged(first)
        && let Some(Some(steps)) = done.first()
    {
        lessons.effective.extend(steps.checks().map(|pattern| (pattern, name(first))));
    }
    let Some(cured) = attempts.iter().position(merged) else { return lessons };
    let Some(cure) = done[cured].as_ref().and_then(Steps::cure) else { return lessons };
    let mut told = BTreeSet::new();
    for record in attempts[..cured].iter().rev() {
        let (Failure::Verification { command, output_tail, .. }
        | Failure::MergedVerification { command, output_tail, .. }) = (match record.failure() {
            Some(failure) => failure,
            None => continue,
        })
        else {
            continue;
        };
        let issue = format!("verification `{}` failed", quoted(command));
        let error = telling(output_tail);
        // Of those that failed alike the last one was cured.
        if told.insert((normal(&issue), normal(&error))) {
            let (solution, session) = (cure.clone(), name(record));
            lessons.learned.push(Lesson { issue, error, solution, session });
        }
    }
    lessons
}

#[cfg(test)]
mod tests {
    use orch_model::{Timestamp, outcome::ExitStatus, state::Merged};

    use super::*;
    use crate::expertise::steps::tests::{changed, ran, said, steps};

    fn record(attempt: u32, end: TaskChange) -> AttemptRecord {
        let mut attempts = Attempts::default();
        attempts.see(&TaskChange::Leased { attempt, by: None }, Timestamp::from_millis(1));
        attempts.see(&end, Timestamp::from_millis(2));
        attempts.into_records().remove(0)
    }

    fn unverified(output_tail: &str) -> TaskChange {
        let (command, exit) = ("make check".into(), ExitStatus::Code(2));
        let failure = Failure::Verification { command, exit, output_tail: output_tail.into() };
        TaskChange::Retry { failure, until: Timestamp::from_millis(0) }
    }

    #[test]
    fn a_verification_that_passes_later_teaches_what_was_done() {
        let (run, task) = (RunId::new("r").unwrap(), TaskId::new("a").unwrap());
        let attempts = [
            record(1, unverified("x\nError: 3 failed")),
            record(2, unverified("Error: 5 failed")),
            record(3, TaskChange::Merged { result: Merged::Nothing }),
        ];
        let done = |attempt| {
            let fix = vec![
                changed("/w/a/a.c"),
                ran("make check", 0, ""),
                said("Freed\x1b[1m it.\nTwice."),
            ];
            Some(if attempt == 3 { steps(fix) } else { Steps::default() })
        };
        let found = of_task(&run, &task, &attempts, done);
        let lesson = Lesson {
            issue: "verification `make check` failed".into(),
            error: "Error: 5 failed".into(),
            solution: "changed a.c; in its words: Freed it. Twice.".into(),
            session: "r/a.2".into(),
        };
        assert_eq!(found, Lessons { learned: vec![lesson], effective: Vec::new() });
        let found = of_task(&run, &task, &attempts[2..], done);
        let pattern = ("`make check` before the work is done".to_owned(), "r/a.3".to_owned());
        assert_eq!(found.effective, [pattern], "accepted at once");
        assert_eq!(of_task(&run, &task, &attempts[..2], done), Lessons::default());
    }
}
