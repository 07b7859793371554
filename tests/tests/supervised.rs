//! The runner with a supervisor keeps the contract of every runner, and more.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use orch_exec::{
    model::{
        ByteSize, RunId, TaskId,
        outcome::ExitStatus,
        plan::{Work, spec::CommandLine},
        ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, Purpose},
    },
    shim::SupervisedRunner,
    testing::contract::{self, Behaviour},
};
use orch_tests::{binary, process_is_alive, until};

fn runner(state: &Path) -> SupervisedRunner {
    SupervisedRunner::new(state).program(binary::orch())
}

fn request(folder: &Path, line: &str) -> AgentRequest {
    AgentRequest {
        context: None,
        run: RunId::new("r1").expect("an id"),
        task: TaskId::new("t1").expect("an id"),
        attempt: 1,
        purpose: Purpose::Work,
        work: Work::Command(CommandLine::Shell(line.into())),
        agent: None,
        directory: folder.into(),
        repository: folder.into(),
        env: [("ORCH_RUN_ID", "r1"), ("ORCH_TASK_ID", "t1"), ("ORCH_ATTEMPT", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        silence_timeout: None,
        max_output: ByteSize(1 << 20),
        max_total_output: ByteSize(1 << 30),
    }
}

fn adopt(request: &AgentRequest) -> AdoptRequest {
    AdoptRequest {
        run: request.run.clone(),
        task: request.task.clone(),
        attempt: request.attempt,
        purpose: request.purpose,
        identity: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let runner = runner(&folder.path().join("state"));
    let fifo = folder.path().join("ready");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let command = |behaviour| match behaviour {
        Behaviour::Succeed => CommandLine::Shell("echo hello".into()),
        Behaviour::Fail => CommandLine::Shell("exit 3".into()),
        Behaviour::Hang => CommandLine::Argv(vec!["sleep".into(), "1000".into()]),
        Behaviour::IgnoreTerm => CommandLine::Shell(
            "trap '' TERM; echo ready > ready; while :; do sleep 1000; done".into(),
        ),
        Behaviour::Missing => CommandLine::Argv(vec!["/no/such/program".into()]),
    };
    let fifo = Arc::new(fifo);
    contract::runner(&runner, folder.path(), command, async |behaviour| {
        if behaviour == Behaviour::IgnoreTerm {
            let fifo = Arc::clone(&fifo);
            let read = tokio::task::spawn_blocking(move || fs::read_to_string(&*fifo));
            assert_eq!(read.await.expect("no panic").expect("a line"), "ready\n");
        }
    })
    .await;
    runner.finish(&RunId::new("contract").expect("an id")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_taken_up_by_another_runner() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let request =
        request(folder.path(), "echo first; while [ ! -e go ]; do sleep 0.05; done; echo last");
    let first = runner(&state);
    let agent = first.start(request.clone()).await.expect("it starts");
    let identity = agent.identity().expect("a process");
    // What a kill of the orchestrator leaves: nobody forgets the agent.
    std::mem::forget(agent);
    drop(first);

    let second = runner(&state);
    let Adopted::Agent(agent) = second.adopt(adopt(&request)).await.expect("it can be asked")
    else {
        panic!("it runs")
    };
    assert_eq!(agent.identity().expect("a process"), identity);
    fs::write(folder.path().join("go"), "").expect("a file");
    let exit = agent.wait().await.expect("an end");
    assert_eq!((exit.status, exit.output_tail.as_str()), (ExitStatus::Code(0), "first\nlast\n"));
    drop(agent);
    // Its end was written down, also after nobody needs it any more.
    let Adopted::Agent(agent) = second.adopt(adopt(&request)).await.expect("it can be asked")
    else {
        panic!("its end is known")
    };
    assert_eq!(agent.wait().await.expect("an end"), exit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_started_is_gone_and_what_nobody_wants_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let runner = runner(&folder.path().join("state"));
    let request = request(folder.path(), "sleep 1000");
    let gone = runner.adopt(adopt(&request)).await.expect("it can be asked");
    assert!(matches!(gone, Adopted::Gone), "{gone:?}");
    let agent = runner.start(request.clone()).await.expect("it starts");
    let pid = agent.identity().expect("a process").pid;
    assert!(tokio::time::timeout(Duration::from_millis(20), agent.wait()).await.is_err());
    drop(agent);
    tokio::task::spawn_blocking(move || {
        until("the end of a dropped agent", || (!process_is_alive(pid)).then_some(()));
    })
    .await
    .expect("it ends");
}

#[tokio::test]
async fn a_program_that_is_no_supervisor_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let runner = SupervisedRunner::new(folder.path()).program("/bin/true");
    let error = runner.start(request(folder.path(), "true")).await.expect_err("nobody listens");
    assert!(error.to_string().contains("supervisor of run r1"), "{error}");
    let source = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(source.contains("run_if_requested"), "{source}");
}
