//! Processes of agents, and locks, as `/proc` shows them. Nothing is locked or signalled.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use orch_model::{RunId, TaskId, ports::StoreError};
use orch_state::FileStore;

use super::{Finding, Invariant, Known, Remedy, Runs, journals::live_attempts};
use crate::{process::cgroup, shim};

/// Names processes that carry the marks of an attempt that is not under way. A run that can be
/// taken up again counts its last attempts as under way: they may be waited for.
pub(super) fn check_orphans(top: &Path, runs: &Runs, findings: &mut Vec<Finding>) {
    for process in processes() {
        let Some(mark) = Mark::of(&process, top) else { continue };
        let Some(known) = runs.get(&mark.run) else { continue };
        let attempts = live_attempts(&known.state);
        let is_live = attempts.get(mark.task.as_str()) == Some(&mark.attempt);
        if is_live && known.may_go_on() {
            continue;
        }
        let pid = process.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let what = format!(
            "`{}` belongs to attempt {} of task {}, which is over",
            name.trim(),
            mark.attempt,
            mark.task
        );
        findings.push(
            Finding::new(Invariant::NoOrphans, format!("process {pid}"), what)
                .of(&mark.run, Some(&mark.task))
                .cure(format!("kill {pid}")),
        );
    }
}

/// Names control groups that the supervisor of a run left behind. Whoever takes the run up sees to them.
pub(super) fn check_groups(
    store: &FileStore,
    runs: &Runs,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    for run in store.runs()? {
        let run_dir = store.dir().join("runs").join(run.as_str());
        let Some((folder, pids)) = cgroup::left_behind(&run_dir) else { continue };
        if runs.get(&run).is_some_and(Known::may_go_on) || shim::is_supervised(&run_dir) {
            continue;
        }
        let what = match pids.len() {
            0 => "the control group of a run that is over is left".to_owned(),
            n => format!("{n} processes of a run that is over are left in its control group"),
        };
        findings.push(
            Finding::new(Invariant::NoOrphans, folder.display(), what)
                .of(&run, None)
                .repairable(Remedy::EndProcesses(run.clone())),
        );
    }
    Ok(())
}

/// What an agent's environment says.
#[derive(Debug)]
struct Mark {
    run: RunId,
    task: TaskId,
    attempt: u32,
}

impl Mark {
    fn of(process: &Path, top: &Path) -> Option<Self> {
        let environment = fs::read(process.join("environ")).ok()?;
        let variables: HashMap<&str, &str> = environment
            .split(|byte| *byte == 0)
            .filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='))
            .filter(|(name, _)| name.starts_with("ORCH_"))
            .collect();
        if Path::new(variables.get("ORCH_REPO")?) != top
            || process.ends_with(std::process::id().to_string())
        {
            return None;
        }
        Some(Self {
            run: RunId::new(*variables.get("ORCH_RUN_ID")?).ok()?,
            task: TaskId::new(*variables.get("ORCH_TASK_ID")?).ok()?,
            attempt: variables.get("ORCH_ATTEMPT")?.parse().ok()?,
        })
    }
}

/// Names locks that are held although the process that took them is gone: one that it started
/// still has the file open.
pub(super) fn check_locks(
    store: &FileStore,
    locks: &Path,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let entries = fs::read_dir(locks).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    files.extend(store.owner_files()?);
    let dead = dead_holders(&fs::read_to_string("/proc/locks").unwrap_or_default());
    if dead.is_empty() {
        return Ok(());
    }
    for file in files {
        let Some(inode) = fs::metadata(&file).ok().map(|metadata| metadata.ino()) else { continue };
        if dead.contains(&inode) && is_open(&file) {
            let what = "it is held, and the process that took it is gone";
            findings.push(Finding::new(Invariant::LocksAreFree, file.display(), what).cure(
                format!("find who has it open with `fuser -v {}`, and end it", file.display()),
            ));
        }
    }
    Ok(())
}

/// The files, by inode, that are locked by `flock` in the name of a process that does not exist.
fn dead_holders(locks: &str) -> HashSet<u64> {
    // 1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF; proc_locks(5).
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
        let pid: u32 = pid.parse().ok()?;
        let inode = file.rsplit(':').next()?.parse().ok()?;
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(inode)
    };
    locks.lines().filter_map(parse).collect()
}

fn is_open(file: &Path) -> bool {
    processes().any(|process| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok);
        open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == file))
    })
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let is_process = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    };
    entries.filter(is_process).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flocks_of_processes_that_are_gone_count() {
        let me = std::process::id();
        let text = format!(
            "1: POSIX  ADVISORY  WRITE 4194305 fe:01:11 0 EOF\n\
             2: FLOCK  ADVISORY  WRITE 4194305 fe:01:22 0 EOF\n\
             2: -> FLOCK  ADVISORY  WRITE 4194305 fe:01:44 0 EOF\n\
             3: FLOCK  ADVISORY  READ {me} fe:01:33 0 EOF\n"
        );
        assert_eq!(dead_holders(&text), HashSet::from([22]));
    }
}
