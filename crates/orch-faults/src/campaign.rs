//! What a long campaign of tests did, for the page that tells of it.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};

/// A campaign that ran to its end: its record is a file of `docs/reliability`, from which the
/// tables of `docs/reliability.md` are written.
///
/// A campaign that found a violation has no record: it panicked.
///
/// ```
/// use orch_faults::campaign::Campaign;
///
/// let mut campaign = Campaign::begin("kills", "cargo test --test crashes");
/// campaign.did("runs", 1_u32);
/// campaign.caused("kill -9 of an agent", 3_u32);
/// campaign.finish();
/// ```
#[derive(Debug)]
pub struct Campaign {
    name: &'static str,
    command: String,
    commit: String,
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
    pub fn begin(name: &'static str, command: impl Into<String>) -> Self {
        let (done, faults) = (BTreeMap::new(), BTreeMap::new());
        // At its end others may have committed something.
        let (command, commit) = (command.into(), commit());
        Self { name, command, commit, began: Instant::now(), done, faults }
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
    /// is set, in the place of an earlier record.
    ///
    /// # Panics
    /// If the record can't be written.
    pub fn finish(self) {
        self.end(|record, _| record);
    }

    /// As [`finish`](Self::finish) for one of several parts, which are of one command and may end at the same time: what
    /// the record says of others of the same commit stays.
    ///
    /// # Panics
    /// If the record can't be written.
    pub fn finish_part(self) {
        self.end(|mut record, old| {
            if old["commit"] != record["commit"] {
                return record;
            }
            for counts in ["done", "faults"] {
                let mut all = old[counts].as_object().cloned().unwrap_or_default();
                all.extend(record[counts].as_object().cloned().unwrap_or_default());
                record[counts] = all.into();
            }
            let seconds = |record: &Value| record["seconds"].as_u64().unwrap_or_default();
            record["seconds"] = (seconds(&record) + seconds(&old)).into();
            record
        });
    }

    #[expect(clippy::print_stdout, reason = "what a campaign did is its result")]
    fn end(self, with: impl FnOnce(Value, Value) -> Value) {
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
            "commit": self.commit,
            "seconds": seconds,
            "done": self.done,
            "faults": self.faults,
        });
        update(&folder.join(format!("{}.json", self.name)), |old| with(record, old));
    }
}

/// Replaces a record by what follows from what it was, null where there was none. Others wait meanwhile.
///
/// # Panics
/// If it can't be read or written.
pub fn update(path: &Path, change: impl FnOnce(Value) -> Value) {
    let why = |what: &str| format!("{}: {what}", path.display());
    let folder = path.parent().expect("a record is in a folder");
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}", why(&error.to_string())));
    let lock = File::open(folder).expect("a folder can be opened");
    lock.lock().expect("a folder can be locked");
    let old = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Value::Null,
        text => text
            .and_then(|text| Ok(serde_json::from_slice(&text)?))
            .unwrap_or_else(|error| panic!("{}", why(&error.to_string()))),
    };
    let text = serde_json::to_string_pretty(&change(old)).expect("a record is JSON") + "\n";
    fs::write(path, text).unwrap_or_else(|error| panic!("{}", why(&error.to_string())));
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
