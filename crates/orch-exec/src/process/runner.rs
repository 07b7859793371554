//! `CommandRunner`: starts commands and agents as children of this process.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    RunId, TaskId,
    event::AgentIdentity,
    outcome::AgentExit,
    ports::{
        AdoptRequest, Adopted, AgentNotice, AgentRequest, AgentRunner, RunnerError, RunningAgent,
    },
    state::Attempt,
};
use rustix::process::Signal;

use tokio::sync::mpsc;

use super::{
    budget::Budget, child::ChildGroup, environment::Environment, identity, launch::Launch,
    leftovers, patterns::Patterns,
};
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
    budgets: Arc<Mutex<HashMap<RunId, Arc<Budget>>>>,
}

impl CommandRunner {
    /// A runner that keeps output and prompts under `<state_dir>/runs/<run>/`.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            environment: Environment::inherited(&[]),
            budgets: Arc::default(),
        }
    }

    /// Sets which variables of this process agents inherit, besides those that programs commonly
    /// need. A `*` at the end of a name stands for any rest.
    #[must_use]
    pub fn pass_env(mut self, names: &[String]) -> Self {
        self.environment = self.environment.passing(names);
        self
    }

    /// Sets what is taken out of output before it is written, besides the values of variables.
    #[must_use]
    pub fn redact(mut self, patterns: Patterns) -> Self {
        self.environment = self.environment.redact(patterns);
        self
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Budget>>> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self, run: &RunId, launch: &Launch) -> Arc<Budget> {
        Arc::clone(self.budgets().entry(run.clone()).or_insert_with(|| launch.budget().into()))
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
        let budget = self.budget(&request.run, &launch);
        let (told, notices) = mpsc::unbounded_channel();
        let tell = move |message| {
            // Nobody may care.
            let _ = told.send(message);
        };
        let child = ChildGroup::start(&launch, &self.environment, None, None, &budget, tell)?;
        Ok(Box::new(Process { child, notices: notices.into() }))
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        leftovers::end(&request).await
    }

    fn is_of_earlier_boot(&self, agent: &AgentIdentity) -> bool {
        identity::is_of_earlier_boot(agent)
    }

    async fn finish(&self, run: &RunId) {
        self.budgets().remove(run);
    }
}

#[derive(Debug)]
struct Process {
    child: ChildGroup,
    notices: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

#[async_trait]
impl RunningAgent for Process {
    fn identity(&self) -> Option<AgentIdentity> {
        self.child.identity().cloned()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        self.child.wait().await
    }

    async fn notice(&self) -> AgentNotice {
        match self.notices.lock().await.recv().await {
            Some(message) => AgentNotice::Warning(message),
            None => std::future::pending().await,
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        self.child.stop(grace).await
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.child.signal(Signal::STOP)
    }

    async fn age(&self) -> Option<Duration> {
        Some(self.child.age())
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        self.child.signal(Signal::CONT)
    }
}
