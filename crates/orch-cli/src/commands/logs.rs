//! `orch logs`

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use notify::{RecursiveMode, Watcher};
use orch_exec::logs::{LogFile, files, folder};
use orch_model::{RunId, TaskId, ports::StateStore};
use tokio::sync::mpsc;

use super::pick;
use crate::{
    app::{LogsArgs, Overrides},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render,
};

pub(super) async fn logs(workspace: &Workspace, args: LogsArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let store = engine.store().as_ref();
    let run = pick::any(store, args.run).await?.run;
    let state = pick::state(store, &run).await?;
    if state.index_of(&args.task).is_none() {
        return Err(CliError::input(format!("run {run} has no task {}", args.task)));
    }
    let mut printer = Printer::new(workspace.state_dir.clone(), run.clone(), args.task.clone());
    if args.follow {
        printer.first = args.attempt.unwrap_or(1);
        return follow(store, &run, &args.task, printer).await;
    }
    let found = printer.files()?;
    let attempt = args.attempt.or_else(|| found.iter().map(|file| file.attempt).max());
    let wanted: Vec<_> = found.into_iter().filter(|file| Some(file.attempt) == attempt).collect();
    if wanted.is_empty() {
        let which = args.attempt.map_or_else(String::new, |n| format!("attempt {n} of "));
        eprintln!("{which}task {} of run {run} has written nothing", args.task);
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
    let (changed, mut changes) = mpsc::channel(1);
    let failed = |error: notify::Error| CliError::Io {
        doing: format!("watching {}", watched.display()),
        source: io::Error::other(error),
    };
    let mut watcher = notify::recommended_watcher(move |_| {
        // One message that waits is enough: whoever takes it looks at everything.
        let _ = changed.try_send(());
    })
    .map_err(failed)?;
    watcher.watch(&watched, RecursiveMode::Recursive).map_err(failed)?;
    loop {
        // First whether it has ended, then the output: so the end of it can't be missed.
        let state = pick::state(store, run).await?;
        let ended = state.index_of(task).is_none_or(|index| state.task(index).state.is_terminal())
            || state.status.is_ended();
        for file in printer.files()? {
            printer.print(&file)?;
        }
        if ended {
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
    /// Removes escape sequences, also those that come in two pieces.
    strip: Option<strip_ansi_escapes::Writer<Harmless>>,
}

impl Printer {
    fn new(state_dir: PathBuf, run: RunId, task: TaskId) -> Self {
        let strip = io::stdout()
            .is_terminal()
            .then(|| strip_ansi_escapes::Writer::new(Harmless::default()));
        Self { state_dir, run, task, first: 1, printed: BTreeMap::new(), strip }
    }

    fn files(&self) -> Result<Vec<LogFile>, CliError> {
        let found = files(&self.state_dir, &self.run, &self.task)
            .map_err(|error| CliError::reading(folder(&self.state_dir, &self.run), error))?;
        Ok(found.into_iter().filter(|file| file.attempt >= self.first).collect())
    }

    fn print(&mut self, file: &LogFile) -> Result<(), CliError> {
        let is_new = !self.printed.contains_key(&file.path);
        if let (true, Some(index)) = (is_new, file.verification) {
            eprintln!("--- verification {} of attempt {}", index + 1, file.attempt);
        } else if is_new && file.attempt > 1 {
            eprintln!("--- attempt {}", file.attempt);
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
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            at += read as u64;
            match &mut self.strip {
                Some(strip) => strip.write_all(&buffer[..read])?,
                None => io::stdout().write_all(&buffer[..read])?,
            }
        }
        match &mut self.strip {
            Some(strip) => strip.flush()?,
            None => io::stdout().flush()?,
        }
        Ok(at)
    }
}

/// Passes to the standard output what a terminal shows and does nothing else with.
#[derive(Default)]
struct Harmless {
    /// The beginning of a character whose end has not come yet.
    rest: Vec<u8>,
}

impl Write for Harmless {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        let text: String = String::from_utf8_lossy(&self.rest[..whole])
            .chars()
            .filter(|c| render::is_harmless(*c))
            .collect();
        self.rest.drain(..whole);
        io::stdout().write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
