//! The format of a journal.
//!
//! ```text
//! orch-journal 1 events 1 run r1 first 1 chain 00000000 check 5d3b0e47
//! 0000009a 1c7e9d02 {"seq":1,"at":"2026-01-05T12:00:00.000Z","event":"run_started",...}
//! 00000053 9f0b6a11 {"seq":2,"at":"2026-01-05T12:00:00.004Z","event":"task",...}
//! ```
//!
//! The header line carries the version of this format, the version of the events, the run, the
//! number of the first event, and the checksum that the file continues (zero at the beginning of
//! a run; a run's journal may later be cut into several files). Each record is a line: the length
//! of its JSON in bytes and a checksum, both as eight lower-case hexadecimal digits, then the JSON.
//!
//! A checksum is the CRC-32 (IEEE 802.3) of the length's digits and the JSON, continued from the
//! checksum before it, so that a record that is missing, repeated or out of place is found too.
//!
//! A file whose format is newer than this module can't be read. One in the known format with events
//! of a newer version is read up to the first event that is not understood, and never written.
//!
//! What a killed writer leaves is a file whose last record is incomplete: a *torn tail*, which
//! readers pass over and the next writer cuts off. Where a complete record follows a bad one, the
//! file did not become so by a kill: it is *damaged*, and nobody touches it.

use std::num::NonZeroU64;

use crc32fast::Hasher;
use orch_faults::planted;
use orch_model::{
    event::{EVENT_VERSION, Event},
    id::RunId,
};

/// The newest version of the format that is known, and the one that is written.
pub const JOURNAL_VERSION: u32 = 1;

/// The digits of the length and of the checksum, each with a space after it.
const FRAME: usize = 18;

/// How long the header line may be, in bytes.
pub(crate) const HEADER_MAX: usize = 4096;

/// What stands in the first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The version of the events in it.
    pub(crate) events: u32,
    pub(crate) run: RunId,
    /// The number of the first event in the file.
    pub(crate) first: u64,
    /// The checksum before the file.
    pub(crate) chain: u32,
}

impl Header {
    /// The header of the first file of a run.
    pub(crate) fn new(run: RunId) -> Self {
        Self { events: EVENT_VERSION, run, first: 1, chain: 0 }
    }

    /// The line, and the checksum that the first record continues.
    pub(crate) fn encode(&self) -> (String, u32) {
        let Self { events, run, first, chain } = self;
        let text = format!(
            "orch-journal {JOURNAL_VERSION} events {events} run {run} first {first} chain {chain:08x}"
        );
        let check = crc(*chain, &[text.as_bytes()]);
        (format!("{text} check {check:08x}\n"), check)
    }

    /// Reads the line at the beginning of `bytes`: the header, its length with the line's end, and
    /// its checksum.
    fn decode(bytes: &[u8]) -> Result<(Self, usize, u32), Fault> {
        let bad = |detail: &str| Fault::Damaged { offset: 0, detail: detail.into() };
        let end = bytes
            .iter()
            .take(HEADER_MAX)
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| bad("it has no header line"))?;
        let line = str::from_utf8(&bytes[..end]).map_err(|_| bad("its header is not text"))?;
        let words: Vec<&str> = line.split(' ').collect();
        let ["orch-journal", version, rest @ ..] = &words[..] else {
            return Err(bad("it does not begin with `orch-journal`"));
        };
        let version: u32 = version.parse().map_err(|_| bad("its version is not a number"))?;
        match version {
            1..=JOURNAL_VERSION => {}
            0 => return Err(bad("there was no version 0")),
            _ => return Err(Fault::Newer { found: version, known: JOURNAL_VERSION }),
        }
        let ["events", events, "run", run, "first", first, "chain", chain, "check", check] = rest
        else {
            return Err(bad("its header has other fields than those of its version"));
        };
        let hex = |word: &str| word.as_bytes().try_into().ok().and_then(hex8);
        let (Some(chain), Some(check)) = (hex(chain), hex(check)) else {
            return Err(bad("a checksum of its header is not a number"));
        };
        let covered = line.len() - " check 00000000".len();
        if crc(chain, &[&line.as_bytes()[..covered]]) != check {
            return Err(bad("its header does not match its checksum"));
        }
        let events: u32 = events.parse().map_err(|_| bad("its event version is not a number"))?;
        if events == 0 {
            return Err(bad("there were no events of version 0"));
        }
        let run = RunId::new(run).map_err(|error| bad(&format!("its run: {error}")))?;
        let first: NonZeroU64 =
            first.parse().map_err(|_| bad("its first number is not a positive number"))?;
        Ok((Self { events, run, first: first.get(), chain }, end + 1, check))
    }
}

/// Why a journal can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Damaged { offset: u64, detail: String },
    Newer { found: u32, known: u32 },
}

/// A record whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Where it begins in the file.
    offset: u64,
    /// The number that its event must have.
    pub(crate) seq: u64,
    json: &'a [u8],
}

impl Record<'_> {
    /// The event.
    pub(crate) fn event(&self) -> Result<Event, Fault> {
        let bad = |detail| Fault::Damaged { offset: self.offset, detail };
        let event: Event = serde_json::from_slice(self.json)
            .map_err(|error| bad(format!("the record is not an event: {error}")))?;
        if event.seq != self.seq {
            let (due, found) = (self.seq, event.seq);
            return Err(bad(format!("event {found} stands where {due} is due")));
        }
        Ok(event)
    }
}

/// A place between two records of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Where it is in the file.
    pub(crate) offset: u64,
    /// The number that the next event must have.
    pub(crate) seq: u64,
    /// The checksum that the next record continues.
    pub(crate) chain: u32,
}

impl Position {
    /// The place after the header at the beginning of `bytes`, and the header.
    pub(crate) fn after_header(bytes: &[u8]) -> Result<(Self, Header), Fault> {
        let (header, length, chain) = Header::decode(bytes)?;
        Ok((Self { offset: length as u64, seq: header.first, chain }, header))
    }

    /// Steps over the record at the beginning of `bytes`, the file from here on. `None` where it
    /// is not complete or not right.
    pub(crate) fn step<'a>(&mut self, bytes: &'a [u8]) -> Option<Record<'a>> {
        let is_right =
            |frame: &Frame<'_>| frame.continues(self.chain) || planted("checksum-ignored");
        let frame = frame(bytes).filter(is_right)?;
        let record = Record { offset: self.offset, seq: self.seq, json: frame.json };
        self.offset += frame.len() as u64;
        self.seq += 1;
        self.chain = frame.check;
        Some(record)
    }

    /// Tells damage from a torn tail where there was no record to step over. `rest` is the file
    /// from here to its end.
    pub(crate) fn check_tail(&self, rest: &[u8]) -> Result<(), Fault> {
        let Some(next) = (1..rest.len()).find(|next| frame(&rest[*next..]).is_some()) else {
            return Ok(());
        };
        let what = match frame(rest) {
            Some(_) => "does not match its checksum",
            None => "is not well-formed",
        };
        let (seq, next) = (self.seq, self.offset + next as u64);
        let detail = format!("record {seq} {what}, and a complete record follows at byte {next}");
        Err(Fault::Damaged { offset: self.offset, detail })
    }
}

/// Adds the record of an event to a buffer and gives its checksum, which continues `chain`.
///
/// # Errors
/// Where the event can't be written as JSON or is longer than 4 GiB; the buffer then holds a part.
pub(crate) fn encode(buffer: &mut Vec<u8>, chain: u32, event: &Event) -> serde_json::Result<u32> {
    put_record(buffer, chain, |buffer| serde_json::to_writer(buffer, event))
}

/// Adds a record with the JSON that `write` adds; as [`encode`].
pub(crate) fn put_record(
    buffer: &mut Vec<u8>,
    chain: u32,
    write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<u32> {
    let start = buffer.len();
    buffer.extend_from_slice(&[b' '; FRAME]);
    write(&mut *buffer)?;
    let length = u32::try_from(buffer.len() - start - FRAME)
        .map_err(|error| serde_json::Error::io(std::io::Error::other(error)))?;
    put_hex8(&mut buffer[start..], length);
    let check = crc(chain, &[&buffer[start..start + 8], &buffer[start + FRAME..]]);
    put_hex8(&mut buffer[start + 9..], check);
    buffer.push(b'\n');
    Ok(check)
}

struct Frame<'a> {
    digits: &'a [u8],
    check: u32,
    json: &'a [u8],
}

impl Frame<'_> {
    fn len(&self) -> usize {
        FRAME + self.json.len() + 1
    }

    fn continues(&self, chain: u32) -> bool {
        crc(chain, &[self.digits, self.json]) == self.check
    }
}

/// The record at the beginning of `bytes` if it is complete and has the right form.
fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (head, rest) = bytes.split_first_chunk::<FRAME>()?;
    if head[8] != b' ' || head[17] != b' ' || rest.first() != Some(&b'{') {
        return None;
    }
    let length = usize::try_from(hex8(head[..8].try_into().ok()?)?).ok()?;
    let check = hex8(head[9..17].try_into().ok()?)?;
    let json = rest.get(..length)?;
    (json.ends_with(b"}") && rest.get(length) == Some(&b'\n')).then_some(Frame {
        digits: &bytes[..8],
        check,
        json,
    })
}

fn crc(chain: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new_with_initial(chain);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Reads eight lower-case hexadecimal digits; no other spelling, so that every flipped bit shows.
fn hex8(digits: [u8; 8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u32::from(digit))
    })
}

fn put_hex8(target: &mut [u8], value: u32) {
    for (place, byte) in target.iter_mut().take(8).enumerate() {
        let digit = (value >> (28 - 4 * place)) & 0xf;
        *byte = b"0123456789abcdef"[digit as usize];
    }
}

#[cfg(test)]
mod tests {
    use orch_model::{event::EventKind, time::Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn event(seq: u64, message: &str) -> Event {
        Event {
            seq,
            at: Timestamp::from_millis(seq),
            kind: EventKind::Warning { task: None, message: message.into() },
        }
    }

    /// A journal of `count` events, and where each record begins (and the last one ends).
    fn journal(count: u64) -> (Vec<u8>, Vec<usize>) {
        let (header, mut chain) = Header::new(RunId::new("r1").unwrap()).encode();
        let mut bytes = header.into_bytes();
        let mut bounds = vec![bytes.len()];
        for seq in 1..=count {
            chain = encode(&mut bytes, chain, &event(seq, "0000000a 00000000 {} ü\n")).unwrap();
            bounds.push(bytes.len());
        }
        (bytes, bounds)
    }

    /// The records of a whole file, and where its good part ends.
    fn scan(bytes: &[u8]) -> Result<(Vec<Record<'_>>, Position), Fault> {
        let (mut position, _) = Position::after_header(bytes)?;
        let mut records = Vec::new();
        loop {
            let rest = &bytes[position.offset as usize..];
            match position.step(rest) {
                Some(record) => records.push(record),
                None => return position.check_tail(rest).map(|()| (records, position)),
            }
        }
    }

    fn events(bytes: &[u8]) -> Result<Vec<Event>, Fault> {
        scan(bytes)?.0.iter().map(Record::event).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, bounds) = journal(5);
        let (_, header) = Position::after_header(&bytes).unwrap();
        assert_eq!(header, Header::new(RunId::new("r1").unwrap()));
        let (records, end) = scan(&bytes).unwrap();
        assert_eq!((end.offset, end.seq), (bytes.len() as u64, 6));
        let offsets: Vec<usize> = records.iter().map(|r| r.offset as usize).collect();
        assert_eq!(offsets, bounds[..5]);
        let read = events(&bytes).unwrap();
        assert_eq!(read.len(), 5);
        assert_eq!(read[4], event(5, "0000000a 00000000 {} ü\n"));
    }

    #[test]
    fn the_format_is_stable() {
        // The checksums were computed with zlib.
        let (bytes, _) = journal(1);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            concat!(
                "orch-journal 1 events 1 run r1 first 1 chain 00000000 check cb68b750\n",
                r#"00000061 7d436c1c {"seq":1,"at":"1970-01-01T00:00:00.001Z","event":"warning","message":"0000000a 00000000 {} ü\n"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_tail_torn_at_any_byte_is_passed_over() {
        let (bytes, bounds) = journal(4);
        for cut in bounds[3]..bytes.len() {
            let (_, end) = scan(&bytes[..cut]).unwrap();
            assert_eq!((end.seq, end.offset as usize), (4, bounds[3]), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_middle_is_damage_and_at_the_tail_is_not() {
        let (bytes, bounds) = journal(4);
        for (record, at) in (1..4).flat_map(|r| (bounds[r]..bounds[r + 1]).map(move |at| (r, at))) {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                match scan(&flipped) {
                    Err(Fault::Damaged { offset, .. }) if record < 3 => {
                        assert_eq!(offset as usize, bounds[record], "byte {at}, bit {bit}");
                    }
                    Ok((_, end)) if record == 3 => {
                        assert_eq!(end.seq, 4, "byte {at}, bit {bit}");
                    }
                    other => panic!("byte {at}, bit {bit}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_missing_or_repeated_record_is_damage() {
        let (bytes, bounds) = journal(4);
        let missing = [&bytes[..bounds[1]], &bytes[bounds[2]..]].concat();
        assert!(matches!(scan(&missing), Err(Fault::Damaged { .. })));
        let repeated = [&bytes[..bounds[2]], &bytes[bounds[1]..]].concat();
        assert!(matches!(scan(&repeated), Err(Fault::Damaged { .. })));
    }

    #[test]
    fn a_flipped_bit_in_the_header_is_found() {
        let (bytes, bounds) = journal(1);
        for at in 0..bounds[0] {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(scan(&flipped).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn headers_that_are_not_ours_are_refused() {
        let table: &[(&str, Fault)] = &[
            ("", damaged("it has no header line")),
            ("orch-journal 1", damaged("it has no header line")),
            ("hello\n", damaged("it does not begin with `orch-journal`")),
            ("orch-journal x\n", damaged("its version is not a number")),
            (
                "orch-journal 1 run\n",
                damaged("its header has other fields than those of its version"),
            ),
            (
                "orch-journal 1 events 1 run r1 first 1 chain 0 check 0\n",
                damaged("a checksum of its header is not a number"),
            ),
            ("orch-journal 7 whatever\n", Fault::Newer { found: 7, known: JOURNAL_VERSION }),
            ("orch-journal 0 whatever\n", damaged("there was no version 0")),
        ];
        for (text, fault) in table {
            assert_eq!(scan(text.as_bytes()).unwrap_err(), *fault, "{text}");
        }
        assert_eq!(scan(b"\xff\n").unwrap_err(), damaged("its header is not text"));
    }

    fn damaged(detail: &str) -> Fault {
        Fault::Damaged { offset: 0, detail: detail.into() }
    }

    #[test]
    fn header_fields_are_checked_though_the_checksum_is_right() {
        let cases = [
            ("events 0 run r1 first 1", damaged("there were no events of version 0")),
            ("events x run r1 first 1", damaged("its event version is not a number")),
            ("events 1 run r1 first x", damaged("its first number is not a positive number")),
            ("events 1 run r1 first 0", damaged("its first number is not a positive number")),
        ];
        for (fields, fault) in cases {
            let text = format!("orch-journal 1 {fields} chain 00000000");
            let line = format!("{text} check {:08x}\n", crc(0, &[text.as_bytes()]));
            assert_eq!(scan(line.as_bytes()).unwrap_err(), fault);
        }
        let text = "orch-journal 1 events 1 run R first 1 chain 00000000";
        let line = format!("{text} check {:08x}\n", crc(0, &[text.as_bytes()]));
        assert!(matches!(scan(line.as_bytes()), Err(Fault::Damaged { offset: 0, .. })));
    }

    #[test]
    fn a_record_that_is_not_its_event_is_damage() {
        let (header, chain) = Header::new(RunId::new("r1").unwrap()).encode();
        let mut bytes = header.clone().into_bytes();
        encode(&mut bytes, chain, &event(2, "x")).unwrap();
        let Err(Fault::Damaged { offset, detail }) = events(&bytes) else { panic!("was read") };
        assert_eq!(offset as usize, header.len());
        assert_eq!(detail, "event 2 stands where 1 is due");

        let json = br#"{"seq":1,"event":"from the future"}"#;
        let digits = format!("{:08x}", json.len());
        let check = crc(chain, &[digits.as_bytes(), json]);
        let mut bytes = header.into_bytes();
        bytes.extend_from_slice(format!("{digits} {check:08x} ").as_bytes());
        bytes.extend_from_slice(json);
        bytes.push(b'\n');
        let Err(Fault::Damaged { detail, .. }) = events(&bytes) else { panic!("was read") };
        assert!(detail.contains("not an event"), "{detail}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, keep in 0_usize..400) {
            let (good, _) = journal(2);
            let mixed = [&good[..keep.min(good.len())], &bytes[..]].concat();
            if let Ok((_, end)) = scan(&mixed) {
                prop_assert!(end.offset as usize <= mixed.len());
                prop_assert!(end.seq <= 3);
            }
        }

        #[test]
        fn eight_digits_hold_any_number(value: u32) {
            let mut digits = [0; 8];
            put_hex8(&mut digits, value);
            let expected = format!("{value:08x}");
            prop_assert_eq!(&digits[..], expected.as_bytes());
            prop_assert_eq!(hex8(digits), Some(value));
        }
    }
}
