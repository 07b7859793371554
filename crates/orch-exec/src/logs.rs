//! Where the output of agents is kept: `<state>/runs/<run>/logs/<task>.<attempt>.log`; with
//! `.verify-<n>` before `.log` that of the n-th verification (from 0); with `.resolve-<r>` and
//! `.resolve-<r>-<n>` that of the r-th time (from 1) that conflicts of its work were resolved, and of the
//! verifications of that; with `.merge-<c>-<n>` that of what the c-th candidate of the merge queue gave.

use std::path::{Path, PathBuf};

use orch_model::{
    RunId, TaskId,
    ports::{AgentRequest, Purpose},
    state::Attempt,
};

/// A file with the output of an attempt or of one of its verifications.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// The attempt.
    pub attempt: Attempt,
    /// What wrote it.
    pub purpose: Purpose,
    /// The file.
    pub path: PathBuf,
}

/// The folder with the output of a run.
#[must_use]
pub fn folder(state_dir: &Path, run: &RunId) -> PathBuf {
    state_dir.join("runs").join(run.as_str()).join("logs")
}

/// The files with the output of a task, in the order in which they were written. An attempt without
/// output has none.
///
/// # Errors
/// Where the folder can't be read; none is no error.
pub fn files(state_dir: &Path, run: &RunId, task: &TaskId) -> std::io::Result<Vec<LogFile>> {
    let entries = match std::fs::read_dir(folder(state_dir, run)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some((attempt, purpose)) = name.and_then(|name| parse(name, task)) {
            files.push(LogFile { attempt, purpose, path });
        }
    }
    files.sort();
    Ok(files)
}

fn parse(name: &str, task: &TaskId) -> Option<(Attempt, Purpose)> {
    let rest = name.strip_prefix(task.as_str())?.strip_prefix('.')?.strip_suffix(".log")?;
    let (attempt, purpose) = if let Some((attempt, index)) = rest.split_once(".verify-") {
        (attempt, Purpose::Verify { index: index.parse().ok()? })
    } else if let Some((attempt, resolved)) = rest.split_once(".resolve-") {
        let purpose = match resolved.split_once('-') {
            Some((round, index)) => {
                let (round, index) = (round.parse().ok()?, index.parse().ok()?);
                Purpose::VerifyResolved { round, index }
            }
            None => Purpose::Resolve { round: resolved.parse().ok()? },
        };
        (attempt, purpose)
    } else if let Some((attempt, candidate)) = rest.split_once(".merge-") {
        let (number, index) = candidate.split_once('-')?;
        let (number, index) = (number.parse().ok()?, index.parse().ok()?);
        (attempt, Purpose::Candidate { number, index })
    } else {
        (rest, Purpose::Work)
    };
    Some((attempt.parse().ok()?, purpose))
}

/// The output of an attempt that has ended; one without output has none.
pub(crate) fn output_of(
    state_dir: &Path,
    run: &RunId,
    task: &TaskId,
    attempt: Attempt,
) -> Option<PathBuf> {
    let path = folder(state_dir, run).join(format!("{task}.{attempt}.log"));
    path.is_file().then_some(path)
}

pub(crate) fn path(state_dir: &Path, request: &AgentRequest) -> PathBuf {
    let name = request.purpose.name(&request.task, request.attempt);
    folder(state_dir, &request.run).join(name + ".log")
}

/// The file with what an agent was told.
#[must_use]
pub fn prompt_path(state_dir: &Path, request: &AgentRequest) -> PathBuf {
    let name = request.purpose.name(&request.task, request.attempt);
    state_dir.join("runs").join(request.run.as_str()).join("prompts").join(name + ".md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_task_are_told_from_those_of_others() {
        let state = tempfile::tempdir().unwrap();
        let run = RunId::new("r").unwrap();
        let task = TaskId::new("a").unwrap();
        assert_eq!(files(state.path(), &run, &task).unwrap(), []);
        let folder = folder(state.path(), &run);
        std::fs::create_dir_all(&folder).unwrap();
        for name in [
            "a.10.log",
            "a.2.verify-0.log",
            "a.2.merge-11-0.log",
            "a.2.merge-3-1.log",
            "a.2.merge-x-1.log",
            "a.2.resolve-1.log",
            "a.2.resolve-1-0.log",
            "a.2.resolve-x.log",
            "a.2.log",
            "a.b.1.log",
            "b.1.log",
            "a.1.log~a",
            "a.log",
        ] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let found: Vec<_> = files(state.path(), &run, &task)
            .unwrap()
            .into_iter()
            .map(|file| (file.attempt, file.purpose))
            .collect();
        let candidate = |number, index| Purpose::Candidate { number, index };
        assert_eq!(
            found,
            [
                (2, Purpose::Work),
                (2, Purpose::Verify { index: 0 }),
                (2, Purpose::Resolve { round: 1 }),
                (2, Purpose::VerifyResolved { round: 1, index: 0 }),
                (2, candidate(3, 1)),
                (2, candidate(11, 0)),
                (10, Purpose::Work),
            ]
        );
    }
}
