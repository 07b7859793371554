//! What outlives an orchestrator that was killed.

use std::{fs, path::PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Ends the supervisors of a repository's runs, and so their agents, when it is dropped.
#[derive(Debug)]
pub(crate) struct Supervisors {
    /// The folder of the runs.
    pub(crate) runs: PathBuf,
}

impl Drop for Supervisors {
    fn drop(&mut self) {
        let runs = self.runs.as_os_str().as_encoded_bytes();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            let ours = words.next() == Some(b"orch-supervisor")
                && words.any(|word| word.starts_with(runs));
            if let (true, Some(pid)) = (ours, Pid::from_raw(pid)) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    }
}
