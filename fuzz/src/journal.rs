//! Journals.
//!
//! In what pieces the bytes come makes no difference; a reading goes on where it is told to; what was read can be written again,
//! and a journal goes on where its good part ends. One that was written and then damaged anywhere
//! gives the beginning of what was written or an error: never another event, and never fewer of them without an error where a
//! complete later record is still there. One that was cut gives no error at all.

use orch_model::{Event, EventKind, RunId, TaskChange, TaskId, Timestamp, ports::StoreError};
use orch_state::fuzz::{Journal, Reading, read_journal};

use crate::{
    damage::damage,
    input::{Input, Sizes},
};

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(4);
    let sizes = input.sizes();
    match kind {
        0 => any_bytes(input.rest(), sizes),
        1 => any_records(input, sizes),
        _ => damaged(input, sizes),
    }
}

fn run_id() -> RunId {
    RunId::new("r1").expect("an id")
}

/// Bytes that may be no journal at all.
fn any_bytes(bytes: &[u8], sizes: Sizes) {
    let reading = read_journal(bytes, [0; 4], 1);
    same(&read_journal(bytes, sizes.0, 1), &reading);
    check(bytes, &reading);
}

/// Records with right checksums and any content, a line of the input each.
fn any_records(mut input: Input<'_>, sizes: Sizes) {
    let (first, newer) = (1 + u64::from(input.byte()), u32::from(input.below(4) == 3));
    let mut journal = Journal::new(run_id(), first, newer);
    for line in input.rest().split(|byte| *byte == b'\n') {
        journal.append_json(line).expect("it is short");
    }
    any_bytes(&journal.bytes, sizes);
}

/// What holds of any journal.
fn check(bytes: &[u8], reading: &Reading) {
    let Reading { events, end } = reading;
    for pair in events.windows(2) {
        assert_eq!(pair[0].seq + 1, pair[1].seq, "without gaps");
    }
    if let Some(first) = events.first() {
        let from = first.seq + events.len() as u64 / 2;
        let later = read_journal(bytes, [0; 4], from);
        assert!(
            later.events.iter().eq(events.iter().filter(|event| event.seq >= from)),
            "from {from} on"
        );
    }
    let Ok(end) = *end else { return };
    assert!(end.offset <= bytes.len());
    // Where events of a newer version end the reading, the good part has more than was read.
    let Some(next) = events.last().map(|event| event.seq + 1).filter(|next| *next == end.seq)
    else {
        return;
    };
    let mut longer = Journal::go_on(bytes.to_vec(), end);
    longer.append(&event(next, &mut Input::new(b"\x00x"))).expect("an event is written");
    let more = read_journal(&longer.bytes, [0; 4], 1);
    assert_eq!(more.events.len(), events.len() + 1, "it goes on: {:?}", more.end);
    assert_eq!(more.events[..events.len()], *events);

    let mut again = Journal::new(run_id(), events[0].seq, 0);
    events.iter().for_each(|event| again.append(event).expect("an event is written"));
    assert_eq!(&read_journal(&again.bytes, [0; 4], 1).events, events, "written and read");
}

/// A journal that was written, and then damaged as the rest of the input says.
fn damaged(mut input: Input<'_>, sizes: Sizes) {
    let mut journal = Journal::new(run_id(), 1, 0);
    let (mut written, mut bounds) = (Vec::new(), vec![journal.bytes.len()]);
    for seq in 1..=input.below(8) as u64 {
        let event = event(seq, &mut input);
        journal.append(&event).expect("an event is written");
        written.push(event);
        bounds.push(journal.bytes.len());
    }
    let whole = read_journal(&journal.bytes, sizes.0, 1);
    assert_eq!(whole.events, written);
    assert_eq!(whole.end.expect("it is whole").offset, journal.bytes.len());

    let cut = bounds[0] + input.place(journal.bytes.len() - bounds[0]);
    let torn = read_journal(&journal.bytes[..cut], sizes.0, 1);
    let complete = bounds.iter().filter(|bound| **bound <= cut).count() - 1;
    assert_eq!(torn.events, written[..complete], "cut at {cut}");
    let end = torn.end.expect("what a killed writer leaves is no damage");
    assert_eq!(end.offset, bounds[complete], "cut at {cut}");

    let mut bytes = journal.bytes.clone();
    damage(&mut bytes, &mut input);
    let reading = read_journal(&bytes, [0; 4], 1);
    same(&read_journal(&bytes, sizes.0, 1), &reading);
    assert!(written.starts_with(&reading.events), "{:#?} was never written", reading.events);
    check(&bytes, &reading);
    if let Ok(end) = reading.end {
        let rest = &bytes[end.offset..];
        for record in bounds.windows(2).skip(reading.events.len()) {
            let record = &journal.bytes[record[0]..record[1]];
            let later = rest.get(1..).unwrap_or_default();
            assert!(
                !later.windows(record.len()).any(|window| window == record),
                "a complete record follows, and nothing is said"
            );
        }
    }
}

/// Two readings of the same bytes.
fn same(one: &Reading, other: &Reading) {
    assert_eq!(one.events, other.events);
    match (&one.end, &other.end) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            assert!(matches!(one, StoreError::Damaged { .. } | StoreError::Newer { .. }), "{one}");
        }
        (one, other) => panic!("{one:?} and {other:?}"),
    }
}

fn event(seq: u64, input: &mut Input<'_>) -> Event {
    let task = || TaskId::new("a").expect("an id");
    let kind = match input.below(6) {
        0 => EventKind::Warning { task: None, message: input.text(60) },
        1 => EventKind::Warning { task: Some(task()), message: input.text(20) },
        2 => EventKind::RunPaused { frozen: input.flag() },
        3 => EventKind::Task { task: task(), change: TaskChange::Queued },
        4 => {
            let until = Timestamp::from_millis(u64::from(input.byte()));
            EventKind::BreakerOpened { key: input.text(20), until, reason: input.text(20) }
        }
        _ => EventKind::RunReopened { pid: u32::from(input.byte()) },
    };
    Event { seq, at: Timestamp::from_millis(seq), kind }
}
