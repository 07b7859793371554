//! How much the output of a run may take on disk as a whole.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use orch_model::ByteSize;

/// What the outputs of a run may take on disk together. Once it is used up it stays so, whatever is
/// given back: who writes from then on keeps little.
#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    used: AtomicU64,
    is_used_up: AtomicBool,
    told: AtomicBool,
}

impl Budget {
    pub(crate) const fn new(max: u64) -> Self {
        Self {
            max,
            used: AtomicU64::new(0),
            is_used_up: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    /// That of a run whose output goes to this folder, in which there may be some already.
    pub(crate) fn of(folder: &Path, max: u64) -> Self {
        let budget = Self::new(max);
        // What can't be read is not counted; without a folder there is nothing.
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        budget.take(sizes.sum());
        budget
    }

    /// Something was written.
    pub(super) fn take(&self, bytes: u64) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used >= self.max {
            self.is_used_up.store(true, Ordering::Relaxed);
        }
    }

    /// Something was removed.
    pub(super) fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.is_used_up.load(Ordering::Relaxed)
    }

    /// What people should know, the first time that there is something.
    pub(super) fn news(&self) -> Option<String> {
        (self.is_used_up() && !self.told.swap(true, Ordering::Relaxed)).then(|| {
            format!(
                "the output of all tasks together has reached {} (`max_total_output`): from now on \
                 only the first {} and the last {} of each are kept",
                ByteSize(self.max),
                ByteSize(super::output::LITTLE / 2).rounded(),
                ByteSize(super::output::LITTLE / 4).rounded(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_stays_used_up() {
        let budget = Budget::new(100);
        budget.take(99);
        assert_eq!((budget.is_used_up(), budget.news()), (false, None));
        budget.take(1);
        budget.give(100);
        assert!(budget.is_used_up());
        let news = budget.news().unwrap();
        assert!(news.contains("100B") && news.contains("first 8 KiB"), "{news}");
        assert_eq!(budget.news(), None);
    }

    #[test]
    fn what_an_earlier_supervisor_wrote_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.1.log"), "12345").unwrap();
        fs::write(folder.path().join("b.1.log"), "67890").unwrap();
        assert!(Budget::of(folder.path(), 10).is_used_up());
        assert!(!Budget::of(folder.path(), 11).is_used_up());
        assert!(!Budget::of(&folder.path().join("none"), 1).is_used_up());
    }
}
