//! Notices that a supervisor no longer answers while somebody waits for it: one that was stopped
//! (SIGSTOP), or hangs, closes no connection.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};

use super::connection::Connection;

/// How often a supervisor is asked whether it is there.
const EVERY: Duration = Duration::from_secs(5);

/// How long it may take to answer, twice: where this process was stopped itself, the first time is over
/// when it goes on.
const ANSWER: Duration = Duration::from_secs(4);

/// Asks again and again, as long as the connection is used, and tells when no answer comes, and when
/// one comes after all.
pub(super) async fn beat(connection: Weak<Connection>, tell: mpsc::UnboundedSender<String>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(connection) = connection.upgrade() else { return };
        if connection.is_lost() {
            return;
        }
        if connection.is_awaited() && !is_there(&connection, &tell).await {
            return;
        }
    }
}

/// Waits until it answers; `false`: the connection is lost.
async fn is_there(connection: &Arc<Connection>, tell: &mpsc::UnboundedSender<String>) -> bool {
    let mut answer = pin!(connection.ping());
    for _ in 0..2 {
        if let Ok(answer) = timeout(ANSWER, &mut answer).await {
            return answer.is_some();
        }
    }
    let pid = connection.supervisor();
    // Where nobody listens, nobody has to be told.
    let _ = tell.send(format!(
        "the supervisor (process {pid}) does not answer, so no agent is started and no end of one is heard of; if \
         somebody stopped it, `kill -CONT {pid}` lets it go on"
    ));
    let is_back = answer.await.is_some();
    if is_back {
        let _ = tell.send(format!("the supervisor (process {pid}) answers again"));
    }
    is_back
}
