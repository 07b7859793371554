//! The agent's process: lines to it and from it, and its end.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// The longest line that is understood, in bytes; longer ones are printed only.
const LONGEST_LINE: usize = 16 << 20;

/// How long an agent has to end once its input has ended. Half of those that were measured end within
/// 0.2 s, the others never or in 10 s.
const AFTER_INPUT: Duration = Duration::from_millis(1500);

/// How long it has after SIGTERM.
const AFTER_TERM: Duration = Duration::from_secs(3);

/// An agent's process, the leader of a group of its own: what ends this one is not to reach it before
/// its session is cancelled.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    group: Option<Pid>,
}

/// Starts it.
pub(super) fn start(argv: &[String]) -> io::Result<(Program, ChildStdin, ChildStdout)> {
    let [program, args @ ..] = argv else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (stdin, stdout) =
        (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
    Ok((Program { child, group }, stdin, stdout))
}

impl Program {
    /// Ends it, after its input has ended.
    pub(super) async fn end(mut self) {
        if timeout(AFTER_INPUT, self.child.wait()).await.is_err() {
            self.signal(Signal::TERM);
            let _ = timeout(AFTER_TERM, self.child.wait()).await;
        }
        // What it left in its group, too.
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may be gone.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// What the agent says, which is printed as it comes.
#[derive(Debug)]
pub(super) struct Said {
    stdout: BufReader<ChildStdout>,
}

impl Said {
    pub(super) fn new(stdout: ChildStdout) -> Self {
        Self { stdout: BufReader::with_capacity(64 << 10, stdout) }
    }

    /// The next line that is a JSON object; `None` at the end.
    ///
    /// # Errors
    /// Where it can't be read, or nobody takes what is printed.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        let mut out = tokio::io::stdout();
        loop {
            let (mut line, mut is_over) = (Vec::new(), false);
            loop {
                let chunk = self.stdout.fill_buf().await?;
                if chunk.is_empty() {
                    is_over = true;
                    break;
                }
                let end = chunk.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(chunk.len(), |end| end + 1);
                out.write_all(&chunk[..taken]).await?;
                if line.len() <= LONGEST_LINE {
                    line.extend_from_slice(&chunk[..taken]);
                }
                self.stdout.consume(taken);
                if end.is_some() {
                    break;
                }
            }
            out.flush().await?;
            let text = str::from_utf8(&line).unwrap_or_default().trim();
            let is_message = line.len() <= LONGEST_LINE
                && text.starts_with('{')
                && serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok();
            if is_message {
                return Ok(Some(text.to_owned()));
            }
            if is_over {
                return Ok(None);
            }
        }
    }
}

/// Prints a line of this process.
pub(super) async fn tell(line: &serde_json::Value) {
    let mut out = tokio::io::stdout();
    // Nobody may listen any more.
    let _ = out.write_all(format!("{line}\n").as_bytes()).await;
    let _ = out.flush().await;
}
