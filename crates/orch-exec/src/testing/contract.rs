//! What every [`AgentRunner`] must keep, as a suite that panics where one does not.
//!
//! The suites of the other ports stand beside their stock parts.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use orch_model::{
    ByteSize, RunId, TaskId,
    outcome::{ExitStatus, Failure},
    plan::{Work, spec::CommandLine},
    ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, Purpose, RunnerError, RunningAgent},
    state::Attempt,
};

/// What the agents of the suite are to do; the caller knows how to make its runner do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Prints `hello` and exits with 0.
    Succeed,
    /// Exits with 3.
    Fail,
    /// Runs until it is asked to end.
    Hang,
    /// Runs until it is killed.
    IgnoreTerm,
    /// Names a program that does not exist.
    Missing,
}

impl Behaviour {
    /// The id of the task whose agent behaves like this.
    #[must_use]
    pub const fn task(self) -> &'static str {
        match self {
            Self::Succeed => "succeed",
            Self::Fail => "fail",
            Self::Hang => "hang",
            Self::IgnoreTerm => "ignore-term",
            Self::Missing => "missing",
        }
    }
}

/// Runs the suite. `command` gives the command of a behaviour; a runner that knows its tasks by
/// their ids ([`Behaviour::task`]) may ignore it. A command for `IgnoreTerm` must print a line when
/// it has begun to ignore the signal; `ready` waits for that.
///
/// # Panics
/// Where the runner breaks the contract.
pub async fn runner(
    runner: &dyn AgentRunner,
    directory: &Path,
    command: impl Fn(Behaviour) -> CommandLine,
    ready: impl AsyncFn(Behaviour),
) {
    let attempts = AtomicU32::new(0);
    let start = async |behaviour: Behaviour| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
        runner.start(request(behaviour, attempt, directory, command(behaviour))).await
    };
    let started = async |behaviour: Behaviour| -> Box<dyn RunningAgent> {
        let agent = start(behaviour).await.expect("the agent can be started");
        ready(behaviour).await;
        agent
    };
    assert!(!runner.name().is_empty());

    let agent = started(Behaviour::Succeed).await;
    let exit = agent.wait().await.expect("its end can be observed");
    assert_eq!(exit.status, ExitStatus::Code(0));
    assert_eq!(exit.output_tail.trim_end(), "hello");
    assert!(exit.output_bytes >= 5);
    assert_eq!(agent.wait().await.expect("again"), exit, "the answer stays the same");
    agent.stop(Duration::from_secs(60)).await.expect("ending what has ended is fine");

    let agent = started(Behaviour::Fail).await;
    let exit = agent.wait().await.expect("a failure is an outcome");
    assert_eq!(exit.status, ExitStatus::Code(3));

    let agent = started(Behaviour::Hang).await;
    let early = tokio::time::timeout(Duration::from_millis(20), agent.wait()).await;
    assert!(early.is_err(), "it runs, and a dropped wait changes nothing");
    agent.freeze().await.expect("it can be frozen");
    let age = agent.age().await;
    assert_eq!(agent.age().await, age, "its time stands still");
    agent.thaw().await.expect("it can be thawed");
    assert!(agent.age().await >= age, "its time goes on");
    agent.stop(Duration::from_secs(60)).await.expect("it can be ended");
    let exit = agent.wait().await.expect("its end can be observed");
    assert_eq!(exit.status, ExitStatus::Signal(15), "it was asked politely");
    assert!(matches!(exit.failure, Some(Failure::Interrupted { .. })), "{exit:?}");

    let agent = started(Behaviour::Hang).await;
    let verification = AdoptRequest {
        run: RunId::new("contract").expect("an id"),
        task: TaskId::new(Behaviour::Hang.task()).expect("an id"),
        attempt: attempts.load(Ordering::Relaxed),
        purpose: Purpose::Verify { index: 0 },
        identity: None,
    };
    let adopted = runner.adopt(verification).await.expect("it can be asked for");
    assert!(matches!(adopted, Adopted::Gone), "there was no such thing: {adopted:?}");
    let early = tokio::time::timeout(Duration::from_millis(20), agent.wait()).await;
    assert!(early.is_err(), "asking for a verification does nothing to the work: {early:?}");
    agent.freeze().await.expect("it can be frozen");
    agent.stop(Duration::from_secs(60)).await.expect("a frozen one can be ended");
    assert_eq!(agent.wait().await.expect("its end").status, ExitStatus::Signal(15));

    let agent = started(Behaviour::IgnoreTerm).await;
    agent.stop(Duration::from_millis(50)).await.expect("it is killed after the grace");
    assert_eq!(agent.wait().await.expect("its end").status, ExitStatus::Signal(9));

    let agent = started(Behaviour::Hang).await;
    agent.stop(Duration::ZERO).await.expect("without grace it is killed at once");
    let exit = agent.wait().await.expect("its end");
    assert_eq!(exit.status, ExitStatus::Signal(9));
    assert!(matches!(exit.failure, Some(Failure::Interrupted { .. })), "{exit:?}");

    let error = start(Behaviour::Missing).await.expect_err("there is nothing to start");
    assert!(matches!(error, RunnerError::Spawn { .. }), "{error:?}");
}

fn request(
    behaviour: Behaviour,
    attempt: Attempt,
    directory: &Path,
    command: CommandLine,
) -> AgentRequest {
    AgentRequest {
        context: None,
        run: RunId::new("contract").expect("an id"),
        task: TaskId::new(behaviour.task()).expect("an id"),
        attempt,
        purpose: Purpose::Work,
        work: Work::Command(command),
        agent: None,
        directory: directory.to_owned(),
        repository: directory.to_owned(),
        env: BTreeMap::from([
            ("ORCH_RUN_ID".into(), "contract".into()),
            ("ORCH_TASK_ID".into(), behaviour.task().into()),
            ("ORCH_ATTEMPT".into(), attempt.to_string()),
        ]),
        silence_timeout: None,
        max_output: ByteSize(1 << 20),
        max_total_output: ByteSize(1 << 30),
    }
}
