//! A process group and its end.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use orch_faults::{planted, point};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group},
};
use tokio::io::unix::AsyncFd;

use super::identity;

/// How long the processes of a killed group may take to vanish before `/proc` is asked whether
/// they are only zombies that nobody reaps.
const VANISH: Duration = Duration::from_millis(50);

/// How often a group is killed again: one kill walks it once, and a process that forks meanwhile
/// escapes it.
const KILL_ROUNDS: u32 = 200;

/// A child that leads a process group of its own.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    exited: AsyncFd<OwnedFd>,
    /// The leader until it has been reaped. While it has not, its pid, and so the group's number,
    /// can't be given to anybody else: signals are sent only then.
    child: Mutex<Option<Child>>,
    /// Whether somebody asked for its end.
    is_asked: AtomicBool,
}

impl Group {
    /// Takes charge of a child that was started with a process group of its own.
    pub(super) fn new(child: Child) -> io::Result<Self> {
        let leader = Pid::from_child(&child);
        #[expect(
            deprecated,
            reason = "its flaw concerns types other than `OwnedFd`, and its successor is unsafe"
        )]
        let exited = AsyncFd::new(pidfd_open(leader, PidfdFlags::NONBLOCK)?)?;
        let child = Mutex::new(Some(child));
        Ok(Self { leader, exited, child, is_asked: AtomicBool::new(false) })
    }

    /// Notes that it is being ended on request.
    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    pub(super) fn pid(&self) -> u32 {
        self.leader.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until the leader has exited. It is not reaped by that.
    pub(super) async fn exited(&self) -> io::Result<()> {
        self.exited.readable().await.map(|_| ())
    }

    /// Sends a signal to the group unless its leader has been reaped.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let child = self.child.lock().unwrap_or_else(|poison| poison.into_inner());
        if child.is_none() {
            return Ok(());
        }
        point!(
            "process::signal",
            match kill_process_group(self.leader, signal) {
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(error) => Err(io::Error::from(error)),
            }
        )
    }

    /// Kills the group: stops it first, so that its members can't fork while it is walked.
    pub(super) fn kill(&self) -> io::Result<()> {
        if !planted("single-killpg") {
            self.signal(Signal::STOP)?;
        }
        point!("process::kill", self.signal(Signal::KILL))
    }

    /// After the leader's exit: kills what it left of the group, reaps it, and returns when
    /// nothing of the group is left.
    pub(super) async fn reap(&self) -> io::Result<ExitStatus> {
        if let Err(error) = self.kill() {
            // How the leader ended is known all the same, and the rest is killed again below.
            tracing::warn!(%error, "what a process left of its group can't be killed");
        }
        let status = {
            let mut child = self.child.lock().unwrap_or_else(|poison| poison.into_inner());
            let Some(mut child) = child.take() else {
                return Err(io::Error::other("the process has been reaped already"));
            };
            child.wait()?
        };
        // A group's number stays taken while it has members, so it still means this group.
        for round in 0..KILL_ROUNDS {
            if planted("single-killpg") || test_kill_process_group(self.leader).is_err() {
                break;
            }
            let _ = kill_process_group(self.leader, Signal::KILL);
            tokio::time::sleep(Duration::from_millis(1)).await;
            if u128::from(round) >= VANISH.as_millis() && !identity::group_is_alive(self.pid()) {
                break;
            }
        }
        Ok(status)
    }
}

/// The net for a group that nobody waited for.
impl Drop for Group {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(|poison| poison.into_inner());
        if let Some(child) = child {
            let _ = kill_process_group(self.leader, Signal::STOP);
            let _ = kill_process_group(self.leader, Signal::KILL);
            let _ = child.wait();
        }
    }
}
