//! The control socket, over a real socket to a run that is under way.

use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::PathBuf,
};

use orch_exec::{
    EngineError, Run,
    control::{Client, Request, Response, Server, socket_path},
    model::{RunId, RunStatus},
    testing::{Step, TestEngine},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

use crate::common::{id, start, states, task, until};

/// A run under way, in a state folder whose sockets have paths that no address could hold.
struct Deep {
    _dir: tempfile::TempDir,
    state: PathBuf,
    run: Run,
}

impl Deep {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a-rather-long-name-of-a-folder/".repeat(6)).join(".orch");
        let engine = TestEngine::new();
        engine.runner.script("a", [Step::Hang]);
        let run = start(&engine, [task("a"), task("b").needs(id("a")), task("c")]).await;
        let deep = Self { _dir: dir, state, run };
        fs::create_dir_all(deep.socket().parent().unwrap()).unwrap();
        assert!(deep.socket().as_os_str().len() > 108);
        until(&deep.run, "a", "running").await;
        deep
    }

    fn socket(&self) -> PathBuf {
        socket_path(&self.state, self.run.id())
    }

    fn serve(&self) -> Server {
        Server::bind(&self.state, self.run.clone()).unwrap()
    }

    async fn connect(&self) -> Option<Client> {
        Client::connect(&self.state, self.run.id()).await.unwrap()
    }

    async fn client(&self) -> Client {
        self.connect().await.expect("somebody listens")
    }

    /// The socket's folder, and an address of the socket as long as that is open.
    fn address(&self) -> (fs::File, String) {
        let folder = fs::File::open(self.socket().parent().unwrap()).unwrap();
        let path = format!("/proc/self/fd/{}/control.sock", folder.as_raw_fd());
        (folder, path)
    }

    /// Sends a line as it is and gives the answer as it comes.
    async fn raw(&self, line: &str) -> String {
        let (_folder, path) = self.address();
        let mut stream = BufReader::new(UnixStream::connect(path).await.unwrap());
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).await.unwrap();
        answer
    }

    async fn end(&self) {
        self.run.cancel().await.unwrap();
        self.run.wait().await.unwrap();
    }
}

#[tokio::test]
async fn a_run_is_controlled_from_outside() {
    let deep = Deep::new().await;
    let run = &deep.run;
    let server = deep.serve();
    let mode = fs::metadata(deep.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may control it");

    let mut one = deep.client().await;
    let mut two = deep.client().await;
    let done = Response::Done { run: run.id().clone() };
    let Response::Status { progress } = two.request(&Request::Status).await.unwrap() else {
        panic!("no status")
    };
    assert_eq!((progress.run, progress.running.len()), (run.id().clone(), 1));
    assert_eq!(progress.waiting[0].reason.to_string(), "a");

    for (request, status) in [
        (Request::Pause { freeze: false }, RunStatus::Paused),
        (Request::Pause { freeze: true }, RunStatus::Frozen),
        (Request::Resume, RunStatus::Running),
    ] {
        assert_eq!(one.request(&request).await.unwrap(), done);
        let Response::Status { progress } = two.request(&Request::Status).await.unwrap() else {
            panic!("no status")
        };
        assert_eq!(progress.status, status, "{request:?}");
    }

    let unknown = Request::Cancel { task: Some(id("z")) };
    let message = "there is no task z in this run".to_owned();
    assert_eq!(one.request(&unknown).await.unwrap(), Response::Refused { message });
    let cancel = Request::Cancel { task: Some(id("a")) };
    assert_eq!(two.request(&cancel).await.unwrap(), done);
    let report = run.wait().await.unwrap();
    assert_eq!(states(&report), "a cancelled, b skipped, c merged");

    let message = "the run has ended".to_owned();
    let refused = one.request(&Request::Cancel { task: None }).await.unwrap();
    assert_eq!(refused, Response::Refused { message });
    drop(server);
    assert!(!deep.socket().exists());
    assert!(deep.connect().await.is_none());
}

#[tokio::test]
async fn everything_is_cancelled_from_outside() {
    let deep = Deep::new().await;
    let run = &deep.run;
    let _server = deep.serve();
    let response = deep.client().await.request(&Request::Cancel { task: None }).await.unwrap();
    assert_eq!(response, Response::Done { run: run.id().clone() });
    assert_eq!(run.wait().await.unwrap().status, RunStatus::Cancelled);
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let deep = Deep::new().await;
    let _server = deep.serve();
    for (line, answer) in [
        ("what?\n", "not a request"),
        ("{\"version\":1,\"request\":\"explode\"}\n", "not a request"),
        ("{\"request\":\"status\"}\n", "not a request"),
        (
            "{\"version\":2,\"request\":\"status\"}\n",
            "the orchestrator speaks version 1, and the request has version 2",
        ),
    ] {
        let said = deep.raw(line).await;
        assert!(said.contains("\"refused\"") && said.contains(answer), "{line} {said}");
        assert!(said.contains("\"version\":1"), "{said}");
    }
    // One who hangs up in the middle of a line hurts nobody.
    let (_folder, path) = deep.address();
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(b"{\"version\"").await.unwrap();
    drop(stream);
    let said = deep.raw("{\"version\":1,\"request\":\"status\"}\n").await;
    assert!(said.contains("\"status\""), "{said}");
    deep.end().await;
}

#[tokio::test]
async fn nobody_is_there() {
    let deep = Deep::new().await;
    assert!(deep.connect().await.is_none(), "there is no socket");
    let other = RunId::new("other").unwrap();
    let there = Client::connect(&deep.state, &other).await.unwrap();
    assert!(there.is_none(), "there is no folder");
    let (_folder, path) = deep.address();
    drop(UnixListener::bind(path).unwrap());
    assert!(deep.socket().exists());
    assert!(deep.connect().await.is_none(), "whoever made it is gone");

    let _server = deep.serve();
    deep.client().await.request(&Request::Cancel { task: None }).await.unwrap();
    deep.run.wait().await.unwrap();
}

#[tokio::test]
async fn a_socket_that_can_not_be_made_or_used_is_an_error() {
    let deep = Deep::new().await;
    let error = Server::bind(&deep.state.join("gone"), deep.run.clone()).unwrap_err();
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
    assert!(error.to_string().starts_with("making the control socket"), "{error}");
    let other = RunId::new("other").unwrap();
    fs::write(deep.state.join("runs/other"), "no folder").unwrap();
    let error = Client::connect(&deep.state, &other).await.unwrap_err();
    assert!(error.to_string().starts_with("connecting to"), "{error}");
    fs::create_dir(deep.socket()).unwrap();
    let error = Server::bind(&deep.state, deep.run.clone()).unwrap_err();
    assert!(error.to_string().starts_with("making the control socket"), "{error}");
    deep.end().await;
}

#[tokio::test]
async fn an_orchestrator_that_goes_away_is_an_error() {
    let deep = Deep::new().await;
    let (_folder, path) = deep.address();
    let listener = UnixListener::bind(path).unwrap();
    let mut client = deep.client().await;
    let (stream, _) = listener.accept().await.unwrap();
    drop(stream);
    let error = client.request(&Request::Status).await.unwrap_err();
    assert!(matches!(error, EngineError::Ended), "{error}");
    deep.end().await;
}
