//! Every stored file, with flipped bits, cut short, of an older and of a newer version: what comes
//! of it is defined, and no event that was recorded is lost without a word.

use std::{fs, path::Path, sync::Arc};

use crc32fast::Hasher;
use orch_model::{
    event::Event,
    ports::{StateStore, StoreError},
    run::RunState,
};

use crate::common::{Workspace, events, run};

/// What comes of a journal.
#[derive(Debug, PartialEq, Eq)]
enum Journal {
    /// All of it can be read.
    Whole,
    /// A tail that its writer did not finish is passed over; who writes next keeps a copy of it.
    TornAfter(usize),
    /// It is refused and left as it is.
    Damaged,
    /// It is left to a newer version.
    Newer,
}

async fn outcome(workspace: &Workspace, all: &[Event]) -> Journal {
    match workspace.read("r1").await {
        Ok(read) if read == all => Journal::Whole,
        Ok(read) => {
            assert_eq!(read, all[..read.len()], "what is read is what was written");
            Journal::TornAfter(read.len())
        }
        Err(StoreError::Damaged { .. }) => Journal::Damaged,
        Err(StoreError::Newer { .. }) => Journal::Newer,
        Err(error) => panic!("{error}"),
    }
}

/// Who opens it for writing agrees with who reads it, and changes nothing that is refused.
async fn check_opening(workspace: &Workspace, expected: &Journal) {
    let path = workspace.journal("r1");
    let before = fs::read(&path).unwrap();
    let opened = workspace.store.open(&run("r1")).await.map(drop);
    let after = fs::read(&path).unwrap();
    match (expected, opened) {
        (Journal::Whole, Ok(())) => assert_eq!(after, before),
        (Journal::TornAfter(_), Ok(())) => {
            assert!(before.starts_with(&after));
            let copies = copies(&workspace.store.run_dir(&run("r1")));
            let tail = &before[after.len()..];
            assert!(tail.is_empty() || copies.iter().any(|copy| copy == tail), "a copy is kept");
        }
        (Journal::Damaged, Err(StoreError::Damaged { .. }))
        | (Journal::Newer, Err(StoreError::Newer { .. })) => assert_eq!(after, before),
        (expected, opened) => panic!("{expected:?}: {opened:?}"),
    }
}

fn copies(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let torn = entries.filter(|e| e.file_name().to_string_lossy().starts_with("journal.torn-"));
    torn.map(|entry| fs::read(entry.path()).unwrap()).collect()
}

#[tokio::test]
async fn no_flipped_bit_of_a_journal_goes_unnoticed() {
    let workspace = Workspace::new();
    let all = events("r1", 5);
    workspace.write("r1", &all).await;
    let path = workspace.journal("r1");
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << bit;
            fs::write(&path, &flipped).unwrap();
            let found = outcome(&workspace, &all).await;
            let is_expected = match place {
                place if place >= last => found == Journal::TornAfter(4),
                // Some digits of the version become larger ones.
                13 => matches!(found, Journal::Newer | Journal::Damaged),
                _ => found == Journal::Damaged,
            };
            assert!(is_expected, "bit {bit} of byte {place}: {found:?}");
            if bit == place % 8 && place % 16 == 0 {
                check_opening(&workspace, &found).await;
            }
        }
    }
}

#[tokio::test]
async fn a_journal_cut_anywhere_is_a_prefix_or_refused() {
    let workspace = Workspace::new();
    let all = events("r1", 5);
    workspace.write("r1", &all).await;
    let path = workspace.journal("r1");
    let whole = fs::read(&path).unwrap();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let found = outcome(&workspace, &all).await;
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        let expected =
            if length < header { Journal::Damaged } else { Journal::TornAfter(lines - 1) };
        assert_eq!(found, expected, "cut at {length}");
        if length % 16 == 0 {
            check_opening(&workspace, &found).await;
        }
    }
}

/// A journal with another header and other events, whose checksums are right.
fn forged(header: &str, events: &[&str]) -> String {
    let crc = |chain, parts: &[&str]| {
        let mut hasher = Hasher::new_with_initial(chain);
        parts.iter().for_each(|part| hasher.update(part.as_bytes()));
        hasher.finalize()
    };
    let mut chain = crc(0, &[header]);
    let mut text = format!("{header} check {chain:08x}\n");
    for event in events {
        let digits = format!("{:08x}", event.len());
        chain = crc(chain, &[&digits, event]);
        text.push_str(&format!("{digits} {chain:08x} {event}\n"));
    }
    text
}

#[tokio::test]
async fn versions_of_a_journal_that_are_not_known_are_not_written() {
    let all = events("r1", 3);
    let mut lines: Vec<String> =
        all.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    lines.push(r#"{"seq":4,"at":"2030-01-01T00:00:00.000Z","event":"from_the_future"}"#.into());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let text = |version: u32, events: u32| {
        let header =
            format!("orch-journal {version} events {events} run r1 first 1 chain 00000000");
        forged(&header, &lines)
    };
    for (version, events, readable, writable) in [
        (1, 1, None, Err("damaged")),
        (1, 2, Some(3), Err("newer")),
        (1, 0, None, Err("damaged")),
        (0, 1, None, Err("damaged")),
        (2, 1, None, Err::<(), _>("newer")),
    ] {
        let workspace = Workspace::new();
        workspace.write("r1", &all).await;
        let path = workspace.journal("r1");
        let text = text(version, events);
        fs::write(&path, &text).unwrap();
        let what = format!("journal {version}, events {events}");

        let read = workspace.read("r1").await.ok().map(|events| events.len());
        assert_eq!(read, readable, "{what}");
        let listed = workspace.store.list().await.unwrap().len();
        assert_eq!(listed, readable.map_or(0, |_| 1), "{what}");
        // An event that is not understood is found when the run is read, not when it is opened.
        if (version, events) != (1, 1) {
            let opened = workspace.store.open(&run("r1")).await.map(drop).map_err(|e| match e {
                StoreError::Newer { .. } => "newer",
                StoreError::Damaged { .. } => "damaged",
                other => panic!("{other}"),
            });
            assert_eq!(opened, writable, "{what}");
        }
        assert!(workspace.store.rebuild_state(&run("r1")).await.is_err(), "{what}");
        assert!(workspace.store.remove(&run("r1")).await.is_err(), "{what}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{what}: it is left as it is");
    }
}

#[tokio::test]
async fn the_files_beside_the_journal_can_say_anything() {
    let all = events("r1", 5);
    let state = RunState::replay(&all).unwrap().unwrap();
    for (name, content) in [
        ("current", ""),
        ("current", "\u{0}\u{0}"),
        ("current", "another-run"),
        ("current", "../../etc"),
        ("parallel-state.json", ""),
        ("parallel-state.json", "{\"version\": 1"),
        ("parallel-state.json", "{\"version\": 0}"),
        ("parallel-state.json", "{\"version\": 9}"),
        ("runs/r1/owner.lock", ""),
        ("runs/r1/owner.lock", "{\"pid\":1,\"run\":\"r1\"}"),
        ("runs/r1/owner.lock", "\u{0}\u{0}\u{0}"),
        ("runs/r1/control.sock", "not a socket"),
        (".gitignore", ""),
    ] {
        let workspace = Workspace::new();
        let store = &workspace.store;
        let journal = store.create(&run("r1")).await.unwrap();
        journal.append(&all[..4]).await.unwrap();
        journal.publish(Arc::new(RunState::replay(&all[..4]).unwrap().unwrap())).await.unwrap();
        drop(journal);
        fs::write(store.dir().join(name), content).unwrap();
        let what = format!("{name} {content:?}");

        assert_eq!(workspace.read("r1").await.unwrap(), all[..4], "{what}");
        assert_eq!(store.list().await.unwrap().len(), 1, "{what}");
        assert_eq!(store.owner(&run("r1")), None, "{what}");
        let journal = store.open(&run("r1")).await.unwrap();
        assert_eq!(store.owner(&run("r1")), Some(std::process::id()), "{what}");
        journal.append(&all[4..]).await.unwrap();
        journal.publish(Arc::new(state.clone())).await.unwrap();
        drop(journal);
        assert_eq!(store.current().await.unwrap(), Some(run("r1")), "{what}");
        assert_eq!(store.published().await.unwrap().unwrap().seq, 5, "{what}");
        assert_eq!(store.state(&run("r1")).await.unwrap().unwrap(), state, "{what}");
    }
}
