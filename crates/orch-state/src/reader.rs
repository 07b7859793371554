//! A journal, read from its beginning in pieces.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use orch_model::{
    event::{EVENT_VERSION, Event},
    ports::{EventReader, StoreError},
};

use crate::{
    disk::io_error,
    format::{Fault, HEADER_MAX, Position},
};

/// How many events are given out at a time.
const BATCH: usize = 512;

/// Where the bytes of a journal are.
pub(crate) trait Source {
    /// How many bytes are read at a time.
    const PIECE: usize;

    /// Reads some of them from an offset on; none only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize>;
}

impl Source for File {
    const PIECE: usize = 1 << 16;

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// Reads the journal in a file, also while it is being written.
#[derive(Debug)]
pub(crate) struct JournalReader<S = File> {
    path: PathBuf,
    source: S,
    /// What was read from the file; that before `used` has been stepped over.
    buffer: Vec<u8>,
    used: usize,
    /// `None` until the header has been read.
    position: Option<Position>,
    /// The number of the first event that is given out.
    from: u64,
    /// The version of the events, where it is newer than what is known.
    newer: Option<u32>,
    /// Whether an event was met that only a newer version understands.
    is_over: bool,
}

impl JournalReader {
    pub(crate) fn open(path: &Path, from: u64) -> std::io::Result<Self> {
        Ok(Self::new(path, File::open(path)?, from))
    }
}

impl<S: Source> JournalReader<S> {
    /// One that reads from `source`, which errors name as `path`.
    pub(crate) fn new(path: &Path, source: S, from: u64) -> Self {
        Self {
            source,
            path: path.into(),
            buffer: Vec::new(),
            used: 0,
            position: None,
            from,
            newer: None,
            is_over: false,
        }
    }

    /// Refuses events of a newer version: they may be read, and nothing may be added to them.
    pub(crate) fn check_version(&mut self) -> Result<(), StoreError> {
        self.position()?;
        match self.newer {
            Some(found) => {
                Err(StoreError::Newer { path: self.path.clone(), found, known: EVENT_VERSION })
            }
            None => Ok(()),
        }
    }

    /// Gives the next events, up to `limit`; fewer only at the end of what is there now.
    pub(crate) fn events(&mut self, limit: usize) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        let mut position = self.position()?;
        let mut suspect: Option<Vec<u8>> = None;
        while events.len() < limit && !self.is_over {
            if let Some(record) = position.step(&self.buffer[self.used..]) {
                if record.seq >= self.from {
                    match (record.event(), self.newer) {
                        (Ok(event), _) => events.push(event),
                        (Err(_), Some(version)) => {
                            tracing::warn!(
                                path = %self.path.display(),
                                "its events have version {version}, and this orch knows {EVENT_VERSION}: what follows event {} is not shown; use a newer orch",
                                record.seq - 1,
                            );
                            self.is_over = true;
                            break;
                        }
                        (Err(error), None) => return Err(fault(&self.path)(error)),
                    }
                }
                self.step_to(position);
            } else if !self.read_on()? {
                let tail = &self.buffer[self.used..];
                match position.check_tail(tail) {
                    Ok(()) => break,
                    Err(error)
                        if suspect.is_some_and(|before| tail.starts_with(&before))
                            || orch_faults::planted("half-of-two-tails") =>
                    {
                        return Err(fault(&self.path)(error));
                    }
                    // It was read in pieces: perhaps the first is of a torn tail, and the next of what
                    // was written in its place. Once more, as a whole.
                    Err(_) => {
                        suspect = Some(tail.to_vec());
                        self.forget_tail();
                    }
                }
            }
        }
        Ok(events)
    }

    /// Checks the rest of the file without decoding it: where its good part ends, and what comes
    /// after that.
    pub(crate) fn skim(&mut self) -> Result<(Position, &[u8]), StoreError> {
        self.from = u64::MAX;
        self.events(1)?;
        Ok((self.position()?, &self.buffer[self.used..]))
    }

    fn position(&mut self) -> Result<Position, StoreError> {
        if let Some(position) = self.position {
            return Ok(position);
        }
        while self.buffer.len() < HEADER_MAX && self.read_on()? {}
        let (position, header) = Position::after_header(&self.buffer).map_err(fault(&self.path))?;
        self.newer = (header.events > EVENT_VERSION).then_some(header.events);
        self.used = position.offset as usize;
        self.position = Some(position);
        Ok(position)
    }

    fn step_to(&mut self, position: Position) {
        let before = self.position.replace(position).map_or(0, |before| before.offset);
        self.used += (position.offset - before) as usize;
    }

    /// Reads another piece; `false` at the end of the file.
    fn read_on(&mut self) -> Result<bool, StoreError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        // What held one long record is not needed for the others.
        self.buffer.shrink_to(2 * S::PIECE);
        let held = self.buffer.len();
        let offset = self.position.map_or(0, |position| position.offset) + held as u64;
        self.buffer.resize(held + S::PIECE, 0);
        orch_faults::step("reader::read").map_err(io_error(&self.path, "reading"))?;
        let read = self.source.read_at(&mut self.buffer[held..], offset);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        Ok(read.map_err(io_error(&self.path, "reading"))? > 0)
    }

    /// Forgets an incomplete record: the next owner of the run may cut it off.
    fn forget_tail(&mut self) {
        self.buffer.clear();
        self.used = 0;
    }
}

#[async_trait]
impl EventReader for JournalReader {
    // Short reads from the page cache: moving them to another thread would cost more than they do.
    async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        tokio::task::consume_budget().await;
        let events = self.events(BATCH)?;
        if events.len() < BATCH {
            self.forget_tail();
        }
        Ok(events)
    }
}

/// Names the file in an error of the format.
pub(crate) fn fault(path: &Path) -> impl Fn(Fault) -> StoreError {
    let path = path.to_path_buf();
    move |fault| match fault {
        Fault::Damaged { offset, detail } => {
            StoreError::Damaged { path: path.clone(), offset, detail }
        }
        Fault::Newer { found, known } => StoreError::Newer { path: path.clone(), found, known },
    }
}
