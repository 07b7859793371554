//! Every stored file is cut off, has bits flipped, comes of another version, or is gone: what
//! `orch resume` does then is what the table in `docs/formats.md` says, and nothing that was done is
//! lost without a word.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use orch_tests::{Outcome, Plan, Signal, TestRepo, until};

const FORMATS: &str = include_str!("../../docs/formats.md");

/// What is done to a file; the columns of the table.
const DAMAGES: [&str; 5] = ["cut off", "bits flipped", "newer", "version 0", "gone"];

/// A run whose orchestrator was killed: `done` is merged, `left` has ended and nobody has taken its
/// result, `next` needs both.
struct Killed {
    repo: TestRepo,
    record: Signal,
    run: String,
    /// The commits that must not be lost.
    work: [String; 2],
    /// Everything as it was, to be put back.
    backup: PathBuf,
}

impl Killed {
    fn new() -> Self {
        let repo = TestRepo::new();
        repo.git(["checkout", "--quiet", "-b", "mine"]);
        let [record, go] = ["record", "go"].map(|name| repo.signal(name));
        let script = |more: &str| format!("record {record}; {more}");
        let plan = Plan::new()
            .set("target", "main")
            .task("done", |t| t.script(script("write done.txt 1; commit done")))
            .task("left", |t| {
                let work = format!("wait-for {go}; write left.txt 1; commit left");
                t.lock("db").script(script(&work))
            })
            .task("next", |t| {
                t.lock("db").script(script("write next.txt 1")).needs(["done", "left"])
            });
        let mut orch = repo.start(&plan);
        orch.wait_for_change("left", "started");
        orch.wait_for_change("done", "merged");
        until("the published state", || {
            repo.state_for_people().contains(r#"{"id":"done","state":"merged""#).then_some(())
        });
        orch.kill();
        let _ = orch.wait();
        go.raise();
        repo.wait_until_quiet();
        let runs = repo.orch(["runs", "--json"]).run().json();
        let run = runs["runs"][0]["run"].as_str().expect("a run").to_owned();
        let work = ["target", "left"].map(|name| repo.tip(&format!("orch/{run}/{name}")));
        let backup = tempfile::tempdir().expect("a folder").keep();
        let killed = Self { record, run, work, backup, repo };
        killed.copy(&killed.top(), &killed.backup);
        killed
    }

    fn top(&self) -> PathBuf {
        self.repo.beside("")
    }

    fn copy(&self, from: &Path, to: &Path) {
        let source = from.join(".");
        let status = Command::new("cp").arg("-a").arg(source).arg(to).status().expect("cp");
        assert!(status.success());
    }

    /// Puts everything back as it was.
    fn restore(&self) {
        for entry in fs::read_dir(self.top()).expect("the folder").flatten() {
            let path = entry.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("it can be removed");
        }
        self.copy(&self.backup, &self.top());
    }

    /// The file that a row of the table is about.
    fn file(&self, name: &str) -> PathBuf {
        let state = self.repo.path().join(".orch");
        if name == "@leases.<boot>" {
            let entries = fs::read_dir(state.join("locks")).expect("the locks").flatten();
            let mut paths = entries.map(|entry| entry.path());
            return paths
                .find(|path| path.to_string_lossy().contains("@leases."))
                .expect("a table");
        }
        let run = state.join("runs").join(&self.run);
        let name = name.split(',').next().unwrap_or(name);
        let places = [run.join(name), state.join(name), state.join("locks").join(name)];
        places.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {name}"))
    }

    fn starts(&self, task: &str) -> usize {
        let text = fs::read_to_string(self.record.path()).unwrap_or_default();
        text.lines().filter(|line| line.split(' ').next() == Some(task)).count()
    }

    /// Damages a file, takes the run up, and compares with what the table says.
    fn check(&self, name: &str, what: &str, damaged: Option<&[u8]>, expected: &str) {
        self.restore();
        let path = self.file(name);
        match damaged {
            Some(bytes) => fs::write(&path, bytes).expect("the file can be written"),
            None => fs::remove_file(&path).expect("the file can be removed"),
        }
        // To look is never too much, and changes nothing.
        let doctor = self.repo.orch(["doctor", "--json"]).run();
        let outcome = self.repo.orch(["resume"]).run();
        self.repo.wait_until_quiet();
        let story = format!("{name}, {what}: {outcome}\n{doctor}");
        assert_eq!(self.starts("done"), 1, "what is done is not done again; {story}");
        let found = if outcome.code == Some(0) {
            self.all_is_done(&story);
            if self.starts("left") == 1 { "goes on" } else { "repeats" }
        } else {
            self.nothing_is_lost(&path, damaged, (&outcome, &doctor), &story);
            "refused"
        };
        assert!(expected.split(" or ").any(|expected| expected == found), "{found}; {story}");
    }

    fn all_is_done(&self, story: &str) {
        for file in ["done.txt", "left.txt", "next.txt"] {
            assert_eq!(self.repo.show("main", file), "1\n", "{story}");
        }
        assert_eq!(self.starts("next"), 1, "{story}");
        assert_eq!(self.repo.doctor(), Vec::<serde_json::Value>::new(), "{story}");
    }

    /// It says so, and the merge, the branches and the file are as they were.
    fn nothing_is_lost(
        &self,
        path: &Path,
        damaged: Option<&[u8]>,
        (outcome, doctor): (&Outcome, &Outcome),
        story: &str,
    ) {
        assert!(matches!(outcome.code, Some(2 | 3)), "{story}");
        doctor.assert_code(1);
        // Nor does a repair, or a look for garbage, take away what is left of it.
        let _ = self.repo.orch(["doctor", "--repair"]).run();
        let _ = self.repo.orch(["gc", "--runs", "--keep", "0"]).run();
        assert_eq!(fs::read(path).ok().as_deref(), damaged, "{story}");
        for work in &self.work {
            let holders = self.repo.git(["for-each-ref", "--contains", work]);
            assert!(!holders.is_empty(), "{work} is part of no reference; {story}");
        }
    }
}

/// The rows of the table: the file, and what is expected of each damage; empty where it makes no
/// sense.
fn table() -> Vec<(String, Vec<&'static str>)> {
    let (_, rest) = FORMATS.split_once("| file | cut off |").expect("the table");
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().expect("a name").replace('`', "");
        (name, cells.collect())
    })
    .collect()
}

/// Where to cut a file off, or to flip a bit.
fn offsets(name: &str, bytes: &[u8]) -> Vec<usize> {
    let last = bytes.len().saturating_sub(1);
    let last_line = bytes[..last].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    if name.ends_with("last record") {
        return vec![last_line + 9, (last_line + last) / 2];
    }
    let end = if name == "journal" { last_line } else { bytes.len() };
    let mut offsets: Vec<usize> = [0, end / 3, end.saturating_sub(2)].into();
    if name == "journal" {
        // Just after the header nothing is recorded.
        offsets.push(bytes.iter().position(|b| *b == b'\n').expect("a header") + 1);
    }
    offsets.retain(|at| *at < end);
    offsets.dedup();
    offsets
}

/// The file as another version would have written it.
fn of_version(name: &str, bytes: &[u8], version: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let changed = match name {
        "journal" => text.replacen("orch-journal 1", &format!("orch-journal {version}"), 1),
        "supervisor.jsonl" => text.replace("\"v\":1", &format!("\"v\":{version}")),
        _ => {
            let text = text.replace("\"version\": 1", "\"version\":1");
            text.replacen("\"version\":1", &format!("\"version\":{version}"), 1)
        }
    };
    assert_ne!(changed, text, "{name} has a version");
    changed.into_bytes()
}

#[test]
fn damage_to_each_stored_file_ends_as_the_table_says() {
    let killed = Killed::new();
    let table = table();
    assert!(table.len() >= 8, "{table:?}");
    for (name, row) in &table {
        let name = name.as_str();
        assert_eq!(row.len(), DAMAGES.len(), "{name}");
        killed.restore();
        let bytes = fs::read(killed.file(name)).expect("the file can be read");
        for (damage, expected) in
            DAMAGES.iter().zip(row.iter()).filter(|(_, cell)| !cell.is_empty())
        {
            match *damage {
                "cut off" => {
                    for at in offsets(name, &bytes) {
                        let what = format!("cut off at {at} of {}", bytes.len());
                        killed.check(name, &what, Some(&bytes[..at]), expected);
                    }
                }
                "bits flipped" => {
                    for at in offsets(name, &bytes) {
                        let mut flipped = bytes.clone();
                        flipped[at] ^= 1;
                        let what = format!("bit flipped at {at} of {}", bytes.len());
                        killed.check(name, &what, Some(&flipped), expected);
                    }
                }
                "gone" => killed.check(name, "gone", None, expected),
                damage => {
                    let version = if damage == "newer" { "99" } else { "0" };
                    let other = of_version(name, &bytes, version);
                    killed.check(name, damage, Some(&other), expected);
                }
            }
        }
    }
    fs::remove_dir_all(&killed.backup).expect("the copy can be removed");
}
