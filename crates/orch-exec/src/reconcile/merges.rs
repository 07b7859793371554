//! Merges that were under way, and what is at work for them.

use orch_model::{
    TaskState,
    event::TaskChange,
    plan::{
        TaskIndex,
        spec::{OnConflict, Strategy},
    },
    ports::{Adopted, MergeOutcome, Purpose, Stacked},
    run::Candidate,
    state::Merged,
};

use super::{Fate, Recovery, end};
use crate::{
    error::EngineError,
    message::{self, Attempted},
    unit::{Adoption, Entry, Workplace, resolve::ROUNDS},
};

impl Recovery<'_> {
    /// Repeats a merge. Where the merged result has to be verified it goes on in the merge queue, unless it
    /// was done already.
    pub(super) async fn merging(&self, index: TaskIndex) -> Result<Fate, EngineError> {
        let task = self.state.task(index);
        let again = |message| self.run_again(message);
        let TaskState::Merging { commit: Some(commit), attempt } = &task.state else {
            return Ok(Fate::Becomes(TaskChange::Merged { result: Merged::Nothing }));
        };
        let Some(place) = &task.place else {
            return Ok(again("the place of its work is not recorded"));
        };
        if self.plan.merging().strategy == Strategy::None {
            let result = Merged::Kept { commit: commit.clone(), branch: place.branch.clone() };
            return Ok(Fate::Becomes(TaskChange::Merged { result }));
        }
        let attempt =
            Attempted { run: self.state.run(), attempt: *attempt, by: task.by.as_deref() };
        let from = (place.branch.as_str(), &place.base);
        let request =
            message::merge_request((self.plan, index), self.ports, attempt, from, commit).await?;
        let merged = |merge_commit| {
            let commit = commit.clone();
            Fate::Becomes(TaskChange::Merged { result: Merged::Commit { commit, merge_commit } })
        };
        let goes_on = |place| {
            let entry = Entry::Merge { commit: commit.clone() };
            Fate::GoesOn(Adoption { place, entry })
        };
        let policy = self.plan.task(index).on_conflict;
        let conflicted = async |files, hunks| {
            let (commit, branch) = (commit.clone(), place.branch.clone());
            if matches!(policy, OnConflict::Fail | OnConflict::Manual) {
                return Ok(Fate::Becomes(TaskChange::Conflicted { commit, branch, files, hunks }));
            }
            // What follows from it is the unit's business, which finds it in conflict again.
            let there = self.workplace(index).await?;
            Ok::<_, EngineError>(goes_on(
                there.unwrap_or_else(|| Workplace::Gone((**place).clone())),
            ))
        };
        if self.plan.merging().verify.is_empty() {
            return Ok(match self.ports.worktrees()?.merge(request.clone()).await? {
                MergeOutcome::Merged { merge_commit } => {
                    self.ports.worktrees()?.close_merge(&request).await?;
                    merged(merge_commit)
                }
                MergeOutcome::Conflicted { files, hunks } => conflicted(files, hunks).await?,
                _ => again("the merge ended in an unknown way"),
            });
        }
        let stack =
            self.ports.worktrees()?.stack(self.state.run(), std::slice::from_ref(&request)).await?;
        Ok(match stack.merges.into_iter().next() {
            Some(Stacked::Contained { merge_commit }) => {
                self.ports.worktrees()?.close_merge(&request).await?;
                merged(merge_commit)
            }
            Some(Stacked::Conflicted { files, hunks }) => conflicted(files, hunks).await?,
            Some(Stacked::Merged { .. }) => match self.workplace(index).await? {
                Some(place) => goes_on(place),
                None => again("its worktree is gone"),
            },
            _ => again("the merge ended in an unknown way"),
        })
    }

    /// Ends what still resolves the conflicts of a task, or verifies that.
    pub(super) async fn end_resolver(&self, index: TaskIndex) -> Result<(), EngineError> {
        let task = self.plan.task(index);
        if task.on_conflict != OnConflict::Resolver {
            return Ok(());
        }
        for round in 1..=ROUNDS {
            let verifications =
                (0..task.verify.len()).map(|index| Purpose::VerifyResolved { round, index });
            for purpose in std::iter::once(Purpose::Resolve { round }).chain(verifications) {
                if let Adopted::Agent(agent) = self.ask(index, purpose).await? {
                    end(agent.as_ref()).await;
                }
            }
        }
        Ok(())
    }

    /// Ends what still verifies a candidate of the merge queue: it is made anew.
    pub(super) async fn end_candidate(&self) -> Result<(), EngineError> {
        let Some(Candidate { number, tasks, passed: None, .. }) = &self.state.candidate else {
            return Ok(());
        };
        let Some(index) = tasks.last().and_then(|task| self.state.index_of(task)) else {
            return Ok(());
        };
        for command in 0..self.plan.merging().verify.len() {
            let purpose = Purpose::Candidate { number: *number, index: command };
            if let Adopted::Agent(agent) = self.ask(index, purpose).await? {
                end(agent.as_ref()).await;
            }
        }
        Ok(())
    }
}
