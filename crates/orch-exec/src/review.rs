//! A look back at a run and its tasks: what a task did, its difference, keeping it, and taking the
//! whole run back from its target.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use orch_exec::review::Review;
//!
//! let review = Review::open(".".as_ref(), None, None).await?;
//! let (run, task) = ("20261121-064312-kqzv".parse()?, "login".parse()?);
//! let found = review.task(&run, &task).await?;
//! println!("{} attempts, {} refs", found.attempts.len(), found.references.len());
//! review.undo(&run, false).await?;
//! # Ok(())
//! # }
//! ```

mod output;
mod prompt;
mod undo;

use std::path::{Path, PathBuf};

use orch_model::{
    CommitId, EventKind, Report, RunId, RunState, TaskId, TaskState,
    attempts::{AttemptRecord, Attempts},
    event::Undone,
    ports::{StateStore as _, WorktreeError},
    report::TaskReport,
    state::Merged,
};
use orch_state::FileStore;
use orch_worktree::{Changes, DiffFormat, GitWorktrees, GitWorktreesConfig, Kept, Work, WorkQuery};
use serde::Serialize;

use crate::{
    error::EngineError,
    logs::{self, LogFile},
    workspace,
};

pub use output::Verification;
pub use undo::UndoneRun;

/// The records of a repository's runs beside the repository.
#[derive(Debug)]
pub struct Review {
    store: FileStore,
    git: GitWorktrees,
}

/// What is known of a task.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TaskReview {
    /// The run.
    pub run: RunId,
    /// What became of it.
    pub task: TaskReport,
    /// What it is about, where the plan says so.
    pub title: Option<String>,
    /// Whether the run was taken back from its target, by [`Review::undo`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
    /// Its attempts, from the first on.
    pub attempts: Vec<AttemptRecord>,
    /// Where its work is; `None` where it left none, or nothing is left of it.
    pub work: Option<TaskWork>,
    /// The references that hold work of it.
    pub references: Vec<TaskReference>,
    /// What verified it last.
    pub verifications: Vec<Verification>,
    /// The files with its output.
    pub logs: Vec<PathBuf>,
}

/// The work of a task.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TaskWork {
    /// Where it was found, for a person.
    pub found_in: String,
    /// Its worktree, where that is there.
    pub worktree: Option<PathBuf>,
    /// What it was made from.
    pub base: CommitId,
    /// Its last commit.
    pub tip: CommitId,
    /// Commits and files.
    #[serde(flatten)]
    pub changes: Changes,
}

/// A reference that holds work of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TaskReference {
    /// Its whole name.
    pub name: String,
    /// Its commit.
    pub commit: CommitId,
}

impl Review {
    /// Takes a workspace as an orchestrator with the same settings would. `worktree_root` as in
    /// [`EngineConfig`](crate::EngineConfig).
    ///
    /// # Errors
    /// Where the records can't be opened, or there is no repository that git can use.
    pub async fn open(
        repository: &Path,
        state_dir: Option<PathBuf>,
        worktree_root: Option<PathBuf>,
    ) -> Result<Self, EngineError> {
        let top = workspace::find(repository);
        let store = FileStore::open(state_dir.unwrap_or_else(|| workspace::state_dir(&top)))?;
        let mut config = GitWorktreesConfig::new(&top);
        config.root = worktree_root;
        Ok(Self { store, git: GitWorktrees::open(config).await? })
    }

    /// Where the runs are recorded.
    #[must_use]
    pub const fn store(&self) -> &FileStore {
        &self.store
    }

    /// All that is known of a task.
    ///
    /// # Errors
    /// Where there is no such run or task, or where it can't be looked at.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn task(&self, run: &RunId, task: &TaskId) -> Result<TaskReview, EngineError> {
        let mut state = None;
        let mut attempts = Attempts::default();
        let mut reader = self.store.read(run, 1).await?;
        loop {
            let events = reader.next().await?;
            if events.is_empty() {
                break;
            }
            for event in &events {
                RunState::follow(&mut state, event).map_err(|source| {
                    orch_model::ports::StoreError::Inconsistent { run: run.clone(), source }
                })?;
                match &event.kind {
                    EventKind::Task { task: of, change } if of == task => {
                        attempts.see(change, event.at);
                    }
                    _ => {}
                }
            }
        }
        let state = state.ok_or_else(|| no_events(run))?;
        let index = index_of(&state, task)?;
        let report = Report::of(&state).tasks.swap_remove(index);
        let references = self.git.references_of(run, task).await?.into_iter();
        let work = match self.git.work(&query(&state, index)).await? {
            Some(work) if left_something(&state, index) => Some(TaskWork {
                found_in: work.source.to_string(),
                worktree: work.source.worktree().map(Path::to_owned),
                base: work.base.clone(),
                tip: work.tip.clone(),
                changes: self.git.changes(&work).await?,
            }),
            _ => None,
        };
        let files = logs::files(self.store.dir(), run, task).map_err(|source| EngineError::Io {
            doing: format!("listing {}", logs::folder(self.store.dir(), run).display()),
            source,
        })?;
        Ok(TaskReview {
            run: run.clone(),
            title: state.header.plan.tasks[index].title.clone(),
            task: report,
            undone: state.undone.clone(),
            attempts: attempts.into_records(),
            work,
            references: references.map(|(name, commit)| TaskReference { name, commit }).collect(),
            verifications: output::verifications(&state, index, &files)?,
            logs: files.into_iter().map(|LogFile { path, .. }| path).collect(),
        })
    }

    /// The work of a task, to be given to [`Review::diff`]; `None` where it left nothing.
    ///
    /// # Errors
    /// Where there is no such run or task, where it did something and nothing is left of that, or where
    /// git failed.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn work(&self, run: &RunId, task: &TaskId) -> Result<Option<Work>, EngineError> {
        let state = self.state(run).await?;
        let index = index_of(&state, task)?;
        if !left_something(&state, index) {
            return Ok(None);
        }
        let found = self.git.work(&query(&state, index)).await?;
        let gone = || WorktreeError::Refused {
            message: format!(
                "nothing is left of the work of task {task} of run {run}: neither a worktree nor a branch, nor anything below refs/orch"
            ),
        };
        Ok(Some(found.ok_or_else(gone)?))
    }

    /// Hands the difference that a task's work makes on, piece by piece.
    ///
    /// # Errors
    /// Where git failed, or the sink did.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn diff(
        &self,
        work: &Work,
        format: DiffFormat,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<(), EngineError> {
        Ok(self.git.diff(work, format, sink).await?)
    }

    /// Keeps the work of a task for good, see [`GitWorktrees::keep`].
    ///
    /// # Errors
    /// Where there is no such run or task, nothing of its work, or where git failed.
    pub async fn keep(&self, run: &RunId, task: &TaskId) -> Result<Kept, EngineError> {
        let state = self.state(run).await?;
        let index = index_of(&state, task)?;
        if !left_something(&state, index) {
            let message = format!("task {task} of run {run} left nothing that could be kept");
            return Err(WorktreeError::Refused { message }.into());
        }
        Ok(self.git.keep(&query(&state, index)).await?)
    }

    async fn state(&self, run: &RunId) -> Result<RunState, EngineError> {
        self.store.state(run).await?.ok_or_else(|| no_events(run))
    }
}

fn no_events(run: &RunId) -> EngineError {
    WorktreeError::Refused { message: format!("run {run} has not begun") }.into()
}

fn index_of(state: &RunState, task: &TaskId) -> Result<usize, EngineError> {
    let index = state.index_of(task).ok_or_else(|| EngineError::NoSuchTask(task.clone()))?;
    Ok(index.get())
}

/// Whether there is, or was, anything of a task in git.
fn left_something(state: &RunState, index: usize) -> bool {
    let task = &state.tasks[index];
    let is_empty = matches!(task.state, TaskState::Merged { result: Merged::Nothing, .. });
    !is_empty && task.attempts > 0
}

/// What is recorded of the work of a task.
fn query(state: &RunState, index: usize) -> WorkQuery {
    let task = &state.tasks[index];
    let mut query = WorkQuery::new(state.run().clone(), task.id.clone());
    query.place = task.place.as_deref().cloned();
    query.begin = state.header.base.as_ref().map(|base| base.commit.clone());
    match &task.state {
        TaskState::Merged { result: Merged::Commit { commit, merge_commit }, .. } => {
            query.commit = Some(commit.clone());
            query.merge_commit = Some(merge_commit.clone());
        }
        TaskState::Conflicted { commit, .. } => query.commit = Some(commit.clone()),
        TaskState::Merging { commit, .. } => query.commit.clone_from(commit),
        _ => {}
    }
    query
}
