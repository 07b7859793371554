//! The only place that starts git.
//!
//! Every call is hardened in the same way: no input unless it is given, messages in English, none
//! of the variables that would redirect git to another repository, no hooks, and folders that are named
//! rather than looked for. On the repository and its worktrees git sees the settings of a
//! [`View`], so that none of the programs that the repository's configuration can name are run; to sign, only
//! what the user's own configuration names, see [`signing`](crate::signing).
//!
//! Objects are synced as the user's `core.fsync` says, and always by calls that are
//! [`Call::durable`].

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use orch_faults::{planted, point};
use orch_model::ports::{WorktreeError, redirects_git};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    clear::named_lock,
    error::{io_error, shortened},
    lock::Held,
    view::View,
};

/// Variables besides those that [`redirects_git`] names that change which files or which format a
/// command works with. Who the author is
/// (`GIT_AUTHOR_*`, `GIT_COMMITTER_*`) and where the user's configuration lies
/// (`GIT_CONFIG_GLOBAL`, `GIT_CONFIG_SYSTEM`, `GIT_CONFIG_NOSYSTEM`) stay.
const STRIPPED: &[&str] = &[
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_EXTERNAL_DIFF",
    "GIT_GLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_QUARANTINE_PATH",
    "GIT_REFLOG_ACTION",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_INDEX_VERSION",
];

/// Runs git in one place: a folder, a repository or a worktree.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: OsString,
    environment: Arc<[(OsString, OsString)]>,
    place: Vec<OsString>,
    folder: PathBuf,
    git_dir: Option<PathBuf>,
    view: Option<Arc<View>>,
}

/// What a call of git ended with.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The exit status; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
    command: String,
    status: String,
    stderr: Vec<u8>,
    view: Option<Arc<View>>,
}

impl Answer {
    /// What it printed, if it ended with success.
    pub(crate) fn success(self) -> Result<Vec<u8>, WorktreeError> {
        if self.code == Some(0) { Ok(self.stdout) } else { Err(self.into_error()) }
    }

    /// The failure as an error.
    pub(crate) fn into_error(self) -> WorktreeError {
        let printed = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        WorktreeError::Git {
            command: self.command,
            status: self.status,
            stderr: shortened(&String::from_utf8_lossy(printed)),
        }
    }

    /// The lock file that kept it from what it was to do.
    pub(crate) fn lock_in_the_way(&self) -> Option<PathBuf> {
        let failed = self.code != Some(0);
        let lock = failed.then(|| named_lock(&String::from_utf8_lossy(&self.stderr)))??;
        Some(self.view.as_ref().and_then(|view| view.real(&lock)).unwrap_or(lock))
    }

    /// What it complained of, shortened, for a person.
    pub(crate) fn complaint(&self) -> String {
        shortened(&String::from_utf8_lossy(&self.stderr))
    }
}

impl Git {
    /// Settings that hold for every call.
    const HARDENING: &[&str] = &[
        "gc.auto=0",
        "maintenance.auto=false",
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.quotePath=false",
        "advice.detachedHead=false",
        "advice.addEmbeddedRepo=false",
        "commit.gpgSign=false",
        "i18n.commitEncoding=UTF-8",
        "submodule.recurse=false",
        "worktree.useRelativePaths=false",
        "core.useReplaceRefs=false",
        "protocol.ext.allow=never",
        "diff.ignoreSubmodules=dirty",
    ];

    /// Git in a folder, which finds the repository by itself.
    pub(crate) fn in_folder(
        program: OsString,
        environment: Vec<(OsString, OsString)>,
        folder: &Path,
    ) -> Self {
        Self {
            program,
            environment: environment.into(),
            place: Vec::new(),
            folder: folder.into(),
            git_dir: None,
            view: None,
        }
    }

    /// The same with settings of the engine's for the repository that the view is of.
    pub(crate) fn with_view(&self, view: Arc<View>) -> Self {
        Self { view: Some(view), ..self.clone() }
    }

    /// The same with the settings of the repository as they stand. Only for calls that run nothing
    /// of it, and that ask for them or make an entry of a worktree.
    pub(crate) fn plain(&self) -> Self {
        Self { view: None, ..self.clone() }
    }

    /// The settings that it has.
    pub(crate) fn view(&self) -> Option<&View> {
        self.view.as_deref()
    }

    /// The same with further variables for every call.
    pub(crate) fn with_environment(&self, more: Vec<(OsString, OsString)>) -> Self {
        let environment = self.environment.iter().cloned().chain(more).collect();
        Self { environment, ..self.clone() }
    }

    /// The same on a repository without a work tree: objects and references only.
    pub(crate) fn on_repository(&self, git_dir: &Path) -> Self {
        Self {
            place: vec![flag("--git-dir=", git_dir)],
            folder: git_dir.into(),
            git_dir: Some(git_dir.into()),
            ..self.clone()
        }
    }

    /// The same on a worktree. Both folders are named, so that a changed `.git` file leads
    /// nowhere else.
    pub(crate) fn on_worktree(&self, git_dir: &Path, work_tree: &Path) -> Self {
        Self {
            place: vec![flag("--git-dir=", git_dir), flag("--work-tree=", work_tree)],
            folder: work_tree.into(),
            git_dir: Some(git_dir.into()),
            ..self.clone()
        }
    }

    /// The git folder, where it was named.
    pub(crate) fn git_dir(&self) -> Option<&Path> {
        self.git_dir.as_deref()
    }

    /// Where it runs: the top folder of a worktree.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins a call.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Call<'_> {
        Call {
            git: self,
            arguments: arguments.into_iter().map(|a| a.as_ref().to_os_string()).collect(),
            index: None,
            input: None,
            held: None,
            durable: false,
            settings: Vec::new(),
            environment: Vec::new(),
            limit: None,
        }
    }

    /// Runs a call that has to succeed, and returns what it printed.
    pub(crate) async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A> + Send,
    ) -> Result<Vec<u8>, WorktreeError> {
        let call = self.call(arguments);
        call.answer().await?.success()
    }

    /// The same for one line of text.
    pub(crate) async fn line<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A> + Send,
    ) -> Result<String, WorktreeError> {
        let call = self.call(arguments);
        let out = call.answer().await?.success()?;
        Ok(String::from_utf8_lossy(&out).trim_end_matches('\n').to_owned())
    }
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

/// One call of git.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    git: &'a Git,
    arguments: Vec<OsString>,
    index: Option<PathBuf>,
    input: Option<Vec<u8>>,
    held: Option<File>,
    durable: bool,
    settings: Vec<String>,
    environment: Vec<(OsString, OsString)>,
    limit: Option<Duration>,
}

impl Call<'_> {
    /// What it writes survives a power cut when it has ended: objects, references, the index.
    pub(crate) fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Adds arguments.
    pub(crate) fn arguments<A: AsRef<OsStr>>(mut self, more: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(more.into_iter().map(|a| a.as_ref().to_os_string()));
        self
    }

    /// Has it under further settings, `key=value`.
    pub(crate) fn settings(mut self, settings: &[String]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// Gives it further variables.
    pub(crate) fn environment(mut self, more: Vec<(OsString, OsString)>) -> Self {
        self.environment.extend(more);
        self
    }

    /// Ends it after this time. Only for what may be stopped half way.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Works on another index than that of the worktree.
    pub(crate) fn index(mut self, index: &Path) -> Self {
        self.index = Some(index.into());
        self
    }

    /// Gives it something to read.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Leaves a lock with git while it runs: it gets the locked file in the place of its input.
    pub(crate) fn holding(mut self, lock: &Held) -> Result<Self, WorktreeError> {
        self.held = Some(lock.share()?);
        Ok(self)
    }

    /// The same with a locked file of any kind.
    pub(crate) fn with_lock(mut self, lock: File) -> Self {
        self.held = Some(lock);
        self
    }

    /// Runs it; how it ends is data.
    ///
    /// A dropped future does not end the process, unless that has a limit: git finishes what it began.
    pub(crate) async fn answer(mut self) -> Result<Answer, WorktreeError> {
        let output = point!(orch_faults::git_point(&self.arguments), self.output().await);
        let output = output.map_err(|source| self.failure(source))?;
        Ok(self.ended(output))
    }

    async fn output(&mut self) -> io::Result<Output> {
        let ended = self.start()?.wait_with_output();
        match self.limit {
            None => ended.await,
            // A dropped child that has a limit is killed.
            Some(limit) => timeout(limit, ended).await.unwrap_or_else(|_| {
                let message = format!("not done after {} s", limit.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }),
        }
    }

    /// Runs it and hands on what it prints piece by piece, so that not all of it has to fit into
    /// memory. Where the sink takes no more, git ends by itself at its next output.
    pub(crate) async fn stream(
        mut self,
        sink: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> Result<Answer, WorktreeError> {
        let mut child = self.start().map_err(|source| self.failure(source))?;
        let mut errors = child.stderr.take();
        let complaints = async {
            let mut text = Vec::new();
            if let Some(errors) = &mut errors {
                errors.read_to_end(&mut text).await?;
            }
            Ok::<_, io::Error>(text)
        };
        let mut printed = child.stdout.take();
        let pieces = async {
            let mut buffer = vec![0; 64 * 1024];
            if let Some(mut printed) = printed.take() {
                loop {
                    let read = printed.read(&mut buffer).await?;
                    if read == 0 {
                        break;
                    }
                    sink(&buffer[..read])?;
                }
            }
            Ok::<_, io::Error>(())
        };
        let (complaints, pieces) = tokio::join!(complaints, pieces);
        let status = child.wait().await.map_err(|source| self.failure(source))?;
        pieces.map_err(|source| self.failure(source))?;
        let stderr = complaints.map_err(|source| self.failure(source))?;
        Ok(self.ended(Output { status, stdout: Vec::new(), stderr }))
    }

    fn start(&mut self) -> io::Result<Child> {
        let stdin = match (self.held.take(), &self.input) {
            (Some(lock), _) => Stdio::from(lock),
            (None, Some(_)) => Stdio::piped(),
            (None, None) => Stdio::null(),
        };
        let mut command = self.command()?;
        command.stdin(stdin);
        let mut child = command.spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input.take()) {
            // Beside what reads its output: git answers while it reads, and waits for who takes no answer. By itself, so that
            // it is whole also where nobody waits for the end. A git that ended early says why in its exit status.
            tokio::spawn(async move { stdin.write_all(&input).await });
        }
        Ok(child)
    }

    fn shown(&self) -> String {
        self.arguments.join(OsStr::new(" ")).to_string_lossy().into_owned()
    }

    fn failure(&self, source: io::Error) -> WorktreeError {
        if source.kind() == io::ErrorKind::NotFound && self.git.folder.is_dir() {
            return WorktreeError::NoGit { source };
        }
        let folder = self.git.folder.display();
        io_error(format!("running `git {}` in {folder}", self.shown()))(source)
    }

    fn ended(&self, output: Output) -> Answer {
        let command = self.shown();
        tracing::trace!(%command, status = %output.status, "git");
        Answer {
            code: output.status.code(),
            stdout: output.stdout,
            command,
            status: output.status.to_string(),
            stderr: output.stderr,
            view: self.git.view.clone(),
        }
    }

    fn command(&self) -> std::io::Result<Command> {
        let mut command = Command::new(&self.git.program);
        let is_stripped = |name: &str| {
            (redirects_git(name) && !planted("git-dir-leaks")) || STRIPPED.contains(&name)
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_stripped) {
                command.env_remove(name);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_EDITOR", "true")
            .envs(self.git.environment.iter().chain(&self.environment).map(|(k, v)| (k, v)));
        if let (Some(view), Some(git_dir)) = (&self.git.view, &self.git.git_dir) {
            match view.of(git_dir) {
                Some(folder) => {
                    view.ensure()?;
                    command.env("GIT_COMMON_DIR", folder);
                }
                // The repository of a submodule, with settings of its own: objects that it lacks are not
                // fetched by a program that they name.
                None => {
                    command.args(["-c", "protocol.allow=never"]);
                }
            }
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        let settings = self.settings.iter().map(String::as_str);
        for setting in Git::HARDENING.iter().copied().chain(settings) {
            command.args(["-c", setting]);
        }
        if self.durable {
            command.args([
                "-c",
                "core.fsync=objects,reference,index",
                "-c",
                "core.fsyncMethod=fsync",
            ]);
        }
        command
            .args(&self.git.place)
            .args(&self.arguments)
            .current_dir(&self.git.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(self.limit.is_some());
        Ok(command)
    }
}
