//! Runs whose orchestrator died: whoever comes across one is told, and on a terminal asked whether to take
//! it up.

use std::io::{self, BufRead, IsTerminal, Write};

use orch_model::{RunId, ports::StateStore};
use orch_state::FileStore;

use super::control;
use crate::{
    app::{Output, ResumeArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, WARN},
};

/// A run that nobody is at work on, although it has not ended.
#[derive(Debug)]
pub(super) struct Abandoned {
    run: RunId,
    /// The process that was at work on it.
    pid: u32,
}

impl Abandoned {
    /// This run.
    pub(super) const fn new(run: RunId, pid: u32) -> Self {
        Self { run, pid }
    }

    /// The newest one, where there is one. Only journals of runs that seem to be left are read.
    pub(super) async fn newest(workspace: &Workspace) -> Result<Option<Self>, CliError> {
        let store = FileStore::open(&workspace.state_dir)?;
        let mut found = None;
        for (run, pid) in store.abandoned()? {
            // What can't be read is told of by whoever needs it.
            let Ok(Some(state)) = store.state(&run).await else { continue };
            let is_newer = found.as_ref().is_none_or(|(at, _)| state.started_at > *at);
            if !state.status.is_ended() && is_newer {
                found = Some((state.started_at, Self { run, pid }));
            }
        }
        Ok(found.map(|(_, abandoned)| abandoned))
    }

    /// Says what it is and what to type.
    pub(super) fn tell(&self) {
        let Self { run, pid } = self;
        render::tell(&format!(
            "{WARN}run {run} has stopped: its orchestrator (process {pid}) is gone.{WARN:#} Continue it with \
             `orch resume {run}`."
        ));
    }

    /// Takes it up if somebody sits there and says so.
    pub(super) async fn offer(
        self,
        workspace: &Workspace,
        question: &str,
    ) -> Result<Option<Exit>, CliError> {
        if !is_attended() || !agrees(question) {
            return Ok(None);
        }
        let output = Output { json: false, report: None };
        // In a box: `resume` is a command like the one that asks.
        let resumed = Box::pin(control::resume(
            workspace,
            ResumeArgs { run: Some(self.run), budget: Vec::new(), output },
        ))
        .await?;
        Ok(Some(resumed))
    }
}

/// Whether somebody reads what is printed and can answer.
pub(super) fn is_attended() -> bool {
    io::stdin().is_terminal() && render::is_interactive()
}

/// Asks; no answer is a yes, the end of the input is none.
fn agrees(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(anstream::stderr(), "{question} [Y/n] ");
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    let answer = answer.trim().to_lowercase();
    read.is_ok_and(|bytes| bytes > 0) && matches!(&*answer, "" | "y" | "yes")
}
