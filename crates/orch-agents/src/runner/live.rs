//! An agent whose output is read while it works.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orch_model::ports::AgentNotice;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::reading::{News, Reading};
use crate::watcher::Watch;

/// How often output is read at most: what comes meanwhile is read together.
const BURST: Duration = Duration::from_millis(50);

/// Reads the output of an agent as it grows, and tells what is in it.
#[derive(Debug)]
pub(super) struct Live {
    reading: Arc<Mutex<Reading>>,
    notices: tokio::sync::Mutex<mpsc::UnboundedReceiver<AgentNotice>>,
    limited: watch::Receiver<bool>,
    follower: AbortHandle,
}

impl Live {
    /// Begins to read; where nothing tells that the output grows, to read what is there.
    pub(super) fn new(reading: Reading, watch: Option<Watch>) -> Self {
        let reading = Arc::new(Mutex::new(reading));
        let (told, notices) = mpsc::unbounded_channel();
        let (limit, limited) = watch::channel(false);
        let follower = tokio::spawn(follow(Arc::clone(&reading), watch, told, limit));
        let (notices, follower) = (notices.into(), follower.abort_handle());
        Self { reading, notices, limited, follower }
    }

    /// What was read, and the rest of it.
    pub(super) fn reading(&self) -> Arc<Mutex<Reading>> {
        Arc::clone(&self.reading)
    }

    /// Waits for something that its output tells; for ever where nothing comes any more.
    pub(super) async fn notice(&self) -> AgentNotice {
        match self.notices.lock().await.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    /// Waits until the agent waits for a limit that it should not hold its place for.
    pub(super) async fn limited(&self) {
        let mut limited = self.limited.clone();
        if limited.wait_for(|limited| *limited).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

pub(super) fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(
    reading: Arc<Mutex<Reading>>,
    watch: Option<Watch>,
    told: mpsc::UnboundedSender<AgentNotice>,
    limit: watch::Sender<bool>,
) {
    loop {
        let read = Instant::now();
        let reading = Arc::clone(&reading);
        let news = tokio::task::spawn_blocking(move || lock(&reading).go_on()).await;
        let Ok(News { notices, is_limited, is_over }) = news else { return };
        for notice in notices {
            if told.send(notice).is_err() {
                return;
            }
        }
        if is_limited {
            limit.send_replace(true);
        }
        let Some(watch) = watch.as_ref().filter(|_| !is_over) else {
            // Whoever waits goes on waiting.
            return std::future::pending().await;
        };
        // The first line of a burst is read at once.
        sleep(BURST.saturating_sub(read.elapsed())).await;
        watch.grown().await;
    }
}
