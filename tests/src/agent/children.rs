//! Processes that the fake agent leaves behind.
//!
//! A child is the same binary again, called with a word that no script begins with. It says that
//! it stands where it should, on its standard error, before the agent goes on.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// The first argument of a child.
const CHILD: &str = "--child";

/// What a process that is left behind holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// The agent's process group.
    SameGroup,
    /// Nothing: it has a session of its own.
    OwnSession,
    /// The agent's process group and its output.
    HoldsOutput,
}

impl ChildKind {
    /// The kind that a statement starts; `None` where the statement starts none.
    #[must_use]
    pub fn of_statement(name: &str) -> Option<Self> {
        match name {
            "fork-grandchild" => Some(Self::SameGroup),
            "setsid-grandchild" => Some(Self::OwnSession),
            "hold-stdout" => Some(Self::HoldsOutput),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::SameGroup => "same-group",
            Self::OwnSession => "own-session",
            Self::HoldsOutput => "holds-output",
        }
    }

    /// Starts such a process and returns its id once it stands where it should.
    pub(super) fn start(self, time: Duration, pid_file: Option<&Path>) -> io::Result<u32> {
        let mut command = Command::new(env::current_exe()?);
        command.args([CHILD, self.word(), &time.as_secs_f64().to_string()]).stdin(Stdio::null());
        if self == Self::HoldsOutput {
            command.stdout(Stdio::inherit()).stderr(Stdio::piped());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let ready = child.stderr.take().ok_or_else(|| io::Error::other("no pipe to the child"))?;
        let mut line = String::new();
        BufReader::new(ready).read_line(&mut line)?;
        if line.trim() != "ready" {
            return Err(io::Error::other(format!("the child says {line:?}")));
        }
        if let Some(file) = pid_file {
            fs::write(file, format!("{}\n", child.id()))?;
        }
        Ok(child.id())
    }
}

/// Where the arguments are those of a child, is that child until its time has passed and returns
/// true.
///
/// # Errors
/// Where it can't take up its place.
pub fn be_child(arguments: &[String]) -> io::Result<bool> {
    let [flag, kind, seconds] = arguments else { return Ok(false) };
    if flag != CHILD {
        return Ok(false);
    }
    if kind == ChildKind::OwnSession.word() {
        rustix::process::setsid()?;
    }
    let time = seconds
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| io::Error::other("a child needs a number of seconds"))?;
    // The agent closes its end of this pipe as soon as it has read the line.
    io::stderr().write_all(b"ready\n")?;
    thread::sleep(time);
    Ok(true)
}
