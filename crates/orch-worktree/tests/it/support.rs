//! A repository in a temporary folder, apart from the configuration of whoever runs the tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use orch_model::{
    CommitId, EpicId, RunId, TaskId,
    event::{Delivery, RunBase},
    plan::spec::Strategy,
    ports::{
        BeginRun, CommitMessage, MergeOutcome, MergeRequest, Release, Worktree, WorktreeError,
        WorktreeProvider, WorktreeRequest,
    },
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig, TreeConfig};
use tempfile::TempDir;

pub(crate) struct Fixture {
    _folder: TempDir,
    /// The repository, on branch `main` with one commit of `README` and `.gitignore`.
    pub(crate) repo: PathBuf,
}

pub(crate) fn run_id() -> RunId {
    RunId::new("r1").unwrap()
}

pub(crate) fn task_id(task: &str) -> TaskId {
    TaskId::new(task).unwrap()
}

pub(crate) fn message(task: &str) -> CommitMessage {
    CommitMessage::new(format!("Do {task}"), run_id(), task_id(task), 1)
}

pub(crate) fn request(task: &str, attempt: u32) -> WorktreeRequest {
    WorktreeRequest { run: run_id(), task: task_id(task), attempt, shared_by: None }
}

pub(crate) fn shared(task: &str, epic: &str) -> WorktreeRequest {
    WorktreeRequest { shared_by: Some(EpicId::new(epic).unwrap()), ..request(task, 1) }
}

pub(crate) fn merge_request(task: &str, commit: &CommitId) -> MergeRequest {
    MergeRequest {
        commit: commit.clone(),
        branch: format!("orch/r1/{task}"),
        message: message(task),
        strategy: Strategy::Merge,
    }
}

/// The kind that is tested.
pub(crate) fn trees() -> TreeConfig {
    let mut trees = TreeConfig::default();
    trees.kind = crate::KIND;
    trees
}

/// Runs git as a user would, apart from the user's configuration.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = try_git(folder, arguments);
    assert!(
        output.status.success(),
        "git {arguments:?} in {}: {}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn try_git(folder: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE"] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap()
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Takes a worktree's folder away, as somebody may.
pub(crate) fn remove_folder(path: &Path) {
    let _ = Command::new("umount").args(["--quiet", "--lazy"]).arg(path).status();
    fs::remove_dir_all(path).unwrap();
}

/// What was mounted by a test that did not give it back.
impl Drop for Fixture {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let folder = self.repo.parent().unwrap();
        let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in ours.filter(|place| Path::new(place).starts_with(folder)) {
            let _ = Command::new("umount").args(["--lazy", place]).status();
        }
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_init(&["init", "--quiet", "-b", "main"])
    }

    pub(crate) fn with_init(init: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let repo = folder.path().canonicalize().unwrap().join("repo");
        fs::create_dir(&repo).unwrap();
        git(&repo, init);
        git(&repo, &["config", "user.name", "Someone"]);
        git(&repo, &["config", "user.email", "someone@example.com"]);
        let fixture = Self { _folder: folder, repo };
        fixture.commit(&[("README", "hello\n"), (".gitignore", "/target/\n*.log\n")]);
        fixture
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.repo, arguments)
    }

    /// Commits files to the branch that is checked out.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> CommitId {
        commit(&self.repo, files)
    }

    pub(crate) fn config(&self) -> GitWorktreesConfig {
        GitWorktreesConfig::new(&self.repo)
            .trees(trees())
            .environment("GIT_CONFIG_GLOBAL", "/dev/null")
            .environment("GIT_CONFIG_SYSTEM", "/dev/null")
    }

    pub(crate) async fn open(&self) -> GitWorktrees {
        GitWorktrees::open(self.config()).await.unwrap()
    }

    /// A provider with run `r1` begun on the branch that is checked out.
    pub(crate) async fn begun(&self) -> GitWorktrees {
        let provider = self.open().await;
        begin(&provider, None).await.unwrap();
        provider
    }

    pub(crate) fn tip(&self, branch: &str) -> CommitId {
        CommitId::new(self.git(&["rev-parse", "--verify", branch]))
    }

    pub(crate) fn has(&self, reference: &str) -> bool {
        try_git(&self.repo, &["rev-parse", "--verify", "-q", reference]).status.success()
    }

    /// The text of a file in a commit.
    pub(crate) fn file(&self, commit: &str, name: &str) -> Option<String> {
        let output = try_git(&self.repo, &["show", &format!("{commit}:{name}")]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    pub(crate) fn branches(&self) -> Vec<String> {
        let list = self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        list.lines().map(str::to_owned).collect()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.repo.with_file_name("repo.worktrees")
    }

    pub(crate) fn place(&self, task: &str) -> PathBuf {
        self.root().join("r1").join(task)
    }

    /// The git folder of the worktree that is found under a path.
    pub(crate) fn admin(&self, task: &str) -> PathBuf {
        let link = self.place(task).canonicalize().unwrap().join(".git");
        let is_of = |admin: &PathBuf| {
            fs::read_to_string(admin.join("gitdir")).is_ok_and(|to| Path::new(to.trim()) == link)
        };
        let entries = fs::read_dir(self.repo.join(".git/worktrees")).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(is_of).unwrap()
    }

    /// How many worktrees there are besides the checkout and those that lie idle in the pool.
    pub(crate) fn worktrees(&self) -> usize {
        let list = self.git(&["worktree", "list", "--porcelain"]);
        let is_used = |entry: &&str| {
            !entry.contains(".worktrees/.pool/") || entry.contains("locked orch run")
        };
        list.split("\n\n").filter(is_used).count() - 1
    }

    /// Whether no folder of a run is left.
    pub(crate) fn is_tidy(&self) -> bool {
        let entries = fs::read_dir(self.root()).into_iter().flatten();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.iter().all(|name| [".pool", ".overlay"].iter().any(|ours| name == ours))
    }

    /// All bytes of the checkout and of its index and HEAD, with the times of the index.
    pub(crate) fn checkout(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut left = vec![self.repo.clone()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with(".git") {
                    continue;
                } else if path.is_dir() {
                    left.push(path);
                } else {
                    let text = fs::read(&path).unwrap();
                    all.insert(path, text);
                }
            }
        }
        for name in ["index", "HEAD", "config"] {
            let path = self.repo.join(".git").join(name);
            let mut text = fs::read(&path).unwrap();
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            text.extend(format!("{time:?}").into_bytes());
            all.insert(path, text);
        }
        all
    }
}

pub(crate) fn commit(folder: &Path, files: &[(&str, &str)]) -> CommitId {
    for (name, text) in files {
        write(folder, name, text);
    }
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "--quiet", "-m", "a commit"]);
    CommitId::new(git(folder, &["rev-parse", "HEAD"]))
}

pub(crate) async fn begin(
    provider: &GitWorktrees,
    target: Option<&str>,
) -> Result<RunBase, WorktreeError> {
    let target = target.map(str::to_owned);
    provider.begin(BeginRun { run: run_id(), target, base: None }).await
}

/// A task that writes files; its sealed tip.
pub(crate) async fn work(
    provider: &GitWorktrees,
    task: &str,
    files: &[(&str, &str)],
) -> (Box<dyn Worktree>, CommitId) {
    let worktree = provider.acquire(request(task, 1)).await.unwrap();
    for (name, text) in files {
        write(worktree.path(), name, text);
    }
    let sealed = worktree.seal(&message(task)).await.unwrap();
    (worktree, sealed.tip.unwrap())
}

pub(crate) async fn merge(provider: &GitWorktrees, task: &str, commit: &CommitId) -> MergeOutcome {
    provider.merge(merge_request(task, commit)).await.unwrap()
}

/// The whole way of a task; its merge commit.
pub(crate) async fn complete(
    provider: &GitWorktrees,
    task: &str,
    files: &[(&str, &str)],
) -> CommitId {
    let (worktree, tip) = work(provider, task, files).await;
    let merged = merged(merge(provider, task, &tip).await);
    worktree.release(Release::Done).await.unwrap();
    merged
}

pub(crate) fn merged(outcome: MergeOutcome) -> CommitId {
    match outcome {
        MergeOutcome::Merged { merge_commit } => merge_commit,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn finish(provider: &GitWorktrees) -> Delivery {
    provider.finish(&run_id()).await.unwrap()
}
