//! What observers of a run hear.

use std::{collections::VecDeque, sync::Arc};

use orch_model::{Event, EventKind, Report, RunId, ports::StateStore};
use tokio::sync::{broadcast, watch};

use crate::{dispatcher::Outlets, error::EngineError};

/// The events of a run, from the first or from any other on, without gaps.
///
/// A slow observer does not hold up the run: what it missed is read from the journal.
#[derive(Debug)]
pub struct EventStream {
    run: RunId,
    store: Arc<dyn StateStore>,
    live: broadcast::Receiver<Arc<Event>>,
    durable: watch::Receiver<u64>,
    /// Filled when the engine has stopped.
    outcome: watch::Receiver<Option<Result<Report, Arc<EngineError>>>>,
    /// The number of the next event to be given out.
    next: u64,
    /// Events that were read from the journal.
    read: VecDeque<Event>,
    /// Whether the journal has to be read before the live events are looked at.
    behind: bool,
    ended: bool,
}

impl EventStream {
    pub(crate) fn new(
        run: RunId,
        store: Arc<dyn StateStore>,
        outlets: &Outlets,
        from: u64,
    ) -> Self {
        Self {
            run,
            store,
            live: outlets.events.subscribe(),
            durable: outlets.durable.subscribe(),
            outcome: outlets.outcome.subscribe(),
            next: from,
            read: VecDeque::new(),
            behind: true,
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
            if let Some(event) = self.read.pop_front() {
                return Ok(Some(self.give(Arc::new(event))));
            }
            if self.behind {
                self.catch_up().await?;
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
            let mut events = self.store.read(&self.run, self.next).await?;
            events.truncate(events.partition_point(|event| event.seq <= durable));
            self.read = events.into();
        }
        self.behind = false;
        Ok(())
    }
}
