//! Processes of an attempt whose orchestrator and supervisor are dead: found, and ended.
//!
//! All of them where its work is asked for, which is verified again; those of one verification where that is,
//! for the work may still go on.
//!
//! Every process of an attempt inherits `ORCH_RUN_ID`, `ORCH_TASK_ID` and `ORCH_ATTEMPT`, which
//! together name it for good: a run's id is never used again, and a task's attempts are counted in the
//! journal. The journal says that an attempt begins before anything is started for it, so whatever
//! was started is found by its environment, also where nobody lived to write its pid down.

use std::{collections::BTreeSet, fs, io, os::fd::OwnedFd, time::Duration};

use orch_faults::{planted, point};
use orch_model::ports::{AdoptRequest, Adopted, Purpose, RunnerError};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{io::unix::AsyncFd, time::timeout};

use super::{identity, launch::PURPOSE};

/// How often the processes are looked for and killed: what forks meanwhile is met the next time.
const ROUNDS: u32 = 50;

/// How long a killed process may take to vanish.
const VANISH: Duration = Duration::from_secs(2);

/// Ends what is left of an attempt.
pub(crate) async fn end(request: &AdoptRequest) -> Result<Adopted, RunnerError> {
    let mut known = String::new();
    for _ in 0..ROUNDS {
        let found = find(request);
        if found.is_empty() {
            return Ok(Adopted::Gone);
        }
        // All are stopped before the first is killed, so that none forks while others end.
        let mut killed = Vec::new();
        for pid in &found {
            match stop(*pid, request) {
                Ok(Some(handle)) => killed.push(handle),
                Ok(None) => {}
                Err(error) => known = format!("its process {pid} runs and can't be ended: {error}"),
            }
        }
        for handle in &killed {
            let kill = || pidfd_send_signal(handle, Signal::KILL).map_err(io::Error::from);
            let _ = point!("leftovers::kill", kill());
        }
        if killed.is_empty() && !known.is_empty() {
            return Ok(Adopted::Unknown { known });
        }
        for handle in killed {
            // One that hangs in the kernel is met again in the next round.
            gone(handle, VANISH).await.map_err(|source| RunnerError::Io {
                doing: "waiting for the end of a process".into(),
                source,
            })?;
        }
    }
    if known.is_empty() {
        known = "its processes fork faster than they can be killed".into();
    }
    Ok(Adopted::Unknown { known })
}

/// The living processes of an attempt: those that carry its variables, and the group of the one
/// that was recorded.
fn find(request: &AdoptRequest) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> =
        identity::living().filter(|pid| carries(*pid, request)).collect();
    if let Some(recorded) = &request.identity
        && identity::is_alive(recorded)
    {
        found.extend(identity::living().filter(|pid| identity::group(*pid) == Some(recorded.pid)));
    }
    found.remove(&std::process::id());
    found
}

/// Whether the environment that a process was started with names the attempt.
fn carries(pid: u32, request: &AdoptRequest) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let wanted = [
        format!("ORCH_RUN_ID={}", request.run),
        format!("ORCH_TASK_ID={}", request.task),
        format!("ORCH_ATTEMPT={}", request.attempt),
    ];
    let variables = || environment.split(|byte| *byte == 0);
    wanted.iter().all(|wanted| variables().any(|v| v == wanted.as_bytes()))
        && (request.purpose == Purpose::Work
            || planted("blind-to-purpose")
            || variables().any(|v| v == format!("{PURPOSE}={}", request.purpose).as_bytes()))
}

/// Stops a process, through a handle that can't come to mean another one. `None`: it is gone.
fn stop(pid: u32, request: &AdoptRequest) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let handle = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Err(Errno::SRCH) => return Ok(None),
        handle => handle?,
    };
    // Only now: until the handle was there the pid could have been given to another process.
    if !find(request).contains(&pid) {
        return Ok(None);
    }
    point!(
        "leftovers::stop",
        match pidfd_send_signal(&handle, Signal::STOP) {
            Err(Errno::SRCH) => Ok(None),
            sent => sent.map(|()| Some(handle)).map_err(io::Error::from),
        }
    )
}

/// Whether a process ends in time, or has ended.
pub(crate) async fn ends_within(pid: u32, limit: Duration) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Err(error) => error == Errno::SRCH,
        Ok(handle) => gone(handle, limit).await.unwrap_or(false),
    }
}

async fn gone(handle: OwnedFd, limit: Duration) -> io::Result<bool> {
    #[expect(
        deprecated,
        reason = "its flaw concerns types other than `OwnedFd`, and its successor is unsafe"
    )]
    let handle = AsyncFd::new(handle)?;
    match timeout(limit, handle.readable()).await {
        Ok(readable) => readable.map(|_| true),
        Err(_) => Ok(false),
    }
}
