//! How many places stay: no more than were asked for, none that is old, and none while the disk is
//! nearly full.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use orch_model::ports::WorktreeError;

use super::{
    Pool,
    slot::{self, Clean},
};

impl Pool {
    /// Whether a place that comes back may stay.
    pub(super) fn has_room_for(&self, folder: &Path) -> bool {
        let idle = slot::all(&self.folder).iter().filter(|f| slot::clean(f).is_some()).count();
        idle < self.config.size && !is_nearly_full(folder, self.config.free_floor)
    }

    /// Deletes a place that somebody who was killed had only begun to make.
    async fn drop_half_made(&self, folder: &Path) -> Result<(), WorktreeError> {
        let half_made = |(admin, path): &(PathBuf, Option<PathBuf>)| {
            path.is_none() && !(folder.is_dir() && admin.join("index").exists())
        };
        if slot::clean(folder).is_some()
            || !self.checkouts.lent_from(folder).as_ref().is_some_and(half_made)
        {
            return Ok(());
        }
        let Some(slot) = self.take(folder)? else { return Ok(()) };
        match self.checkouts.lent_from(folder).filter(half_made) {
            Some((admin, _)) => self.discard(&slot, Some(&admin)).await,
            None => Ok(()),
        }
    }

    /// The idle places that the limits leave no room for, the oldest first, and the space of each, in
    /// bytes.
    pub(crate) fn surplus(&self) -> Vec<(PathBuf, u64)> {
        let idle = self.idle();
        let (mut count, mut bytes) = (idle.len(), idle.iter().map(|(clean, _)| clean.bytes).sum());
        let mut surplus = Vec::new();
        for (clean, folder) in idle {
            if self.is_within(&clean, count, bytes) {
                break;
            }
            count -= 1;
            bytes -= clean.bytes;
            surplus.push((folder, clean.bytes));
        }
        surplus
    }

    /// Idle places, the oldest first.
    fn idle(&self) -> Vec<(Clean, PathBuf)> {
        let mut idle: Vec<_> = slot::all(&self.folder)
            .into_iter()
            .filter_map(|folder| Some((slot::clean(&folder)?, folder)))
            .collect();
        idle.sort_by_key(|(clean, _)| clean.since);
        idle
    }

    /// Whether a place may stay, of so many that take so much space.
    fn is_within(&self, clean: &Clean, count: usize, bytes: u64) -> bool {
        let age = SystemTime::now().duration_since(clean.since).unwrap_or_default();
        count <= self.config.size
            && bytes <= self.config.disk
            && age <= self.config.age
            && !is_nearly_full(&self.folder, self.config.free_floor)
    }

    /// Deletes idle places, the oldest first, until the limits hold.
    pub(crate) async fn keep_limits(&self) -> Result<(), WorktreeError> {
        for folder in slot::all(&self.folder) {
            self.drop_half_made(&folder).await?;
        }
        let idle = self.idle();
        let mut count = idle.len();
        let mut bytes: u64 = idle.iter().map(|(clean, _)| clean.bytes).sum();
        for (clean, folder) in idle {
            if self.is_within(&clean, count, bytes) {
                break;
            }
            let Some(slot) = self.take(&folder)? else { continue };
            // It may have been lent meanwhile.
            if let (Some(_), Some((admin, None))) =
                (slot.clean(), self.checkouts.lent_from(&folder))
            {
                tracing::debug!(folder = %folder.display(), "a place of the pool is one too many");
                self.discard(&slot, Some(&admin)).await?;
                count -= 1;
                bytes -= clean.bytes;
            }
        }
        Ok(())
    }
}

/// Whether less than so many bytes are free where a folder lies.
pub(crate) fn is_nearly_full(folder: &Path, floor: u64) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < floor)
}
