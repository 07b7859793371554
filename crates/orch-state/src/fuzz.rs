//! What the fuzz targets see of the formats: the writers and readers of the stored files, on bytes in
//! memory.

use std::{io, path::Path};

use orch_model::{
    event::{EVENT_VERSION, Event},
    id::RunId,
    ports::{LockRequest, StoreError},
    time::Timestamp,
};

use crate::{
    PublishedState,
    format::{self, Header, put_record},
    locks::table::{Now, Table},
    process::Life,
    published,
    reader::{JournalReader, Source},
};

/// What errors call the file.
const NAME: &str = "fuzzed";

/// A journal that is written.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Its bytes so far.
    pub bytes: Vec<u8>,
    chain: u32,
}

impl Journal {
    /// One that begins with this event, of events of the version that is written plus `newer`.
    #[must_use]
    pub fn new(run: RunId, first: u64, newer: u32) -> Self {
        let header = Header { first, events: EVENT_VERSION + newer, ..Header::new(run) };
        let (line, chain) = header.encode();
        Self { bytes: line.into_bytes(), chain }
    }

    /// Goes on where a reading of `bytes` has ended, without what stands after that.
    #[must_use]
    pub fn go_on(mut bytes: Vec<u8>, end: End) -> Self {
        bytes.truncate(end.offset);
        Self { bytes, chain: end.chain }
    }

    /// Appends an event.
    ///
    /// # Errors
    /// Where it can't be written as JSON.
    pub fn append(&mut self, event: &Event) -> serde_json::Result<()> {
        self.chain = format::encode(&mut self.bytes, self.chain, event)?;
        Ok(())
    }

    /// Appends a record with any content and the right checksum.
    ///
    /// # Errors
    /// Where it is too long.
    pub fn append_json(&mut self, json: &[u8]) -> serde_json::Result<()> {
        self.chain = put_record(&mut self.bytes, self.chain, |buffer| {
            buffer.extend_from_slice(json);
            Ok(())
        })?;
        Ok(())
    }
}

/// What a journal says.
#[derive(Debug)]
pub struct Reading {
    /// The events, up to the first fault.
    pub events: Vec<Event>,
    /// Where the good part ends.
    pub end: Result<End, StoreError>,
}

/// The end of the good part of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Where it is, in bytes.
    pub offset: usize,
    /// The number that the next event must have.
    pub seq: u64,
    chain: u32,
}

/// Reads the events of a journal with numbers from `from` on. The bytes come in pieces of at most these
/// sizes, over and over; 0 stands for as much as is asked for.
#[must_use]
pub fn read_journal(bytes: &[u8], sizes: [u8; 4], from: u64) -> Reading {
    let mut reader = JournalReader::new(Path::new(NAME), Pieces::new(bytes, sizes), from);
    let mut events = Vec::new();
    let end = loop {
        match reader.events(1) {
            Ok(more) if more.is_empty() => break skim(bytes, sizes),
            Ok(more) => events.extend(more),
            Err(error) => break Err(error),
        }
    };
    Reading { events, end }
}

/// Looks for the end of the good part alone, as whoever opens a journal for writing does.
///
/// # Errors
/// Where the journal is damaged, or newer than what is known.
pub fn skim(bytes: &[u8], sizes: [u8; 4]) -> Result<End, StoreError> {
    let mut reader = JournalReader::new(Path::new(NAME), Pieces::new(bytes, sizes), 1);
    let (position, _) = reader.skim()?;
    let offset = usize::try_from(position.offset).unwrap_or(usize::MAX);
    Ok(End { offset, seq: position.seq, chain: position.chain })
}

/// Bytes that are read in pieces.
#[derive(Debug)]
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: [u8; 4],
    reads: std::cell::Cell<usize>,
}

impl<'a> Pieces<'a> {
    fn new(bytes: &'a [u8], sizes: [u8; 4]) -> Self {
        Self { bytes, sizes, reads: std::cell::Cell::new(0) }
    }
}

impl Source for Pieces<'_> {
    // As much as the largest piece, so that a small journal has many of them.
    const PIECE: usize = 256;

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let read = self.reads.replace(self.reads.get() + 1);
        let most = match self.sizes[read % self.sizes.len()] {
            0 => usize::MAX,
            size => usize::from(size),
        };
        let length = (self.bytes.len() - at).min(buffer.len()).min(most);
        buffer[..length].copy_from_slice(&self.bytes[at..at + length]);
        Ok(length)
    }
}

/// Reads the content of `parallel-state.json`.
///
/// # Errors
/// Where it is damaged, or newer than what is known.
pub fn read_state(bytes: &[u8]) -> Result<PublishedState<'static>, StoreError> {
    published::read(Path::new(NAME), bytes)
}

/// Who holds and waits for locks, read from the file of leases.
#[derive(Debug, Clone)]
pub struct Leases(Table);

impl Leases {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        crate::locks::file::decode(bytes).map(Self)
    }

    /// The content of the file.
    ///
    /// # Errors
    /// Where it can't be written as JSON.
    pub fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.0)
    }

    /// How many leases and requests there are.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let all = self.0.overview();
        (all.leases.len(), all.waiters.len())
    }

    /// Forgets what has no process any more, at a time in milliseconds; every process with an odd id is dead.
    pub fn sweep(&mut self, at: u64) {
        self.0.sweep(now(at), |life| life.process.pid % 2 == 1);
    }

    /// Asks for locks, and waits for them where they are held. Whether they were granted.
    pub fn ask(&mut self, request: &LockRequest, at: u64) -> bool {
        let (life, mut fence) = (Life::own(), u64::MAX / 2);
        let mut next = || {
            fence += 1;
            Ok(fence)
        };
        let _ = self.0.look(request, &life, now(at), &mut next);
        let answer = self.0.acquire(request, &life, now(at), &mut next);
        matches!(answer, Ok(crate::locks::table::Answer::Granted(_)))
    }
}

fn now(at: u64) -> Now {
    Now { steady: at, wall: Timestamp::from_millis(at) }
}
