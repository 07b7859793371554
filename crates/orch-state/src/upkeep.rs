//! What is needed to look after a folder of runs: which there are, who is at work on them, and
//! what writers that were killed left behind.

use std::{fs, io, path::PathBuf, sync::Arc};

use orch_faults::point;
use orch_model::{
    id::RunId,
    ports::{StateStore, StoreError},
    state::RunStatus,
};

use crate::{
    FileStore,
    disk::{self, io_error},
    journal::blocking,
    owner::{self, Ownership},
};

/// What the folder of a run that is being removed is called: no id of a run begins with a dot.
const GONE: &str = ".gone-";

impl FileStore {
    /// All runs that have a journal, also those whose journal can't be read, sorted by name.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn runs(&self) -> Result<Vec<RunId>, StoreError> {
        let mut runs: Vec<RunId> = self.layout.run_ids()?.into_iter().collect();
        runs.sort();
        Ok(runs)
    }

    /// The process that is at work on a run; `None` where none is. 0 where one is and does not say
    /// which.
    #[must_use]
    pub fn owner(&self, run: &RunId) -> Option<u32> {
        owner::is_held(&self.layout.owner(run))
            .then(|| owner::current(&self.layout.owner(run)).map_or(0, |note| note.pid))
    }

    /// The runs that somebody was at work on who died over it, and nobody is now, with that process. Reads
    /// no journal: such a run may have ended all the same.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn abandoned(&self) -> Result<Vec<(RunId, u32)>, StoreError> {
        let mut runs = self.runs()?;
        runs.reverse();
        let left = |run: RunId| Some((run.clone(), owner::left_by(&self.layout.owner(&run))?));
        Ok(runs.into_iter().filter_map(left).collect())
    }

    /// Refuses a run whose journal was written by a newer version: it may be read as far as it is
    /// understood, and is never written.
    ///
    /// # Errors
    /// [`StoreError::Newer`] there; or where there is no such run or its header can't be read.
    pub fn check_version(&self, run: &RunId) -> Result<(), StoreError> {
        self.layout.reader(run, 1)?.check_version()
    }

    /// Refuses a journal whose end was cut off: it ends with event `last`, and the published state,
    /// which never runs ahead of the journal, tells of later ones. Of a run that is not the current
    /// one nothing tells.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] there.
    pub async fn check_end(&self, run: &RunId, last: u64) -> Result<(), StoreError> {
        let (layout, run) = (Arc::clone(&self.layout), run.clone());
        blocking(move || layout.check_end(&run, last)).await
    }

    /// The files whose locks say who is at work, one per run.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn owner_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        Ok(self.runs()?.iter().map(|run| self.layout.owner(run)).filter(|p| p.exists()).collect())
    }

    /// What writers that were killed left half-written, and folders of runs whose removal was not
    /// finished. What belongs to a run that somebody is at work on is left out.
    ///
    /// # Errors
    /// Where a folder can't be read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = Vec::new();
        let runs = self.layout.runs();
        let mut is_idle = true;
        for entry in disk::entries(&runs)? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(GONE) {
                found.push(entry.path());
            } else if let Ok(run) = RunId::new(&*name) {
                if self.owner(&run).is_none() {
                    found.extend(disk::temporaries(&entry.path())?);
                } else {
                    is_idle = false;
                }
            }
        }
        if is_idle {
            found.extend(disk::temporaries(self.dir())?);
        }
        Ok(found)
    }

    /// Removes what [`FileStore::leftovers`] lists.
    ///
    /// # Errors
    /// Where something can't be removed.
    pub fn remove_leftovers(&self) -> Result<(), StoreError> {
        for path in self.leftovers()? {
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(&path, "removing")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all that is recorded of a run that has ended, or of which no event is recorded:
    /// journal, output, prompts. Its work in
    /// git is not touched. A kill in between leaves the run there or gone, and a leftover that
    /// [`FileStore::remove_leftovers`] removes.
    ///
    /// # Errors
    /// Where there is no such run, somebody is at work on it, it has not ended or can be resumed,
    /// its journal can't be read or was cut off, or the folder can't be removed.
    pub async fn remove(&self, run: &RunId) -> Result<(), StoreError> {
        let dir = self.layout.run(run);
        self.layout.reader(run, 1)?.check_version()?;
        let owner = Ownership::take(&self.layout.owner(run), run)?;
        let state = self.state(run).await?;
        self.layout.check_end(run, state.as_ref().map_or(0, |state| state.seq))?;
        let status = state.map(|state| state.status);
        if status.is_some_and(RunStatus::may_go_on) {
            let error = format!("run {run} has not ended, so what is recorded of it is kept");
            return Err(StoreError::Other { source: error.into() });
        }
        let gone = self.layout.runs().join(format!("{GONE}{run}"));
        blocking(move || {
            match fs::remove_dir_all(&gone) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(&gone, "removing")(error));
                }
                _ => {}
            }
            point!("upkeep::run.rename", fs::rename(&dir, &gone))
                .map_err(io_error(&dir, "moving it out of the way"))?;
            drop(owner);
            point!("upkeep::run.remove", fs::remove_dir_all(&gone))
                .map_err(io_error(&gone, "removing"))
        })
        .await
    }
}
