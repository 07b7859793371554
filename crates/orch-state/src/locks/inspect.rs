//! Looks at a folder of locks from outside.

use std::path::{Path, PathBuf};

use orch_model::ports::{LeaseInfo, LockError};

use super::{FileLocks, blocking, file};
use crate::process::Life;

/// What a folder of locks holds that does no good; see [`FileLocks::inspect`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockInspection {
    /// The table of this boot of the machine.
    pub table: PathBuf,
    /// Why the table can't be read, and what to do. Nobody is granted a lock before that is done.
    pub unreadable: Option<String>,
    /// Leases all of whose processes are dead. Whoever asks for a lock next frees them.
    pub dead: Vec<LeaseInfo>,
    /// Tables of earlier boots, of which nobody takes notice any more.
    pub outdated: Vec<PathBuf>,
}

impl FileLocks {
    /// Looks at the folder, and changes nothing in it.
    ///
    /// # Errors
    /// Where it can't be looked at. A table that makes no sense is no error but what is found.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn inspect(&self) -> Result<LockInspection, LockError> {
        let dir = self.dir().to_owned();
        blocking(move || inspect(&dir)).await
    }

    /// Frees what the dead hold, and removes tables of earlier boots. A table that can't be read is
    /// left as it is: it may be all that is known of leases of the living.
    ///
    /// # Errors
    /// Where the table can't be read, or the gate stays shut because its holder is suspended.
    ///
    /// # Cancel safety
    /// Once begun it is done on a thread of its own.
    pub async fn sweep(&self) -> Result<(), LockError> {
        let dir = self.dir().to_owned();
        // To look at the table is to sweep it.
        let swept = self.place.with_table(move |_, _, _| {
            file::remove_those_of_earlier_boots(&dir);
            Ok(())
        });
        swept.await?.ok_or_else(|| self.place.shut())
    }
}

fn inspect(dir: &Path) -> Result<LockInspection, LockError> {
    let mut found = LockInspection {
        table: file::path(dir),
        outdated: file::of_earlier_boots(dir),
        ..LockInspection::default()
    };
    match file::read(dir) {
        Ok(table) => found.dead = table.map_or_else(Vec::new, |t| t.dead(Life::is_dead)),
        Err(LockError::Damaged { reason, .. }) => found.unreadable = Some(reason),
        Err(error) => return Err(error),
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use orch_model::{
        id::LockName,
        plan::{LockClaim, LockMode},
        ports::{Acquired, LockHolder, LockRequest, ResourceLock},
    };

    use super::*;

    async fn take(locks: &FileLocks, name: &str) -> Box<dyn orch_model::ports::Lease> {
        let claim = LockClaim::new(LockName::new(name).unwrap(), LockMode::Exclusive);
        let holder = LockHolder::Process { pid: 1 };
        match locks.try_acquire(LockRequest::new(holder, vec![claim])).await.unwrap() {
            Acquired::Granted(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_the_dead_hold_is_found_and_freed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let locks = FileLocks::open(folder.path().join("locks")).unwrap();
        let nothing = locks.inspect().await.unwrap();
        assert!(!locks.dir().exists(), "a look makes no folder");
        assert_eq!((nothing.unreadable, nothing.dead.len(), nothing.outdated.len()), (None, 0, 0));

        let _mine = take(&locks, "mine").await;
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = FileLocks::identify(child.id()).unwrap();
        take(&locks, "theirs").await.keep(vec![process]).await.unwrap();
        assert_eq!(locks.inspect().await.unwrap().dead, []);
        child.kill().unwrap();
        child.wait().unwrap();
        let old = locks.dir().join("@leases.00000000");
        fs::write(&old, "of an earlier boot").unwrap();
        let before = fs::read(file::path(locks.dir())).unwrap();
        let found = locks.inspect().await.unwrap();
        assert_eq!(found.dead[0].locks[0].claim.name.as_str(), "theirs");
        assert_eq!((found.dead.len(), &found.outdated), (1, &vec![old]));
        assert_eq!(fs::read(&found.table).unwrap(), before, "a look changes nothing");

        locks.sweep().await.unwrap();
        let swept = locks.inspect().await.unwrap();
        assert_eq!((swept.dead.len(), swept.outdated.len()), (0, 0));
        let left = locks.overview().await.unwrap().leases;
        assert_eq!(left.len(), 1, "the living keep what they have");

        fs::write(&found.table, "{").unwrap();
        assert!(locks.inspect().await.unwrap().unreadable.is_some());
        assert!(locks.sweep().await.is_err());
        assert_eq!(fs::read(&found.table).unwrap(), b"{");
    }
}
