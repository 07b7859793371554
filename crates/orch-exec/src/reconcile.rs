//! What became of the tasks that were under way when an earlier orchestrator stopped.

use std::collections::{BTreeSet, HashMap};

use orch_faults::planted;
use orch_model::{
    Event, EventKind, RunState, TaskId, TaskState, Timestamp, ValidPlan,
    event::TaskChange,
    outcome::{Failure, StopReason},
    plan::{
        TaskIndex,
        spec::{Isolation, OnConflict, Strategy},
    },
    ports::{
        Acquired, AdoptRequest, Adopted, MergeOutcome, Purpose, RunningAgent, Stacked,
        WorktreeError, WorktreeRequest,
    },
    run::{Candidate, TaskRun},
    state::Merged,
};

use crate::{
    conflicts::{self, Waited},
    error::EngineError,
    message::{self, Attempted},
    orchestrator::Ports,
    unit::{Adoption, Entry, Workplace, lock_request, release_of, resolve::ROUNDS, shared_by},
};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Events that say so, for the journal; the first is `run_reopened`.
    pub(crate) events: Vec<Event>,
    /// Attempts that go on.
    pub(crate) adoptions: HashMap<TaskIndex, Adoption>,
}

/// Finds out what became of each task under way and brings the state up to date.
///
/// - Its agent runs or has ended meanwhile, and its worktree is there: the attempt goes on where it
///   was, under the time limit that began when the agent was started.
/// - It was being verified: the verification is repeated.
/// - It was being merged: the merge is repeated, which finds out whether it had been done. What resolved
///   its conflicts is ended, and they are resolved anew.
/// - It waited for a person, who has resolved its conflicts: it is merged.
/// - Nothing of its agent is left, and nobody saw how it ended: what it left is preserved and the task
///   is run again, uncharged, unless it was being cancelled.
/// - It can't be known: the task needs attention.
///
/// Where an attempt does not go on, its locks are freed.
///
/// # Errors
/// Where the world can't be asked.
pub(crate) async fn reconcile(
    state: &mut RunState,
    plan: &ValidPlan,
    ports: &Ports,
) -> Result<Found, EngineError> {
    let mut found = Found::default();
    record(state, ports, &mut found, EventKind::RunReopened { pid: std::process::id() })?;
    end_candidate(state, plan, ports).await?;
    let traces = traces(state, ports).await?;
    for index in plan.indices() {
        if !state.task(index).state.is_active() {
            take_up_conflict(state, plan, index, ports, &mut found).await?;
            if traces.contains(&state.task(index).id) {
                tidy_or_tell(state, plan, index, ports, &mut found).await?;
            }
            continue;
        }
        let (changes, adoption) = match fate(state, plan, index, ports).await? {
            Fate::Becomes(change) => (vec![change], None),
            Fate::GoesOn(adoption) => (begun(state, index, &adoption), Some(adoption)),
        };
        let is_lost = matches!(&changes[..], [TaskChange::Lost { .. }]);
        if adoption.is_none() && !is_lost {
            free_locks(state, plan, index, ports).await?;
        }
        let task = state.task(index).id.clone();
        for change in changes {
            let kind = EventKind::Task { task: task.clone(), change };
            record(state, ports, &mut found, kind)?;
        }
        tidy_or_tell(state, plan, index, ports, &mut found).await?;
        found.adoptions.extend(adoption.map(|adoption| (index, adoption)));
    }
    Ok(found)
}

pub(crate) fn record(
    state: &mut RunState,
    ports: &Ports,
    found: &mut Found,
    kind: EventKind,
) -> Result<(), EngineError> {
    let at = ports.clock.now().max(state.updated_at);
    let event = Event { seq: state.seq + 1, at, kind };
    state
        .apply(&event)
        .map_err(|error| EngineError::Internal(format!("reconciliation: {error}")))?;
    found.events.push(event);
    Ok(())
}

/// Goes on with a task whose conflicts a person has resolved.
async fn take_up_conflict(
    state: &mut RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
    found: &mut Found,
) -> Result<(), EngineError> {
    let task = state.task(index).id.clone();
    match conflicts::waited(state, plan, index, ports).await? {
        None => {}
        Some(Waited::Unresolved { reason }) => {
            let message = format!("its conflicts are not resolved yet: {reason}");
            record(state, ports, found, EventKind::Warning { task: Some(task), message })?;
        }
        Some(Waited::Resolved { place }) => {
            let kind = EventKind::Task { task, change: TaskChange::Resolved };
            record(state, ports, found, kind)?;
            if let TaskState::Merging { commit: Some(commit), .. } = &state.task(index).state {
                let entry = Entry::Merge { commit: commit.clone() };
                let there = workplace(state, plan, index, ports).await?;
                let place = there.unwrap_or(Workplace::Gone(place));
                found.adoptions.insert(index, Adoption { place, entry });
            }
        }
    }
    Ok(())
}

enum Fate {
    Becomes(TaskChange),
    GoesOn(Adoption),
}

/// The attempt counts for nothing.
fn run_again(state: &RunState, message: &str) -> Fate {
    Fate::Becomes(TaskChange::Retry {
        failure: Failure::Interrupted { message: message.into() },
        until: state.updated_at,
    })
}

/// What is yet to be written of an agent that was started just before its orchestrator died.
fn begun(state: &RunState, index: TaskIndex, adoption: &Adoption) -> Vec<TaskChange> {
    let Entry::Agent { agent, .. } = &adoption.entry else { return Vec::new() };
    let agent = agent.identity();
    match &state.task(index).state {
        TaskState::Leased { .. } => vec![TaskChange::Preparing, TaskChange::Started { agent }],
        TaskState::Preparing { .. } => vec![TaskChange::Started { agent }],
        _ => Vec::new(),
    }
}

/// Frees the locks of an attempt that does not go on. They depend on its supervisor too, which may live on for
/// others, so that its next attempt, or another task, would wait for them until the end of the run.
async fn free_locks(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<(), EngineError> {
    let task = plan.task(index);
    if task.locks.is_empty() || planted("lease-left-behind") {
        return Ok(());
    }
    let request = lock_request(task, state.run(), state.task(index).attempts);
    ports.locks.release_kept(&request.holder, None).await?;
    // To free a lease is to have it. Where others have the locks, the attempt has none.
    if let Acquired::Granted(lease) = ports.locks.try_acquire(request).await? {
        lease.release().await?;
    }
    Ok(())
}

/// The merged tasks of which something is there that is to be gone: a power cut can bring back what was removed
/// before it. That of the others is wanted.
async fn traces(state: &RunState, ports: &Ports) -> Result<BTreeSet<TaskId>, EngineError> {
    let is_merged = |task: &&TaskRun| {
        matches!(
            task.state,
            TaskState::Merged { result: Merged::Commit { .. } | Merged::Nothing, .. }
        )
    };
    let merged: BTreeSet<&TaskId> = state.tasks.iter().filter(is_merged).map(|t| &t.id).collect();
    let Some(worktrees) = ports.worktrees.as_ref().filter(|_| !merged.is_empty()) else {
        return Ok(BTreeSet::new());
    };
    let mut traces = worktrees.traces(state.run()).await?;
    traces.retain(|task| merged.contains(task));
    Ok(traces)
}

async fn tidy_or_tell(
    state: &mut RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
    found: &mut Found,
) -> Result<(), EngineError> {
    if let Err(error) = tidy(state, plan, index, ports).await {
        let task = state.task(index).id.clone();
        let kind = EventKind::Warning { task: Some(task), message: error.to_string() };
        record(state, ports, found, kind)?;
    }
    Ok(())
}

/// Takes away the worktree of a task whose merge outlived its orchestrator.
async fn tidy(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<(), WorktreeError> {
    let task = plan.task(index);
    let TaskState::Merged { attempt, result } = &state.task(index).state else { return Ok(()) };
    let Some(worktrees) = &ports.worktrees else { return Ok(()) };
    if task.isolation == Isolation::None {
        return Ok(());
    }
    let shared_by = shared_by(plan, index);
    let (run, id) = (state.run().clone(), task.id.clone());
    let request = WorktreeRequest { run, task: id, attempt: *attempt, shared_by };
    worktrees.tidy(request, release_of(result, task)).await
}

async fn fate(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<Fate, EngineError> {
    let task = state.task(index);
    let again = |message| run_again(state, message);
    let lost = |known: String| {
        let place = task.place.as_ref().map(|place| place.path.display().to_string());
        let place = place.unwrap_or_else(|| "the repository".into());
        let hint = format!("end what still runs of it, then look at its work in {place}");
        Fate::Becomes(TaskChange::Lost { known, hint })
    };
    // Also of a task that runs: that its agent had ended may not have been written down.
    if !matches!(task.state, TaskState::Merging { .. })
        && let Some(known) = end_verifications(state, plan, index, ports).await?
    {
        return Ok(lost(known));
    }
    let is_cut_off = |agent| ports.runner.is_of_earlier_boot(agent) && !planted("torn-work-taken");
    Ok(match &task.state {
        TaskState::Merging { .. } => {
            end_resolver(state, plan, index, ports).await?;
            merging(state, plan, index, ports).await?
        }
        // It may have ended well, and its files be lost in part. What is left of them is kept.
        _ if task.agent.as_ref().is_some_and(is_cut_off) => match task.state {
            TaskState::Stopping { reason: StopReason::Cancelled, .. } => {
                Fate::Becomes(TaskChange::Cancelled)
            }
            _ => again("the machine was started again before its work was safe"),
        },
        TaskState::Verifying { .. } => match workplace(state, plan, index, ports).await? {
            Some(place) => Fate::GoesOn(Adoption { place, entry: Entry::Verification }),
            None => again("its worktree is gone"),
        },
        _ => match ask(state, index, Purpose::Work, ports).await? {
            Adopted::Agent(agent) => match workplace(state, plan, index, ports).await? {
                Some(place) => {
                    let since = began(state, index);
                    Fate::GoesOn(Adoption { place, entry: Entry::Agent { agent, since } })
                }
                None => {
                    end(agent.as_ref()).await;
                    again("its worktree is gone")
                }
            },
            Adopted::Unknown { known } => lost(known),
            _ if matches!(
                task.state,
                TaskState::Stopping { reason: StopReason::Cancelled, .. }
            ) =>
            {
                Fate::Becomes(TaskChange::Cancelled)
            }
            _ if matches!(task.state, TaskState::Leased { .. } | TaskState::Preparing { .. }) => {
                again("the orchestrator ended before the agent was started")
            }
            _ => again("the orchestrator ended while the agent ran"),
        },
    })
}

/// When the agent was started, as near as the journal tells, and later by the time for which it was frozen.
fn began(state: &RunState, index: TaskIndex) -> Timestamp {
    let task = state.task(index);
    task.agent_since.unwrap_or(task.entered_at)
}

/// Ends what verifies the work of an attempt: it is repeated. What is known of one that can't be ended.
async fn end_verifications(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<Option<String>, EngineError> {
    for verification in 0..plan.task(index).verify.len() {
        match ask(state, index, Purpose::Verify { index: verification }, ports).await? {
            Adopted::Agent(agent) => end(agent.as_ref()).await,
            Adopted::Unknown { known } => return Ok(Some(known)),
            _ => {}
        }
    }
    Ok(None)
}

async fn ask(
    state: &RunState,
    index: TaskIndex,
    purpose: Purpose,
    ports: &Ports,
) -> Result<Adopted, EngineError> {
    if planted("no-adoption") {
        return Ok(Adopted::Gone);
    }
    let task = state.task(index);
    let request = AdoptRequest {
        run: state.run().clone(),
        task: task.id.clone(),
        attempt: task.attempts,
        purpose,
        identity: task.agent.clone().filter(|_| purpose == Purpose::Work),
    };
    Ok(ports.runner.adopt(request).await?)
}

/// Ends an agent whose result nobody needs.
async fn end(agent: &dyn RunningAgent) {
    if let Err(error) = agent.stop(std::time::Duration::ZERO).await {
        tracing::warn!(%error, "an agent of an earlier orchestrator can't be ended");
    }
}

/// Where the attempt works; `None` where that is gone.
async fn workplace(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<Option<Workplace>, EngineError> {
    let task = state.task(index);
    if plan.task(index).isolation == Isolation::None {
        return Ok(Some(Workplace::Repository));
    }
    let Some(place) = &task.place else { return Ok(None) };
    let request = WorktreeRequest {
        run: state.run().clone(),
        task: task.id.clone(),
        attempt: task.attempts,
        shared_by: shared_by(plan, index),
    };
    Ok(ports.worktrees()?.reopen(request, place).await?.map(Workplace::Worktree))
}

/// Repeats a merge. Where the merged result has to be verified it goes on in the merge queue, unless it
/// was done already.
async fn merging(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<Fate, EngineError> {
    let task = state.task(index);
    let again = |message| run_again(state, message);
    let TaskState::Merging { commit: Some(commit), attempt } = &task.state else {
        return Ok(Fate::Becomes(TaskChange::Merged { result: Merged::Nothing }));
    };
    let Some(place) = &task.place else {
        return Ok(again("the place of its work is not recorded"));
    };
    if plan.merging().strategy == Strategy::None {
        let result = Merged::Kept { commit: commit.clone(), branch: place.branch.clone() };
        return Ok(Fate::Becomes(TaskChange::Merged { result }));
    }
    let attempt = Attempted { run: state.run(), attempt: *attempt, by: task.by.as_deref() };
    let from = (place.branch.as_str(), &place.base);
    let request = message::merge_request((plan, index), ports, attempt, from, commit).await?;
    let merged = |merge_commit| {
        let commit = commit.clone();
        Fate::Becomes(TaskChange::Merged { result: Merged::Commit { commit, merge_commit } })
    };
    let goes_on = |place| {
        let entry = Entry::Merge { commit: commit.clone() };
        Fate::GoesOn(Adoption { place, entry })
    };
    let policy = plan.task(index).on_conflict;
    let conflicted = async |files, hunks| {
        let (commit, branch) = (commit.clone(), place.branch.clone());
        if matches!(policy, OnConflict::Fail | OnConflict::Manual) {
            return Ok(Fate::Becomes(TaskChange::Conflicted { commit, branch, files, hunks }));
        }
        // What follows from it is the unit's business, which finds it in conflict again.
        let there = workplace(state, plan, index, ports).await?;
        Ok::<_, EngineError>(goes_on(there.unwrap_or_else(|| Workplace::Gone((**place).clone()))))
    };
    if plan.merging().verify.is_empty() {
        return Ok(match ports.worktrees()?.merge(request.clone()).await? {
            MergeOutcome::Merged { merge_commit } => {
                ports.worktrees()?.close_merge(&request).await?;
                merged(merge_commit)
            }
            MergeOutcome::Conflicted { files, hunks } => conflicted(files, hunks).await?,
            _ => again("the merge ended in an unknown way"),
        });
    }
    let stack = ports.worktrees()?.stack(state.run(), std::slice::from_ref(&request)).await?;
    Ok(match stack.merges.into_iter().next() {
        Some(Stacked::Contained { merge_commit }) => {
            ports.worktrees()?.close_merge(&request).await?;
            merged(merge_commit)
        }
        Some(Stacked::Conflicted { files, hunks }) => conflicted(files, hunks).await?,
        Some(Stacked::Merged { .. }) => match workplace(state, plan, index, ports).await? {
            Some(place) => goes_on(place),
            None => again("its worktree is gone"),
        },
        _ => again("the merge ended in an unknown way"),
    })
}

/// Ends what still resolves the conflicts of a task, or verifies that.
async fn end_resolver(
    state: &RunState,
    plan: &ValidPlan,
    index: TaskIndex,
    ports: &Ports,
) -> Result<(), EngineError> {
    let task = plan.task(index);
    if task.on_conflict != OnConflict::Resolver {
        return Ok(());
    }
    for round in 1..=ROUNDS {
        let verifications =
            (0..task.verify.len()).map(|index| Purpose::VerifyResolved { round, index });
        for purpose in std::iter::once(Purpose::Resolve { round }).chain(verifications) {
            if let Adopted::Agent(agent) = ask(state, index, purpose, ports).await? {
                end(agent.as_ref()).await;
            }
        }
    }
    Ok(())
}

/// Ends what still verifies a candidate of the merge queue: it is made anew.
async fn end_candidate(
    state: &RunState,
    plan: &ValidPlan,
    ports: &Ports,
) -> Result<(), EngineError> {
    let Some(Candidate { number, tasks, passed: None, .. }) = &state.candidate else {
        return Ok(());
    };
    let Some(index) = tasks.last().and_then(|task| state.index_of(task)) else { return Ok(()) };
    for command in 0..plan.merging().verify.len() {
        let purpose = Purpose::Candidate { number: *number, index: command };
        if let Adopted::Agent(agent) = ask(state, index, purpose, ports).await? {
            end(agent.as_ref()).await;
        }
    }
    Ok(())
}
