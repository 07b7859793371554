//! Brings the target back to where a run began.
//!
//! What is taken from it is kept under references first. A branch that is checked out nowhere is moved
//! together with them, in one transaction with its expected value. One that is checked out is moved by a
//! single git in that checkout, and only while nothing there would be touched; whoever committed in the
//! moment between the look and the move is noticed after it, and gets their branch back.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use orch_model::{CommitId, RunId, TaskId, event::RunBase, ports::WorktreeError};

use crate::{checkouts::Checkout, error::refused, names, parse::listed, repo::Repo};

/// Which run is taken back, and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UndoRequest {
    /// The run.
    pub run: RunId,
    /// Its target, and where that stood when it began.
    pub base: RunBase,
    /// Where its results were delivered to, as far as that is recorded.
    pub delivered: Option<CommitId>,
    /// The work of its merged tasks and the commits that brought it in.
    pub merged: Vec<(TaskId, CommitId, CommitId)>,
    /// Say only what would be done.
    pub dry_run: bool,
}

impl UndoRequest {
    /// A run of which nothing but its beginning is recorded.
    #[must_use]
    pub const fn new(run: RunId, base: RunBase) -> Self {
        Self { run, base, delivered: None, merged: Vec::new(), dry_run: false }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undo {
    /// The target was brought back, or would be.
    Moved {
        /// Where it stood.
        from: CommitId,
        /// The reference that keeps that.
        kept: String,
        /// The checkout that was moved along with it.
        checkout: Option<PathBuf>,
    },
    /// An earlier call had brought it back already.
    Done {
        /// Where it stood before.
        from: CommitId,
        /// The reference that keeps that.
        kept: String,
    },
    /// It stands where the run began: the run has not moved it.
    NotMoved,
}

impl Repo {
    pub(crate) async fn undo(&self, request: &UndoRequest) -> Result<Undo, WorktreeError> {
        let RunBase { target, commit: base } = &request.base;
        let (name, folder) = (names::head(target), names::all_undone(&request.run));
        let known = self.refs(&[&name, &folder]).await?;
        let earlier = known.values().filter(|reference| reference.name.ends_with("/target"));
        let earlier = earlier
            .filter_map(|r| Some((names::number_below(&folder, &r.name)?, r)))
            .max_by_key(|(number, _)| *number);
        let Some(tip) = known.get(&name).map(|reference| reference.commit.clone()) else {
            return Err(refused(format!(
                "branch `{target}` was deleted; `git branch -- {target} {base}` makes it where run {} began",
                request.run
            )));
        };
        if tip == *base {
            return Ok(earlier.map_or(Undo::NotMoved, |(_, r)| Undo::Done {
                from: r.commit.clone(),
                kept: r.name.clone(),
            }));
        }
        self.refuse_work_of_others(request, &tip).await?;
        let checkout = self.checkout_to_move(&name, base, &tip).await?;
        // After a call that was interrupted the references are there already.
        let number = match earlier {
            Some((number, reference)) if reference.commit == tip => number,
            Some((number, _)) => number + 1,
            None => 1,
        };
        let kept = format!("{folder}/{number}/target");
        let place = checkout.as_ref().map(|checkout| checkout.path.clone());
        let moved = Undo::Moved { from: tip.clone(), kept: kept.clone(), checkout: place };
        if request.dry_run {
            return Ok(moved);
        }
        let mut lines = Vec::new();
        let mut keep = |name: String, commit: &CommitId| {
            if !known.contains_key(&name) {
                lines.push(format!("create {name} {commit}"));
            }
        };
        keep(kept, &tip);
        for (task, commit) in self.beyond(request, &tip).await? {
            keep(format!("{folder}/{number}/{task}"), commit);
        }
        let why = format!("orch: undo {}", request.run);
        if checkout.is_none() {
            lines.push(format!("update {name} {base} {tip}"));
        }
        if !lines.is_empty() {
            self.transact(&why, &lines).await?.map_err(|_| moved_meanwhile(target))?;
        }
        if let Some(checkout) = checkout {
            self.move_back(&checkout, &name, base, &tip, why).await?;
        }
        Ok(moved)
    }

    /// Refuses where the target holds anything that the run did not bring there.
    async fn refuse_work_of_others(
        &self,
        request: &UndoRequest,
        tip: &CommitId,
    ) -> Result<(), WorktreeError> {
        let RunBase { target, commit: base } = &request.base;
        let run = &request.run;
        if !self.unreadable(std::slice::from_ref(base)).await?.is_empty()
            || !self.is_ancestor(base, tip).await?
        {
            return Err(refused(format!(
                "branch `{target}` was moved by somebody else: it does not contain commit {} any more, where run {run} began",
                base.short()
            )));
        }
        let results = names::head(&names::results_branch(run));
        let delivered = names::run_ref(run, "delivered");
        let ends = self.refs(&[&results, &delivered]).await?;
        let ours = ends.values().map(|r| &r.commit).chain(&request.delivered);
        let ours = ours.chain(request.merged.iter().map(|(_, _, merge)| merge));
        let is_ours = ours.into_iter().any(|commit| commit == tip);
        let foreign = self.foreign(request, tip).await?;
        match foreign.as_slice() {
            [] if is_ours => Ok(()),
            [] => Err(refused(format!(
                "branch `{target}` is at {}, where run {run} did not leave it; move it by hand if that is meant: `git branch -f`, or `git reset --keep {}` where it is checked out",
                tip.short(),
                base.short()
            ))),
            all => Err(refused(format!(
                "branch `{target}` has commits since run {run} began that are not the run's: {}; undo would take them away too. `git rebase --onto {} {} {target}`, for one, keeps those that came after the run",
                listed(all),
                base.short(),
                request.delivered.as_ref().unwrap_or(tip).short(),
            ))),
        }
    }

    /// The commits of others since the run began, in short.
    ///
    /// The results grow by their first parents. What a merge of the run brings in is the run's; what
    /// comes in otherwise is somebody else's, unless it is a copy of a commit of a task.
    async fn foreign(
        &self,
        request: &UndoRequest,
        tip: &CommitId,
    ) -> Result<Vec<String>, WorktreeError> {
        let range = format!("{}..{tip}", request.base.commit);
        let grown = self.grown(&[&range]).await?;
        let merges: HashSet<&str> =
            request.merged.iter().map(|(_, _, merge)| merge.as_str()).collect();
        let takes_in = format!(
            "Merge branch '{}' into {}",
            request.base.target,
            names::results_branch(&request.run)
        );
        let mut chain = Vec::new();
        let mut next = Some(tip.as_str());
        while let Some((id, commit)) = next.and_then(|id| grown.get_key_value(id)) {
            chain.push(id.as_str());
            next = commit.parents.first().map(String::as_str);
        }
        let mut seen: HashSet<&str> = HashSet::new();
        let mut foreign = Vec::new();
        for id in chain.into_iter().rev() {
            let Some(top) = grown.get(id) else { continue };
            let is_own = merges.contains(id) || top.run == request.run.as_str();
            let mut left = vec![id];
            while let Some(id) = left.pop() {
                let Some((id, commit)) = grown.get_key_value(id) else { continue };
                if !seen.insert(id) {
                    continue;
                }
                left.extend(commit.parents.iter().map(String::as_str));
                if !is_own && commit.subject != takes_in {
                    foreign.push((id.as_str(), commit));
                }
            }
        }
        if !foreign.is_empty() {
            let not = format!("^{}", request.base.commit);
            let works = request.merged.iter().map(|(_, work, _)| work.as_str());
            let arguments: Vec<&str> = works.chain([&*not]).collect();
            let originals = self.grown(&arguments).await?;
            let originals: HashSet<&str> =
                originals.values().map(|commit| commit.made.as_str()).collect();
            foreign.retain(|(_, commit)| !originals.contains(commit.made.as_str()));
        }
        let short = |id: &str| CommitId::new(id).short().to_owned();
        Ok(foreign.iter().map(|(id, c)| format!("{} {}", short(id), c.subject)).collect())
    }

    /// Commits by their ids; those of `revisions` that can't be read are passed over.
    async fn grown(&self, revisions: &[&str]) -> Result<HashMap<String, Grown>, WorktreeError> {
        let fixed = [
            "rev-list",
            "--ignore-missing",
            "--no-commit-header",
            "--encoding=UTF-8",
            "--format=%H%x00%P%x00%an <%ae> %at %s%x00%(trailers:key=Orch-Run,valueonly,separator=%x2C)%x00%s",
            "--stdin",
        ];
        let input = revisions.join("\n") + "\n";
        let out = self.git.call(fixed).input(input).answer().await?.success()?;
        let text = String::from_utf8_lossy(&out);
        let commit = |line: &str| {
            let mut fields = line.splitn(5, '\0');
            let id = fields.next()?.to_owned();
            let parents = fields.next()?.split(' ').map(str::to_owned).collect();
            let made = fields.next()?.to_owned();
            let run = fields.next()?.to_owned();
            Some((id, Grown { parents, made, run, subject: fields.next()?.to_owned() }))
        };
        Ok(text.lines().filter_map(commit).collect())
    }

    /// The work of merged tasks that is no part of the target's history.
    async fn beyond<'r>(
        &self,
        request: &'r UndoRequest,
        tip: &CommitId,
    ) -> Result<Vec<(&'r TaskId, &'r CommitId)>, WorktreeError> {
        let works: Vec<CommitId> = request.merged.iter().map(|(_, work, _)| work.clone()).collect();
        let unreadable = self.unreadable(&works).await?;
        let input: String = works
            .iter()
            .filter(|work| !unreadable.contains(*work))
            .map(|work| format!("{work}\n"))
            .chain([format!("^{tip}\n")])
            .collect();
        let call = self.git.call(["rev-list", "--stdin"]).input(input);
        let out = call.answer().await?.success()?;
        let text = String::from_utf8_lossy(&out);
        let beyond: HashSet<&str> = text.lines().collect();
        let merged = request.merged.iter().map(|(task, work, _)| (task, work));
        Ok(merged.filter(|(_, work)| beyond.contains(work.as_str())).collect())
    }

    /// Where the target is checked out, if it can be moved there without touching anybody's work.
    async fn checkout_to_move(
        &self,
        name: &str,
        base: &CommitId,
        tip: &CommitId,
    ) -> Result<Option<Checkout>, WorktreeError> {
        let all = self.checkouts.all(&self.git).await?;
        let mut holding = all.into_iter().filter(|checkout| checkout.holds(name));
        let Some(checkout) = holding.next() else { return Ok(None) };
        let cure = "commit or stash them, or finish what was begun, and undo again";
        if let Some(reason) = self.why_untouchable(&checkout).await? {
            return Err(refused(format!("{reason}; {cure}")));
        }
        if let Some(second) = holding.next() {
            let (first, second) = (checkout.path.display(), second.path.display());
            return Err(refused(format!("the target is checked out twice: {first} and {second}")));
        }
        if checkout.branch.as_deref() != Some(name) {
            let path = checkout.path.display();
            return Err(refused(format!("the target is being rebased in {path}; {cure}")));
        }
        // Git would replace ignored files without a word.
        let changes = ["diff-tree", "-r", "-z", "--name-status", "--no-renames"];
        let changes = changes.into_iter().chain([tip.as_str(), base.as_str(), "--"]);
        let changes = self.git.run(changes).await?;
        if let Some(file) = in_the_way(&checkout.path, &changes) {
            return Err(refused(format!(
                "{} is in the way of a file that comes back; move it elsewhere and undo again",
                file.display()
            )));
        }
        Ok(Some(checkout))
    }

    /// Moves a checkout from `tip` to `base`.
    async fn move_back(
        &self,
        checkout: &Checkout,
        name: &str,
        base: &CommitId,
        tip: &CommitId,
        why: String,
    ) -> Result<(), WorktreeError> {
        let git = self.git.on_worktree(&checkout.admin, &checkout.path);
        let git = git.with_environment(vec![("GIT_REFLOG_ACTION".into(), why.into())]);
        let reset = git.call(["reset", "--keep", "--quiet", base.as_str(), "--"]).durable();
        let answer = reset.answer().await?;
        if answer.code != Some(0) {
            let (path, complaint) = (checkout.path.display(), answer.complaint());
            return Err(refused(format!("git can't move {path} back: {complaint}")));
        }
        let before = git.line(["rev-parse", "--verify", "ORIG_HEAD^{commit}"]).await?;
        let now = self.refs(&[name]).await?.remove(name).map(|reference| reference.commit);
        if before == tip.as_str() && now.as_ref() == Some(base) {
            return Ok(());
        }
        // What was checked out changed between the look and the move: it gets all back.
        let back = ["merge", "--ff-only", "--quiet", "--no-autostash", "--no-overwrite-ignore"];
        git.call(back).arguments([&before]).durable().answer().await?.success()?;
        Err(moved_meanwhile(name.strip_prefix(names::HEADS).unwrap_or(name)))
    }
}

/// A commit since the run began.
#[derive(Debug)]
struct Grown {
    parents: Vec<String>,
    /// Who made it when and what for: the same for its copies.
    made: String,
    /// The run that its message names.
    run: String,
    subject: String,
}

fn moved_meanwhile(target: &str) -> WorktreeError {
    refused(format!("branch `{target}` was moved in this moment; look at it and undo again"))
}

/// What stands in a checkout, and is not tracked there, where a file of the other commit would be
/// written. `changes` is what `git diff-tree --name-status -z` prints.
fn in_the_way(top: &Path, changes: &[u8]) -> Option<PathBuf> {
    let text = String::from_utf8_lossy(changes);
    let fields: Vec<&str> = text.split('\0').filter(|field| !field.is_empty()).collect();
    let of = |kind: &str| {
        let pairs = fields.chunks_exact(2).filter(|pair| pair[0] == kind);
        pairs.map(|pair| Path::new(pair[1])).collect::<Vec<_>>()
    };
    // Files that go make way for what comes.
    let goes: HashSet<&Path> = of("D").iter().flat_map(|path| path.ancestors()).collect();
    let is_blocked = |path: &Path, is_folder: bool| {
        let Ok(found) = top.join(path).symlink_metadata() else { return false };
        !(is_folder && found.is_dir() || goes.contains(path))
    };
    of("A").into_iter().find_map(|path| {
        let folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        let blocked = folders.filter(|folder| is_blocked(folder, true)).last();
        blocked.or_else(|| is_blocked(path, false).then_some(path)).map(|path| top.join(path))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_stands_where_a_file_comes_back_is_named() {
        let top = tempfile::tempdir().unwrap();
        let at = |changes: &str| in_the_way(top.path(), changes.as_bytes());
        fs::create_dir(top.path().join("folder")).unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        assert_eq!(at("A\0new\0M\0file\0"), None);
        assert_eq!(at("A\0folder/new\0"), None);
        assert_eq!(at("M\0x\0A\0file\0"), Some(top.path().join("file")));
        assert_eq!(at("A\0file/below\0"), Some(top.path().join("file")));
        assert_eq!(at("A\0folder\0"), Some(top.path().join("folder")));
        // A file becomes a folder again, and a folder a file.
        assert_eq!(at("A\0file/below\0D\0file\0"), None);
        assert_eq!(at("A\0folder\0D\0folder/tracked\0"), None);
    }
}
