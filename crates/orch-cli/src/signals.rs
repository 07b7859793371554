//! Ctrl-C and its kind: the first asks the run to stop, the second kills what runs.

use orch_exec::Run;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::error::CliError;

/// What is said to the first signal.
const FIRST: &str = "stopping: running agents are asked to end; Ctrl-C again kills them at once";

/// What is said to every further one.
const FURTHER: &str = "killing the running agents";

/// Signals of a person or a supervisor that wants `orch` to end.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, CliError> {
        let catch = |kind| {
            signal(kind).map_err(|source| CliError::Io { doing: "catching signals".into(), source })
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Passes signals on to a run, and says what it did through `said`.
pub(crate) async fn pass_on(
    mut signals: Signals,
    run: Run,
    said: mpsc::UnboundedSender<&'static str>,
) {
    signals.next().await;
    let _ = said.send(FIRST);
    if run.interrupt().await.is_err() {
        return;
    }
    loop {
        signals.next().await;
        let _ = said.send(FURTHER);
        if run.kill().await.is_err() {
            return;
        }
    }
}
