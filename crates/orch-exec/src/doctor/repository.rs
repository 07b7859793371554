//! Git and the records of runs, side by side.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use orch_model::{
    CommitId, RunId, RunState, TaskState, ValidPlan,
    event::Delivery,
    plan::spec::Isolation,
    ports::{WorktreeError, WorktreeProvider as _},
    run::TaskRun,
    state::Merged,
};
use orch_state::FileStore;
use orch_worktree::{FoundWorktree, GitLock, GitWorktrees, Inspection};

use crate::error::EngineError;

use super::{Finding, Invariant, Known, Remedy, Runs, journals::keeps_its_place};

/// A repository that git refuses to work with.
pub(super) fn unusable(top: &Path, error: &WorktreeError) -> Finding {
    let finding = Finding::new(Invariant::PlacesMatch, top.display(), error.to_string());
    let config = std::fs::read_to_string(top.join(".git/config")).unwrap_or_default();
    if config.lines().any(|line| line.replace([' ', '\t'], "") == "bare=true") {
        return finding.cure(format!(
            "a program marked the repository as bare; `git --git-dir={}/.git config core.bare false`",
            top.display()
        ));
    }
    finding.cure("see what git says there")
}

pub(super) async fn check(
    git: &GitWorktrees,
    store: &FileStore,
    runs: &Runs,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let works = works(runs);
    let commits: Vec<CommitId> = works.iter().flat_map(|work| work.commits.clone()).collect();
    let found = git.inspect(&commits).await?;
    findings.extend(found.troubles.iter().map(|error| {
        Finding::new(Invariant::WorkIsKept, git.repository().display(), error.to_string())
            .cure("git fsck --full names what is missing")
    }));
    check_work(&works, &found, findings);
    check_locks(runs, &found, findings);
    check_checkout(git, &found, findings);
    check_worktrees(runs, &found, findings);
    check_branches(runs, &found, findings);
    // After the look at git: what had been made by then may have been recorded since.
    check_unrecorded(&store.runs()?, &found, findings);
    Ok(())
}

/// What is left of runs of which there is no record: their orchestrator was killed before it made
/// one, or somebody removed it.
fn check_unrecorded(recorded: &[RunId], found: &Inspection, findings: &mut Vec<Finding>) {
    let worktrees = found.worktrees.iter().map(|w| (&w.run, w.path.display().to_string()));
    let branches = found.branches.iter().map(|branch| (&branch.run, format!("branch {branch}")));
    for (run, place) in worktrees.chain(branches).filter(|(run, _)| !recorded.contains(run)) {
        let what = "no run is recorded that it belongs to";
        findings.push(
            Finding::new(Invariant::PlacesMatch, place, what)
                .of(run, None)
                .cure("orch gc; it removes what is safe elsewhere and says why it keeps the rest"),
        );
    }
}

/// A merged task whose work the engine answers for.
#[derive(Debug)]
struct Work<'a> {
    run: &'a RunId,
    task: &'a TaskRun,
    commits: Vec<CommitId>,
}

/// The merged tasks of all runs whose results have not been handed over, and of the newest one.
/// What was handed over is the user's: branches may be rewritten and commits forgotten.
fn works(runs: &Runs) -> Vec<Work<'_>> {
    let newest = runs.values().map(|known| known.state.started_at).max();
    let is_ours = |known: &&Known| {
        let handed_over =
            matches!(known.state.delivery, Some(Delivery::Target { .. } | Delivery::Nothing));
        !handed_over || Some(known.state.started_at) == newest
    };
    let mut works = Vec::new();
    for known in runs.values().filter(is_ours) {
        for task in &known.state.tasks {
            let TaskState::Merged { result, .. } = &task.state else { continue };
            let commits = match result {
                Merged::Commit { commit, merge_commit } => {
                    vec![commit.clone(), merge_commit.clone()]
                }
                Merged::Kept { commit, .. } => vec![commit.clone()],
                _ => continue,
            };
            works.push(Work { run: known.state.run(), task, commits });
        }
    }
    works
}

fn check_work(works: &[Work<'_>], found: &Inspection, findings: &mut Vec<Finding>) {
    for work in works {
        for commit in &work.commits {
            let (what, cure) = if found.unreadable.contains(commit) {
                (
                    "the commit of a merged task, or its tree, can't be read",
                    "git fsck --full".into(),
                )
            } else if found.unreachable.contains(commit) {
                (
                    "the commit of a merged task is part of no reference; unless you rewrote the branch it was lost from there",
                    format!("keep it with `git branch rescued-{} {commit}`", work.task.id),
                )
            } else {
                continue;
            };
            findings.push(
                Finding::new(Invariant::WorkIsKept, commit.as_str(), what)
                    .of(work.run, Some(&work.task.id))
                    .cure(cure),
            );
        }
    }
}

fn check_locks(runs: &Runs, found: &Inspection, findings: &mut Vec<Finding>) {
    // An agent that is ended may leave its git's lock, which its run removes when it is in the way.
    let is_cared_for = |lock: &&GitLock| match &lock.run {
        Some(run) => runs.get(run).is_some_and(Known::may_go_on),
        // All references are behind it: whichever run goes on meets it.
        None => lock.is_of_engine && runs.values().any(Known::may_go_on),
    };
    for lock in found.locks.iter().filter(|lock| lock.is_abandoned && !is_cared_for(lock)) {
        let what = "git was killed and left its lock behind: no git is at work here";
        let finding = Finding::new(Invariant::LocksAreFree, lock.path.display(), what);
        findings.push(if lock.is_of_engine {
            finding.repairable(Remedy::BreakLocks)
        } else {
            finding.cure(format!("rm {}", lock.path.display()))
        });
    }
}

fn check_checkout(git: &GitWorktrees, found: &Inspection, findings: &mut Vec<Finding>) {
    let place = git.repository();
    if found.is_bare {
        let what = "the repository is marked as bare although it has a checkout";
        findings.push(
            Finding::new(Invariant::PlacesMatch, place.display(), what)
                .cure("git config core.bare false"),
        );
    }
    if let Some(what) = found.in_progress {
        let what = format!("{what} was begun in the checkout and not finished");
        findings.push(
            Finding::new(Invariant::PlacesMatch, place.display(), what)
                .cure("finish or abort it; orch begins none there"),
        );
    }
}

/// The task or tasks that a worktree of a run is for.
fn tasks_by_folder(state: &RunState) -> HashMap<String, Vec<&TaskRun>> {
    let plan = ValidPlan::new((*state.header.plan).clone()).ok();
    let mut folders: HashMap<String, Vec<&TaskRun>> = HashMap::new();
    for task in &state.tasks {
        let epic = plan.as_ref().and_then(|plan| {
            let task = plan.task(plan.index_of(&task.id)?);
            let epic = task.epic.filter(|_| task.isolation == Isolation::Epic)?;
            Some(format!("@epic-{}", plan.epics()[epic.get()].id))
        });
        folders.entry(epic.unwrap_or_else(|| task.id.to_string())).or_default().push(task);
        // The merge of its work, in progress.
        folders.entry(orch_worktree::resolution_folder(&task.id)).or_default().push(task);
    }
    folders
}

fn check_worktrees(runs: &Runs, found: &Inspection, findings: &mut Vec<Finding>) {
    let mut by_run: BTreeMap<&RunId, Vec<&FoundWorktree>> = BTreeMap::new();
    for worktree in &found.worktrees {
        by_run.entry(&worktree.run).or_default().push(worktree);
    }
    for (run, worktrees) in by_run {
        // A journal that can't be read is named by itself.
        let Some(known) = runs.get(run) else { continue };
        let folders = tasks_by_folder(&known.state);
        for worktree in worktrees {
            let name = worktree.path.file_name().unwrap_or_default().to_string_lossy();
            let tasks = folders.get(&*name);
            let is_empty =
                || std::fs::read_dir(&worktree.path).is_ok_and(|mut all| all.next().is_none());
            let finding = |what: &str| {
                Finding::new(Invariant::PlacesMatch, worktree.path.display(), what).of(run, None)
            };
            if !worktree.is_known && worktree.has_folder && is_empty() {
                findings.push(
                    finding("an empty folder is left of a worktree")
                        .repairable(Remedy::RemoveEmptyFolder(worktree.path.clone())),
                );
                continue;
            }
            match tasks {
                // Made with the first merge that is verified, and removed at the end.
                None if worktree.is_of_merge_queue() && known.may_go_on() => {}
                None if worktree.is_of_merge_queue() => findings.push(
                    finding("the folder in which merged results were verified is still there")
                        .cure("orch gc"),
                ),
                // Moved there from the place of a worktree, with a warning; a person looks at it.
                None if name.contains(".found-") => {}
                None => findings
                    .push(finding("no task of the run works there").cure("orch gc --dry-run")),
                Some(tasks) if is_wanted(known, tasks) => {
                    let is_at_work = tasks.iter().any(|task| task.state.is_active());
                    if !is_at_work && !worktree.has_folder && !is_pending(known, tasks) {
                        findings.push(
                            finding("the folder of a worktree that was kept is gone")
                                .cure("git worktree list; its branch has what was committed"),
                        );
                    }
                }
                Some(tasks) => {
                    let merged = tasks.iter().find(|t| matches!(t.state, TaskState::Merged { .. }));
                    let finding = finding("the worktree of a task that has ended is still there");
                    findings.push(match merged {
                        Some(task) => Finding { task: Some(task.id.clone()), ..finding }
                            .repairable(Remedy::Tidy { run: run.clone(), task: task.id.clone() }),
                        None => finding.cure("orch gc --dry-run"),
                    });
                }
            }
        }
    }
}

/// Whether a worktree of these tasks may be there: one of them is at work, will be, or was kept
/// for a person; that of an epic stays to the end of the run.
fn is_wanted(known: &Known, tasks: &[&TaskRun]) -> bool {
    let is_shared = tasks.len() > 1;
    tasks.iter().any(|task| keeps_its_place(&task.state)) || (is_shared && known.may_go_on())
}

/// Whether a task that the place belongs to is yet to be run again.
fn is_pending(known: &Known, tasks: &[&TaskRun]) -> bool {
    known.may_go_on() && tasks.iter().any(|task| !task.state.is_terminal())
}

fn check_branches(runs: &Runs, found: &Inspection, findings: &mut Vec<Finding>) {
    let worktrees: HashSet<&Path> = found.worktrees.iter().map(|w| w.path.as_path()).collect();
    for branch in &found.branches {
        let Some(known) = runs.get(&branch.run) else { continue };
        let finding = |what: &str| {
            Finding::new(Invariant::PlacesMatch, format!("branch {branch}"), what)
                .of(&branch.run, None)
        };
        if branch.last == "target" {
            let handed_over =
                matches!(known.state.delivery, Some(Delivery::Target { .. } | Delivery::Nothing));
            if handed_over && !known.may_go_on() {
                findings.push(
                    finding("the results were delivered, and their branch is still there")
                        .cure("orch gc"),
                );
            }
            continue;
        }
        let task = known.state.tasks.iter().find(|task| task.id.as_str() == branch.last);
        match task {
            None => findings
                .push(finding("no task of the run has this branch").cure("orch gc --dry-run")),
            // It stays there until somebody takes it.
            Some(TaskRun {
                state: TaskState::Merged { result: Merged::Kept { .. }, .. }, ..
            }) => {}
            Some(task) if matches!(task.state, TaskState::Merged { .. }) => {
                // A worktree that is still there is named by itself, and goes with its branch.
                let place = task.place.as_ref().map(|place| place.path.as_path());
                if place.is_some_and(|place| worktrees.contains(place)) {
                    continue;
                }
                let finding = finding("the branch of a merged task is still there");
                findings.push(
                    Finding { task: Some(task.id.clone()), ..finding }.repairable(Remedy::Tidy {
                        run: branch.run.clone(),
                        task: task.id.clone(),
                    }),
                );
            }
            Some(_) => {}
        }
    }
}
