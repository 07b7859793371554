//! What a newer orch has written is shown as far as it is understood, and never changed.

use std::fs;

use orch_tests::{Plan, TestRepo};

/// CRC-32 (IEEE 802.3), bit by bit.
fn crc(chain: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!chain, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    })
}

/// The journal with events of another version, and one more of a kind that nobody knows yet.
fn with_newer_events(journal: &str) -> String {
    let mut lines = journal.lines();
    let header = lines.next().expect("a header").replace(" events 1 ", " events 2 ");
    let (header, _) = header.split_once(" check ").expect("a checksum");
    let mut events: Vec<&str> = lines.map(|line| &line[18..]).collect();
    let unknown = format!(
        r#"{{"seq":{},"at":"2030-01-01T00:00:00.000Z","event":"from_the_future"}}"#,
        events.len() + 1
    );
    events.push(&unknown);
    let mut chain = crc(0, header.as_bytes());
    let mut text = format!("{header} check {chain:08x}\n");
    for event in events {
        let digits = format!("{:08x}", event.len());
        chain = crc(crc(chain, digits.as_bytes()), event.as_bytes());
        text.push_str(&format!("{digits} {chain:08x} {event}\n"));
    }
    text
}

#[test]
fn a_newer_run_is_shown_and_left_alone() {
    type Change = fn(&str) -> String;
    let changes: [(Change, bool); 2] =
        [(|text| text.replacen("journal 1 ", "journal 2 ", 1), false), (with_newer_events, true)];
    for (change, is_understood) in changes {
        let repo = TestRepo::new();
        let outcome = repo.run(&Plan::new().task("a", |t| t.script("say hello; exit 1")));
        let run = outcome.assert_code(1).report().run_id();
        let journal = repo.path().join(".orch/runs").join(&run).join("journal");
        let newer = change(&fs::read_to_string(&journal).expect("the journal"));
        fs::write(&journal, &newer).expect("the journal can be written");

        let runs = repo.orch(["runs"]).run();
        runs.assert_code(0).assert_stderr(&["use a newer orch"]);
        assert_eq!(runs.stdout.contains(&run), is_understood, "{runs}");
        let status = repo.orch(["status", &run]).run();
        status.assert_code(if is_understood { 0 } else { 3 }).assert_stderr(&["use a newer orch"]);
        let logs = repo.orch(["logs", "a", "--run", &run]).run();
        logs.assert_code(0).assert_stdout(&["hello"]).assert_stderr(&["use a newer orch"]);
        repo.orch(["resume", &run]).run().assert_code(3).assert_stderr(&["use a newer orch"]);
        let worktrees = repo.worktrees();
        assert_eq!(worktrees.len(), 1);
        if !is_understood {
            // Whether it still goes on can't be known.
            repo.orch(["gc", "--runs", "--keep", "0"]).run().assert_code(0);
            assert_eq!(repo.worktrees(), worktrees);
        }
        let doctor = repo.orch(["doctor", "--repair"]).run();
        doctor.assert_code(1).assert_stdout(&["newer orch that wrote it"]);
        assert_eq!(fs::read_to_string(&journal).expect("the journal"), newer, "it was changed");
    }
}
