//! `CommandRunner`: starts commands and agents as processes of this machine.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    event::AgentIdentity,
    outcome::{AgentExit, ExitStatus},
    ports::{AgentRequest, AgentRunner, RunnerError, RunningAgent},
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, sync::watch, time::timeout};

use super::{command, group::Group, identity, output::Output};
use crate::logs;

/// How long a process outside the group may hold the output open after the agent's end.
const LEAK_TIMEOUT: Duration = Duration::from_millis(200);

/// Variables that would lead an agent's git to another repository or give it other settings; those
/// that `git rev-parse --local-env-vars` names.
const GIT_VARIABLES: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
];

/// Starts commands and agents as processes of this machine, each the leader of a process group.
///
/// The environment is that of this process, without the variables that would redirect git, plus
/// [`AgentRequest::env`]. Output goes to files, see [`crate::logs`].
#[derive(Debug, Clone)]
pub struct CommandRunner {
    state_dir: PathBuf,
}

impl CommandRunner {
    /// A runner that keeps output and prompts under `<state_dir>/runs/<run>/`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into() }
    }
}

#[async_trait]
impl AgentRunner for CommandRunner {
    fn name(&self) -> &str {
        "command"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let scratch = logs::prompt_path(&self.state_dir, &request);
        let invocation = command::invocation(&request, &scratch)?;
        let failed = |doing: &str, source: io::Error| RunnerError::Io {
            doing: format!("{doing} for task {}", request.task),
            source,
        };
        let stdin = match &invocation.stdin {
            None => Stdio::null(),
            Some(path) => {
                let file = File::open(path)
                    .map_err(|e| failed(&format!("opening {}", path.display()), e))?;
                Stdio::from(file)
            }
        };
        // One pipe for both keeps the order of what is written to them.
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("making a pipe", e.into()))?;
        let also = write.try_clone().map_err(|e| failed("making a pipe", e))?;
        let child = spawn(&request, &invocation, stdin, write, also)?;
        let group = Arc::new(Group::new(child).map_err(|e| failed("watching the process", e))?);
        let output = Output::new(logs::path(&self.state_dir, &request), request.max_output.0);
        let receiver =
            Receiver::from_owned_fd(read).map_err(|e| failed("reading the output", e))?;
        let (ended, exit) = watch::channel(None);
        let identity = identity::of(group.pid());
        tokio::spawn(supervise(Arc::clone(&group), receiver, output, ended));
        Ok(Box::new(Process { group, identity, exit }))
    }

    async fn is_alive(&self, identity: &AgentIdentity) -> Result<bool, RunnerError> {
        Ok(identity::is_alive(identity))
    }
}

fn spawn(
    request: &AgentRequest,
    invocation: &command::Invocation,
    stdin: Stdio,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<std::process::Child, RunnerError> {
    let mut command = Command::new(&invocation.program);
    command
        .args(&invocation.args)
        .current_dir(&request.directory)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_hidden(name)) {
        command.env_remove(name);
    }
    command.envs(&request.env);
    command.spawn().map_err(|source| {
        if request.directory.is_dir() {
            RunnerError::Spawn { program: invocation.program.clone(), source }
        } else {
            RunnerError::Io { doing: format!("entering {}", request.directory.display()), source }
        }
    })
}

/// Whether an agent must not inherit a variable: those that redirect git, and those that an
/// orchestrator which itself runs under another one was given.
fn is_hidden(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| {
        GIT_VARIABLES.contains(&name)
            || name.starts_with("GIT_CONFIG_KEY_")
            || name.starts_with("GIT_CONFIG_VALUE_")
            || name.starts_with("ORCH_")
    })
}

type Ended = Option<Result<AgentExit, Arc<io::Error>>>;

/// Sees a process to its end: streams its output, and reaps it.
async fn supervise(
    group: Arc<Group>,
    mut receiver: Receiver,
    mut output: Output,
    ended: watch::Sender<Ended>,
) {
    let result = follow(&group, &mut receiver, &mut output).await.map_err(Arc::new);
    ended.send_replace(Some(result));
}

async fn follow(
    group: &Group,
    receiver: &mut Receiver,
    output: &mut Output,
) -> io::Result<AgentExit> {
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    // A disk that takes no more must not keep the agent from ending: what it writes is dropped.
    let mut failure = None;
    let mut take = |bytes: &[u8], output: &mut Output| {
        if failure.is_none()
            && let Err(error) = output.write(bytes)
        {
            tracing::warn!(%error, "output can't be written");
            failure = Some(error);
        }
    };
    loop {
        tokio::select! {
            exited = group.exited() => break exited?,
            read = receiver.read(&mut buffer), if open => match read? {
                0 => open = false,
                n => take(&buffer[..n], output),
            },
        }
    }
    let status = group.reap().await?;
    // The group is gone, so the end of the output is there, unless somebody outside it holds it.
    let drained = timeout(LEAK_TIMEOUT, async {
        while open {
            match receiver.read(&mut buffer).await? {
                0 => open = false,
                n => take(&buffer[..n], output),
            }
        }
        io::Result::Ok(())
    })
    .await;
    let leaked_output = drained.is_err();
    if let Ok(drained) = drained {
        drained?;
    }
    if let Err(error) = output.finish() {
        tracing::warn!(%error, "output can't be written");
    }
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or(0)),
    };
    let mut exit = AgentExit::new(status);
    exit.output_tail = output.tail();
    exit.output_bytes = output.total();
    exit.leaked_output = leaked_output;
    Ok(exit)
}

#[derive(Debug)]
struct Process {
    group: Arc<Group>,
    identity: Option<AgentIdentity>,
    exit: watch::Receiver<Ended>,
}

impl Process {
    async fn ended(&self) -> Result<AgentExit, RunnerError> {
        let mut exit = self.exit.clone();
        let gone = || RunnerError::Unsupported("the agent's supervision ended early".into());
        let result = exit.wait_for(Option::is_some).await.map_err(|_| gone())?.clone();
        result.ok_or_else(gone)?.map_err(|error| RunnerError::Io {
            doing: format!("watching process {}", self.group.pid()),
            source: io::Error::new(error.kind(), error),
        })
    }

    fn signal(&self, signal: Signal) -> Result<(), RunnerError> {
        self.group.signal(signal).map_err(|source| RunnerError::Io {
            doing: format!("signalling process group {}", self.group.pid()),
            source,
        })
    }
}

#[async_trait]
impl RunningAgent for Process {
    fn identity(&self) -> Option<AgentIdentity> {
        self.identity.clone()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        self.ended().await
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        if !grace.is_zero() {
            self.signal(Signal::TERM)?;
            // A frozen group would not hear of it.
            self.signal(Signal::CONT)?;
            if timeout(grace, self.ended()).await.is_ok() {
                return Ok(());
            }
        }
        self.signal(Signal::STOP)?;
        self.signal(Signal::KILL)?;
        self.ended().await.map(|_| ())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.signal(Signal::STOP)
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        self.signal(Signal::CONT)
    }
}

/// Nobody will ask for its end any more.
impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            let _ = self.group.kill();
        }
    }
}
