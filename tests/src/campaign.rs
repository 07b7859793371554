//! What a campaign did, for the page that tells of it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};

/// A campaign that ran to its end: its record is a file of `docs/reliability`, from which the
/// tables of `docs/reliability.md` are written (the binary `reliability`).
///
/// A campaign that found a violation has no record: it panicked.
#[derive(Debug)]
pub struct Campaign {
    name: &'static str,
    command: &'static str,
    began: Instant,
    done: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
}

impl Campaign {
    /// The variable that names the folder for records. Without it none is written.
    pub const RECORDS: &'static str = "ORCH_CAMPAIGN_RECORDS";

    /// The variable that says after how many minutes a campaign ends, with what is under way then. Without it, it ends
    /// when all is done.
    pub const MINUTES: &'static str = "ORCH_CAMPAIGN_MINUTES";

    /// A campaign that begins now. The `command` is what somebody else runs it with.
    #[must_use]
    pub fn begin(name: &'static str, command: &'static str) -> Self {
        let (done, faults) = (BTreeMap::new(), BTreeMap::new());
        Self { name, command, began: Instant::now(), done, faults }
    }

    /// Whether its time is not over.
    ///
    /// # Panics
    /// Where [`MINUTES`](Self::MINUTES) is no number.
    #[must_use]
    pub fn has_time(&self) -> bool {
        let minutes = env::var(Self::MINUTES).ok().map(|text| text.parse().expect("minutes"));
        minutes.is_none_or(|minutes: u64| self.began.elapsed().as_secs() < 60 * minutes)
    }

    /// So much was done: seeds, runs, steps.
    pub fn did(&mut self, what: &str, count: impl Into<u64>) {
        *self.done.entry(what.to_owned()).or_default() += count.into();
    }

    /// So many faults of this kind were caused.
    pub fn caused(&mut self, fault: &str, count: impl Into<u64>) {
        *self.faults.entry(fault.to_owned()).or_default() += count.into();
    }

    /// Prints what was done, and writes it into the folder of [`RECORDS`](Self::RECORDS) when that
    /// is set.
    ///
    /// # Panics
    /// If the record can't be written.
    #[expect(clippy::print_stdout, reason = "what a campaign did is its result")]
    pub fn finish(self) {
        let seconds = self.began.elapsed().as_secs();
        println!("{}: {seconds} s", self.name);
        for (what, count) in &self.done {
            println!("{count:>12} {what}");
        }
        for (fault, count) in &self.faults {
            println!("{count:>12} x {fault}");
        }
        let Some(folder) = env::var_os(Self::RECORDS).map(PathBuf::from) else { return };
        let record = json!({
            "campaign": self.name,
            "command": self.command,
            "date": output("date", &["--utc", "+%F"]),
            "commit": commit(),
            "seconds": seconds,
            "done": self.done,
            "faults": self.faults,
        });
        write(&folder, self.name, &record);
    }
}

fn write(folder: &Path, name: &str, record: &Value) {
    let text = serde_json::to_string_pretty(record).expect("a record is JSON") + "\n";
    fs::create_dir_all(folder).expect("the folder of the records");
    fs::write(folder.join(format!("{name}.json")), text).expect("a record is written");
}

/// What the sources are of.
///
/// # Panics
/// Where there is no git.
#[must_use]
pub fn commit() -> String {
    output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"])
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
