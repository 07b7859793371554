//! A runner whose agents do what a test says, in tokio's time and without processes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    TaskId,
    event::AgentIdentity,
    outcome::{AgentExit, ExitStatus, Failure},
    ports::{
        AdoptRequest, Adopted, AgentNotice, AgentRequest, AgentRunner, Purpose, RunnerError,
        RunningAgent,
    },
    state::Attempt,
    usage::Usage,
};
use tokio::{sync::watch, time::timeout};

/// What an agent does.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Exits at once with this code.
    Exit(i32),
    /// Exits with this code after this time.
    After(Duration, i32),
    /// Runs until it is ended. It ends when it is asked to.
    Hang,
    /// Runs until it is killed: it does not listen when it is asked to end.
    IgnoreTerm,
    /// Can't be started.
    SpawnError,
    /// Writes this and exits with this code.
    Say(String, i32),
    /// Uses this and exits with this code after a second.
    Use(Usage, i32),
    /// Tells at once that it used this, and exits with this code after this time.
    Tell(Usage, Duration, i32),
}

/// A runner whose agents follow scripts. Without a script an agent succeeds at once.
///
/// Keeps the contract of [`AgentRunner`]; [`super::contract::runner`] shows it.
#[derive(Debug, Clone, Default)]
pub struct ScriptedRunner {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    scripts: HashMap<String, Vec<Step>>,
    verifications: HashMap<String, Vec<Step>>,
    started: Vec<(TaskId, Attempt)>,
    running: BTreeMap<TaskId, usize>,
    most: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("running", &self.running).finish_non_exhaustive()
    }
}

impl ScriptedRunner {
    /// A runner without scripts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Says what the attempts at a task do, one after the other; the last step is repeated.
    pub fn script(&self, task: &str, steps: impl IntoIterator<Item = Step>) {
        self.shared().scripts.insert(task.into(), steps.into_iter().collect());
    }

    /// Says what the verifications of a task's attempts do; the last step is repeated.
    pub fn script_verification(&self, task: &str, steps: impl IntoIterator<Item = Step>) {
        self.shared().verifications.insert(task.into(), steps.into_iter().collect());
    }

    /// The attempts that were started, in their order; verifications are not among them.
    #[must_use]
    pub fn started(&self) -> Vec<(TaskId, Attempt)> {
        self.shared().started.clone()
    }

    /// How many agents have run at the same time, at most.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared().most
    }

    /// How many agents run at this moment.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared().running.values().sum()
    }

    fn step(&self, request: &AgentRequest) -> Step {
        let mut shared = self.shared();
        let scripts = match request.purpose {
            Purpose::Work => {
                shared.started.push((request.task.clone(), request.attempt));
                &shared.scripts
            }
            _ => &shared.verifications,
        };
        let steps = scripts.get(request.task.as_str()).map_or(&[][..], Vec::as_slice);
        let nth = (request.attempt as usize).clamp(1, steps.len().max(1)) - 1;
        steps.get(nth).cloned().unwrap_or(Step::Exit(0))
    }
}

#[async_trait]
impl AgentRunner for ScriptedRunner {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let step = self.step(&request);
        if step == Step::SpawnError {
            return Err(RunnerError::Spawn {
                program: request.task.to_string(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        {
            let mut shared = self.shared();
            *shared.running.entry(request.task.clone()).or_default() += 1;
            shared.most = shared.most.max(shared.running.values().sum());
        }
        let (exit, ended) = watch::channel(None);
        let counted = Counted { runner: self.clone(), task: request.task };
        let scripted = exit.clone();
        let script = step.clone();
        let task = tokio::spawn(async move {
            let _counted = counted;
            let mut usage = None;
            let (pause, status, output) = match script {
                Step::Use(used, code) => {
                    usage = Some(used);
                    (Some(Duration::from_secs(1)), code, String::new())
                }
                Step::Tell(used, pause, code) => {
                    usage = Some(used);
                    (Some(pause), code, String::new())
                }
                Step::Exit(code) => (Some(Duration::ZERO), code, String::new()),
                Step::After(pause, code) => (Some(pause), code, String::new()),
                Step::Say(text, code) => (Some(Duration::ZERO), code, text),
                _ => (None, 0, String::new()),
            };
            match pause {
                Some(pause) if pause.is_zero() => {}
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
            let mut exit = AgentExit::new(ExitStatus::Code(status));
            exit.output_bytes = output.len() as u64;
            exit.output_tail = output;
            exit.usage = usage;
            scripted.send_replace(Some(exit));
        });
        let told = match step {
            Step::Tell(used, ..) => Some(used),
            _ => None,
        };
        Ok(Box::new(ScriptedAgent { step, exit, ended, task, told: Mutex::new(told) }))
    }

    async fn adopt(&self, _: AdoptRequest) -> Result<Adopted, RunnerError> {
        Ok(Adopted::Gone)
    }
}

/// Counts an agent as running until it is dropped.
struct Counted {
    runner: ScriptedRunner,
    task: TaskId,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.runner.shared().running.get_mut(&self.task) {
            *count -= 1;
        }
    }
}

#[derive(Debug)]
struct ScriptedAgent {
    step: Step,
    exit: watch::Sender<Option<AgentExit>>,
    ended: watch::Receiver<Option<AgentExit>>,
    task: tokio::task::JoinHandle<()>,
    /// What it has yet to tell.
    told: Mutex<Option<Usage>>,
}

impl ScriptedAgent {
    async fn ended(&self) -> AgentExit {
        let mut ended = self.ended.clone();
        let exit = ended.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_else(|| AgentExit::new(ExitStatus::Signal(9)))
    }

    fn end(&self, signal: i32) {
        self.task.abort();
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert_with(|| {
                let mut exit = AgentExit::new(ExitStatus::Signal(signal));
                let message = "it was ended on request".into();
                exit.failure = Some(Failure::Interrupted { message });
                exit
            });
            first
        });
    }
}

#[async_trait]
impl RunningAgent for ScriptedAgent {
    fn identity(&self) -> Option<AgentIdentity> {
        None
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        Ok(self.ended().await)
    }

    async fn notice(&self) -> AgentNotice {
        let told = self.told.lock().unwrap_or_else(|poison| poison.into_inner()).take();
        match told {
            Some(usage) => AgentNotice::Used(usage),
            None => std::future::pending().await,
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        if self.step != Step::IgnoreTerm && !grace.is_zero() {
            self.end(15);
        }
        if timeout(grace, self.ended()).await.is_err() {
            self.end(9);
        }
        Ok(())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        Ok(())
    }
}

impl Drop for ScriptedAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
