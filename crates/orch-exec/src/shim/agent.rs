//! Agents behind a supervisor, and what is left of them without it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use orch_model::{
    event::AgentIdentity,
    outcome::AgentExit,
    ports::{AdoptRequest, Adopted, AgentNotice, RunnerError, RunningAgent},
};
use tokio::sync::{mpsc, watch};

use super::{
    connection::{Connection, Exit},
    protocol::{Answer, Key, Order},
    record::{self, Fact},
};
use crate::process::{cgroup, leftovers};

/// An attempt, and where its supervisor writes.
#[derive(Debug, Clone)]
pub(super) struct Attempted {
    pub(super) run_dir: PathBuf,
    pub(super) request: AdoptRequest,
}

/// What is left of an attempt whose supervisor is dead.
pub(super) enum Left {
    Ended(Box<AgentExit>),
    Gone,
    Unknown(String),
}

impl Attempted {
    fn key(&self) -> Key {
        Key {
            task: self.request.task.clone(),
            attempt: self.request.attempt,
            purpose: self.request.purpose,
        }
    }

    /// Ends what still runs, and finds out how it had ended.
    pub(super) async fn without_supervisor(&self) -> Result<Left, RunnerError> {
        let last = record::last(&self.run_dir, &self.key()).map_err(|source| RunnerError::Io {
            doing: "reading what the supervisor wrote down".into(),
            source,
        })?;
        let mut request = self.request.clone();
        let exit = match last {
            Some(Fact::Ended(exit)) => Some(exit),
            Some(Fact::Started(identity)) => {
                request.identity = request.identity.or(identity);
                None
            }
            None => None,
        };
        let group = self.key().group();
        cgroup::sweep_one(&self.run_dir, &group).await.map_err(|source| RunnerError::Io {
            doing: format!("ending the processes of control group {group}"),
            source,
        })?;
        Ok(match (leftovers::end(&request).await?, exit) {
            (Adopted::Unknown { known }, _) => Left::Unknown(known),
            (_, Some(exit)) => Left::Ended(Box::new(exit)),
            _ => Left::Gone,
        })
    }
}

#[derive(Debug)]
pub(super) struct SupervisedAgent {
    connection: Arc<Connection>,
    key: Key,
    attempt: Attempted,
    identity: Option<AgentIdentity>,
    exit: watch::Receiver<Exit>,
    notices: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    /// The supervisor has it.
    is_known: bool,
}

impl SupervisedAgent {
    /// Starts an agent or takes it up; `None` where there is none.
    pub(super) async fn take(
        connection: &Arc<Connection>,
        attempt: Attempted,
        order: Order,
    ) -> Result<Option<Self>, RunnerError> {
        let key = attempt.key();
        let (exit, notices) = connection.listen(key.clone());
        // From here on, dropping it ends what was started.
        let mut agent = Self {
            connection: Arc::clone(connection),
            key: key.clone(),
            attempt,
            identity: None,
            exit,
            notices: tokio::sync::Mutex::new(notices),
            is_known: true,
        };
        match connection.ask(key, order).await {
            Some(Answer::Done(identity)) => {
                agent.identity = identity;
                Ok(Some(agent))
            }
            Some(Answer::Failed(refusal)) => {
                agent.is_known = false;
                Err(refusal.into())
            }
            Some(Answer::Unknown | Answer::Age(_)) | None => {
                agent.is_known = false;
                Ok(None)
            }
        }
    }

    async fn order(&self, order: Order) -> Result<(), RunnerError> {
        match self.connection.ask(self.key.clone(), order).await {
            Some(Answer::Failed(refusal)) => Err(refusal.into()),
            // Where the supervisor is gone, `wait` ends what it left.
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl RunningAgent for SupervisedAgent {
    fn identity(&self) -> Option<AgentIdentity> {
        self.identity.clone()
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        let mut exit = self.exit.clone();
        if let Ok(exit) = exit.wait_for(Option::is_some).await
            && let Some(exit) = &*exit
        {
            return exit.clone().map_err(RunnerError::Lost);
        }
        match self.attempt.without_supervisor().await? {
            Left::Ended(exit) => Ok(*exit),
            Left::Gone => Err(RunnerError::Lost("its supervisor was killed".into())),
            Left::Unknown(known) => Err(RunnerError::Lost(known)),
        }
    }

    async fn notice(&self) -> AgentNotice {
        match self.notices.lock().await.recv().await {
            Some(message) => AgentNotice::Warning(message),
            None => std::future::pending().await,
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.order(Order::Stop { grace_ms }).await?;
        match self.wait().await {
            Err(RunnerError::Lost(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        self.order(Order::Freeze).await
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        self.order(Order::Thaw).await
    }

    async fn age(&self) -> Option<Duration> {
        match self.connection.ask(self.key.clone(), Order::Age).await {
            Some(Answer::Age(age)) => Some(age),
            _ => None,
        }
    }
}

impl Drop for SupervisedAgent {
    fn drop(&mut self) {
        self.connection.forget(&self.key, self.is_known);
    }
}

/// An agent whose end was written down.
#[derive(Debug)]
pub(super) struct Finished(pub(super) AgentExit);

#[async_trait]
impl RunningAgent for Finished {
    fn identity(&self) -> Option<AgentIdentity> {
        None
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        Ok(self.0.clone())
    }

    async fn stop(&self, _: Duration) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        Ok(())
    }
}
