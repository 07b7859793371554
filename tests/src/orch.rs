//! Calls of the `orch` under test.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Outcome, RunningOrch, TestRepo, binary};

/// A call of `orch` that has not been made yet.
#[derive(Debug)]
pub struct Orch<'r> {
    repo: &'r TestRepo,
    arguments: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: PathBuf,
    report: Option<PathBuf>,
    typed: Option<PathBuf>,
    program: &'static Path,
}

impl<'r> Orch<'r> {
    pub(crate) fn new<A: AsRef<OsStr>>(
        repo: &'r TestRepo,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            repo,
            arguments: arguments.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            env: Vec::new(),
            folder: repo.path().to_owned(),
            report: None,
            typed: None,
            program: binary::orch(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Calls it from another folder than the top of the repository.
    #[must_use]
    pub fn from(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Asks for a report, which [`Outcome::report`] reads.
    #[must_use]
    pub fn with_report(mut self) -> Self {
        let report = self.repo.fresh("report", "json");
        self.report = Some(report.clone());
        self.arg("--report").arg(report)
    }

    /// Calls the one with fail points.
    #[must_use]
    pub fn faulty(mut self) -> Self {
        self.program = binary::orch_faulty();
        self
    }

    /// Calls it on a terminal (that of `script`, script(1)), on which this is typed. What it prints on either
    /// stream comes on the standard output.
    ///
    /// # Panics
    /// Where a file can't be written.
    #[must_use]
    pub fn typed(mut self, text: &str) -> Self {
        let file = self.repo.fresh("typed", "txt");
        std::fs::write(&file, text).expect("a file can be written");
        self.typed = Some(file);
        self.env("TERM", "xterm")
    }

    /// Without what it inherits.
    fn bare(&self) -> Command {
        let Some(typed) = &self.typed else {
            let mut command = Command::new(self.program);
            command.args(&self.arguments).stdin(Stdio::null());
            return command;
        };
        let mut line = self.program.to_string_lossy().into_owned();
        for argument in &self.arguments {
            line.push_str(&format!(" '{}'", argument.to_string_lossy()));
        }
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command.stdin(std::fs::File::open(typed).expect("it was written"));
        command
    }

    fn command(&self) -> Command {
        let mut command = self.bare();
        command
            .current_dir(&self.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that nothing that the test sends reaches the test itself.
            .process_group(0);
        self.repo.isolate(&mut command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Makes the call and waits for its end.
    ///
    /// # Panics
    /// After [`crate::DEADLINE`].
    #[track_caller]
    #[must_use]
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Makes the call; the test goes on beside it.
    ///
    /// # Panics
    /// Where it can't be made.
    #[track_caller]
    #[must_use]
    pub fn spawn(self) -> RunningOrch<'r> {
        let mut command = self.command();
        let name = format!("orch {}", self.arguments.join(OsStr::new(" ")).to_string_lossy());
        let child = command.spawn().unwrap_or_else(|error| panic!("can't start {name}: {error}"));
        RunningOrch::new(self.repo, name, child, self.report)
    }
}
