//! The record of what was explored.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::Command,
};

use serde_json::{Map, Value, json};

use super::Exploration;

/// Adds an exploration to the record of its commit, where a folder for records is named.
pub(super) fn add(name: &str, exploration: Exploration) {
    let Some(folder) = env::var_os("ORCH_CAMPAIGN_RECORDS") else { return };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder).expect("the folder of the records can be made");
    // Explorations of several test programs may end at the same time.
    let lock = File::open(folder).expect("the folder of the records can be opened");
    lock.lock().expect("the folder of the records can be locked");
    let path = folder.join("shuttle.json");
    let commit = output("git", &["rev-parse", "--short", "HEAD"]);
    let old = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let old = old.filter(|old| old["commit"] == *commit).unwrap_or_default();
    let mut done = old["done"].as_object().cloned().unwrap_or_else(Map::new);
    done.insert(format!("schedules of {name}"), exploration.schedules.into());
    let mut faults = old["faults"].as_object().cloned().unwrap_or_else(Map::new);
    faults.insert(format!("kills of processes in {name}"), exploration.kills.into());
    let seconds = old["seconds"].as_u64().unwrap_or_default() + exploration.took.as_secs();
    let times = env::var("ORCH_SCHEDULES").unwrap_or_else(|_| "1".into());
    let command =
        format!("ORCH_SCHEDULES={times} cargo test -p orch-state -p orch-worktree interleavings");
    let record = json!({
        "campaign": "shuttle",
        "command": command,
        "date": output("date", &["+%F"]),
        "commit": commit,
        "seconds": seconds,
        "done": done,
        "faults": faults,
        "findings": old["findings"].as_u64().unwrap_or_default(),
    });
    let text = serde_json::to_string_pretty(&record).expect("a record is JSON") + "\n";
    fs::write(path, text).expect("the record can be written");
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("can't start {program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
