//! What is executed for a request, and how it begins.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use orch_faults::point;
use orch_model::ports::{AgentRequest, RunnerError};

use serde::{Deserialize, Serialize};

use super::{budget::Budget, command, environment::Environment};
use crate::logs;

/// A program that is ready to be started: nothing of the plan has to be known any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    /// A file that it reads as its standard input; `None`: it reads nothing.
    pub(crate) stdin: Option<PathBuf>,
    pub(crate) directory: PathBuf,
    /// Variables on top of those that every agent gets.
    pub(crate) env: BTreeMap<String, String>,
    /// How long it may do nothing before it is ended, in milliseconds; `None`: for ever. Only a supervisor
    /// sees to that.
    pub(crate) silence_timeout_ms: Option<u64>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// How much of that is kept, in bytes.
    pub(crate) max_output: u64,
    /// How much is kept of the output of the whole run, in bytes.
    pub(crate) max_total_output: u64,
    /// It works in a folder of its own, and is worth a control group where a supervisor can make one.
    #[serde(default)]
    pub(crate) is_contained: bool,
}

/// The variable that tells the processes of an attempt from those that verify it.
pub(crate) const PURPOSE: &str = "ORCH_PURPOSE";

impl Launch {
    /// What a request asks for. Writes the prompt to a file where the plan has its text.
    pub(crate) fn of(
        request: &AgentRequest,
        state_dir: &std::path::Path,
    ) -> Result<Self, RunnerError> {
        let scratch = logs::prompt_path(state_dir, request);
        let invocation = command::invocation(request, &scratch)?;
        let mut env = request.env.clone();
        env.insert(PURPOSE.into(), request.purpose.to_string());
        Ok(Self {
            program: invocation.program,
            args: invocation.args,
            stdin: invocation.stdin,
            directory: request.directory.clone(),
            env,
            log: logs::path(state_dir, request),
            silence_timeout_ms: request
                .silence_timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            max_output: request.max_output.0,
            max_total_output: request.max_total_output.0,
            is_contained: request.directory != request.repository,
        })
    }

    /// What the output of its run may take, with what is there already.
    pub(crate) fn budget(&self) -> Budget {
        let folder = self.log.parent().unwrap_or(&self.log);
        Budget::of(folder, self.max_total_output)
    }

    /// The program and its arguments in one line, for people.
    pub(crate) fn command(&self) -> String {
        let words: Vec<&str> =
            std::iter::once(&self.program).chain(&self.args).map(String::as_str).collect();
        words.join(" ")
    }

    /// Starts it as the leader of a process group of its own.
    pub(crate) fn spawn(
        &self,
        environment: &Environment,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Child, RunnerError> {
        let stdin = match &self.stdin {
            None => Stdio::null(),
            Some(path) => Stdio::from(File::open(path).map_err(|source| RunnerError::Io {
                doing: format!("opening {}", path.display()),
                source,
            })?),
        };
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(&self.directory)
            .env_clear()
            .envs(environment.iter())
            .envs(&self.env)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        point!("process::spawn", command.spawn()).map_err(|source| self.explain(source))
    }

    fn explain(&self, source: io::Error) -> RunnerError {
        if self.directory.is_dir() {
            RunnerError::Spawn { program: self.program.clone(), source }
        } else {
            RunnerError::Io { doing: format!("entering {}", self.directory.display()), source }
        }
    }
}
