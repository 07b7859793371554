//! What observers of a run hear.

use std::{collections::VecDeque, sync::Arc};

use orch_model::{Event, EventKind, RunId, ports::StateStore};
use tokio::sync::{broadcast, watch};

use crate::error::EngineError;

/// The events of a run, from the first or from any other on, without gaps.
///
/// A slow observer does not hold up the run: what it missed is read from the journal.
#[derive(Debug)]
pub struct EventStream {
    run: RunId,
    store: Arc<dyn StateStore>,
    live: broadcast::Receiver<Arc<Event>>,
    durable: watch::Receiver<u64>,
    /// The number of the next event to be given out.
    next: u64,
    /// Events that were read from the journal.
    read: VecDeque<Event>,
    /// Whether the journal has to be read before the live events are looked at.
    behind: bool,
    ended: bool,
}

impl EventStream {
    pub(crate) const fn new(
        run: RunId,
        store: Arc<dyn StateStore>,
        live: broadcast::Receiver<Arc<Event>>,
        durable: watch::Receiver<u64>,
        from: u64,
    ) -> Self {
        let read = VecDeque::new();
        Self { run, store, live, durable, next: from, read, behind: true, ended: false }
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
            if let Some(event) = self.read.pop_front() {
                return Ok(Some(self.give(Arc::new(event))));
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.seq == self.next => return Ok(Some(self.give(event))),
                Ok(event) if event.seq < self.next => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => {
                    self.catch_up().await?;
                    self.ended = self.read.is_empty();
                }
            }
        }
        Ok(None)
    }

    fn give(&mut self, event: Arc<Event>) -> Arc<Event> {
        self.next = event.seq + 1;
        // A resumed run has `run_ended` in the middle of its journal too; that one isn't the last.
        self.ended = matches!(event.kind, EventKind::RunEnded { .. })
            && self.read.is_empty()
            && event.seq >= *self.durable.borrow();
        event
    }

    async fn catch_up(&mut self) -> Result<(), EngineError> {
        // Nobody is told what may not survive.
        let durable = *self.durable.borrow_and_update();
        if durable >= self.next {
            let events = self.store.read(&self.run, self.next).await?;
            self.read = events.into_iter().filter(|event| event.seq <= durable).collect();
        }
        self.behind = false;
        Ok(())
    }
}
