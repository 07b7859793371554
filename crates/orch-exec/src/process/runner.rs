//! `CommandRunner`: starts commands and agents as children of this process.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use orch_model::{
    RunId, TaskId,
    event::AgentIdentity,
    outcome::AgentExit,
    ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, RunnerError, RunningAgent},
    state::Attempt,
};
use rustix::process::Signal;

use super::{child::ChildGroup, environment::Environment, launch::Launch, leftovers};
use crate::logs;

/// Starts commands and agents as children of this process, each the leader of a process group.
///
/// The environment is what programs commonly need of that of this process, what
/// [`CommandRunner::pass_env`] names, and [`AgentRequest::env`]. Output goes to files, see [`crate::logs`],
/// without the values of variables whose names tell that they are secret.
///
/// Its agents end with the orchestrator: what one that was killed left running is ended by the
/// next one, see [`AgentRunner::adopt`]. The runner of [`crate::shim`] keeps them.
#[derive(Debug, Clone)]
pub struct CommandRunner {
    state_dir: PathBuf,
    environment: Environment,
}

impl CommandRunner {
    /// A runner that keeps output and prompts under `<state_dir>/runs/<run>/`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), environment: Environment::inherited(&[]) }
    }

    /// Sets which variables of this process agents inherit, besides those that programs commonly
    /// need. A `*` at the end of a name stands for any rest.
    #[must_use]
    pub fn pass_env(mut self, names: &[String]) -> Self {
        self.environment = Environment::inherited(names);
        self
    }
}

#[async_trait]
impl AgentRunner for CommandRunner {
    fn name(&self) -> &str {
        "command"
    }

    fn output(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<PathBuf> {
        logs::output_of(&self.state_dir, run, task, attempt)
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let launch = Launch::of(&request, &self.state_dir)?;
        Ok(Box::new(Process(ChildGroup::start(&launch, &self.environment, None)?)))
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        leftovers::end(&request).await
    }
}

#[derive(Debug)]
struct Process(ChildGroup);

#[async_trait]
impl RunningAgent for Process {
    fn identity(&self) -> Option<AgentIdentity> {
        self.0.identity().cloned()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        self.0.wait().await
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        self.0.stop(grace).await
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.0.signal(Signal::STOP)
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        self.0.signal(Signal::CONT)
    }
}
