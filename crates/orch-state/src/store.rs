//! `FileStore`: journals and the published state in a folder.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use orch_model::{
    id::RunId,
    ports::{EventReader, RunJournal, RunSummary, StateStore, StoreError},
    run::RunState,
};

use crate::{
    alone::Alone,
    disk::{self, io_error},
    format::{Header, Position},
    journal::{self, FileJournal, blocking},
    owner::{self, Ownership},
    published::{self, Outlet, PublishedState},
    reader::JournalReader,
    summary,
};

/// Keeps runs in a folder of a repository, by custom `<repository>/.orch`.
///
/// ```text
/// .orch/.gitignore                  so that the folder ignores itself
/// .orch/current                     the id of the current run: created or opened last
/// .orch/parallel-state.json         the state of the current run, see `PublishedState`
/// .orch/runs/<run>/owner.lock       held by the orchestrator that is at work on the run
/// .orch/runs/<run>/journal          what happened
/// .orch/runs/<run>/journal.torn-<n> incomplete records that were cut off
/// ```
///
/// The folder must be on a local file system: network file systems lack the locks, or the promise
/// that a synced file is safe. Looking at a workspace makes no file in it; only [`create`] does.
///
/// [`create`]: StateStore::create
#[derive(Debug, Clone)]
pub struct FileStore {
    pub(crate) layout: Arc<Layout>,
}

impl FileStore {
    /// Takes a folder as the store. It need not be there.
    ///
    /// # Errors
    /// Where there is something else of that name, or the path is relative and the current folder
    /// is gone.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        let dir = std::path::absolute(dir).map_err(io_error(dir, "finding the folder"))?;
        match fs::metadata(&dir) {
            Ok(found) if !found.is_dir() => {
                let error = io::ErrorKind::NotADirectory.into();
                Err(io_error(&dir, "opening the store")(error))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&dir, "opening the store")(error))
            }
            _ => Ok(Self { layout: Arc::new(Layout { dir }) }),
        }
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.layout.dir
    }

    /// The path of the published state.
    #[must_use]
    pub fn published_path(&self) -> PathBuf {
        self.layout.published()
    }

    /// The folder of a run, for what belongs to it beside its journal.
    #[must_use]
    pub fn run_dir(&self, run: &RunId) -> PathBuf {
        self.layout.run(run)
    }

    /// Makes the folder, as the first run would: it ignores itself.
    ///
    /// # Errors
    /// Where that fails.
    pub fn prepare(&self) -> Result<(), StoreError> {
        self.layout.prepare()?;
        self.layout.ignore(&self.layout.dir)
    }

    /// Reads the published state; `None` where none was ever published. It may lag behind the
    /// journal by as much as the orchestrator limits its rate.
    ///
    /// # Errors
    /// Where the file can't be read, is damaged or was written by a newer version.
    pub async fn published(&self) -> Result<Option<PublishedState<'static>>, StoreError> {
        let path = self.layout.published();
        blocking(move || match fs::read(&path) {
            Ok(bytes) => published::read(&path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path, "reading")(error)),
        })
        .await
    }

    /// Writes the published state anew from the journal of a run, which becomes the current one by
    /// that, and gives the state.
    ///
    /// # Errors
    /// Where there is no such run, its journal is damaged or empty, another orchestrator is at
    /// work, or the file can't be written.
    pub async fn rebuild_state(&self, run: &RunId) -> Result<RunState, StoreError> {
        let path = self.layout.journal(run);
        self.layout.reader(run, 1)?.check_version()?;
        let owner = Ownership::take(&self.layout.owner(run), run)?;
        let state = self.state(run).await?.ok_or_else(|| StoreError::Damaged {
            path,
            offset: 0,
            detail: "it holds no event yet".into(),
        })?;
        let outlet = self.layout.outlet(run);
        blocking(move || {
            outlet.claim()?;
            outlet.write(&state)?;
            drop(owner);
            Ok(state)
        })
        .await
    }
}

#[async_trait]
impl StateStore for FileStore {
    fn name(&self) -> &str {
        "files"
    }

    async fn create(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        let (layout, run) = (Arc::clone(&self.layout), run.clone());
        blocking(move || layout.create(&run)).await
    }

    async fn open(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        let (layout, run) = (Arc::clone(&self.layout), run.clone());
        blocking(move || layout.open(&run)).await
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Box<dyn EventReader>, StoreError> {
        Ok(Box::new(self.layout.reader(run, from)?))
    }

    async fn current(&self) -> Result<Option<RunId>, StoreError> {
        let run = published::current(&self.layout.current());
        Ok(run.filter(|run| self.layout.journal(run).exists()))
    }

    /// Lists the runs, the newest first. Runs whose journal holds no event yet are left out, and
    /// so, with a warning in the log, are those whose journal can't be read: one damaged run must
    /// not hide the others.
    async fn list(&self) -> Result<Vec<RunSummary>, StoreError> {
        let mut summaries = Vec::new();
        for run in self.layout.run_ids()? {
            match self.state(&run).await {
                Ok(Some(state)) => {
                    let pid = owner::current(&self.layout.owner(&run)).map(|owner| owner.pid);
                    summaries.push(summary::summary(&state, pid));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%run, %error, "a run is left out of the list"),
            }
        }
        summary::newest_first(&mut summaries);
        Ok(summaries)
    }
}

/// Where things are.
#[derive(Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(crate) fn owner(&self, run: &RunId) -> PathBuf {
        self.run(run).join("owner.lock")
    }

    fn outlet(&self, run: &RunId) -> Outlet {
        Outlet {
            path: self.published(),
            current: self.current(),
            run_dir: self.run(run),
            run: run.clone(),
        }
    }

    fn current(&self) -> PathBuf {
        self.dir.join("current")
    }

    fn published(&self) -> PathBuf {
        self.dir.join("parallel-state.json")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.dir.join("runs")
    }

    pub(crate) fn run(&self, run: &RunId) -> PathBuf {
        self.runs().join(run.as_str())
    }

    pub(crate) fn journal(&self, run: &RunId) -> PathBuf {
        self.run(run).join("journal")
    }

    /// Makes the folder.
    fn prepare(&self) -> Result<(), StoreError> {
        if let Some(parent) = self.dir.parent() {
            fs::create_dir_all(parent).map_err(io_error(parent, "making the folder"))?;
        }
        disk::create_dir(&self.dir)?;
        Ok(())
    }

    /// Has the folder ignore itself. The file is first written in `temporaries`.
    fn ignore(&self, temporaries: &Path) -> Result<(), StoreError> {
        let ignore = self.dir.join(".gitignore");
        if !ignore.exists() {
            disk::create(&ignore, temporaries, b"*\n")?;
        }
        Ok(())
    }

    fn create(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        self.prepare()?;
        let (dir, path) = (self.run(run), self.journal(run));
        disk::create_dir(&self.runs())?;
        disk::create_dir(&dir)?;
        if path.exists() {
            return Err(StoreError::Exists { run: run.clone() });
        }
        let owner = Ownership::take(&self.owner(run), run)?;
        disk::remove_temporaries(&dir);
        self.ignore(&dir)?;
        let (header, chain) = Header::new(run.clone()).encode();
        if !disk::create(&path, &dir, header.as_bytes())? {
            return Err(StoreError::Exists { run: run.clone() });
        }
        let end = Position { offset: header.len() as u64, seq: 1, chain };
        let file = journal::open(&path)?;
        Ok(Box::new(FileJournal::new(path, file, self.outlet(run), end, owner)?))
    }

    fn open(&self, run: &RunId) -> Result<Box<dyn RunJournal>, StoreError> {
        let path = self.journal(run);
        if !path.exists() {
            return Err(self.no_such_run(run));
        }
        // Before anything is written: what a newer version wrote is left alone.
        self.reader(run, 1)?.check_version()?;
        let owner = Ownership::take(&self.owner(run), run)?;
        disk::remove_temporaries(&self.run(run));
        let file = journal::open(&path)?;
        // Only now: until the locks were taken somebody may have been writing.
        let alone = Alone::with(&file, &path)?;
        let mut reader = self.reader(run, 1)?;
        let (end, torn) = reader.skim()?;
        self.check_end(run, end.seq - 1)?;
        if !torn.is_empty() && !orch_faults::planted("torn-tail-kept") {
            journal::cut_torn_tail(&path, torn, end.offset)?;
        }
        journal::write_again(&path)?;
        drop(alone);
        Ok(Box::new(FileJournal::new(path, file, self.outlet(run), end, owner)?))
    }

    /// Refuses a journal that ends with event `last` where the published state tells of later ones.
    pub(crate) fn check_end(&self, run: &RunId, last: u64) -> Result<(), StoreError> {
        let (path, published) = (self.journal(run), self.published());
        let told = published::last_event_of(&published, run);
        if told <= last {
            return Ok(());
        }
        let offset = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let detail = format!(
            "it ends with event {last}, and {} tells of event {told}: its end was cut off; remove that file to go on from event {last} all the same",
            published.display()
        );
        Err(StoreError::Damaged { path, offset, detail })
    }

    pub(crate) fn run_ids(&self) -> Result<HashSet<RunId>, StoreError> {
        let dir = self.runs();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
            Err(error) => return Err(io_error(&dir, "listing the runs")(error)),
        };
        let mut runs = HashSet::new();
        for entry in entries {
            let name = entry.map_err(io_error(&dir, "listing the runs"))?.file_name();
            if let Some(run) = name.to_str().and_then(|name| RunId::new(name).ok())
                && self.journal(&run).exists()
            {
                runs.insert(run);
            }
        }
        Ok(runs)
    }

    pub(crate) fn reader(&self, run: &RunId, from: u64) -> Result<JournalReader, StoreError> {
        let path = self.journal(run);
        JournalReader::open(&path, from).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.no_such_run(run),
            _ => io_error(&path, "opening")(error),
        })
    }

    fn no_such_run(&self, run: &RunId) -> StoreError {
        let runs = self.run_ids().unwrap_or_default();
        let nearest = runs
            .iter()
            .map(|known| (strsim::damerau_levenshtein(run.as_str(), known.as_str()), known))
            .filter(|(distance, _)| *distance <= run.as_str().len().max(3) / 3)
            .min();
        let run = match nearest {
            Some((_, known)) => format!("{run} (did you mean {known}?)"),
            None => run.to_string(),
        };
        StoreError::NoSuchRun { run }
    }
}
