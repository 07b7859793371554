//! Removes what ended runs left behind, as far as it is proven to be safe elsewhere.
//!
//! Only folders below the root, branches `orch/...` and the notes of runs are looked at. Work
//! that was kept under `refs/orch/preserved/` stays; where that is asked for, work that is nowhere else is
//! moved there.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use orch_model::{
    CommitId, RunId, TaskId,
    ports::{GcItem, GcItemKind, GcRequest, WorktreeError},
};

use crate::{
    checkouts::in_progress,
    error::io_error,
    mend::set_aside,
    names::{self, HEADS, OURS, RUNS},
    pool::slot::size_of,
    preserve::{Owner, Site, status_of},
    repo::{Repo, Run},
    target::Target,
};

/// Why a worktree is kept.
enum Why {
    /// There is work in it that is nowhere else.
    Work(String),
    Other(String),
}

impl Why {
    fn into_text(self) -> String {
        match self {
            Self::Work(text) | Self::Other(text) => text,
        }
    }
}

/// A collection under way.
struct Collection<'a> {
    repo: &'a Repo,
    request: &'a GcRequest,
    items: Vec<GcItem>,
    /// Folders that were or would be removed.
    gone: HashSet<PathBuf>,
    /// The branches of removed worktrees are free.
    freed: HashSet<String>,
    /// What `orch keep` keeps.
    kept: Kept,
    /// Commits that were found elsewhere: nothing that is removed here makes them less safe.
    safe: HashSet<CommitId>,
}

/// Runs and tasks that `orch keep` was called for: their worktrees and branches stay.
#[derive(Debug, Default)]
struct Kept(HashSet<(String, String)>);

impl Kept {
    async fn of(repo: &Repo) -> Result<Self, WorktreeError> {
        let refs = repo.refs(&[names::ALL]).await?;
        let kept = refs.keys().filter_map(|name| names::split_kept(name));
        Ok(Self(kept.map(|(run, task)| (run.to_owned(), task.to_owned())).collect()))
    }

    fn reason(&self, run: &str, task: &str) -> Option<String> {
        let key = (run.to_owned(), task.to_owned());
        self.0.contains(&key).then(|| {
            let name = format!("{}/{run}/kept/{task}", names::ALL);
            format!("`orch keep` keeps it, until {name} is deleted")
        })
    }

    /// The same for a worktree, whose folder and branch are known.
    fn of_site(&self, path: &Path, branch: Option<&str>) -> Option<String> {
        let of_branch = branch.and_then(names::split_ours);
        if let Some(reason) = of_branch.and_then(|(run, task)| self.reason(run.as_str(), task)) {
            return Some(reason);
        }
        let mut parts = path.iter().rev().filter_map(|part| part.to_str());
        let (task, run) = (parts.next()?, parts.next()?);
        self.reason(run, task)
    }
}

impl Repo {
    pub(crate) async fn gc(&self, request: &GcRequest) -> Result<Vec<GcItem>, WorktreeError> {
        let mut collection = Collection {
            repo: self,
            request,
            items: Vec::new(),
            gone: HashSet::new(),
            freed: HashSet::new(),
            kept: Kept::of(self).await?,
            safe: HashSet::new(),
        };
        collection.worktrees().await?;
        collection.branches().await?;
        collection.folders()?;
        collection.idle();
        if !request.dry_run {
            self.pool.keep_limits().await?;
            self.overlay.keep_limits().await?;
            self.trash.settle().await;
            if let Some(view) = self.git.view().filter(|_| request.live.is_empty()) {
                view.forget_others();
            }
            let _ = fs::remove_dir(&self.root);
        }
        Ok(collection.items)
    }

    /// Where a commit is safe: branches, also of other repositories, tags, results and what was
    /// kept; not on the branches of tasks.
    async fn is_safe(&self, commit: &CommitId) -> Result<bool, WorktreeError> {
        let places = ["refs/heads", "refs/remotes", "refs/tags", names::ALL];
        let found = self.refs_containing(commit, &places).await?;
        // What is remembered of a run goes with it.
        let stays = |name: &String| {
            !name.starts_with(RUNS)
                && names::split_ours(name).is_none_or(|(_, last)| last == "target")
        };
        Ok(found.keys().any(stays))
    }
}

impl Collection<'_> {
    fn item(&mut self, kind: GcItemKind, name: String, kept: Option<String>) {
        self.items.push(GcItem { kind, name, kept, preserved: false, bytes: None });
    }

    /// Worktrees of the pool that go beyond its limits; they are deleted after all else.
    fn idle(&mut self) {
        for (folder, bytes) in self.repo.pool.surplus() {
            let name = folder.display().to_string();
            let (kept, bytes) = (None, Some(bytes));
            self.items.push(GcItem { kind: GcItemKind::Idle, name, kept, preserved: false, bytes });
        }
    }

    /// Moves work that is nowhere else to `refs/orch/preserved/`. Whether it did, or would.
    async fn preserve(&self, site: &Site, branch: &str) -> Result<bool, WorktreeError> {
        let owner =
            names::split_ours(branch).and_then(|(run, task)| Some((run, TaskId::new(task).ok()?)));
        let Some((id, task)) = owner.filter(|_| self.request.preserve) else { return Ok(false) };
        if self.request.dry_run {
            return Ok(true);
        }
        let tip = self.repo.refs(&[branch]).await?.remove(branch).map(|r| r.commit);
        let run = match (self.repo.recall(&id).await?, tip) {
            (Some(run), _) => run,
            (None, Some(tip)) => Run::new(id, Target::Branch(String::new()), tip),
            (None, None) => return Ok(false),
        };
        let attempt = site.attempt().unwrap_or(1);
        let owner = Owner { run: &run, task: &task, attempt };
        let name = branch.strip_prefix(HEADS).unwrap_or(branch);
        match self.repo.preserve(site, name, owner).await {
            Ok(_) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, path = %site.path.display(), "its work can't be moved");
                Ok(false)
            }
        }
    }

    fn is_live(&self, run: &RunId) -> bool {
        self.request.live.contains(run)
    }

    /// The folders of ended runs.
    fn runs(&self) -> Vec<PathBuf> {
        subfolders(&self.repo.root)
            .into_iter()
            .filter(|folder| {
                let name = folder.file_name().and_then(|name| name.to_str());
                name.and_then(|name| RunId::new(name).ok()).is_some_and(|run| !self.is_live(&run))
            })
            .collect()
    }

    async fn worktrees(&mut self) -> Result<(), WorktreeError> {
        let linked: BTreeMap<PathBuf, PathBuf> = self.repo.checkouts.linked().collect();
        let mut sites: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
        for run in self.runs() {
            sites.extend(subfolders(&run).into_iter().map(|path| (path, None)));
        }
        for (path, admin) in linked {
            // Entries without a folder too: they are locked, so `prune` leaves them for ever.
            let ours = path.parent().and_then(|run| {
                let name = run.strip_prefix(&self.repo.root).ok()?.to_str()?;
                RunId::new(name).ok()
            });
            if ours.is_some_and(|run| !self.is_live(&run)) {
                sites.insert(path, Some(admin));
            }
        }
        for (path, admin) in sites {
            self.repo.revive(&path).await?;
            if admin.is_none() && fs::read_dir(&path).is_ok_and(|mut all| all.next().is_none()) {
                continue;
            }
            let name = path.display().to_string();
            let site = Site { path, admin };
            let (mut kept, branch) = self.why_kept(&site).await?;
            let mut preserved = false;
            if let (Some(Why::Work(_)), Some(branch)) = (&kept, &branch)
                && self.preserve(&site, branch).await?
            {
                (kept, preserved) = (None, true);
            }
            let bytes = Some(size_of(&site.path));
            if kept.is_none() {
                self.freed.extend(branch);
                self.gone.insert(site.path.clone());
                if !self.request.dry_run {
                    self.repo.remove(&site).await?;
                }
            }
            let (kind, kept) = (GcItemKind::Worktree, kept.map(Why::into_text));
            self.items.push(GcItem { kind, name, kept, preserved, bytes });
        }
        Ok(())
    }

    async fn is_safe(&mut self, commit: &CommitId) -> Result<bool, WorktreeError> {
        if !self.safe.contains(commit) && self.repo.is_safe(commit).await? {
            self.safe.insert(commit.clone());
        }
        Ok(self.safe.contains(commit))
    }

    /// Why a worktree has to be kept, and its branch by the whole name.
    async fn why_kept(
        &mut self,
        site: &Site,
    ) -> Result<(Option<Why>, Option<String>), WorktreeError> {
        let Some(admin) = &site.admin else {
            let why = Why::Other("it is not a worktree of this repository".into());
            return Ok((Some(why), None));
        };
        let all = self.repo.checkouts.all(&self.repo.git).await?;
        let branch = all.into_iter().find(|c| c.admin == *admin).and_then(|c| c.branch);
        if let Some(reason) = self.kept.of_site(&site.path, branch.as_deref()) {
            return Ok((Some(Why::Other(reason)), branch));
        }
        if let Some(change) = self.repo.misled(&site.path, admin).into_iter().next() {
            return Ok((Some(Why::Other(change)), branch));
        }
        let mut heads: Vec<CommitId> = Vec::new();
        if site.path.is_dir() && admin.join("index").exists() {
            if let Some(what) = in_progress(admin) {
                return Ok((Some(Why::Other(format!("{what} is under way in it"))), branch));
            }
            let status = match status_of(&self.repo.git.on_worktree(admin, &site.path)).await {
                Ok(status) => status,
                Err(error) => {
                    let why = Why::Other(format!("it can't be read: {error}"));
                    return Ok((Some(why), branch));
                }
            };
            if status.is_dirty() {
                let reason = format!("it has uncommitted changes: {}", status.summary());
                return Ok((Some(Why::Work(reason)), branch));
            }
            if let Err(error) = self.repo.refuse_private_modules(&site.path, admin).await {
                return Ok((Some(Why::Other(error.to_string())), branch));
            }
            heads.extend(status.head);
        } else {
            let git = self.repo.git.on_repository(admin);
            let answer = git.call(["rev-parse", "--verify", "-q", "HEAD"]).answer().await?;
            if let Ok(head) = answer.success() {
                heads.push(CommitId::new(String::from_utf8_lossy(&head)));
            }
        }
        if let Some(name) = &branch {
            heads.extend(self.repo.refs(&[name]).await?.remove(name).map(|r| r.commit));
        }
        heads.dedup();
        for head in heads {
            if !self.is_safe(&head).await? {
                let reason = format!("its commit {} is on no other branch", head.short());
                return Ok((Some(Why::Work(reason)), branch));
            }
        }
        Ok((None, branch))
    }

    async fn branches(&mut self) -> Result<(), WorktreeError> {
        let repo = self.repo;
        let checkouts = repo.checkouts.all(&repo.git).await?;
        let refs = repo.refs(&[OURS.trim_end_matches('/')]).await?;
        let ours = refs.values().filter_map(|r| Some((r, names::split_ours(&r.name)?)));
        // Results last: they are what makes the branches of tasks safe.
        let (results, tasks): (Vec<_>, Vec<_>) = ours.partition(|(_, (_, last))| *last == "target");
        let mut waiting: HashSet<RunId> = HashSet::new();
        let mut doomed = Vec::new();
        for (reference, (run, last)) in tasks.into_iter().chain(results) {
            if self.is_live(&run) {
                continue;
            }
            let name = &reference.name;
            let place = checkouts.iter().find(|c| c.holds(name));
            let mut preserved = false;
            let kept = if let Some(place) = place.filter(|_| !self.freed.contains(name)) {
                Some(format!("it is checked out in {}", place.path.display()))
            } else if let Some(reason) = self.kept.reason(run.as_str(), last) {
                Some(reason)
            } else if last == "target" {
                let delivered = repo
                    .refs_containing(&reference.commit, &["refs/heads", "refs/remotes"])
                    .await?;
                let delivered = delivered.keys().any(|name| !name.starts_with(OURS));
                (!delivered).then(|| {
                    let branch = name.strip_prefix(HEADS).unwrap_or(name);
                    format!(
                        "its commits are on no other branch; take them with `git merge {branch}`"
                    )
                })
            } else {
                let safe = self.is_safe(&reference.commit).await?;
                // Nothing is checked out from it.
                let nowhere = Site { path: repo.root.join(names::TRASH).join("-"), admin: None };
                preserved = !safe && self.preserve(&nowhere, name).await?;
                (!safe && !preserved).then(|| "its commits are on no other branch".to_owned())
            };
            match &kept {
                Some(_) => {
                    waiting.insert(run);
                }
                None => doomed.push((name.clone(), reference.commit.clone())),
            }
            let name = name.strip_prefix(HEADS).unwrap_or(name).to_owned();
            let (kind, bytes) = (GcItemKind::Branch, None);
            self.items.push(GcItem { kind, name, kept, preserved, bytes });
        }
        if self.request.dry_run {
            return Ok(());
        }
        self.delete_branches(&doomed).await?;
        self.notes(&waiting).await
    }

    /// Deletes branches that stand where they were seen, in one step where nobody moved one meanwhile.
    async fn delete_branches(&self, doomed: &[(String, CommitId)]) -> Result<(), WorktreeError> {
        let lines: Vec<_> = doomed.iter().map(|(name, at)| format!("delete {name} {at}")).collect();
        if lines.is_empty() || self.repo.transact("orch: gc", &lines).await?.is_ok() {
            return Ok(());
        }
        for (name, at) in doomed {
            let branch = name.strip_prefix(HEADS).unwrap_or(name);
            self.repo.delete_branch(branch, at).await?;
        }
        Ok(())
    }

    /// Forgets ended runs of which no branch is left.
    async fn notes(&self, waiting: &HashSet<RunId>) -> Result<(), WorktreeError> {
        let repo = self.repo;
        for name in repo.refs(&[RUNS.trim_end_matches('/')]).await?.into_keys() {
            let run = name.strip_prefix(RUNS).and_then(|rest| rest.split_once('/'));
            let Some(run) = run.and_then(|(run, _)| RunId::new(run).ok()) else { continue };
            if self.is_live(&run) || waiting.contains(&run) {
                continue;
            }
            if name.ends_with("/base") {
                // By itself: it is not listed if the branch that it stands for is gone.
                let target = names::run_ref(&run, "target");
                repo.git.call(["symbolic-ref", "-d", &target]).answer().await?;
            }
            if name.contains("/resolved/")
                && let Some(found) = repo.refs(&[&name]).await?.remove(&name)
                && !repo.is_safe(&found.commit).await?
            {
                // Somebody's resolution of a conflict that was never merged.
                continue;
            }
            if !name.ends_with("/target") {
                repo.git.run(["update-ref", "-d", &name]).await?;
            }
            repo.forget(&run);
        }
        Ok(())
    }

    /// Empty folders, and those that the removal of worktrees leaves empty.
    fn folders(&mut self) -> Result<(), WorktreeError> {
        for run in self.runs() {
            let mut left = false;
            for entry in fs::read_dir(&run).into_iter().flatten().filter_map(Result::ok) {
                let path = entry.path();
                if self.gone.contains(&path) {
                    continue;
                }
                if path.is_symlink() && self.repo.checkouts.admin_of(&path).is_none() {
                    // It led to a worktree of the pool that is lent to nobody now.
                    if !self.request.dry_run {
                        set_aside(&path)?;
                    }
                    continue;
                }
                let empty = fs::read_dir(&path).is_ok_and(|mut all| all.next().is_none());
                if empty {
                    self.folder(&path)?;
                }
                left |= !empty;
            }
            if !left {
                self.folder(&run)?;
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), WorktreeError> {
        if !self.request.dry_run {
            fs::remove_dir(path)
                .map_err(io_error(format!("removing the empty folder {}", path.display())))?;
        }
        self.item(GcItemKind::Folder, path.display().to_string(), None);
        Ok(())
    }
}

/// The folders in a folder, in the order of their names; symbolic links are not followed.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut all: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    all.sort();
    all
}
