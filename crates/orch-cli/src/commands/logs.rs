//! `orch logs`

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{RecursiveMode, Watcher};
use orch_exec::{
    EngineError,
    logs::{LogFile, files, folder},
};
use orch_model::{
    RunId, TaskId,
    ports::{Purpose, StateStore, StoreError},
};
use tokio::sync::mpsc;

use super::pick;
use crate::{
    app::{LogsArgs, Overrides},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, Harmless},
};

pub(super) async fn logs(workspace: &Workspace, args: LogsArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let store = engine.store().as_ref();
    let summary = match (pick::any(store, args.run.clone()).await, args.run) {
        (
            Err(CliError::Engine(EngineError::Store(newer @ StoreError::Newer { .. }))),
            Some(run),
        ) => {
            // What its agents printed can be shown all the same.
            render::tell(&newer.to_string());
            let printer = Printer::new(workspace.state_dir.clone(), run, args.task);
            return print_attempt(printer, args.attempt);
        }
        (summary, _) => summary?,
    };
    let run = summary.run;
    let state = pick::state(store, &run).await?;
    if state.index_of(&args.task).is_none() {
        return Err(CliError::input(format!(
            "run {run} has no task {}; `orch status --all` lists its tasks",
            args.task
        )));
    }
    let mut printer = Printer::new(workspace.state_dir.clone(), run.clone(), args.task.clone());
    if args.follow {
        printer.first = args.attempt.unwrap_or(1);
        if summary.owner.is_some() {
            return follow(store, &run, &args.task, printer).await;
        }
        printer.print_all()?;
        return Ok(Exit::Success);
    }
    print_attempt(printer, args.attempt)
}

/// Prints what an attempt has written, or the last one.
fn print_attempt(mut printer: Printer, attempt: Option<u32>) -> Result<Exit, CliError> {
    let found = printer.files()?;
    let last = attempt.or_else(|| found.iter().map(|file| file.attempt).max());
    let wanted: Vec<_> = found.into_iter().filter(|file| Some(file.attempt) == last).collect();
    if wanted.is_empty() {
        let which = attempt.map_or_else(String::new, |n| format!("attempt {n} of "));
        let (task, run) = (&printer.task, &printer.run);
        render::tell(&format!("{which}task {task} of run {run} has written nothing"));
    }
    for file in &wanted {
        printer.print(file)?;
    }
    Ok(Exit::Success)
}

/// Prints what is written until the task has ended or somebody ends this.
async fn follow(
    store: &dyn StateStore,
    run: &RunId,
    task: &TaskId,
    mut printer: Printer,
) -> Result<Exit, CliError> {
    let logs = folder(&printer.state_dir, run);
    let watched = logs.parent().unwrap_or(&logs).to_owned();
    // One message that waits is enough: whoever takes it looks at everything.
    let (changed, mut changes) = mpsc::channel(1);
    let is_journal_ahead = Arc::new(AtomicBool::new(true));
    let failed = |error: notify::Error| CliError::Io {
        doing: format!("watching {}", watched.display()),
        source: io::Error::other(error),
    };
    let ahead = Arc::clone(&is_journal_ahead);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading, which is done here too, changes nothing.
        if event.as_ref().is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        let is_output = event.as_ref().is_ok_and(|event| {
            event.paths.iter().all(|path| path.extension().is_some_and(|end| end == "log"))
        });
        if !is_output {
            ahead.store(true, Ordering::Release);
        }
        let _ = changed.try_send(());
    })
    .map_err(failed)?;
    watcher.watch(&watched, RecursiveMode::Recursive).map_err(failed)?;
    loop {
        // First whether it has ended, then the output: so the end of it can't be missed. The
        // journal is only read when it may have grown, and not for each line of output.
        let ended = if is_journal_ahead.swap(false, Ordering::AcqRel) {
            let state = pick::state(store, run).await?;
            let index = state.index_of(task);
            index.is_none_or(|index| state.task(index).state.is_terminal())
                || state.status.is_ended()
        } else {
            false
        };
        printer.print_all()?;
        if ended || !printer.is_read {
            return Ok(Exit::Success);
        }
        tokio::select! {
            change = changes.recv() => if change.is_none() { return Ok(Exit::Success) },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
}

/// Prints log files, each byte once.
struct Printer {
    state_dir: PathBuf,
    run: RunId,
    task: TaskId,
    /// The first attempt that is printed.
    first: u32,
    /// How far each file has been printed.
    printed: BTreeMap<PathBuf, u64>,
    /// For a terminal: takes out what that would act on.
    harmless: Option<Harmless>,
    /// Whether somebody still reads the standard output.
    is_read: bool,
}

impl Printer {
    fn new(state_dir: PathBuf, run: RunId, task: TaskId) -> Self {
        let harmless = io::stdout().is_terminal().then(Harmless::default);
        let printed = BTreeMap::new();
        Self { state_dir, run, task, first: 1, printed, harmless, is_read: true }
    }

    /// The files of the wanted attempts.
    fn files(&self) -> Result<Vec<LogFile>, CliError> {
        let found = files(&self.state_dir, &self.run, &self.task)
            .map_err(|error| CliError::reading(folder(&self.state_dir, &self.run), error))?;
        Ok(found.into_iter().filter(|file| file.attempt >= self.first).collect())
    }

    /// Prints what has been added to the files of the wanted attempts.
    fn print_all(&mut self) -> Result<(), CliError> {
        for file in self.files()? {
            self.print(&file)?;
        }
        Ok(())
    }

    /// Prints what has been added to a file.
    fn print(&mut self, file: &LogFile) -> Result<(), CliError> {
        let is_new = !self.printed.contains_key(&file.path);
        let attempt = file.attempt;
        match file.purpose {
            _ if !is_new => {}
            Purpose::Verify { index } => {
                render::tell(&format!("--- attempt {attempt}, verification {}", index + 1));
            }
            Purpose::Resolve { .. } => {
                render::tell(&format!("--- attempt {attempt}, resolver of its conflicts"));
            }
            Purpose::VerifyResolved { index, .. } => render::tell(&format!(
                "--- attempt {attempt}, verification {} of what the resolver left",
                index + 1
            )),
            Purpose::Candidate { index, .. } => render::tell(&format!(
                "--- attempt {attempt}, verification {} of the merged result",
                index + 1
            )),
            _ if attempt > 1 => render::tell(&format!("--- attempt {attempt}")),
            _ => {}
        }
        let from = self.printed.get(&file.path).copied().unwrap_or(0);
        let to = self
            .copy(&file.path, from)
            .map_err(|error| CliError::reading(file.path.clone(), error))?;
        self.printed.insert(file.path.clone(), to);
        Ok(())
    }

    fn copy(&mut self, path: &Path, from: u64) -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut at = from;
        let mut buffer = vec![0; 64 * 1024];
        let mut out = io::stdout().lock();
        while self.is_read {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            at += read as u64;
            let bytes = &buffer[..read];
            let written = match &mut self.harmless {
                Some(harmless) => out.write_all(harmless.of(bytes).as_bytes()),
                None => out.write_all(bytes),
            };
            // Whoever reads this may have seen enough: `orch logs TASK | head`.
            self.is_read = written.and_then(|()| out.flush()).is_ok();
        }
        Ok(at)
    }
}
