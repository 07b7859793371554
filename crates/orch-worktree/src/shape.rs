//! What a task's work becomes in the history of the results. Its tree is that of a merge under every
//! strategy, so what conflicts and what has to be verified does not depend on it.
//!
//! A squash or a rebase makes commits whose history does not contain the task's own. So they name
//! it in a trailer, `Orch-Commit`, and `refs/orch/preserved/<run>/<task>/merged` keeps it: it is made by
//! the same transaction that moves the results, and says that the work is part of them.

use std::collections::HashSet;

use orch_model::{
    CommitId, TaskId,
    plan::spec::Strategy,
    ports::{CommitMessage, MergeRequest, WorktreeError},
    trailers,
};

use crate::{
    commit::{Author, Known, NewCommit},
    merge::Tree,
    names,
    repo::{Repo, Run},
};

/// Names the commit of a task that another one stands for.
const COMMIT: &str = "Orch-Commit";

/// A commit of the results and the work that it brought in.
#[derive(Debug, PartialEq, Eq)]
struct Brought {
    task: TaskId,
    /// The tip of the work.
    tip: CommitId,
    /// The commit of the results.
    by: CommitId,
}

impl Repo {
    /// Brings work in on top of a commit, given with its tree, so that this tree comes of it.
    pub(crate) async fn shape(
        &self,
        top: (&CommitId, &str),
        tree: &str,
        request: &MergeRequest,
    ) -> Result<CommitId, WorktreeError> {
        let (top, top_tree) = top;
        if !request.strategy.rewrites() {
            let (parents, message) = ([top, &request.commit], request.message.to_string());
            let (parents, message) = (parents.as_slice(), message.as_str());
            return self
                .commit(NewCommit { tree, parents, message, author: None, signed: true })
                .await;
        }
        let range = format!("{top}..{}", request.commit);
        let history = self.history(&["--no-merges", &range]).await?;
        if request.strategy == Strategy::Rebase
            && let Some(last) = self.replay(&history, (top, top_tree), tree, request).await?
        {
            return Ok(last);
        }
        let message = named(&request.message.to_string(), &request.message, &request.commit);
        let author = only_author(&history);
        let (parents, message) = ([top], message.as_str());
        self.commit(NewCommit {
            tree,
            parents: &parents,
            message,
            author: author.as_ref(),
            signed: true,
        })
        .await
    }

    /// Copies commits on top of another one; the last copy. `None` where that gives another tree than
    /// a merge, or conflicts on the way: what a merge of the agent's own settled is not repeated.
    async fn replay(
        &self,
        history: &[Known],
        (top, top_tree): (&CommitId, &str),
        tree: &str,
        request: &MergeRequest,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let Some(trees) = self.replayed_trees(history, top, top_tree).await? else {
            return Ok(None);
        };
        if trees.last().map(String::as_str) != Some(tree) {
            return Ok(None);
        }
        let mut onto = top.clone();
        let mut under = top_tree;
        for (at, (known, tree)) in history.iter().zip(&trees).enumerate() {
            let is_last = at + 1 == history.len();
            // It changes nothing, or what it changes is there already.
            if under == tree && !is_last {
                continue;
            }
            // The tip may be a merge, which is not copied: the last copy stands for all of it.
            let original = if is_last { &request.commit } else { &known.id };
            let message = named(&known.message, &request.message, original);
            let new = NewCommit {
                tree,
                parents: &[&onto],
                message: &message,
                author: Some(&known.author),
                signed: true,
            };
            onto = self.commit(new).await?;
            under = tree;
        }
        Ok((onto != *top).then_some(onto))
    }

    /// The trees that copies of these commits have, one on top of the other.
    async fn replayed_trees(
        &self,
        history: &[Known],
        top: &CommitId,
        top_tree: &str,
    ) -> Result<Option<Vec<String>>, WorktreeError> {
        let mut trees: Vec<String> = Vec::with_capacity(history.len());
        // The copied commit, where its own tree is that of its copy.
        let mut same: Option<&CommitId> = None;
        for known in history {
            let [parent] = known.parents.as_slice() else { return Ok(None) };
            let tree = if same == Some(parent) || parent == top {
                known.tree.clone()
            } else {
                let onto = trees.last().map_or(top_tree, String::as_str);
                match self.cherry_pick(parent, onto, &known.id).await? {
                    Tree::Clean(tree) => tree,
                    Tree::Conflict(_) => return Ok(None),
                }
            };
            same = (tree == known.tree).then_some(&known.id);
            trees.push(tree);
        }
        Ok(Some(trees))
    }

    /// What a commit changes, on top of a tree. A commit of that tree stands beside it on the same parent,
    /// so that the parent is what the two have in common: `merge-tree` takes no base before git 2.40.
    async fn cherry_pick(
        &self,
        parent: &CommitId,
        onto: &str,
        commit: &CommitId,
    ) -> Result<Tree, WorktreeError> {
        let beside = ["commit-tree", "--no-gpg-sign", "-m", "orch: replay", "-p", parent.as_str()];
        let beside = self.git.line(beside.into_iter().chain([onto])).await?;
        self.merge_tree(&CommitId::new(beside), commit).await
    }

    /// The commit that brought this work into the results, if that has been recorded.
    pub(crate) async fn recorded(
        &self,
        run: &Run,
        top: &CommitId,
        request: &MergeRequest,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let name = names::merged(&run.id, &request.message.task);
        let found = self.refs(&[&name]).await?.remove(&name);
        if found.is_none_or(|found| found.commit != request.commit) {
            return Ok(None);
        }
        let range = format!("{}..{top}", run.base);
        let all = brought(run, &self.history(&[&range]).await?);
        let is_it = |one: &Brought| one.task == request.message.task && one.tip == request.commit;
        Ok(all.into_iter().rev().find(is_it).map(|one| one.by))
    }

    /// Lines of a transaction that record what is brought in between two commits.
    pub(crate) async fn records(
        &self,
        run: &Run,
        base: &CommitId,
        new: &CommitId,
    ) -> Result<Vec<String>, WorktreeError> {
        let history = self.history(&["--first-parent", &format!("{base}..{new}")]).await?;
        let mut seen = HashSet::new();
        let newest = brought(run, &history).into_iter().rev();
        let newest = newest.filter(|one| seen.insert(one.task.clone()));
        Ok(newest
            .map(|one| format!("update {} {}", names::merged(&run.id, &one.task), one.tip))
            .collect())
    }
}

/// A message that names run, task, attempt and the commit that it stands for.
fn named(text: &str, message: &CommitMessage, original: &CommitId) -> String {
    let ours = message.trailers();
    let [run, task, attempt] = ours.each_ref().map(|(key, value)| (*key, value.as_str()));
    trailers::append(text, &[run, task, attempt, (COMMIT, original.as_str())])
}

/// Who made all of these commits, if that is one person.
fn only_author(history: &[Known]) -> Option<Author> {
    let first = &history.first()?.author;
    let is_same =
        |known: &Known| (&known.author.name, &known.author.email) == (&first.name, &first.email);
    let one = !first.email.is_empty() && history.iter().all(is_same);
    one.then(|| Author { date: None, ..first.clone() })
}

/// What commits say that they have brought in.
fn brought(run: &Run, history: &[Known]) -> Vec<Brought> {
    let read = |known: &Known| {
        let value = |key| trailers::value(&known.message, key);
        let is_ours = value("Orch-Run") == Some(run.id.as_str());
        Some(Brought {
            task: TaskId::new(value("Orch-Task").filter(|_| is_ours)?).ok()?,
            tip: CommitId::new(value(COMMIT)?),
            by: known.id.clone(),
        })
    };
    history.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use orch_model::RunId;

    use super::*;
    use crate::target::Target;

    fn known(author: (&str, &str), message: &str) -> Known {
        let (name, email) = (author.0.to_owned(), author.1.to_owned());
        Known {
            id: CommitId::new("copy"),
            parents: Vec::new(),
            tree: "tree".into(),
            author: Author { name, email, date: Some("1 +0000".into()) },
            message: message.into(),
        }
    }

    #[test]
    fn a_copy_names_what_it_stands_for_once() {
        let message =
            CommitMessage::new("Merge a", RunId::new("r").unwrap(), TaskId::new("a").unwrap(), 2);
        let text =
            "Work\n\nOrch-Run: r\nOrch-Task: b\nOrch-Commit: forged\nCo-authored-by: B <b@x>\n";
        let text = named(text, &message, &CommitId::new("original"));
        assert_eq!(
            text,
            "Work\n\nCo-authored-by: B <b@x>\nOrch-Run: r\nOrch-Task: a\nOrch-Attempt: 2\nOrch-Commit: original\n"
        );
        let begun = |run: &str| {
            let target = Target::Branch("main".into());
            Run::new(RunId::new(run).unwrap(), target, CommitId::new("base"))
        };
        let (run, other) = (begun("r"), begun("s"));
        let history = [known(("A", "a@x"), &text), known(("A", "a@x"), "Nothing\n\nof: ours\n")];
        let (task, tip) = (TaskId::new("a").unwrap(), CommitId::new("original"));
        assert_eq!(brought(&run, &history), [Brought { task, tip, by: CommitId::new("copy") }]);
        assert_eq!(brought(&other, &history), []);
    }

    #[test]
    fn a_squash_is_by_who_made_all_of_it() {
        let by = |name: &str| known((name, "x@x"), "Work\n");
        assert_eq!(
            only_author(&[by("A"), by("A")]).map(|a| (a.name, a.date)),
            Some(("A".into(), None))
        );
        assert_eq!(only_author(&[by("A"), by("B")]), None);
        assert_eq!(only_author(&[known(("A", ""), "Work\n")]), None);
        assert_eq!(only_author(&[]), None);
    }
}
