//! What verified a task last, and the end of what that printed.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use orch_model::{RunState, ValidPlan, ports::Purpose};
use serde::Serialize;

use crate::{error::EngineError, logs::LogFile};

/// How much of the end of an output is read.
const TAIL: u64 = 4 * 1024;

/// A verification of the last attempt that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// The command.
    pub command: String,
    /// Whether it verified what merging the task gave.
    pub of_merged: bool,
    /// The file with its output.
    pub log: PathBuf,
    /// The end of it, 4 KiB at most; invalid UTF-8 is replaced.
    pub tail: String,
}

pub(super) fn verifications(
    state: &RunState,
    index: usize,
    files: &[LogFile],
) -> Result<Vec<Verification>, EngineError> {
    let is_verification = |file: &&LogFile| file.purpose != Purpose::Work;
    let Some(last) = files.iter().filter(is_verification).map(|file| file.attempt).max() else {
        return Ok(Vec::new());
    };
    let plan = ValidPlan::new((*state.header.plan).clone()).ok();
    let command = |purpose| {
        let plan = plan.as_ref()?;
        let (commands, index) = match purpose {
            Purpose::Verify { index: n } => (&plan.tasks().get(index)?.verify, n),
            Purpose::Candidate { index: n, .. } => (&plan.merging().verify, n),
            _ => return None,
        };
        Some(commands.get(index)?.to_string())
    };
    let of_last = files.iter().filter(is_verification).filter(|file| file.attempt == last);
    of_last
        .map(|file| {
            let failed = |source| EngineError::Io {
                doing: format!("reading {}", file.path.display()),
                source,
            };
            Ok(Verification {
                command: command(file.purpose).unwrap_or_default(),
                of_merged: matches!(file.purpose, Purpose::Candidate { .. }),
                log: file.path.clone(),
                tail: tail(&file.path).map_err(failed)?,
            })
        })
        .collect()
}

/// The end of a file, from the beginning of a line on.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let cut = if skipped > 0 { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
    Ok(text[cut..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(tail(&path).unwrap(), "short\n");
        let lines: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &lines).unwrap();
        let end = tail(&path).unwrap();
        assert!(end.starts_with("line ") && lines.ends_with(&end), "{end:.20}");
        assert!(end.len() > 4000, "{}", end.len());
    }
}
