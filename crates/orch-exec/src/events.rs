//! What observers of a run hear.

use std::{sync::Arc, vec};

use orch_model::{
    Event, EventKind, Report, RunId,
    ports::{EventReader, StateStore},
};
use tokio::sync::{broadcast, watch};

use crate::{dispatcher::Outlets, error::EngineError};

/// The events of a run, from the first or from any other on, without gaps.
///
/// A slow observer does not hold up the run: what it missed is read from the journal.
#[derive(Debug)]
pub struct EventStream {
    run: RunId,
    store: Arc<dyn StateStore>,
    /// The first event. It holds the plan, which may be large: nobody reads it from the journal.
    started: Arc<Event>,
    live: broadcast::Receiver<Arc<Event>>,
    durable: watch::Receiver<u64>,
    /// Filled when the engine has stopped.
    outcome: watch::Receiver<Option<Result<Report, Arc<EngineError>>>>,
    /// The number of the next event to be given out.
    next: u64,
    /// Events that were read from the journal.
    read: vec::IntoIter<Event>,
    /// Whether the journal has to be read before the live events are looked at.
    behind: bool,
    /// Where the journal is being read; `None` while that is not needed.
    reader: Option<Box<dyn EventReader>>,
    ended: bool,
}

impl EventStream {
    pub(crate) fn new(
        run: RunId,
        store: Arc<dyn StateStore>,
        started: Arc<Event>,
        outlets: &Outlets,
        from: u64,
    ) -> Self {
        Self {
            run,
            store,
            started,
            live: outlets.events.subscribe(),
            durable: outlets.durable.subscribe(),
            outcome: outlets.outcome.subscribe(),
            next: from.max(1),
            read: Vec::new().into_iter(),
            behind: true,
            reader: None,
            ended: false,
        }
    }

    /// The next event; `None` after `run_ended`, or where the engine stopped.
    ///
    /// # Errors
    /// Where the journal can't be read.
    ///
    /// # Cancel safety
    /// A dropped call loses no event.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, EngineError> {
        while !self.ended {
            if let Some(event) = self.read.next() {
                return Ok(Some(self.give(Arc::new(event))));
            }
            if self.behind {
                self.read_on().await?;
                continue;
            }
            let event = tokio::select! {
                biased;
                event = self.live.recv() => Some(event),
                _ = self.outcome.wait_for(Option::is_some) => None,
            };
            match event {
                Some(Ok(event)) if event.seq == self.next => return Ok(Some(self.give(event))),
                Some(Ok(event)) if event.seq < self.next => {}
                Some(_) => self.behind = true,
                // The engine stopped, with or without `run_ended`.
                None => {
                    self.read_on().await?;
                    self.ended = self.read.len() == 0;
                }
            }
        }
        Ok(None)
    }

    fn give(&mut self, event: Arc<Event>) -> Arc<Event> {
        self.next = event.seq + 1;
        // A resumed run has `run_ended` in the middle of its journal too; that one isn't the last.
        self.ended = matches!(event.kind, EventKind::RunEnded { .. })
            && self.read.len() == 0
            && event.seq >= *self.durable.borrow();
        event
    }

    /// Reads some more of the journal; notes where it has been read as far as it may be.
    async fn read_on(&mut self) -> Result<(), EngineError> {
        // Nobody is told what may not survive.
        let durable = *self.durable.borrow_and_update();
        if durable < self.next {
            self.behind = false;
            self.reader = None;
            return Ok(());
        }
        if self.next == self.started.seq {
            self.read = vec![(*self.started).clone()].into_iter();
            return Ok(());
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.store.read(&self.run, self.next).await?),
        };
        let mut events = reader.next().await?;
        let told = events.partition_point(|event| event.seq <= durable);
        if told < events.len() {
            // The reader has gone too far: the rest is read again, or comes live.
            events.truncate(told);
            self.reader = None;
        }
        self.read = events.into_iter();
        Ok(())
    }
}
