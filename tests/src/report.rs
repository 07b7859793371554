//! The page of the campaigns, written from their records.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use crate::planted::Tried;

/// The record of a campaign, as [`Campaign`](crate::Campaign) writes it.
#[derive(Debug, Deserialize)]
struct Record {
    campaign: String,
    command: String,
    date: String,
    commit: String,
    seconds: u64,
    done: BTreeMap<String, u64>,
    #[serde(default)]
    faults: BTreeMap<String, u64>,
    /// How often it found something, where it goes on then.
    #[serde(default)]
    findings: u64,
}

/// What a campaign found: it ended with that and left no record, so that people wrote this down.
#[derive(Debug, Deserialize)]
struct Finding {
    layer: String,
    finding: String,
    /// The commit that mended it.
    mended: String,
}

/// The records that are no campaign's.
const PLANTED: &str = "planted.json";
const FINDINGS: &str = "findings.json";

/// The files that hold what follows from records, relative to the repository: in each, what stands between two
/// comments is replaced.
pub const PAGES: [&str; 2] = ["docs/reliability.md", "README.md"];

/// A page with the parts that follow from the records in `docs/reliability` as they have to be.
///
/// # Panics
/// Where a record or the page can't be read, or a part has no end.
#[must_use]
pub fn page(root: &Path, page: &str) -> String {
    let folder = root.join("docs/reliability");
    let records = records(&folder);
    let mut text = read(&root.join(page));
    for (part, content) in [
        ("campaigns", campaigns(&records)),
        ("findings", findings(&parsed::<Vec<_>>(&folder.join(FINDINGS)))),
        ("bugs", bugs(&parsed::<Vec<_>>(&folder.join(PLANTED)))),
        ("last", last(&records)),
    ] {
        let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- /{part} -->"));
        let Some((before, rest)) = text.split_once(&begin) else { continue };
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page}: no {end}"));
        text = format!("{before}{begin}{content}{end}{after}");
    }
    text
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parsed<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn records(folder: &Path) -> Vec<Record> {
    let entries = fs::read_dir(folder).expect("the folder of the records");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| !path.ends_with(PLANTED) && !path.ends_with(FINDINGS));
    paths.sort();
    paths.iter().map(|path| parsed(path)).collect()
}

fn campaigns(records: &[Record]) -> String {
    let mut text =
        String::from("\n| campaign | done | faults | took | at |\n|---|---|---|---|---|\n");
    for record in records {
        let Record { campaign, date, commit, .. } = record;
        let done = counts(&record.done).join("<br>");
        let faults = counts(&record.faults).join("<br>");
        let took = took(record.seconds);
        let _ = writeln!(text, "| {campaign} | {done} | {faults} | {took} | {date}, `{commit}` |");
    }
    text.push_str("\nEach is repeated by one command:\n\n");
    for record in records {
        let _ = writeln!(text, "- {}: `{}`", record.campaign, record.command);
    }
    text.push('\n');
    text
}

fn findings(findings: &[Finding]) -> String {
    let mut text = String::from("\n| found by | what was wrong | mended in |\n|---|---|---|\n");
    for Finding { layer, finding, mended } in findings {
        let _ = writeln!(text, "| {layer} | {finding} | `{mended}` |");
    }
    text.push('\n');
    text
}

fn bugs(tried: &[Tried]) -> String {
    let mut text =
        String::from("\n| bug | mistake | caught by | in | at |\n|---|---|---|---|---|\n");
    for Tried { name, mistake, layer, how_often, is_caught, commit } in tried {
        let not = if *is_caught { "" } else { "**not** " };
        let _ =
            writeln!(text, "| `{name}` | {mistake} | {not}{layer} | {how_often} | `{commit}` |");
    }
    text.push('\n');
    text
}

/// One line for the front page.
fn last(records: &[Record]) -> String {
    let of = |name: &str| records.iter().find(|record| record.campaign == name);
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let mut figures = Vec::new();
    if let Some(record) = of("simulation") {
        let worlds = grouped(record.done.get("seeds").copied().unwrap_or_default());
        let faults = grouped(sum(&record.faults));
        figures.push(format!("{worlds} simulated worlds with {faults} faults"));
    }
    let real = |fault: &str| -> u64 {
        let records = records.iter().filter(|record| !record.campaign.starts_with("simulat"));
        records.filter_map(|record| record.faults.get(fault)).sum()
    };
    for (fault, what) in [
        ("kill -9 of the orchestrator", "`kill -9` of a real orchestrator"),
        ("kill -9 of a supervisor", "of supervisors"),
        ("kill -9 of an agent", "of agents"),
        ("power cut", "power cuts of a disk"),
    ] {
        if real(fault) > 0 {
            figures.push(format!("{} {what}", grouped(real(fault))));
        }
    }
    if let Some(record) = of("fuzz") {
        figures.push(format!("{} executions of fuzz targets", grouped(sum(&record.done))));
    }
    let date = records.iter().map(|record| &*record.date).max().unwrap_or_default();
    let found = match records.iter().map(|record| record.findings).sum::<u64>() {
        0 => "no violation".to_owned(),
        found => format!("{found} violations, mended since"),
    };
    format!("\nThe last long runs, {date}: {}: {found}.\n\n", figures.join(", "))
}

fn counts(counts: &BTreeMap<String, u64>) -> Vec<String> {
    counts.iter().map(|(what, count)| format!("{} {what}", grouped(*count))).collect()
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn took(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_tell_what_the_records_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for name in PAGES {
            let is = read(&root.join(name));
            assert!(
                is == page(&root, name),
                "{name}: run `cargo run -p orch-tests --bin reliability`"
            );
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0, 999, 1000, 84_000_123].map(grouped),
            ["0", "999", "1,000", "84,000,123"].map(String::from)
        );
        assert_eq!([119, 120, 7260].map(took), ["119 s", "2 min", "2 h 1 min"].map(String::from));
    }
}
