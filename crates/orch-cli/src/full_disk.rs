//! Whether it was a full disk that something failed of.

use std::{env, path::Path};

use crate::{error::CliError, exit_code::Exit};

/// With less than this, in bytes, a disk is full: git alone writes as much for a few files.
const LITTLE: u64 = 1 << 20;

const CURE: &str = "free some space there, then call it again (`orch resume` where it was a run)";

/// What helps where a disk is full. Who met that says so, a system call in these words and a git by no more than a
/// file that it can't write; then what is left on the disk of the current folder tells.
pub(crate) fn cure(error: &CliError) -> Option<String> {
    let text = error.to_string();
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        return Some(CURE.into());
    }
    let folder = env::current_dir().ok().filter(|_| error.exit() == Exit::Engine)?;
    (left(&folder) < LITTLE).then(|| format!("the disk of {} is full: {CURE}", folder.display()))
}

/// What is free on the disk of a folder, in bytes; more than there is where nobody knows.
fn left(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render;

    #[test]
    fn a_full_disk_is_told_with_its_cure() {
        let io = |source| CliError::Io { doing: "writing /x".into(), source };
        let shown = |source| {
            let error = io(source);
            let shown = render::error(&error, cure(&error).as_deref());
            anstream::adapter::strip_str(&shown).to_string()
        };
        let full = shown(rustix::io::Errno::NOSPC.into());
        assert!(full.starts_with("error: writing /x: No space left on device"), "{full}");
        assert!(full.contains("; free some space there, then call it again"), "{full}");
        let other = shown(rustix::io::Errno::IO.into());
        assert!(!other.contains("free some space"), "{other}");
    }
}
