//! What agents leave behind.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long whatever ends with a run may take to be gone.
const SOON: Duration = Duration::from_secs(5);

/// Looks for processes that belong to a folder: by their environment (an agent's home is below it), the
/// folder that they are in, or their command line.
#[derive(Debug)]
pub struct Left {
    folder: PathBuf,
}

impl Left {
    /// For this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The processes that belong to the folder: id and command line.
    #[must_use]
    pub fn processes(&self) -> Vec<(i32, String)> {
        // Those that only name the folder are not of it.
        let inside = [self.folder.as_os_str().as_encoded_bytes(), b"/"].concat();
        let has = |bytes: &[u8]| bytes.windows(inside.len()).any(|part| part == inside);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
                let command = read("cmdline");
                let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
                let is_ours =
                    has(&read("environ")) || has(&command) || place.starts_with(&self.folder);
                // Those that have ended, and are only not yet waited for, have no command line.
                (is_ours && !command.is_empty()).then(|| {
                    (pid, String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned())
                })
            })
            .collect()
    }

    /// What is left after what ends by itself had time to; empty: nothing is.
    #[must_use]
    pub fn for_good(&self) -> Vec<(i32, String)> {
        let end = Instant::now() + SOON;
        loop {
            let left = self.processes();
            // One that is just becoming another program shows nothing of itself for a moment.
            if left.is_empty() && self.processes().is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
