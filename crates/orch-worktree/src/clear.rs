//! Goes on where a git that was killed left a lock in the way: that of an agent that was ended, for
//! example, in the middle of its commit.
//!
//! While other agents are at work there is hardly a moment without a git, so that
//! [`locks::find`](crate::locks::find), which wants one, would not do. Here it is proven of one lock:
//! whoever made it was alive when it was first seen, or dead already. Once every git that was at
//! work then has ended, and the lock is still the same file, nobody owns it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use orch_model::ports::WorktreeError;
use tokio::time::{Instant, sleep};

use crate::{
    error::io_error,
    git::{Answer, Call},
    locks::{self, GitProcess},
    repo::Repo,
};

/// How long the gits that may own a lock are waited for. Git itself gives up after a tenth of a
/// second, or one second for packed references, so that whoever owns it for longer is at some long
/// work.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often they are looked at. They are nobody's children here, and end within milliseconds.
const LOOK: Duration = Duration::from_millis(10);

impl Repo {
    /// Makes a call of git, and once more where it was stopped by a lock that nobody owns any more.
    pub(crate) async fn past_locks<'g>(
        &self,
        call: impl Fn() -> Call<'g> + Send + Sync,
    ) -> Result<Answer, WorktreeError> {
        let answer = call().answer().await?;
        match answer.lock_in_the_way() {
            Some(lock) if self.clear(&lock).await? => call().answer().await,
            _ => Ok(answer),
        }
    }

    /// Waits until a lock is gone or was proven to be nobody's, and then removes it. `false` where
    /// it is not the engine's to remove, or stays somebody's.
    async fn clear(&self, lock: &Path) -> Result<bool, WorktreeError> {
        let places = [&*self.top, &*self.root];
        if !locks::is_of_engine_at(self.checkouts.common(), lock, &places) {
            return Ok(false);
        }
        // In this order: who makes a lock after the first look makes another file.
        let Some(seen) = Identity::of(lock) else { return Ok(true) };
        let mut suspects = locks::gits_at_work(self.checkouts.common(), &places);
        let end = Instant::now() + PATIENCE;
        loop {
            suspects.retain(GitProcess::is_alive);
            if Identity::of(lock) != Some(seen) {
                return Ok(true);
            }
            if suspects.is_empty() && !locks::is_open(lock) {
                break;
            }
            if Instant::now() > end {
                return Ok(false);
            }
            sleep(LOOK).await;
        }
        // Nobody else of ours removes it meanwhile.
        let _lock = self.lock.hold().await?;
        if Identity::of(lock) == Some(seen) {
            match fs::remove_file(lock) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(format!("removing {}", lock.display()))(error));
                }
                _ => {}
            }
            tracing::warn!(path = %lock.display(), "removed a lock that a killed git left behind");
        }
        Ok(true)
    }
}

/// Which file a path names: another one of the same name is made at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), changed })
    }
}

/// The lock that git says is in its way: `Unable to create '/repo/.git/x.lock': File exists.`
pub(crate) fn named_lock(complaint: &str) -> Option<PathBuf> {
    let (_, rest) = complaint.split_once("Unable to create '")?;
    let (path, rest) = rest.split_once("': ")?;
    (rest.starts_with("File exists") && path.ends_with(".lock")).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_read_from_what_git_says() {
        let said = "fatal: cannot lock ref 'refs/heads/a': Unable to create '/r/it's/.git/refs/heads/a.lock': File exists.\n\nAnother git process seems to be running";
        assert_eq!(named_lock(said), Some("/r/it's/.git/refs/heads/a.lock".into()));
        for other in [
            "fatal: Unable to create '/r/.git/a.lock': Permission denied",
            "fatal: Unable to create '/r/.git/a': File exists",
            "fatal: bad object",
        ] {
            assert_eq!(named_lock(other), None);
        }
    }
}
