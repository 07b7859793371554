//! Merges in progress: a folder in which somebody, an agent or a person, resolves the conflicts of a
//! task's work, and the record of what came of it.
//!
//! The folder is a worktree on no branch, at the results, in which git merges the work. So the usual
//! commands do there what people expect, and `git rerere` has its say. What comes of it is recorded
//! under a reference, and merges take that in place of the work: whoever repeats the merge after a
//! crash finds it there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orch_model::{
    CommitId, RunId, TaskId,
    ports::{MergeRequest, OpenMerge, SealedMerge, WorktreeError},
};

use crate::{
    checkouts::in_progress,
    conflict::{Conflict, has_markers},
    entry::Detached,
    error::{io_error, target_error},
    git::Git,
    merge::Tree,
    modules::Adding,
    names,
    parse::listed,
    preserve::{Site, refuse_nested, status_of},
    repo::{Repo, Run},
};

/// The file in the worktree's git folder that names both sides: git forgets them when the merge is
/// committed.
const SIDES: &str = "orch-merge";

/// Both sides of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sides {
    ours: CommitId,
    theirs: CommitId,
}

impl Sides {
    fn of(admin: &Path) -> Option<Self> {
        let text = fs::read_to_string(admin.join(SIDES)).ok()?;
        let (ours, theirs) = text.trim().split_once(' ')?;
        Some(Self { ours: CommitId::new(ours), theirs: CommitId::new(theirs) })
    }

    fn write(&self, admin: &Path) -> Result<(), WorktreeError> {
        fs::write(admin.join(SIDES), format!("{} {}\n", self.ours, self.theirs))
            .map_err(io_error(format!("writing {}", admin.join(SIDES).display())))
    }
}

/// A merge in progress on disk.
struct Bench<'a> {
    repo: &'a Repo,
    path: PathBuf,
    admin: PathBuf,
    sides: Sides,
}

impl Repo {
    pub(crate) async fn open_merge(
        &self,
        request: MergeRequest,
        reuse: bool,
    ) -> Result<Option<OpenMerge>, WorktreeError> {
        let run = self.run(&request.message.run).await?;
        let path = self.resolution_folder(&run.id, &request.message.task);
        let _place = self.places.hold(&path).await;
        if reuse && let Some(bench) = self.bench(&path) {
            return bench.show().await;
        }
        self.close(&run, &request).await?;
        let theirs = self.resolution_of(&request).await?;
        let theirs = theirs.unwrap_or_else(|| request.commit.clone());
        let ours = self.settle(&run, None).await?.results;
        match self.merge_tree(&ours, &theirs).await? {
            Tree::Clean(_) => return Ok(None),
            Tree::Conflict(conflict) if conflict.files.is_empty() => {
                return Err(target_error(format!(
                    "{} has no history in common with the results",
                    request.branch
                )));
            }
            Tree::Conflict(_) => {}
        }
        let bench = self.begin_merge(&run, &request, path, Sides { ours, theirs }).await;
        match bench {
            Ok(bench) => bench.show().await,
            Err(error) => {
                // Nobody has worked in it yet.
                self.remove(&self.resolution_site(&run.id, &request.message.task)).await?;
                Err(error)
            }
        }
    }

    async fn begin_merge(
        &self,
        run: &Run,
        request: &MergeRequest,
        path: PathBuf,
        sides: Sides,
    ) -> Result<Bench<'_>, WorktreeError> {
        self.forget_vanished(&path).await?;
        let reason = format!("orch run {} merge of {}", run.id, request.message.task);
        let detached = Detached { folder: &path, commit: &sides.ours, reason: &reason };
        let admin = detached.make(&self.git, &self.checkouts, &self.lock).await?;
        let git = self.git.on_worktree(&admin, &path);
        git.run(["read-tree", "--reset", "-u", sides.ours.as_str()]).await?;
        self.furnish(&path, &admin).await?;
        // Its name says more to whoever reads the markers.
        let branch = self.sides(std::slice::from_ref(&request.branch)).await?;
        let is_there = branch.iter().any(|side| side.commit == sides.theirs);
        let what = if is_there { request.branch.as_str() } else { sides.theirs.as_str() };
        let answer = git
            .call(["merge", "--no-commit", "--no-ff", "--no-edit", "--no-stat", "--quiet"])
            .arguments(["--no-autostash", "--no-verify-signatures", what])
            .answer()
            .await?;
        let merged = fs::read_to_string(admin.join("MERGE_HEAD")).unwrap_or_default();
        if merged.trim() != sides.theirs.as_str() {
            return Err(answer.into_error());
        }
        sides.write(&admin)?;
        Ok(Bench { repo: self, path, admin, sides })
    }

    pub(crate) async fn seal_merge(
        &self,
        request: &MergeRequest,
        commit: bool,
    ) -> Result<SealedMerge, WorktreeError> {
        let path = self.resolution_folder(&request.message.run, &request.message.task);
        let _place = self.places.hold(&path).await;
        match self.bench(&path) {
            Some(bench) => bench.seal(request, commit).await,
            None => Ok(SealedMerge::None),
        }
    }

    pub(crate) async fn accept_merge(
        &self,
        request: &MergeRequest,
        commit: &CommitId,
    ) -> Result<(), WorktreeError> {
        let run = self.run(&request.message.run).await?;
        let task = &request.message.task;
        let site = self.resolution_site(&run.id, task);
        let _place = self.places.hold(&site.path).await;
        let line = format!("update {} {commit}", names::resolution(&run.id, task));
        self.transact("orch: a conflict is resolved", &[line]).await??;
        let head = match &site.admin {
            Some(admin) => self.git.on_repository(admin).line(["rev-parse", "HEAD"]).await.ok(),
            None => None,
        };
        match head.map(CommitId::new) {
            // What commands changed that verified it is nobody's work.
            Some(head) if self.is_ancestor(&head, commit).await? => self.remove(&site).await,
            _ => self.close(&run, request).await.map(drop),
        }
    }

    pub(crate) async fn close_merge(
        &self,
        request: &MergeRequest,
    ) -> Result<Option<String>, WorktreeError> {
        let run = self.run(&request.message.run).await?;
        let path = self.resolution_folder(&run.id, &request.message.task);
        let _place = self.places.hold(&path).await;
        self.close(&run, request).await
    }

    /// Keeps what is in the folder of a merge in progress, where there is one, and removes it.
    async fn close(
        &self,
        run: &Run,
        request: &MergeRequest,
    ) -> Result<Option<String>, WorktreeError> {
        let task = &request.message.task;
        let site = self.resolution_site(&run.id, task);
        if site.admin.is_none() && !site.path.exists() {
            return Ok(None);
        }
        let mut kept = None;
        if let Some(bench) = self.bench(&site.path) {
            let git = bench.git();
            let status = status_of(&git).await?;
            refuse_nested(&site.path, &status)?;
            self.refuse_private_modules(&site.path, &bench.admin).await?;
            let message = names::left_by(&run.id, task, request.message.attempt);
            let left = match &status.head {
                _ if status.is_dirty() => {
                    Some(self.snapshot(&site.path, &bench.admin, &status, &message).await?)
                }
                Some(head) if !self.is_reachable(head).await? => Some(head.clone()),
                _ => None,
            };
            if let Some(commit) = left {
                self.sync_objects(&commit, &run.base).await?;
                let name = names::preserved(&run.id, task, request.message.attempt) + ".merge";
                let taken = self.refs(&[names::all_preserved(&run.id, task)]).await?;
                let all = (2..).map(|n| format!("{name}-{n}"));
                let mut all = std::iter::once(name.clone()).chain(all);
                let free = all.find(|name| !taken.contains_key(name)).unwrap_or(name);
                let line = format!("create {free} {commit}");
                self.transact("orch: keep a merge in progress", &[line]).await??;
                kept = Some(free);
            }
        }
        self.remove(&site).await?;
        Ok(kept)
    }

    /// Whether a reference other than HEAD of some worktree has a commit.
    async fn is_reachable(&self, commit: &CommitId) -> Result<bool, WorktreeError> {
        Ok(!self.refs_containing(commit, &["refs/heads", "refs/orch"]).await?.is_empty())
    }

    /// The recorded resolution of the conflicts of a task's work.
    pub(crate) async fn resolution_of(
        &self,
        request: &MergeRequest,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let name = names::resolution(&request.message.run, &request.message.task);
        let Some(found) = self.refs(&[&name]).await?.remove(&name) else { return Ok(None) };
        // One of an earlier attempt says nothing of this one.
        let is_of_it = self.is_ancestor(&request.commit, &found.commit).await?;
        Ok(is_of_it.then_some(found.commit))
    }

    fn bench(&self, path: &Path) -> Option<Bench<'_>> {
        let admin = self.checkouts.admin_of(path)?;
        let sides = Sides::of(&admin)?;
        let is_whole = path.is_dir() && admin.join("index").exists();
        is_whole.then(|| Bench { repo: self, path: path.into(), admin, sides })
    }

    fn resolution_folder(&self, run: &RunId, task: &TaskId) -> PathBuf {
        self.root.join(run.as_str()).join(names::resolution_folder(task))
    }

    fn resolution_site(&self, run: &RunId, task: &TaskId) -> Site {
        let path = self.resolution_folder(run, task);
        let admin = self.checkouts.admin_of(&path);
        Site { path, admin }
    }
}

impl Bench<'_> {
    fn git(&self) -> Git {
        self.repo.git.on_worktree(&self.admin, &self.path)
    }

    async fn conflict(&self) -> Result<Conflict, WorktreeError> {
        match self.repo.merge_tree(&self.sides.ours, &self.sides.theirs).await? {
            Tree::Conflict(conflict) => Ok(conflict),
            Tree::Clean(tree) => Ok(Conflict { tree, files: Vec::new() }),
        }
    }

    async fn show(&self) -> Result<Option<OpenMerge>, WorktreeError> {
        let conflict = self.conflict().await?;
        let Sides { ours, theirs } = self.sides.clone();
        Ok(Some(OpenMerge {
            path: self.path.clone(),
            hunks: self.repo.hunks(&ours, &theirs).await,
            unresolved: self.unresolved(&conflict).await?,
            files: conflict.files,
            ours,
            theirs,
        }))
    }

    async fn seal(
        &self,
        request: &MergeRequest,
        commit: bool,
    ) -> Result<SealedMerge, WorktreeError> {
        let open = |reason: String| Ok(SealedMerge::Open { path: self.path.clone(), reason });
        let git = self.git();
        let status = status_of(&git).await?;
        let merging = self.admin.join("MERGE_HEAD").exists();
        let conflict = self.conflict().await?;
        let left = |files: &[String]| {
            let files = listed(files);
            open(format!(
                "conflicts are left in {files}; edit them, or say `git add` or `git rm` where one side is right as it is"
            ))
        };
        let unresolved = self.unresolved(&conflict).await?;
        if !unresolved.is_empty() {
            return left(&unresolved);
        }
        if let Some(what) = in_progress(&self.admin).filter(|_| !merging) {
            return open(format!("{what} was begun there and not finished"));
        }
        refuse_nested(&self.path, &status)?;
        if merging || status.is_dirty() {
            if !commit {
                return open("the merge is not committed yet".into());
            }
            let adding = Adding::new(&git, None, &status).await?;
            self.repo.past_locks(|| adding.files(&git)).await?.success()?;
            if let Some(modules) = adding.modules(&git) {
                modules.answer().await?.success()?;
            }
            let text = request.message.to_string();
            let call = || {
                let quiet = ["commit", "--quiet", "--no-verify", "--no-gpg-sign"];
                git.call(quiet).arguments(["--cleanup=verbatim", "-m", &text])
            };
            self.repo.past_locks(call).await?.success()?;
        }
        let head = CommitId::new(git.line(["rev-parse", "--verify", "HEAD"]).await?);
        let Sides { ours, theirs } = &self.sides;
        for (side, whose) in [(theirs, "the task's work"), (ours, "the results")] {
            if !self.repo.is_ancestor(side, &head).await? {
                return open(format!(
                    "HEAD does not contain {whose} ({}); merge it with `git merge {side}`",
                    side.short()
                ));
            }
        }
        // Git can be told not to look at a file: what counts is what was committed.
        let mut committed = Vec::new();
        for file in &conflict.files {
            if self.is_marked(&self.blob(&head, file).await?, file).await? {
                committed.push(file.clone());
            }
        }
        if !committed.is_empty() {
            return left(&committed);
        }
        self.repo.sync_objects(&head, ours).await?;
        Ok(SealedMerge::Resolved { commit: head })
    }

    /// The files that are in conflict still.
    async fn unresolved(&self, conflict: &Conflict) -> Result<Vec<String>, WorktreeError> {
        let git = self.git();
        let unmerged = status_of(&git).await?.unmerged;
        let mut left: Vec<String> = Vec::new();
        for file in &conflict.files {
            let path = self.path.join(file);
            // What a link leads to may be no file, or have no end.
            let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
            let text = if is_file { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            if self.is_marked(&text, file).await?
                || (unmerged.contains(file) && !self.is_touched(conflict, file).await?)
            {
                left.push(file.clone());
            }
        }
        // What git calls unmerged and no side named: a file that was renamed, for example.
        left.extend(unmerged.into_iter().filter(|file| !conflict.files.contains(file)));
        Ok(left)
    }

    /// Whether a text has conflict markers that are no part of it.
    async fn is_marked(&self, text: &[u8], file: &str) -> Result<bool, WorktreeError> {
        if !has_markers(text, &[]) {
            return Ok(false);
        }
        let ours = self.blob(&self.sides.ours, file).await?;
        let theirs = self.blob(&self.sides.theirs, file).await?;
        Ok(has_markers(text, &[ours, theirs]))
    }

    /// A file as a commit has it; nothing where it has none.
    async fn blob(&self, commit: &CommitId, file: &str) -> Result<Vec<u8>, WorktreeError> {
        let name = format!("{commit}:{file}");
        let answer = self.repo.git.call(["cat-file", "blob", &name]).answer().await?;
        Ok(if answer.code == Some(0) { answer.stdout } else { Vec::new() })
    }

    /// Whether somebody has changed a file since git left it there in conflict. Of a link or a submodule
    /// that can't be told: git has to be told what is right.
    async fn is_touched(&self, conflict: &Conflict, file: &str) -> Result<bool, WorktreeError> {
        let left = format!("{}:{file}", conflict.tree);
        let left = self.repo.git.call(["rev-parse", "--verify", "-q", &left]).answer().await?;
        let was_there = left.code == Some(0);
        match fs::symlink_metadata(self.path.join(file)) {
            Err(_) => return Ok(was_there),
            Ok(found) if !found.is_file() => return Ok(false),
            Ok(_) if !was_there => return Ok(true),
            Ok(_) => {}
        }
        let now = self.git().call(["hash-object", "--", file]).answer().await?.success()?;
        Ok(left.stdout != now)
    }
}
