//! Control groups for agents: what an agent starts stays in its group, whatever it does to its process
//! group, its session and its environment, and one write ends all of it, also what forks meanwhile
//! (`cgroup.kill`, Linux 5.14, `Documentation/admin-guide/cgroup-v2.rst`).
//!
//! The supervisor, which has one thread, enters the agent's group, starts the agent there, and goes
//! back: so nothing that the agent forks can be outside of it. This needs cgroup v2, and that the
//! supervisor may make groups below its own. Where that is not so, process groups, orphans and marked
//! environments remain ([`super::group`], [`super::orphans`], [`super::leftovers`]), which are swept
//! in any case.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Child},
    time::Duration,
};

use orch_faults::point;
use rustix::fs::{Access, access};

/// What the groups of a run are recorded in, beside its journal.
const RECORD: &str = "cgroup";

/// How long killed processes may take to vanish, in steps of a millisecond.
const VANISH: u32 = 2000;

/// Whether a supervisor that this process starts can have its agents in control groups of their own.
/// Gives the group that those would be made in.
///
/// # Errors
/// Why it can't, in a sentence.
pub fn containment() -> Result<PathBuf, String> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| format!("{path} can't be read: {error}"))
    };
    let home = folder(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)?;
    let needed = [(&home, Access::WRITE_OK), (&home.join("cgroup.procs"), Access::WRITE_OK)];
    for (path, rights) in needed {
        access(path, rights)
            .map_err(|error| format!("{} can't be written: {error}", path.display()))?;
    }
    Ok(home)
}

/// The folder of a process's group, from its `/proc/PID/cgroup` and `/proc/PID/mountinfo`.
fn folder(groups: &str, mounts: &str) -> Result<PathBuf, String> {
    let group = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("this process is in no group of cgroup v2")?;
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        after.starts_with("cgroup2 ").then(|| Path::new(at).join(below))
    };
    mounts.lines().find_map(mount).ok_or_else(|| "cgroup v2 is not mounted".into())
}

/// The control groups of a run's agents.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// Where the supervisor is.
    home: PathBuf,
    /// What it makes the groups of agents in.
    run: PathBuf,
    record: PathBuf,
}

impl Cgroups {
    /// Makes the group of a run.
    pub(crate) fn open(run_dir: &Path) -> Result<Self, String> {
        let home = containment()?;
        let failed = |error: io::Error| format!("no group in {}: {error}", home.display());
        let run = home.join(name(run_dir).ok_or("the run has no name")?);
        let record = run_dir.join(RECORD);
        // Written first: what was made is found.
        point!("cgroup::record.write", fs::write(&record, run.as_os_str().as_encoded_bytes()))
            .map_err(failed)?;
        let groups = Self { home: home.clone(), run, record };
        let made = match fs::create_dir(&groups.run) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ if !groups.run.join("cgroup.kill").exists() => {
                Err("the kernel has no `cgroup.kill`, which Linux 5.14 brought".to_owned())
            }
            _ => Ok(()),
        };
        made.inspect_err(|_| groups.close()).map(|()| groups)
    }

    /// Starts a child in a new group. Without one where that is not possible.
    pub(crate) fn start<E>(
        &self,
        name: &str,
        start: impl FnOnce() -> Result<Child, E>,
    ) -> Result<(Child, Option<Cgroup>), E> {
        let folder = self.run.join(name);
        if let Err(error) = fs::create_dir(&folder).and_then(|()| enter(&folder)) {
            tracing::debug!(%error, "an agent gets no control group");
            let _ = fs::remove_dir(&folder);
            return start().map(|child| (child, None));
        }
        let child = start();
        // Where somebody has given its own group's controllers to the groups in it, nobody may be in
        // that any more.
        if let Err(error) = enter(&self.home).or_else(|_| enter(&self.run)) {
            tracing::warn!(%error, "the supervisor can't leave an agent's control group");
            // Its end would be the supervisor's.
            return child.map(|child| (child, None));
        }
        if child.is_err() {
            let _ = fs::remove_dir(&folder);
        }
        child.map(|child| (child, Some(Cgroup { folder })))
    }

    /// Removes the group of the run.
    pub(crate) fn close(&self) {
        // Fails, as it should, while anything is in it.
        if let Ok(()) = fs::remove_dir(&self.run).or_else(is_gone) {
            let _ = fs::remove_file(&self.record);
        }
    }
}

/// The control group of one agent.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Kills all that is in it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.folder.join("cgroup.kill"))
            .and_then(|mut file| io::Write::write_all(&mut file, b"1"))
            .or_else(is_gone)
    }

    /// Ends what is left in it, and removes it. Gives how many processes that were.
    pub(crate) async fn end(&self) -> io::Result<usize> {
        let mut left = 0;
        for _ in 0..VANISH {
            // Mostly nothing is in it, and this is all. Zombies don't keep it.
            match remove(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                removed => return removed.map(|()| left),
            }
            left = left.max(processes(&self.folder).len());
            self.kill()?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("processes in {} can't be ended", self.folder.display()),
        ))
    }
}

/// The group that the supervisor of a run left behind, and what is in it, by pid.
#[cfg(any(test, feature = "defaults"))]
pub(crate) fn left_behind(run_dir: &Path) -> Option<(PathBuf, Vec<u32>)> {
    let folder = recorded(run_dir)?;
    folder.is_dir().then(|| (folder.clone(), processes(&folder)))
}

/// Ends what is in the groups of a run whose supervisor is dead, and removes them.
pub(crate) async fn sweep(run_dir: &Path) -> io::Result<()> {
    let Some(folder) = recorded(run_dir) else { return Ok(()) };
    Cgroup { folder }.end().await?;
    fs::remove_file(run_dir.join(RECORD)).or_else(is_gone)
}

/// Ends what is in the group of one agent whose supervisor is dead, and removes it.
pub(crate) async fn sweep_one(run_dir: &Path, agent: &str) -> io::Result<()> {
    let Some(run) = recorded(run_dir) else { return Ok(()) };
    Cgroup { folder: run.join(agent) }.end().await.map(|_| ())
}

/// The group of a run, as its supervisor wrote it down. Nothing but such a group is ever touched.
fn recorded(run_dir: &Path) -> Option<PathBuf> {
    let folder = PathBuf::from(fs::read_to_string(run_dir.join(RECORD)).ok()?);
    let is_ours = folder.is_absolute() && folder.file_name()?.to_str()? == name(run_dir)?;
    // Never the group that this process is in, or that is around it.
    (is_ours && !processes(&folder).contains(&process::id())).then_some(folder)
}

fn name(run_dir: &Path) -> Option<String> {
    Some(format!("orch-{}", run_dir.file_name()?.to_str()?))
}

/// Moves this process into a group.
fn enter(folder: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?;
    io::Write::write_all(&mut file, b"0")
}

/// Removes a group with the groups in it: an agent may have made some.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder).or_else(is_gone) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        removed => return removed,
    }
    for inner in inner(folder) {
        remove(&inner)?;
    }
    fs::remove_dir(folder).or_else(is_gone)
}

/// The processes in a group and in those in it.
fn processes(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|pid| pid.parse().ok()).collect();
    pids.extend(inner(folder).iter().flat_map(|inner| processes(inner)));
    pids
}

fn inner(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|of| of.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn is_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 25 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        33 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    #[test]
    fn the_group_of_a_process_is_found_where_cgroup_v2_is_mounted() {
        let unified = "30 25 0:25 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        let groups = "0::/user.slice/user-1000.slice/app.scope\n";
        let found = folder(groups, unified);
        assert_eq!(found, Ok("/sys/fs/cgroup/user.slice/user-1000.slice/app.scope".into()));
        let hybrid = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let groups = "4:memory:/box\n0::/\n";
        assert_eq!(folder(groups, &hybrid), Ok("/sys/fs/cgroup/unified/".into()));
        // A container that sees a part of the tree only.
        let part = "41 31 0:38 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(folder("0::/box/inner\n", part), Ok("/sys/fs/cgroup/inner".into()));
        assert!(folder("0::/elsewhere\n", part).is_err());
    }

    #[test]
    fn without_it_the_reason_is_given() {
        assert_eq!(folder("0::/\n", V1), Err("cgroup v2 is not mounted".into()));
        let none = folder("4:memory:/\n", V1);
        assert_eq!(none, Err("this process is in no group of cgroup v2".into()));
    }

    #[tokio::test]
    async fn only_the_group_of_the_run_is_ever_touched() {
        let place = tempfile::tempdir().unwrap();
        let run_dir = place.path().join("r1");
        let other = place.path().join("other");
        fs::create_dir_all(&run_dir).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(run_dir.join(RECORD), other.as_os_str().as_encoded_bytes()).unwrap();
        assert_eq!(left_behind(&run_dir), None);
        sweep(&run_dir).await.unwrap();
        assert!(other.is_dir());

        let own = place.path().join("orch-r1");
        fs::create_dir_all(own.join("task.1")).unwrap();
        fs::write(run_dir.join(RECORD), own.as_os_str().as_encoded_bytes()).unwrap();
        assert_eq!(left_behind(&run_dir), Some((own.clone(), Vec::new())));
    }
}
