//! Journals: can they be read, do they add up, and was every limit respected.

use std::collections::{BTreeMap, BTreeSet};

use orch_model::{
    EventKind, RunId, RunState, TaskState, ValidPlan,
    event::TaskChange,
    plan::{LockMode, TaskIndex},
    ports::{StateStore, StoreError},
};
use orch_state::{FileStore, PublishedState};

use super::{Finding, Invariant, Known, Remedy, Runs};

/// Reads all journals.
pub(super) async fn check(
    store: &FileStore,
    findings: &mut Vec<Finding>,
) -> Result<Runs, StoreError> {
    let mut runs = Runs::new();
    for run in store.runs()? {
        // Before the journal: one who ends in between has written all by then.
        let owner = store.owner(&run);
        let read = match store.check_version(&run) {
            Ok(()) => read(store, &run, findings).await,
            Err(error) => Err(error),
        };
        let read = match read {
            Ok(state) if owner.is_none() => {
                let last = state.as_ref().map_or(0, |state| state.seq);
                store.check_end(&run, last).await.map(|()| state)
            }
            read => read,
        };
        match read {
            Ok(Some(state)) => {
                runs.insert(run, Known { state, owner });
            }
            Ok(None) if owner.is_none() => findings.push(
                Finding::new(
                    Invariant::RecordsAgree,
                    store.run_dir(&run).display(),
                    "its orchestrator was killed before the run began; nothing is recorded of it",
                )
                .of(&run, None)
                .repairable(Remedy::ForgetRun(run.clone())),
            ),
            Ok(None) => {}
            Err(error) => findings.push(unreadable(store, &run, error)?),
        }
    }
    for path in store.leftovers()? {
        // Whoever takes a run up again removes what is left in its folder.
        let folder = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
        let run = folder.to_str().and_then(|name| runs.get(&RunId::new(name).ok()?));
        if run.is_some_and(Known::may_go_on) {
            continue;
        }
        findings.push(
            Finding::new(
                Invariant::RecordsAgree,
                path.display(),
                "a writer that was killed left it",
            )
            .repairable(Remedy::RemoveLeftovers),
        );
    }
    Ok(runs)
}

fn unreadable(store: &FileStore, run: &RunId, error: StoreError) -> Result<Finding, StoreError> {
    let cure = match &error {
        StoreError::Newer { .. } => "use the newer orch that wrote it".to_owned(),
        StoreError::Damaged { .. } | StoreError::Inconsistent { .. } => {
            format!(
                "its work is on the branches `git branch --list 'orch/{run}/*'`; put the journal back from a backup, or move its folder away"
            )
        }
        _ => return Err(error),
    };
    let place = store.run_dir(run).join("journal");
    Ok(Finding::new(Invariant::RecordsAgree, place.display(), error.to_string())
        .of(run, None)
        .cure(cure))
}

async fn read(
    store: &FileStore,
    run: &RunId,
    findings: &mut Vec<Finding>,
) -> Result<Option<RunState>, StoreError> {
    let mut reader = store.read(run, 1).await?;
    let mut state: Option<RunState> = None;
    let mut limits = None;
    loop {
        let events = reader.next().await?;
        if events.is_empty() {
            return Ok(state);
        }
        for event in &events {
            RunState::follow(&mut state, event)
                .map_err(|source| StoreError::Inconsistent { run: run.clone(), source })?;
            let Some(state) = &state else { continue };
            let limits = limits.get_or_insert_with(|| Limits::of(state));
            if let EventKind::Task { task, change } = &event.kind
                && let Some(index) = state.index_of(task)
                && let Some(what) = limits.see(state, index, change)
            {
                let place = format!("event {} of run {run}", event.seq);
                let cure = "a mistake of the engine: please report it with the journal";
                findings.push(
                    Finding::new(Invariant::LimitsHold, place, what).of(run, Some(task)).cure(cure),
                );
            }
        }
    }
}

/// Who held a slot and which locks, event by event.
#[derive(Debug)]
struct Limits {
    plan: Option<ValidPlan>,
    active: BTreeSet<TaskIndex>,
}

impl Limits {
    fn of(state: &RunState) -> Self {
        // A plan that an older version took may not be valid any more; then locks aren't known.
        let plan = ValidPlan::new((*state.header.plan).clone()).ok();
        Self { plan, active: BTreeSet::new() }
    }

    /// Takes in what happened to a task; what limit that exceeds.
    fn see(&mut self, state: &RunState, index: TaskIndex, change: &TaskChange) -> Option<String> {
        if !state.task(index).state.is_active() {
            self.active.remove(&index);
            return None;
        }
        if !self.active.insert(index) || !matches!(change, TaskChange::Leased { .. }) {
            return None;
        }
        let (now, most) = (self.active.len(), state.header.settings.max_concurrency as usize);
        if now > most {
            return Some(format!("{now} tasks at a time, and {most} are allowed"));
        }
        self.clash(index)
    }

    fn clash(&self, index: TaskIndex) -> Option<String> {
        let plan = self.plan.as_ref()?;
        for claim in &plan.task(index).locks {
            let mut units = 0;
            let mut of = u32::MAX;
            for holder in &self.active {
                let claims = plan.task(*holder).locks.iter().filter(|c| c.name == claim.name);
                for held in claims {
                    match (held.mode, claim.mode) {
                        (LockMode::Shared, LockMode::Shared | LockMode::Counted { .. })
                        | (LockMode::Counted { .. }, LockMode::Shared) => {}
                        (LockMode::Counted { count, of: size }, LockMode::Counted { .. }) => {
                            units += count;
                            of = of.min(size);
                        }
                        _ if *holder == index => {}
                        _ => {
                            let (other, name) = (&plan.task(*holder).id, &claim.name);
                            return Some(format!("lock {name} was given while {other} held it"));
                        }
                    }
                }
            }
            if units > of {
                let name = &claim.name;
                return Some(format!(
                    "{units} units of lock {name} were given, and there are {of}"
                ));
            }
        }
        None
    }
}

/// Compares `parallel-state.json` with the journal of the current run.
pub(super) async fn check_published(
    store: &FileStore,
    runs: &Runs,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let mut report = |what: String, run: Option<&RunId>| {
        let place = store.published_path();
        let finding = Finding::new(Invariant::RecordsAgree, place.display(), what);
        findings.push(match run {
            Some(run) => finding.of(run, None).repairable(Remedy::RebuildState(run.clone())),
            None => finding.cure("remove it: nothing is recorded that it could belong to"),
        });
    };
    let current = store.current().await?;
    let newest = || runs.iter().max_by_key(|(_, known)| known.state.started_at).map(|(run, _)| run);
    let published = match store.published().await {
        Ok(None) => {
            if let Some(run) = current.as_ref().filter(|run| is_at_rest(runs, run)) {
                report("it is missing".into(), Some(run));
            }
            return Ok(());
        }
        Ok(Some(published)) => published,
        // A newer version wrote it, and looks after it.
        Err(StoreError::Newer { .. }) => return Ok(()),
        Err(error @ StoreError::Damaged { .. }) => {
            let run = current.as_ref().filter(|run| runs.contains_key(run)).or_else(newest);
            report(error.to_string(), run);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let Some(current) = current else {
        let run = runs.get_key_value(&published.run).map(|(run, _)| run).or_else(newest);
        report("no run is named as the current one".into(), run);
        return Ok(());
    };
    let Some(known) = runs.get(&current) else { return Ok(()) };
    if known.owner.is_some() {
        return Ok(());
    }
    if published.run != current {
        report(
            format!("it is about run {}, and {current} is the current one", published.run),
            Some(&current),
        );
    } else if is_at_rest(runs, &current) && published != PublishedState::from(&known.state) {
        report("it does not say what the journal adds up to".into(), Some(&current));
    }
    Ok(())
}

/// Whether a run has ended, and nobody writes its state any more. That of a run whose orchestrator
/// was killed lags behind its journal, as it may.
fn is_at_rest(runs: &Runs, run: &RunId) -> bool {
    runs.get(run).is_some_and(|known| known.owner.is_none() && known.state.status.is_ended())
}

/// The attempt of each task that is under way.
pub(super) fn live_attempts(state: &RunState) -> BTreeMap<&str, u32> {
    let active = state.tasks.iter().filter(|task| task.state.is_active());
    active.filter_map(|task| Some((task.id.as_str(), task.state.attempt()?))).collect()
}

/// Whether a person was asked to look at what a task left, or is still to be asked.
pub(super) fn keeps_its_place(state: &TaskState) -> bool {
    !matches!(
        state,
        TaskState::Blocked
            | TaskState::Ready
            | TaskState::Merged { .. }
            | TaskState::Skipped { .. }
    )
}

#[cfg(test)]
mod tests {
    use orch_model::{
        Event, TaskId, Timestamp,
        event::{EVENT_VERSION, RunHeader, RunSettings},
        plan::spec::PlanSpec,
        ports::RunJournal,
    };

    use super::*;

    /// What is found in a journal in which tasks are leased and cancelled in this order.
    async fn check_history(plan: &str, most: u32, history: &[(&str, TaskChange)]) -> Vec<String> {
        let spec: PlanSpec = serde_json::from_str(plan).unwrap();
        let header = RunHeader {
            run: RunId::new("r1").unwrap(),
            version: EVENT_VERSION,
            plan: spec.into(),
            settings: RunSettings { max_concurrency: most, ..RunSettings::default() },
            repository: "/repo".into(),
            base: None,
            pid: 1,
        };
        let mut kinds = vec![EventKind::RunStarted { header: Box::new(header) }];
        for (task, change) in history {
            let task = TaskId::new(*task).unwrap();
            if matches!(change, TaskChange::Leased { .. }) {
                for change in [TaskChange::Unblocked, TaskChange::Queued] {
                    kinds.push(EventKind::Task { task: task.clone(), change });
                }
            }
            kinds.push(EventKind::Task { task, change: change.clone() });
        }
        let events: Vec<Event> = (1..)
            .zip(kinds)
            .map(|(seq, kind)| Event { seq, at: Timestamp::from_millis(seq), kind })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path().join(".orch")).unwrap();
        let journal: Box<dyn RunJournal> = store.create(&RunId::new("r1").unwrap()).await.unwrap();
        journal.append(&events).await.unwrap();
        drop(journal);
        let mut findings = Vec::new();
        check(&store, &mut findings).await.unwrap();
        assert!(findings.iter().all(|finding| finding.invariant == Invariant::LimitsHold));
        findings.into_iter().map(|finding| finding.what).collect()
    }

    const PLAN: &str = r#"{"version": 1, "task": [
        {"id": "a", "run": "true", "locks": ["db"]},
        {"id": "b", "run": "true", "locks": [{"name": "db", "shared": true}]},
        {"id": "c", "run": "true", "locks": [{"name": "db", "shared": true}]},
        {"id": "d", "run": "true", "locks": [{"name": "gpu", "count": 2, "of": 3}]},
        {"id": "e", "run": "true", "locks": [{"name": "gpu", "count": 2, "of": 3}]}
    ]}"#;

    #[tokio::test]
    async fn every_exceeded_limit_is_found_and_nothing_else() {
        let begin = || TaskChange::Leased { attempt: 1, by: None };
        let end = || TaskChange::Cancelled;
        let none: [&str; 0] = [];
        let histories = [
            (2, vec![("a", begin()), ("d", begin())], none.to_vec()),
            (1, vec![("a", begin()), ("a", end()), ("b", begin())], none.to_vec()),
            (9, vec![("b", begin()), ("c", begin())], none.to_vec()),
            (1, vec![("a", begin()), ("d", begin())], vec!["2 tasks at a time, and 1 are allowed"]),
            (9, vec![("a", begin()), ("b", begin())], vec!["lock db was given while a held it"]),
            (9, vec![("b", begin()), ("a", begin())], vec!["lock db was given while b held it"]),
            (
                9,
                vec![("d", begin()), ("e", begin())],
                vec!["4 units of lock gpu were given, and there are 3"],
            ),
        ];
        for (most, history, expected) in histories {
            assert_eq!(check_history(PLAN, most, &history).await, expected, "{history:?}");
        }
    }
}
