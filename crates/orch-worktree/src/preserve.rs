//! Makes sure that what is in a worktree can be reached from a reference that stays, whatever
//! state the worktree is in: changed files, a detached HEAD, a rebase half done, a stale
//! `index.lock`. The worktree itself is not changed.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use orch_model::{
    CommitId, RunId, TaskId,
    ports::{CommitMessage, WorktreeError},
    state::Attempt,
};

use crate::{
    error::{io_error, would_lose},
    filters,
    git::Git,
    modules::{self, Adding},
    names,
    parse::{self, Status},
    repo::{Repo, Run},
};

/// A worktree on disk.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The folder.
    pub(crate) path: PathBuf,
    /// Its git folder; `None` if the repository knows of no worktree there.
    pub(crate) admin: Option<PathBuf>,
}

/// Whose work is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) run: &'a Run,
    pub(crate) task: &'a TaskId,
    pub(crate) attempt: Attempt,
}

impl Owner<'_> {
    fn message(&self) -> CommitMessage {
        names::left_by(&self.run.id, self.task, self.attempt)
    }
}

impl Site {
    /// Whether files were checked out there. Without an index nobody has been given the worktree
    /// yet, and what lies there is a part of a checkout.
    fn is_complete(&self) -> Option<&Path> {
        let admin = self.admin.as_deref()?;
        (self.path.is_dir() && admin.join("index").exists()).then_some(admin)
    }

    /// The attempt that it was made for.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        let reason = fs::read_to_string(self.admin.as_ref()?.join("locked")).ok()?;
        names::attempt_of(&reason)
    }
}

/// What git says of a worktree; no file is written.
pub(crate) async fn status_of(git: &Git) -> Result<Status, WorktreeError> {
    let out = git
        .run([
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--no-ahead-behind",
            "--ignore-submodules=dirty",
        ])
        .await?;
    let mut status = parse::status(&out);
    let modules = modules::look(git).await?;
    let new = modules.changed.into_iter().filter(|path| !status.changed.contains(path));
    status.changed.extend(new.collect::<Vec<_>>());
    status.untracked.extend(modules.nested);
    filters::look_again(git, &mut status).await?;
    Ok(status)
}

/// A repository inside the worktree holds commits that no commit of the worktree contains.
pub(crate) fn refuse_nested(path: &Path, status: &Status) -> Result<(), WorktreeError> {
    match status.nested() {
        Some(nested) => Err(would_lose(
            path,
            format!(
                "`{}` in it is a git repository of its own, whose commits can't be taken along; ignore it, remove it, or add it as a submodule",
                nested.trim_end_matches('/')
            ),
        )),
        None => Ok(()),
    }
}

impl Repo {
    /// Makes a commit of all that is in a worktree, on objects only: with an index of its own,
    /// so that neither a lock nor conflicts in the worktree's index matter.
    pub(crate) async fn snapshot(
        &self,
        path: &Path,
        admin: &Path,
        status: &Status,
        message: &CommitMessage,
    ) -> Result<CommitId, WorktreeError> {
        let head = status.head.as_ref();
        let index = admin.join("orch-index");
        copy_index(&admin.join("index"), &index)
            .map_err(io_error(format!("copying the index of {}", path.display())))?;
        let git = self.git.on_worktree(admin, path);
        let tree = async {
            let adding = Adding::new(&git, Some(&index), status).await?;
            adding.files(&git).index(&index).answer().await?.success()?;
            if let Some(modules) = adding.modules(&git) {
                modules.index(&index).answer().await?.success()?;
            }
            git.call(["write-tree"]).index(&index).answer().await?.success()
        }
        .await;
        let _ = fs::remove_file(&index);
        let tree = String::from_utf8_lossy(&tree?).trim().to_owned();
        let parents: Vec<&CommitId> = head.into_iter().collect();
        self.commit_tree(&tree, &parents, &message.to_string()).await
    }

    /// Keeps what is in a worktree, and what is on a branch, unless it is part of the results,
    /// of the target or of something kept before. Returns where the branch stands.
    pub(crate) async fn preserve(
        &self,
        site: &Site,
        branch: &str,
        owner: Owner<'_>,
    ) -> Result<Option<CommitId>, WorktreeError> {
        let mut heads = Vec::new();
        if let Some(admin) = site.is_complete() {
            let status = status_of(&self.git.on_worktree(admin, &site.path)).await?;
            refuse_nested(&site.path, &status)?;
            self.refuse_private_modules(&site.path, admin).await?;
            if status.is_dirty() {
                heads.push(self.snapshot(&site.path, admin, &status, &owner.message()).await?);
            } else {
                heads.extend(status.head);
            }
        } else if let Some(admin) = &site.admin {
            let git = self.git.on_repository(admin);
            let answer = git.call(["rev-parse", "--verify", "-q", "HEAD"]).answer().await?;
            if let Ok(head) = answer.success() {
                heads.push(CommitId::new(String::from_utf8_lossy(&head)));
            }
        }
        let branch_ref = names::head(branch);
        let tip = self.refs(&[&branch_ref]).await?.remove(&branch_ref).map(|r| r.commit);
        heads.extend(tip.clone());
        heads.dedup();
        let mut lost = Vec::new();
        for head in heads {
            if !self.is_kept(&head, &branch_ref, owner).await? {
                lost.push(head);
            }
        }
        let kept = match lost.as_slice() {
            [] => return Ok(tip),
            [one] => one.clone(),
            [first, second, ..] => {
                if self.is_ancestor(second, first).await? {
                    first.clone()
                } else if self.is_ancestor(first, second).await? {
                    second.clone()
                } else {
                    let tree = format!("{first}^{{tree}}");
                    let message = owner.message().to_string();
                    self.commit_tree(&tree, &[first, second], &message).await?
                }
            }
        };
        if orch_faults::planted("removed-before-kept") {
            return Ok(tip);
        }
        self.sync_objects(&kept, &owner.run.base).await?;
        self.keep(&kept, owner).await?;
        Ok(tip)
    }

    /// Whether a commit is part of anything that stays when a branch is deleted.
    async fn is_kept(
        &self,
        commit: &CommitId,
        branch: &str,
        owner: Owner<'_>,
    ) -> Result<bool, WorktreeError> {
        let run = &owner.run.id;
        let places = [
            owner.run.target_ref(),
            format!("{}{run}", names::OURS),
            format!("{}{run}", names::PRESERVED),
        ];
        let found = self.refs_containing(commit, &places).await?;
        Ok(found.keys().any(|name| name != branch))
    }

    /// Keeps a commit under a name that is still free.
    async fn keep(&self, commit: &CommitId, owner: Owner<'_>) -> Result<(), WorktreeError> {
        let name = names::preserved(&owner.run.id, owner.task, owner.attempt);
        let folder = name.rsplit_once('/').map_or(name.as_str(), |(folder, _)| folder);
        let taken = self.refs(&[folder]).await?;
        let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}.{n}")));
        let free = names.into_iter().find(|name| !taken.contains_key(name)).unwrap_or(name);
        tracing::info!(reference = %free, %commit, "kept the work of an attempt");
        self.transact("orch: keep", &[format!("create {free} {commit}")]).await?
    }

    /// The reference that keeps the newest work of a task.
    pub(crate) async fn newest_kept(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<String>, WorktreeError> {
        let all = self.refs(&[names::all_preserved(run, task)]).await?;
        Ok(all.into_keys().max_by_key(|name| names::preserved_order(name)))
    }

    /// Submodules that were checked out in a worktree have their objects in its git folder; what
    /// was committed there and not pushed is nowhere else.
    pub(crate) async fn refuse_private_modules(
        &self,
        path: &Path,
        admin: &Path,
    ) -> Result<(), WorktreeError> {
        let modules = admin.join("modules");
        if !modules.is_dir() {
            return Ok(());
        }
        let all = repositories_below(&modules)
            .map_err(io_error(format!("looking for submodules in {}", modules.display())))?;
        for module in all {
            let unpushed = ["rev-list", "--max-count=1", "HEAD", "--all", "--not", "--remotes"];
            let answer = self.git.on_repository(&module).call(unpushed).answer().await?;
            if answer.code != Some(0) || !answer.stdout.is_empty() {
                let name = module.strip_prefix(&modules).unwrap_or(&module).display();
                return Err(would_lose(
                    path,
                    format!("its submodule `{name}` has commits that were not pushed; push them"),
                ));
            }
        }
        Ok(())
    }
}

/// Copies an index with its time: git reads files again that were changed at the moment at which the
/// index was written, or later.
pub(crate) fn copy_index(index: &Path, copy: &Path) -> io::Result<()> {
    let time = fs::metadata(index)?.modified()?;
    fs::copy(index, copy)?;
    File::options().write(true).open(copy)?.set_modified(time)
}

/// The git folders below a folder.
fn repositories_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(folder) = left.pop() {
        if folder.join("HEAD").is_file() && folder.join("objects").is_dir() {
            let nested = folder.join("modules");
            found.push(folder);
            left.extend(nested.is_dir().then_some(nested));
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(found)
}
