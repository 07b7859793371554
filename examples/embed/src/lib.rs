//! A tool that embeds the engine with a runner of its own.
//!
//! [`NoteTaker`] is an agent that lives in this process: it writes what it is told to a file. The
//! engine gives it a worktree for each task, commits what it leaves, and merges it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use orch_exec::{
    EngineError, ParallelOrchestrator,
    model::{
        Report, ValidPlan,
        event::AgentIdentity,
        outcome::{AgentExit, ExitStatus},
        plan::{Work, spec::CommandLine},
        ports::{
            AdoptRequest, Adopted, AgentRequest, AgentRunner, Purpose, RunnerError, RunningAgent,
        },
    },
};
use tokio::{sync::watch, task::AbortHandle};

/// Runs a plan in the repository at `path`, each task by a [`NoteTaker`].
///
/// # Errors
/// Where the engine can't do its job.
pub async fn take_notes(path: &str, plan: ValidPlan) -> Result<Report, EngineError> {
    let engine = ParallelOrchestrator::builder(path).runner(Arc::new(NoteTaker)).build().await?;
    engine.start(plan).await?.wait().await
}

/// Writes the command of a task to `notes/<task>.txt` in its worktree.
#[derive(Debug, Clone, Copy)]
pub struct NoteTaker;

#[async_trait]
impl AgentRunner for NoteTaker {
    fn name(&self) -> &str {
        "note taker"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let note = match (&request.work, request.purpose) {
            (Work::Command(CommandLine::Shell(text)), Purpose::Work) => text.clone(),
            _ => return Err(RunnerError::Unsupported("a note is one line of text".into())),
        };
        let (exit, ended) = watch::channel(None);
        let also = exit.clone();
        let writing = tokio::spawn(async move {
            let folder = request.directory.join("notes");
            let written = std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(folder.join(format!("{}.txt", request.task)), note));
            let mut result = AgentExit::new(ExitStatus::Code(i32::from(written.is_err())));
            result.output_tail = written.err().map(|error| error.to_string()).unwrap_or_default();
            also.send_replace(Some(result));
        });
        Ok(Box::new(Writing { writing: writing.abort_handle(), exit, ended }))
    }

    async fn adopt(&self, _: AdoptRequest) -> Result<Adopted, RunnerError> {
        // Its agents end with the process that they live in.
        Ok(Adopted::Gone)
    }
}

#[derive(Debug)]
struct Writing {
    writing: AbortHandle,
    exit: watch::Sender<Option<AgentExit>>,
    ended: watch::Receiver<Option<AgentExit>>,
}

#[async_trait]
impl RunningAgent for Writing {
    fn identity(&self) -> Option<AgentIdentity> {
        None
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        let mut ended = self.ended.clone();
        let gone = || RunnerError::Unsupported("the writer is gone".into());
        let exit = ended.wait_for(Option::is_some).await.map_err(|_| gone())?.clone();
        exit.ok_or_else(gone)
    }

    async fn stop(&self, _grace: Duration) -> Result<(), RunnerError> {
        self.writing.abort();
        self.exit.send_if_modified(|exit| {
            let running = exit.is_none();
            exit.get_or_insert_with(|| AgentExit::new(ExitStatus::Signal(15)));
            running
        });
        Ok(())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        Err(RunnerError::Unsupported("a note is written too quickly to be frozen".into()))
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        Ok(())
    }
}
