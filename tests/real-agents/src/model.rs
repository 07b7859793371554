//! The scripted model server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// What each answer of the server uses, unless the script says otherwise: tokens of the input, those of a cache
/// among them, and of the output.
const INPUT: u64 = 1200;
const OUTPUT: u64 = 34;

/// A scripted model server, `tests/fake_model.py`, on a port of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct Model {
    server: Child,
    address: String,
}

/// What a server has answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// How many.
    pub count: u64,
    /// Tokens of the input of all of them.
    pub input: u64,
    /// Tokens of their output.
    pub output: u64,
}

impl Model {
    /// Starts one; `None` where there is no Python.
    #[must_use]
    pub fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fake_model.py");
        let mut server = Command::new("python3")
            .arg(script)
            .args(["--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut port = String::new();
        BufReader::new(server.stdout.take()?).read_line(&mut port).ok()?;
        Some(Self { server, address: format!("127.0.0.1:{}", port.trim()) })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked, and what it answered.
    ///
    /// # Panics
    /// Where it can't be asked.
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        let mut stream = TcpStream::connect(&self.address).expect("the server is there");
        let request = "GET /_requests HTTP/1.0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it takes requests");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// What it has answered to agents, as a whole, with what each answer uses where no script says otherwise.
    ///
    /// # Panics
    /// Where it can't be asked.
    #[must_use]
    pub fn answers(&self) -> Answers {
        let is_answer = |request: &&Value| {
            request["status"] == 200 && request["state"] == "answered" && request["api"].is_string()
        };
        let count = self.requests().iter().filter(is_answer).count() as u64;
        Answers { count, input: count * INPUT, output: count * OUTPUT }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
