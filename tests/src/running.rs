//! An `orch` that runs beside the test.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::Child,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{DEADLINE, Outcome, TestRepo};

/// An `orch` that runs beside the test. It is killed when it is dropped.
#[derive(Debug)]
pub struct RunningOrch<'r> {
    repo: &'r TestRepo,
    name: String,
    child: Child,
    report: Option<PathBuf>,
    lines: Receiver<String>,
    stdout: String,
    stderr: Option<JoinHandle<String>>,
    events: Vec<Value>,
    /// How many of `events` were looked at by `next_event`.
    seen: usize,
}

impl<'r> RunningOrch<'r> {
    pub(crate) fn new(
        repo: &'r TestRepo,
        name: String,
        mut child: Child,
        report: Option<PathBuf>,
    ) -> Self {
        let stdout = child.stdout.take().expect("the output is a pipe");
        let mut errors = child.stderr.take().expect("the error output is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            repo,
            name,
            child,
            report,
            lines,
            stdout: String::new(),
            stderr: Some(stderr),
            events: Vec::new(),
            seen: 0,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// Where that can't be found out.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be looked at").is_some()
    }

    /// Waits for the next event, after those that were looked at, that `is_wanted` takes. Those
    /// before it are passed over. Needs `--json`.
    ///
    /// # Panics
    /// Where the output ends before, or after [`DEADLINE`].
    #[track_caller]
    pub fn next_event(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            while let Some(event) = self.events.get(self.seen) {
                self.seen += 1;
                if is_wanted(event) {
                    return event.clone();
                }
            }
            self.receive(end, "event");
        }
    }

    /// The events that have come and were not looked at, without waiting for more. Needs `--json`.
    pub fn events_until_now(&mut self) -> impl Iterator<Item = &Value> {
        while let Ok(line) = self.lines.try_recv() {
            self.take(&line);
        }
        let seen = std::mem::replace(&mut self.seen, self.events.len());
        self.events[seen..].iter()
    }

    /// Waits until one of its agents raises a signal.
    ///
    /// # Panics
    /// Where it ends before, with what it said, or after [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&mut self, signal: &crate::Signal) {
        self.until(signal, || signal.is_raised().then_some(()));
    }

    /// Waits until one of its agents has written a line into a signal, and returns it.
    ///
    /// # Panics
    /// As [`Self::wait_for`] does.
    #[track_caller]
    pub fn text_of(&mut self, signal: &crate::Signal) -> String {
        self.until(signal, || signal.line())
    }

    #[track_caller]
    fn until<T>(&mut self, signal: &crate::Signal, probe: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            // In this order: what is raised by its last act counts.
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if let Some(value) = probe() {
                return value;
            }
            if has_ended || Instant::now() > end {
                // It may have ended already.
                let _ = self.child.kill();
                let outcome = self.collect();
                panic!("the signal {signal} was not raised\n{outcome}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the next line of its output that `is_wanted` takes, from the first that has not
    /// been received yet. For calls without `--json`.
    ///
    /// # Panics
    /// Where the output ends before, or after [`DEADLINE`].
    #[track_caller]
    pub fn next_line(&mut self, is_wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let line = self.receive(end, "line");
            if is_wanted(&line) {
                return line;
            }
        }
    }

    #[track_caller]
    fn receive(&mut self, end: Instant, what: &str) -> String {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.take(&line);
                line
            }
            Err(why) => {
                let why = match why {
                    RecvTimeoutError::Timeout => "did not come in time",
                    RecvTimeoutError::Disconnected => "did not come before the end",
                };
                // It may have ended already.
                let _ = self.child.kill();
                let outcome = self.collect();
                panic!("the awaited {what} {why}\n{outcome}");
            }
        }
    }

    /// Waits until something happens to a task: `started`, `merged`, `retry`.
    ///
    /// # Panics
    /// Where it does not happen; see [`Self::next_event`].
    #[track_caller]
    pub fn wait_for_change(&mut self, task: &str, change: &str) -> Value {
        self.next_event(|event| crate::is_task(event, task, change))
    }

    fn take(&mut self, line: &str) {
        self.stdout.push_str(line);
        if let Ok(event) = serde_json::from_str::<Value>(line)
            && event.get("seq").is_some()
        {
            self.events.push(event);
        }
    }

    /// What Ctrl-C does: SIGINT to the process.
    ///
    /// # Panics
    /// Where it is gone already.
    #[track_caller]
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGKILL to the process, and to it alone.
    ///
    /// # Panics
    /// Where it is gone already.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// Where it is gone already.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After [`DEADLINE`], with what it said until then.
    #[track_caller]
    #[must_use]
    pub fn wait(mut self) -> Outcome {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    let outcome = self.collect();
                    panic!("it did not end within {DEADLINE:?}\n{outcome}");
                }
            }
        }
        self.collect()
    }

    /// Waits for its end, and kills it after a time.
    ///
    /// # Panics
    /// As [`Self::wait`] does.
    #[track_caller]
    #[must_use]
    pub fn wait_or_kill(mut self, patience: Duration) -> Outcome {
        let end = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // It may have ended in this moment.
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        self.wait()
    }

    /// Takes up the rest of its output and its exit. Its output has ended or it was killed.
    fn collect(&mut self) -> Outcome {
        let status = self.child.wait().expect("a child can be waited for");
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.take(&line);
        }
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Outcome {
            name: self.name.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: std::mem::take(&mut self.stdout),
            stderr,
            events: std::mem::take(&mut self.events),
            report: self.report.clone(),
            state: self.repo.state_for_people(),
        }
    }
}

impl Drop for RunningOrch<'_> {
    fn drop(&mut self) {
        // Both fail where it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
