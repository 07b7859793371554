//! Temporary repositories.

use std::{
    cell::Cell,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{
    Checkout, Orch, Outcome, Plan, RunningOrch, Signal, disk::detach_all, supervisors::Supervisors,
};

/// A git repository in a temporary folder that goes away with it.
///
/// Beside the repository the folder holds a home folder of its own (so neither the configuration
/// of git nor that of orch on the machine has a say), the plans, reports and signals of a test,
/// and the worktrees that orch makes.
#[derive(Debug)]
pub struct TestRepo {
    /// Dropped before the folder.
    _supervisors: Supervisors,
    folder: TempDir,
    /// The same folder as git prints it.
    top: PathBuf,
    path: PathBuf,
    counter: Cell<u32>,
}

/// What a [`TestRepo`] begins with.
#[derive(Debug, Clone)]
pub struct RepoBuilder {
    files: usize,
    branch: String,
    disk: Option<PathBuf>,
}

impl Default for RepoBuilder {
    fn default() -> Self {
        Self { files: 3, branch: "main".into(), disk: None }
    }
}

impl RepoBuilder {
    /// How many files the first commit has, beside the README. Default: 3.
    #[must_use]
    pub fn files(mut self, files: usize) -> Self {
        self.files = files;
        self
    }

    /// The name of the branch. Default: `main`.
    #[must_use]
    pub fn branch(mut self, branch: &str) -> Self {
        self.branch = branch.into();
        self
    }

    /// Has the repository, and so its worktrees and the state of orch, in this folder. What the test
    /// itself writes stays elsewhere. Default: all are in one temporary folder.
    #[must_use]
    pub fn on(mut self, disk: impl Into<PathBuf>) -> Self {
        self.disk = Some(disk.into());
        self
    }

    /// Makes it, with one commit.
    ///
    /// # Panics
    /// Where that fails.
    #[must_use]
    pub fn build(self) -> TestRepo {
        let folder = TempDir::with_prefix("orch-test-").expect("a temporary folder can be made");
        // git prints real paths.
        let top = folder.path().canonicalize().expect("the temporary folder is there");
        let path = self.disk.as_ref().unwrap_or(&top).join("repo");
        let supervisors = Supervisors { runs: path.join(".orch/runs") };
        let repo = TestRepo { _supervisors: supervisors, folder, top, path, counter: Cell::new(0) };
        for folder in [&repo.path, &repo.beside("home"), &repo.beside("signals")] {
            fs::create_dir_all(folder).expect("a folder can be made");
        }
        repo.configure("grace = \"500ms\"\nbackoff = \"50ms\"\n");
        repo.git(["init", "--quiet", "--initial-branch", &self.branch]);
        repo.git(["config", "user.name", "Tess Tester"]);
        repo.git(["config", "user.email", "tess@example.org"]);
        repo.write("README.md", "# A repository for tests\n");
        for number in 0..self.files {
            repo.write(&format!("src/file{number}.txt"), &format!("file {number}\n"));
        }
        repo.commit_all("the beginning");
        repo
    }
}

impl Default for TestRepo {
    fn default() -> Self {
        Self::new()
    }
}

impl TestRepo {
    /// A repository with four files and one commit on `main`.
    #[must_use]
    pub fn new() -> Self {
        RepoBuilder::default().build()
    }

    /// A repository with other beginnings.
    #[must_use]
    pub fn builder() -> RepoBuilder {
        RepoBuilder::default()
    }

    /// The top folder of the repository.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path beside the repository, in the same temporary folder; on a disk of its own the
    /// repository has nothing of the test beside it.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// A file on which an agent and the test can wait for one another.
    #[must_use]
    pub fn signal(&self, name: &str) -> Signal {
        Signal::new(self.beside("signals").join(name))
    }

    /// Replaces the user's configuration of orch. At first it has a short grace and a short wait
    /// before retries, so that tests are quick.
    ///
    /// # Panics
    /// Where it can't be written.
    pub fn configure(&self, text: &str) {
        let folder = self.beside("home").join(".config/orch");
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join("config.toml"), text).expect("the configuration can be written");
    }

    /// A command of the test's own, in the environment in which everything of this test runs.
    #[must_use]
    pub fn isolated(&self, mut command: Command) -> Command {
        self.isolate(&mut command);
        command
    }

    /// Sets the environment in which everything of this test runs.
    pub(crate) fn isolate(&self, command: &mut Command) {
        let home = self.beside("home");
        command
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_STATE_HOME", home.join(".state"))
            .env("XDG_DATA_HOME", home.join(".data"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ORCH_") && name != "ORCH_PLANTED_BUG" {
                command.env_remove(name);
            }
        }
    }

    /// Makes a script for `/bin/sh` beside the repository, and gives its path.
    ///
    /// # Panics
    /// Where it can't be written.
    #[must_use]
    pub fn program(&self, name: &str, script: &str) -> String {
        let path = self.beside(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script can be written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("a script can be made executable");
        path.into_os_string().into_string().expect("a path of text")
    }

    /// The output of a git command in the repository, without the white space at its end.
    ///
    /// # Panics
    /// Where git fails.
    #[track_caller]
    pub fn git<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.git_in(&self.path, arguments)
    }

    /// The output of a git command in another folder.
    ///
    /// # Panics
    /// Where git fails.
    #[track_caller]
    pub fn git_in<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> String {
        let (what, output) = self.git_output(folder, arguments);
        assert!(
            output.status.success(),
            "{what} failed: {}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn git_output<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> (String, Output) {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        self.isolate(&mut command);
        let output = command.output().expect("git can be started");
        (format!("{command:?}"), output)
    }

    /// Writes a file of the checkout; folders are made.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path.join(path);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).expect("a folder of the checkout can be made");
        fs::write(&path, content).expect("a file of the checkout can be written");
    }

    /// Reads a file of the checkout.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        let path = self.path.join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Commits everything in the checkout and returns the commit.
    pub fn commit_all(&self, message: &str) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--message", message]);
        self.head()
    }

    /// The commit that is checked out.
    #[must_use]
    pub fn head(&self) -> String {
        self.tip("HEAD")
    }

    /// The commit that a branch points to.
    #[track_caller]
    #[must_use]
    pub fn tip(&self, branch: &str) -> String {
        self.git(["rev-parse", "--verify", "--end-of-options", &format!("{branch}^{{commit}}")])
    }

    /// Whether there is such a branch.
    #[must_use]
    pub fn has_branch(&self, branch: &str) -> bool {
        self.branches().iter().any(|name| name == branch)
    }

    /// The local branches, sorted.
    #[must_use]
    pub fn branches(&self) -> Vec<String> {
        lines(&self.git(["for-each-ref", "--format=%(refname:short)", "refs/heads/"]))
    }

    /// The folders of all worktrees but the first, which is the repository itself.
    #[must_use]
    pub fn worktrees(&self) -> Vec<PathBuf> {
        lines(&self.git(["worktree", "list", "--porcelain"]))
            .iter()
            .filter_map(|line| line.strip_prefix("worktree ").map(PathBuf::from))
            .skip(1)
            .collect()
    }

    /// The subjects of the commits of a branch, newest first.
    #[must_use]
    pub fn log_subjects(&self, branch: &str) -> Vec<String> {
        lines(&self.git(["log", "--format=%s", branch]))
    }

    /// A file as a commit has it.
    ///
    /// # Panics
    /// Where the commit has no such file.
    #[track_caller]
    #[must_use]
    pub fn show(&self, commit: &str, path: &str) -> String {
        let mut text = self.git(["show", &format!("{commit}:{path}")]);
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// The files that a commit has.
    #[must_use]
    pub fn files_of(&self, commit: &str) -> Vec<String> {
        lines(&self.git(["ls-tree", "-r", "--name-only", commit]))
    }

    /// What the checkout holds, byte for byte.
    #[must_use]
    pub fn checkout(&self) -> Checkout {
        Checkout::of(self)
    }

    /// The hash of what the checkout holds; see [`Checkout`].
    #[must_use]
    pub fn tree_hash_of_checkout(&self) -> u64 {
        self.checkout().hash()
    }

    /// Leaves the checkout as users do: a staged change, a change on top of a tracked file, a new
    /// file and a removed one.
    pub fn make_dirty(&self) {
        self.write("src/file0.txt", "staged\n");
        self.git(["add", "src/file0.txt"]);
        self.write("src/file0.txt", "staged, then changed\n");
        self.write("src/file1.txt", "changed\n");
        self.write("notes/untracked.txt", "mine\n");
        fs::remove_file(self.path.join("src/file2.txt")).expect("a file can be removed");
    }

    /// Writes a plan beside the repository and returns its path.
    ///
    /// # Panics
    /// Where that fails.
    #[must_use]
    pub fn plan_file(&self, text: &str) -> PathBuf {
        let path = self.fresh("plan", "toml");
        fs::write(&path, text).expect("a plan can be written");
        path
    }

    pub(crate) fn fresh(&self, what: &str, extension: &str) -> PathBuf {
        let number = self.counter.get();
        self.counter.set(number + 1);
        self.beside(&format!("{what}-{number}.{extension}"))
    }

    /// A call of the `orch` under test in the repository.
    #[must_use]
    pub fn orch<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Orch<'_> {
        Orch::new(self, arguments)
    }

    /// A call of `orch run` with this plan, a report and plain output.
    #[must_use]
    pub fn orch_run(&self, plan: &Plan) -> Orch<'_> {
        let file = self.plan_file(&plan.to_string());
        self.orch([OsStr::new("run"), file.as_os_str()]).with_report()
    }

    /// Runs a plan to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, plan: &Plan) -> Outcome {
        self.orch_run(plan).run()
    }

    /// Starts a run of a plan with events on its output.
    #[track_caller]
    #[must_use]
    pub fn start(&self, plan: &Plan) -> RunningOrch<'_> {
        self.orch_run(plan).arg("--json").spawn()
    }

    /// The text of the journal and of the state of the last run, for messages.
    #[must_use]
    pub fn state_for_people(&self) -> String {
        fs::read_to_string(self.path.join(".orch/parallel-state.json"))
            .unwrap_or_else(|error| format!("no .orch/parallel-state.json: {error}"))
    }
}

impl Drop for TestRepo {
    /// With `ORCH_TEST_KEEP` the folder of a test that fails is there to be looked at.
    #[expect(clippy::print_stderr, reason = "where to look is what somebody wants to read")]
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("ORCH_TEST_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.top.display());
        } else {
            detach_all(&self.top);
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
