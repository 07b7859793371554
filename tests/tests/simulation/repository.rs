//! `WorktreeProvider`: a repository of commits that are lists of files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use orch_exec::model::{
    CommitId, RunId, TaskId,
    event::{Delivery, Place, RunBase},
    ports::{
        BeginRun, CommitMessage, GcItem, GcRequest, MergeOutcome, MergeRequest, Purpose, Release,
        Sealed, Stack, Stacked, Worktree, WorktreeError, WorktreeProvider, WorktreeRequest,
    },
    state::Attempt,
};

use crate::{
    processes::Name,
    world::{Inner, Part},
};

/// Where merged results are checked out.
const CANDIDATE: &str = "/sim/candidate";

/// Who wrote what a power cut left of a file.
const TORN: &str = "nobody";

/// What a file holds: who wrote it last.
type Content = (String, Attempt, u64);
type Files = BTreeMap<String, Content>;

#[derive(Debug, Clone, Default)]
struct Commit {
    parents: Vec<usize>,
    files: Files,
    /// The task that this merge commit brought in.
    merges: Option<TaskId>,
}

#[derive(Debug)]
struct Tree {
    task: TaskId,
    attempt: Attempt,
    base: usize,
    head: usize,
    /// Written, and not committed.
    dirty: Files,
    /// What a power cut has torn of its files: what is in it now is none of its task's.
    torn: Files,
}

/// A repository.
#[derive(Debug)]
pub(crate) struct Repository {
    commits: Vec<Commit>,
    target: usize,
    /// `None` until a run begins.
    results: Option<usize>,
    trees: BTreeMap<PathBuf, Tree>,
    /// What is kept of earlier attempts.
    preserved: Vec<(TaskId, Files)>,
    candidate: usize,
    writes: u64,
    /// Agents whose place to work went away under them.
    homeless: Vec<String>,
}

impl Repository {
    pub(crate) fn new() -> Self {
        Self {
            commits: vec![Commit::default()],
            target: 0,
            results: None,
            trees: BTreeMap::new(),
            preserved: Vec::new(),
            candidate: 0,
            writes: 0,
            homeless: Vec::new(),
        }
    }

    fn results(&self) -> usize {
        self.results.unwrap_or(self.target)
    }

    /// A commit and all that it was made from.
    fn history(&self, commit: usize) -> BTreeSet<usize> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![commit]);
        while let Some(commit) = next.pop() {
            if seen.insert(commit) {
                next.extend(&self.commits[commit].parents);
            }
        }
        seen
    }

    fn contains(&self, commit: usize, other: usize) -> bool {
        self.history(commit).contains(&other)
    }

    fn commit(&mut self, parents: Vec<usize>, files: Files, merges: Option<TaskId>) -> usize {
        self.commits.push(Commit { parents, files, merges });
        self.commits.len() - 1
    }

    /// What merging two commits gives, or the files in conflict.
    fn merged(&self, ours: usize, theirs: usize) -> Result<Files, Vec<String>> {
        let common: Vec<usize> =
            self.history(ours).intersection(&self.history(theirs)).copied().collect();
        let base = common.last().map_or_else(Files::new, |base| self.commits[*base].files.clone());
        let (mut files, theirs) = (self.commits[ours].files.clone(), &self.commits[theirs].files);
        let mut conflicts = Vec::new();
        for (name, content) in theirs {
            if base.get(name) == Some(content) || files.get(name) == Some(content) {
                continue;
            }
            if files.get(name) != base.get(name) {
                conflicts.push(name.clone());
            }
            files.insert(name.clone(), content.clone());
        }
        if conflicts.is_empty() { Ok(files) } else { Err(conflicts) }
    }

    /// A process writes files; `own` are those that the task is there for.
    pub(crate) fn write(
        &mut self,
        directory: &Path,
        task: &TaskId,
        attempt: Attempt,
        files: &[String],
        is_result: bool,
    ) {
        self.writes += 1;
        let write = self.writes;
        let Some(tree) = self.trees.get_mut(directory) else {
            if is_result && directory != Path::new("/sim") {
                self.homeless.push(format!("{task}.{attempt} works where nothing is"));
            }
            return;
        };
        if (&tree.task, tree.attempt) != (task, attempt) {
            self.homeless.push(format!("{task}.{attempt} works in the tree of {}", tree.task));
        }
        for file in files {
            tree.dirty.insert(file.clone(), (task.to_string(), attempt, write));
        }
    }

    /// The merge commits of a task.
    fn merges_of(&self, task: &TaskId) -> Vec<usize> {
        let history = self.history(self.results()).into_iter();
        history.filter(|commit| self.commits[*commit].merges.as_ref() == Some(task)).collect()
    }

    pub(crate) fn is_merged(&self, task: &TaskId) -> bool {
        !self.merges_of(task).is_empty()
    }

    /// Whether what is checked out holds what does not go together.
    pub(crate) fn is_poisoned(&self, poison: &Option<(TaskId, TaskId)>) -> bool {
        self.holds_both(self.candidate, poison)
    }

    fn holds_both(&self, commit: usize, poison: &Option<(TaskId, TaskId)>) -> bool {
        let Some((one, two)) = poison else { return false };
        let history = self.history(commit);
        let holds = |task: &TaskId| {
            history.iter().any(|commit| self.commits[*commit].merges.as_ref() == Some(task))
        };
        holds(one) && holds(two)
    }

    pub(crate) fn check_directory(&self, name: &Name, directory: &Path, found: &mut Vec<String>) {
        if directory == Path::new("/sim") || matches!(name.3, Purpose::Candidate { .. }) {
            return;
        }
        match self.trees.get(directory) {
            Some(tree) if (&tree.task, tree.attempt) == (&name.1, name.2) => {}
            other => found.push(format!("{name:?} was started in {directory:?}: {other:?}")),
        }
    }

    /// The target's new commits are taken into the results.
    fn settle(&mut self) {
        let results = self.results();
        if self.contains(results, self.target) {
            return;
        }
        let files = self.merged(results, self.target).expect("people write other files");
        let merge = self.commit(vec![results, self.target], files, None);
        self.results = Some(merge);
    }

    /// Merges a commit on top of another one.
    fn join(&mut self, top: usize, request: &MergeRequest) -> Stacked {
        let commit = index(&request.commit);
        let task = &request.message.task;
        if self.contains(top, commit) {
            let history = self.history(top);
            let brought_in = history
                .into_iter()
                .find(|merge| self.commits[*merge].parents.get(1) == Some(&commit));
            return Stacked::Contained { merge_commit: commit_id(brought_in.unwrap_or(commit)) };
        }
        match self.merged(top, commit) {
            Ok(files) => {
                let merge = self.commit(vec![top, commit], files, Some(task.clone()));
                Stacked::Merged { merge_commit: commit_id(merge) }
            }
            Err(files) => Stacked::Conflicted { files, hunks: Vec::new() },
        }
    }

    fn remove(&mut self, path: &Path, running: &[PathBuf]) -> Option<Tree> {
        let tree = self.trees.remove(path)?;
        if running.iter().any(|directory| directory == path) {
            self.homeless.push(format!("the tree of {}.{} went", tree.task, tree.attempt));
        }
        Some(tree)
    }

    fn preserve(&mut self, tree: &Tree) {
        let mut files = self.commits[tree.head].files.clone();
        files.extend(tree.dirty.clone());
        self.preserved.push((tree.task.clone(), files));
    }
}

/// What the rules of the end ask for.
impl Repository {
    pub(crate) fn homeless(&self) -> &[String] {
        &self.homeless
    }

    /// The merge commits of a task in the results.
    pub(crate) fn merge_commits(&self, task: &TaskId) -> Vec<CommitId> {
        self.merges_of(task).into_iter().map(commit_id).collect()
    }

    /// The files that the results hold and that a task wrote.
    pub(crate) fn files_of(&self, task: &TaskId) -> BTreeSet<&str> {
        let files = self.commits[self.results()].files.iter();
        files.filter(|(_, content)| content.0 == task.as_str()).map(|(name, _)| &**name).collect()
    }

    /// The files of the results that a power cut has torn.
    pub(crate) fn torn(&self) -> Vec<&String> {
        let files = self.commits[self.results()].files.iter();
        files.filter(|(_, content)| content.0 == TORN).map(|(name, _)| name).collect()
    }

    pub(crate) fn results_hold_both(&self, poison: &Option<(TaskId, TaskId)>) -> bool {
        self.holds_both(self.results(), poison)
    }

    pub(crate) fn trees(&self) -> impl Iterator<Item = &TaskId> {
        self.trees.values().map(|tree| &tree.task)
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.target == self.results()
    }
}

fn commit_id(index: usize) -> CommitId {
    CommitId::new(format!("{index:040x}"))
}

fn index(commit: &CommitId) -> usize {
    usize::from_str_radix(commit.as_str(), 16).expect("it was made here")
}

fn failed(command: &str) -> WorktreeError {
    WorktreeError::Git {
        command: command.into(),
        status: "exit status: 128".into(),
        stderr: "fatal: something is in the way".into(),
    }
}

fn place_of(request: &WorktreeRequest) -> PathBuf {
    Path::new("/sim/trees").join(request.task.as_str())
}

impl Inner {
    /// One of the steps with which git begins: it may fail, and people may have done something.
    fn git(&mut self, command: &str) -> Result<(), WorktreeError> {
        if self.goes_wrong("git fails", 2) {
            return Err(failed(command));
        }
        if self.rng.u8(..) < 4 && self.repository.results.is_some() {
            self.count("people commit to the target");
            let target = self.repository.target;
            let mut files = self.repository.commits[target].files.clone();
            files.insert("people".into(), ("people".into(), 0, target as u64));
            self.repository.target = self.repository.commit(vec![target], files, None);
        }
        self.repository.settle();
        Ok(())
    }

    /// The power fails: of what is checked out, committed or not, any file may be torn.
    pub(crate) fn cut_trees(&mut self) {
        let Self { repository, rng, .. } = self;
        for tree in repository.trees.values_mut() {
            let committed = &repository.commits[tree.head].files;
            for name in committed.keys().chain(tree.dirty.keys()) {
                if rng.bool() {
                    tree.torn.insert(name.clone(), (TORN.into(), 0, 0));
                }
            }
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.running().map(|(_, directory)| directory.clone()).collect()
    }

    /// The commits of merged tasks that this one needs are part of its base.
    fn check_base(&mut self, task: &TaskId, base: usize) {
        let plan = &self.case.plan;
        let spec = plan.spec().tasks.iter().find(|spec| spec.id == *task);
        let needs = spec.map(|spec| spec.needs.clone()).unwrap_or_default();
        for needed in needs {
            let merges = self.repository.merges_of(&needed);
            if !merges.iter().all(|merge| self.repository.contains(base, *merge)) {
                self.violation(format!("{task} begins without the work of {needed}"));
            }
        }
    }
}

#[async_trait]
impl WorktreeProvider for Part {
    fn name(&self) -> &str {
        "simulated"
    }

    fn repository(&self) -> &Path {
        Path::new("/sim")
    }

    async fn begin(&self, _: BeginRun) -> Result<RunBase, WorktreeError> {
        self.act("begin", |world| {
            let repository = &mut world.repository;
            let base = *repository.results.get_or_insert(repository.target);
            Ok(RunBase { target: "main".into(), commit: commit_id(base) })
        })
        .await
    }

    async fn acquire(&self, request: WorktreeRequest) -> Result<Box<dyn Worktree>, WorktreeError> {
        let path = place_of(&request);
        let base = self
            .act(&format!("acquire {}.{}", request.task, request.attempt), |world| {
                world.git("worktree add")?;
                let running = world.directories();
                if let Some(old) = world.repository.remove(&path, &running) {
                    world.repository.preserve(&old);
                }
                let base = world.repository.results();
                world.check_base(&request.task, base);
                let (task, attempt) = (request.task.clone(), request.attempt);
                let tree = Tree {
                    task,
                    attempt,
                    base,
                    head: base,
                    dirty: Files::new(),
                    torn: Files::new(),
                };
                world.repository.trees.insert(path.clone(), tree);
                Ok::<_, WorktreeError>(base)
            })
            .await?;
        Ok(self.worktree(&request, base))
    }

    async fn reopen(
        &self,
        request: WorktreeRequest,
        place: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        let found = self
            .act(&format!("reopen {}.{}", request.task, request.attempt), |world| {
                let tree = world.repository.trees.get(&place.path)?;
                (tree.attempt == request.attempt).then_some(tree.base)
            })
            .await;
        Ok(found.map(|base| self.worktree(&request, base)))
    }

    async fn merge(&self, request: MergeRequest) -> Result<MergeOutcome, WorktreeError> {
        self.act(&format!("merge {}", request.message.task), |world| {
            world.git("merge-tree")?;
            let top = world.repository.results();
            Ok(match world.repository.join(top, &request) {
                Stacked::Merged { merge_commit } => {
                    world.repository.results = Some(index(&merge_commit));
                    self.moved(world);
                    MergeOutcome::Merged { merge_commit }
                }
                Stacked::Contained { merge_commit } => MergeOutcome::Merged { merge_commit },
                Stacked::Conflicted { files, hunks } => MergeOutcome::Conflicted { files, hunks },
                other => unreachable!("{other:?}"),
            })
        })
        .await
    }

    async fn stack(&self, _: &RunId, requests: &[MergeRequest]) -> Result<Stack, WorktreeError> {
        let tasks: Vec<_> = requests.iter().map(|request| request.message.task.as_str()).collect();
        self.act(&format!("stack {}", tasks.join(" ")), |world| {
            world.git("merge-tree")?;
            let base = world.repository.results();
            let mut top = base;
            let mut merges = Vec::new();
            for request in requests {
                let stacked = world.repository.join(top, request);
                if let Stacked::Merged { merge_commit } = &stacked {
                    top = index(merge_commit);
                }
                merges.push(stacked);
            }
            Ok(Stack { base: commit_id(base), merges })
        })
        .await
    }

    async fn checkout(&self, _: &RunId, commit: &CommitId) -> Result<PathBuf, WorktreeError> {
        self.act(&format!("checkout {}", index(commit)), |world| {
            world.git("checkout")?;
            world.repository.candidate = index(commit);
            Ok(CANDIDATE.into())
        })
        .await
    }

    async fn advance(
        &self,
        _: &RunId,
        base: &CommitId,
        commit: &CommitId,
    ) -> Result<bool, WorktreeError> {
        self.act(&format!("advance to {}", index(commit)), |world| {
            if world.goes_wrong("git fails", 2) {
                return Err(failed("update-ref"));
            }
            let (repository, new) = (&mut world.repository, index(commit));
            let results = repository.results();
            if repository.contains(results, new) {
                return Ok(true);
            }
            let is_first = results == index(base);
            if is_first {
                repository.results = Some(new);
                self.moved(world);
            }
            Ok(is_first)
        })
        .await
    }

    async fn tidy(&self, request: WorktreeRequest, _: Release) -> Result<(), WorktreeError> {
        self.act(&format!("tidy {}", request.task), |world| {
            let running = world.directories();
            let path = place_of(&request);
            let head = world.repository.trees.get(&path).map(|tree| tree.head);
            let results = world.repository.results();
            if head.is_some_and(|head| !world.repository.contains(results, head)) {
                world.violation(format!("{} is tidied away, and not merged", request.task));
            }
            world.repository.remove(&path, &running);
        })
        .await;
        Ok(())
    }

    async fn finish(&self, _: &RunId) -> Result<Delivery, WorktreeError> {
        self.act("deliver", |world| {
            let repository = &mut world.repository;
            repository.settle();
            repository.target = repository.results();
            let commit = commit_id(repository.target);
            Ok(Delivery::Target { target: "main".into(), commit })
        })
        .await
    }

    async fn gc(&self, _: GcRequest) -> Result<Vec<GcItem>, WorktreeError> {
        Ok(Vec::new())
    }
}

impl Part {
    fn worktree(&self, request: &WorktreeRequest, base: usize) -> Box<dyn Worktree> {
        Box::new(OpenTree {
            part: self.clone(),
            path: place_of(request),
            branch: format!("orch/{}", request.task),
            base: commit_id(base),
        })
    }
}

#[derive(Debug)]
struct OpenTree {
    part: Part,
    path: PathBuf,
    branch: String,
    base: CommitId,
}

#[async_trait]
impl Worktree for OpenTree {
    fn path(&self) -> &Path {
        &self.path
    }

    fn branch(&self) -> &str {
        &self.branch
    }

    fn base(&self) -> &CommitId {
        &self.base
    }

    async fn seal(&self, message: &CommitMessage) -> Result<Sealed, WorktreeError> {
        self.part
            .act(&format!("seal {}.{}", message.task, message.attempt), |world| {
                world.git("commit-tree")?;
                let repository = &mut world.repository;
                let Some(tree) = repository.trees.get_mut(&self.path) else {
                    return Err(failed("add"));
                };
                let mut dirty = std::mem::take(&mut tree.dirty);
                dirty.append(&mut tree.torn);
                let (head, committed) = (tree.head, !dirty.is_empty());
                if committed {
                    let mut files = repository.commits[head].files.clone();
                    files.extend(dirty);
                    let head = repository.commit(vec![head], files, None);
                    repository.trees.get_mut(&self.path).expect("it is there").head = head;
                }
                let tree = &repository.trees[&self.path];
                let tip = (tree.head != tree.base).then(|| commit_id(tree.head));
                Ok(Sealed { tip, committed })
            })
            .await
    }

    async fn release(self: Box<Self>, release: Release) -> Result<(), WorktreeError> {
        self.part
            .act(&format!("release {} {release:?}", self.path.display()), |world| {
                let running = world.directories();
                if release == Release::Keep {
                    return;
                }
                let Some(tree) = world.repository.remove(&self.path, &running) else { return };
                let results = world.repository.results();
                let is_safe = world.repository.contains(results, tree.head)
                    && (tree.dirty.is_empty() || release == Release::Verified);
                if matches!(release, Release::Done | Release::Verified) && !is_safe {
                    let what = format!("the work of {} was thrown away", tree.task);
                    world.violation(what);
                }
                world.repository.preserve(&tree);
            })
            .await;
        Ok(())
    }
}
