//! The names of branches, references and folders: all that belongs to the engine can be told
//! from everything else by its name.

use orch_model::{
    RunId, TaskId,
    ports::{CommitMessage, WorktreeRequest},
    state::Attempt,
};

/// Where branches live.
pub(crate) const HEADS: &str = "refs/heads/";
/// Where the branches of the engine live.
pub(crate) const OURS: &str = "refs/heads/orch/";
/// What the engine remembers of its runs.
pub(crate) const RUNS: &str = "refs/orch/runs/";
/// The work of attempts that failed.
pub(crate) const PRESERVED: &str = "refs/orch/preserved/";
/// The folder below the root for what is being deleted.
pub(crate) const TRASH: &str = ".trash";

/// What the merge queue verifies, as something that is remembered of a run.
pub(crate) const CANDIDATE: &str = "candidate";
/// The folder of the merge queue below that of a run. No task can have this name.
pub(crate) const MERGE_QUEUE: &str = "@merge-queue";
/// The folder below the root for worktrees that are used again.
pub(crate) const POOL: &str = ".pool";

/// The folder below the root for what trees share, and for their layers over it.
pub(crate) const OVERLAY: &str = ".overlay";

/// The branch of a task.
pub(crate) fn task_branch(run: &RunId, task: &TaskId) -> String {
    format!("orch/{run}/{task}")
}

/// The branch that the results of a run are gathered on. No task can have this name.
pub(crate) fn results_branch(run: &RunId) -> String {
    format!("orch/{run}/target")
}

/// The folder below that of a run in which the merge of a task's work is in progress, while its conflicts
/// are being resolved. No task can have this name.
#[must_use]
pub fn resolution_folder(task: &TaskId) -> String {
    format!("@merge-of-{task}")
}

/// A branch by its whole name.
pub(crate) fn head(branch: &str) -> String {
    format!("{HEADS}{branch}")
}

/// Something that is remembered of a run.
pub(crate) fn run_ref(run: &RunId, what: &str) -> String {
    format!("{RUNS}{run}/{what}")
}

/// The recorded resolution of the conflicts of a task's work.
pub(crate) fn resolution(run: &RunId, task: &TaskId) -> String {
    run_ref(run, &format!("resolved/{task}"))
}

/// Where the work of a task's attempts is kept.
pub(crate) fn all_preserved(run: &RunId, task: &TaskId) -> String {
    format!("{PRESERVED}{run}/{task}")
}

/// Where the work of a task is kept whose commits are not part of the results as they are.
pub(crate) fn merged(run: &RunId, task: &TaskId) -> String {
    format!("{}/merged", all_preserved(run, task))
}

/// Where the work of an attempt is kept; `.2`, `.3` and so on are added where that name is taken.
pub(crate) fn preserved(run: &RunId, task: &TaskId, attempt: Attempt) -> String {
    format!("{}/{attempt}", all_preserved(run, task))
}

/// All that is kept for good of runs: their results that were undone, and what a person wanted kept.
pub(crate) const ALL: &str = "refs/orch";

/// Where what `orch keep` keeps of a task is, numbered.
pub(crate) fn all_kept(run: &RunId, task: &TaskId) -> String {
    format!("{ALL}/{run}/kept/{task}")
}

/// The run and the task of something below [`all_kept`].
pub(crate) fn split_kept(name: &str) -> Option<(&str, &str)> {
    let mut parts = name.strip_prefix(ALL)?.strip_prefix('/')?.split('/');
    let run = parts.next()?;
    let task = (parts.next()? == "kept").then(|| parts.next())??;
    Some((run, task))
}

/// Where results of a run are kept that were taken back from the target, numbered. The tip of the
/// target is `target` there; no task can have this name.
pub(crate) fn all_undone(run: &RunId) -> String {
    format!("{ALL}/{run}/undone")
}

/// The number of something below [`all_kept`] or [`all_undone`], which are `folder`.
pub(crate) fn number_below(folder: &str, name: &str) -> Option<u32> {
    name.strip_prefix(folder)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}

/// The task that a [`lock_reason`] names, if it is of this run.
pub(crate) fn is_locked_for(reason: &str, run: &RunId, task: &TaskId) -> bool {
    reason.starts_with(&format!("orch run {run} task {task} attempt "))
}

/// Orders the names of [`preserved`] by age.
pub(crate) fn preserved_order(name: &str) -> (Attempt, u32) {
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    let (attempt, number) = last.split_once('.').unwrap_or((last, "1"));
    (attempt.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// The run and the last part of a branch of the engine, given by its whole name.
pub(crate) fn split_ours(name: &str) -> Option<(RunId, &str)> {
    let (run, last) = name.strip_prefix(OURS)?.split_once('/')?;
    Some((RunId::new(run).ok()?, last))
}

/// The folder of a task's worktree below that of the run.
pub(crate) fn folder(request: &WorktreeRequest) -> String {
    match &request.shared_by {
        Some(epic) => format!("@epic-{epic}"),
        None => request.task.to_string(),
    }
}

/// Why a worktree is locked, so that a person and `git worktree prune` leave it alone.
pub(crate) fn lock_reason(run: &RunId, task: &TaskId, attempt: Attempt) -> String {
    format!("orch run {run} task {task} attempt {attempt}")
}

/// The attempt that a [`lock_reason`] names.
pub(crate) fn attempt_of(reason: &str) -> Option<Attempt> {
    reason.strip_prefix("orch run ")?.trim().rsplit_once(" attempt ")?.1.parse().ok()
}

/// The message of a commit that keeps what an attempt left.
pub(crate) fn left_by(run: &RunId, task: &TaskId, attempt: Attempt) -> CommitMessage {
    let subject = format!("orch: left by attempt {attempt} of {task}");
    CommitMessage::new(subject, run.clone(), task.clone(), attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_taken_apart_again() {
        let (run, task) = (RunId::new("r.1").unwrap(), TaskId::new("a").unwrap());
        assert_eq!(split_ours("refs/heads/orch/r.1/a"), Some((run.clone(), "a")));
        assert_eq!(split_ours("refs/heads/main"), None);
        assert_eq!(split_ours("refs/heads/orch/BAD/a"), None);
        assert_eq!(attempt_of(&lock_reason(&run, &task, 12)), Some(12));
        assert_eq!(attempt_of("initializing"), None);
    }

    #[test]
    fn kept_work_is_ordered_by_age() {
        let (run, task) = (RunId::new("r.1").unwrap(), TaskId::new("a.5").unwrap());
        let first = preserved(&run, &task, 9);
        let all = [first.clone(), format!("{first}.2"), preserved(&run, &task, 10)];
        assert!(all.is_sorted_by_key(|name| preserved_order(name)), "{all:?}");
        assert_eq!(preserved_order(&all[1]), (9, 2));
    }
}
