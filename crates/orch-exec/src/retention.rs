//! How long records of ended runs are kept: journals, output, prompts.

use std::{fs, path::Path, time::Duration};

use orch_model::{
    RunId, Timestamp,
    ports::{GcItem, GcItemKind, RunSummary, StateStore, StoreError},
};
/// Where runs are recorded.
pub use orch_state::FileStore;
use serde::Serialize;

/// How many newest runs are kept unless something else is said.
pub const KEEP: usize = 10;

/// Which records may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How many of the newest runs are kept.
    pub keep: usize,
    /// Only runs whose last event is longer ago may go; `None`: of any age.
    pub older_than: Option<Duration>,
    /// How much space the records of all runs may take together, in bytes: beyond it the oldest go, also
    /// newest and young ones; `None`: any.
    pub max_size: Option<u64>,
    /// List only.
    pub dry_run: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: KEEP, older_than: None, max_size: None, dry_run: false }
    }
}

/// The records of a run that were, or would be, looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RunRecords {
    /// The run.
    pub run: RunId,
    /// Why they are kept; `None` where they were (or would be) removed.
    pub kept: Option<String>,
    /// How much space they take, in bytes.
    pub bytes: u64,
}

impl Retention {
    /// Removes the records of runs that have ended and whose work is safe without them. `garbage`
    /// is what [`WorktreeProvider::gc`](orch_model::ports::WorktreeProvider::gc) has just given:
    /// a run of which it kept something keeps its records too, since they say what that is.
    /// Runs that are among the newest, or too young, are not listed, unless all together take too much.
    ///
    /// # Errors
    /// Where runs can't be listed or removed.
    ///
    /// # Cancel safety
    /// A dropped call has removed some of the runs, each of them as a whole.
    pub async fn apply(
        &self,
        store: &FileStore,
        garbage: &[GcItem],
        now: Timestamp,
    ) -> Result<Vec<RunRecords>, StoreError> {
        let current = store.current().await?;
        let mut records = Vec::new();
        let mut total = 0;
        for (place, run) in store.list().await?.into_iter().enumerate() {
            let bytes = size_of(&store.run_dir(&run.run));
            total += bytes;
            let is_young = self.older_than.is_some_and(|age| now.since(run.updated_at) < age);
            let is_too_much = self.max_size.is_some_and(|most| total > most);
            if (place < self.keep || is_young) && !is_too_much {
                continue;
            }
            let mut kept = if current.as_ref() == Some(&run.run) {
                Some("it is the current one, which parallel-state.json speaks of".into())
            } else {
                why_kept(&run, garbage)
            };
            if kept.is_none() && !self.dry_run {
                kept = match store.remove(&run.run).await {
                    Ok(()) => None,
                    // Somebody has taken it up meanwhile, or a newer version wrote it.
                    Err(error @ (StoreError::Busy { .. } | StoreError::Newer { .. })) => {
                        Some(error.to_string())
                    }
                    Err(error) => return Err(error),
                };
            }
            if kept.is_none() {
                total -= bytes;
            }
            records.push(RunRecords { run: run.run, kept, bytes });
        }
        if !self.dry_run {
            store.remove_leftovers()?;
        }
        Ok(records)
    }
}

/// How much space a folder takes, in bytes; what can't be read counts as nothing.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let sizes = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { size_of(&entry.path()) } else { meta.len() })
    });
    sizes.sum()
}

fn why_kept(run: &RunSummary, garbage: &[GcItem]) -> Option<String> {
    if run.owner.is_some() {
        return Some("somebody is at work on it".into());
    }
    if run.status.may_go_on() {
        return Some("it can be resumed".into());
    }
    let of_run = |item: &&GcItem| {
        let mut parts = item.name.rsplit('/');
        let is_of_run = parts.nth(1) == Some(run.run.as_str());
        item.kept.is_some() && item.kind != GcItemKind::Folder && is_of_run
    };
    let item = garbage.iter().find(of_run)?;
    Some(format!("{} is kept: {}", item.name, item.kept.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use orch_model::RunStatus;

    use super::*;

    fn summary(status: RunStatus, owner: Option<u32>) -> RunSummary {
        RunSummary {
            run: RunId::new("r.1").unwrap(),
            status,
            started_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
            tasks: 1,
            merged: 1,
            unsuccessful: 0,
            owner,
        }
    }

    #[test]
    fn records_go_only_where_nothing_needs_them() {
        let item = |kind, name: &str, kept: Option<&str>| GcItem {
            kind,
            name: name.into(),
            kept: kept.map(str::to_owned),
            preserved: false,
            bytes: None,
        };
        let others = [
            item(GcItemKind::Branch, "orch/r.1/a", None),
            item(GcItemKind::Branch, "orch/r.12/a", Some("needed")),
            item(GcItemKind::Folder, "/w/r.1/b", Some("needed")),
        ];
        assert_eq!(why_kept(&summary(RunStatus::Succeeded, None), &others), None);
        for (status, owner) in [
            (RunStatus::Succeeded, Some(7)),
            (RunStatus::Interrupted, None),
            (RunStatus::Running, None),
        ] {
            assert!(why_kept(&summary(status, owner), &others).is_some(), "{status:?}");
        }
        for (kind, name) in [(GcItemKind::Branch, "orch/r.1/a"), (GcItemKind::Worktree, "/w/r.1/a")]
        {
            let kept =
                why_kept(&summary(RunStatus::Failed, None), &[item(kind, name, Some("why"))]);
            assert_eq!(kept, Some(format!("{name} is kept: why")));
        }
    }
}
