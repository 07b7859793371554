//! Merges on objects and references only: `merge-tree`, `commit-tree`, and `update-ref` with the
//! expected old values. No file of a work tree is touched.

use orch_faults::planted;
use orch_model::{
    CommitId, Hunk,
    ports::{MergeOutcome, MergeRequest, WorktreeError},
};

use crate::{
    commit::NewCommit,
    conflict::Conflict,
    error::target_error,
    names,
    parse::{self, Reference},
    repo::{Repo, Run, Seen},
    target::Target,
};

/// How often a merge is made again because somebody moved a branch meanwhile.
const TRIES: usize = 32;
/// How often the same references are tried: git waits a little for a locked reference.
const TRIES_UNCHANGED: usize = 4;

/// Where the branches of a run stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tips {
    /// The tip of the results.
    pub(crate) results: CommitId,
    /// Its tree.
    pub(crate) tree: String,
    /// The tip of the target; `None` if somebody deleted it.
    pub(crate) target: Option<CommitId>,
    /// Another reference that was asked for.
    pub(crate) other: Option<CommitId>,
}

/// What a merge of two commits gives.
#[derive(Debug)]
pub(crate) enum Tree {
    Clean(String),
    Conflict(Conflict),
}

/// A commit on top of others; nothing has been moved.
#[derive(Debug)]
pub(crate) enum Joined {
    Merged { merge_commit: CommitId, tree: String },
    Contained { merge_commit: CommitId },
    Conflicted { files: Vec<String>, hunks: Vec<Hunk> },
}

impl Repo {
    /// Where the branches of a run stand, with another reference. If the results have no branch
    /// any more (they were delivered), one is made at the target's tip.
    pub(crate) async fn tips(&self, run: &Run, other: Option<&str>) -> Result<Tips, WorktreeError> {
        let (results, target) = (run.results_ref(), run.target_ref());
        for _ in 0..TRIES_UNCHANGED {
            let names: Vec<&str> =
                [&results, &target].map(String::as_str).into_iter().chain(other).collect();
            let mut refs = self.refs(&names).await?;
            let target: Option<Reference> = refs.remove(&target);
            let other = other.and_then(|other| refs.remove(other)).map(|r| r.commit);
            if let Some(Reference { commit, tree, .. }) = refs.remove(&results) {
                let target = target.map(|t| t.commit);
                return Ok(Tips { results: commit, tree, target, other });
            }
            let start = target.map_or_else(|| run.base.clone(), |t| t.commit);
            let lines = [format!("create {results} {start}")];
            // If another process was first, the next look finds its branch.
            let _ = self.transact("orch: begin again", &lines).await?;
        }
        Err(target_error(format!(
            "can't make the branch {results}; look for leftover `.lock` files beside it"
        )))
    }

    /// The same, after the target's new commits were taken into the results. Where they conflict
    /// the results stay without them.
    pub(crate) async fn settle(
        &self,
        run: &Run,
        other: Option<&str>,
    ) -> Result<Tips, WorktreeError> {
        let tips = self.tips(run, other).await?;
        if self.is_settled(run, &tips) {
            return Ok(tips);
        }
        let _one = self.merging.lock().await;
        self.settle_alone(run, other).await
    }

    pub(crate) fn is_settled(&self, run: &Run, tips: &Tips) -> bool {
        let Some(target) = &tips.target else { return true };
        let seen = run.seen();
        *target == tips.results
            || seen.contained.as_ref() == Some(target)
            || seen.refused.as_ref().is_some_and(|(tip, _)| tip == target)
    }

    /// [`Self::settle`] for who holds the merge lock.
    pub(crate) async fn settle_alone(
        &self,
        run: &Run,
        other: Option<&str>,
    ) -> Result<Tips, WorktreeError> {
        let mut retries = Retries::default();
        loop {
            let tips = self.tips(run, other).await?;
            let Some(target) = tips.target.clone().filter(|_| !self.is_settled(run, &tips)) else {
                return Ok(tips);
            };
            if self.is_ancestor(&target, &tips.results).await? {
                *run.seen() = Seen { contained: Some(target), refused: None };
                continue;
            }
            let new = if self.is_ancestor(&tips.results, &target).await? {
                target.clone()
            } else {
                match self.merge_tree(&tips.results, &target).await? {
                    Tree::Clean(tree) => {
                        let kind = match &run.target {
                            Target::Branch(_) => "branch",
                            Target::Remote { .. } => "remote-tracking branch",
                        };
                        let message = format!(
                            "Merge {kind} '{}' into {}\n",
                            run.target.name(),
                            names::results_branch(&run.id)
                        );
                        self.commit(NewCommit {
                            tree: &tree,
                            parents: &[&tips.results, &target],
                            message: &message,
                            author: None,
                            signed: true,
                        })
                        .await?
                    }
                    Tree::Conflict(Conflict { files, .. }) => {
                        tracing::warn!(target = %run.target.name(), ?files, "the target's new commits conflict with the results");
                        run.seen().refused = Some((target, files));
                        continue;
                    }
                }
            };
            let lines = [format!("update {} {new} {}", run.results_ref(), tips.results)];
            match self.transact("orch: take in the target", &lines).await? {
                Ok(()) => *run.seen() = Seen { contained: Some(target), refused: None },
                Err(error) => retries.again(&tips, error)?,
            }
        }
    }

    /// Merges a commit into the results.
    pub(crate) async fn merge(&self, request: MergeRequest) -> Result<MergeOutcome, WorktreeError> {
        let run = self.run(&request.message.run).await?;
        let _one = self.merging.lock().await;
        let mut retries = Retries::default();
        loop {
            let tips = self.settle_alone(&run, None).await?;
            let joined = self.join(&run, &tips.results, &tips.tree, &request).await?;
            let merge_commit = match joined {
                Joined::Merged { merge_commit, .. } => merge_commit,
                Joined::Contained { merge_commit } => {
                    return Ok(MergeOutcome::Merged { merge_commit });
                }
                Joined::Conflicted { files, hunks } => {
                    return Ok(MergeOutcome::Conflicted { files, hunks });
                }
            };
            let records = if request.strategy.rewrites() {
                self.records(&run, &tips.results, &merge_commit).await?
            } else {
                Vec::new()
            };
            let why = &request.message.subject;
            match self.advance(&run, &tips, &merge_commit, records, why).await? {
                Ok(()) => return Ok(MergeOutcome::Merged { merge_commit }),
                Err(error) => retries.again(&tips, error)?,
            }
        }
    }

    /// Brings work in on top of a commit, whose tree is known; where it conflicts and the conflicts were
    /// resolved, the resolution in its place.
    pub(crate) async fn join(
        &self,
        run: &Run,
        top: &CommitId,
        top_tree: &str,
        request: &MergeRequest,
    ) -> Result<Joined, WorktreeError> {
        if request.strategy.rewrites() {
            let resolved = self.resolved(request).await?;
            for request in [Some(request), resolved.as_ref()].into_iter().flatten() {
                if let Some(merge_commit) = self.recorded(run, top, request).await? {
                    return Ok(Joined::Contained { merge_commit });
                }
            }
        }
        let mut merged = self.merge_tree(top, &request.commit).await?;
        let resolved = match merged {
            Tree::Conflict(_) => self.resolved(request).await?,
            Tree::Clean(_) => None,
        };
        if let Some(resolved) = &resolved {
            merged = self.merge_tree(top, &resolved.commit).await?;
        }
        let request = resolved.as_ref().unwrap_or(request);
        let commit = &request.commit;
        let tree = match merged {
            Tree::Clean(tree) => tree,
            Tree::Conflict(Conflict { files, .. }) => {
                let hunks = self.hunks(top, commit).await;
                return Ok(Joined::Conflicted { files, hunks });
            }
        };
        // The tree stays the same if, and not only if, the commit is contained already.
        if !planted("merged-twice") && tree == top_tree && self.is_ancestor(commit, top).await? {
            let merge_commit = self.brought_in_by(commit, top).await?;
            return Ok(Joined::Contained { merge_commit });
        }
        let merge_commit = self.shape((top, top_tree), &tree, request).await?;
        Ok(Joined::Merged { merge_commit, tree })
    }

    /// The same with the recorded resolution of its conflicts, if there is one.
    async fn resolved(
        &self,
        request: &MergeRequest,
    ) -> Result<Option<MergeRequest>, WorktreeError> {
        let resolution = self.resolution_of(request).await?;
        Ok(resolution.map(|commit| MergeRequest { commit, ..request.clone() }))
    }

    /// Moves the results, and the target with them if that is checked out nowhere; `more` lines of the
    /// same transaction.
    pub(crate) async fn advance(
        &self,
        run: &Run,
        tips: &Tips,
        new: &CommitId,
        more: Vec<String>,
        why: &str,
    ) -> Result<Result<(), WorktreeError>, WorktreeError> {
        let mut lines = vec![format!("update {} {new} {}", run.results_ref(), tips.results)];
        lines.extend(more);
        let refused = run.refused(tips.target.as_ref()).is_some();
        let is_here = matches!(run.target, Target::Branch(_));
        if let Some(target) = tips.target.as_ref().filter(|_| is_here && !refused) {
            let name = run.target_ref();
            if !self.checkouts.all(&self.git).await?.iter().any(|c| c.holds(&name)) {
                lines.push(format!("update {name} {new} {target}"));
            }
        }
        if planted("moves-whatever-is-there") {
            lines =
                lines.iter().map(|l| l.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
        }
        self.transact(why, &lines).await
    }

    pub(crate) async fn merge_tree(
        &self,
        ours: &CommitId,
        theirs: &CommitId,
    ) -> Result<Tree, WorktreeError> {
        let arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"];
        let answer = self
            .git
            .call(arguments.into_iter().chain([ours.as_str(), theirs.as_str()]))
            .durable()
            .answer()
            .await?;
        let (tree, files) = parse::merged_tree(&answer.stdout);
        match answer.code {
            Some(0) => Ok(Tree::Clean(tree)),
            // A commit that doesn't exist ends with 1 too, but prints no tree.
            Some(1) if !tree.is_empty() => Ok(Tree::Conflict(Conflict { tree, files })),
            _ if answer.complaint().contains("unrelated histories") => {
                Ok(Tree::Conflict(Conflict { tree: String::new(), files: Vec::new() }))
            }
            _ => Err(answer.into_error()),
        }
    }

    /// The merge commit that made a commit part of the results: the merge whose second parent it
    /// is, else the first that contains it, else the commit itself.
    async fn brought_in_by(
        &self,
        commit: &CommitId,
        results: &CommitId,
    ) -> Result<CommitId, WorktreeError> {
        let range = format!("{commit}..{results}");
        let list = self
            .git
            .line([
                "rev-list",
                "--ancestry-path",
                "--merges",
                "--parents",
                "--topo-order",
                "--reverse",
                &range,
                "--",
            ])
            .await?;
        let direct =
            list.lines().find(|line| line.split(' ').skip(2).any(|p| p == commit.as_str()));
        let found = direct.or_else(|| list.lines().next()).and_then(|line| line.split(' ').next());
        Ok(found.map_or_else(|| commit.clone(), CommitId::new))
    }
}

/// Ends a loop of compare-and-swap that gets nowhere.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    tries: usize,
    unchanged: usize,
    last: Option<Tips>,
}

impl Retries {
    /// Another try is due, unless there were too many.
    pub(crate) fn again(&mut self, tips: &Tips, error: WorktreeError) -> Result<(), WorktreeError> {
        self.tries += 1;
        let same = self.last.replace(tips.clone()).as_ref() == Some(tips);
        self.unchanged = if same { self.unchanged + 1 } else { 0 };
        if self.tries >= TRIES || self.unchanged >= TRIES_UNCHANGED { Err(error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_gets_nowhere_ends() {
        let tips = |n: usize| Tips {
            results: CommitId::new(format!("{n:040}")),
            tree: String::new(),
            target: None,
            other: None,
        };
        let error = || target_error("moved");
        let mut stuck = Retries::default();
        assert_eq!((0..).take_while(|_| stuck.again(&tips(1), error()).is_ok()).count(), 4);
        let mut busy = Retries::default();
        assert_eq!((0..).take_while(|n| busy.again(&tips(*n), error()).is_ok()).count(), TRIES - 1);
    }
}
