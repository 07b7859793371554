//! Faults beside the orchestrator: its supervisors and agents are killed and stopped at random.

use std::{
    collections::BTreeSet,
    fs::{self, DirEntry},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{Campaign, RunningOrch, TestRepo, Witness, process_is_alive, until};

/// The longest time between two faults.
const PAUSE: Duration = Duration::from_millis(200);
/// How long something stays stopped at most.
const STOPPED: Duration = Duration::from_millis(250);
/// How exactly the end of an orchestrator is seen.
const TICK: Duration = Duration::from_millis(2);

/// What the arguments of a supervisor begin with.
const SUPERVISOR: &[u8] = b"orch-supervisor\0";

/// How often which fault was caused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Kills of orchestrators.
    pub orchestrators: u32,
    /// Kills of supervisors.
    pub supervisors: u32,
    /// Kills of agents.
    pub agents: u32,
    /// Supervisors that were stopped, and went on later.
    pub stopped_supervisors: u32,
    /// Agents that were stopped, and went on later.
    pub stopped_agents: u32,
    /// Agents that were alive when their orchestrator had been killed.
    pub survivors: u32,
}

impl Faults {
    /// Adds these to what a campaign caused.
    pub fn tell(&self, campaign: &mut Campaign) {
        for (fault, count) in [
            ("kill -9 of the orchestrator", self.orchestrators),
            ("kill -9 of a supervisor", self.supervisors),
            ("kill -9 of an agent", self.agents),
            ("SIGSTOP and SIGCONT of a supervisor", self.stopped_supervisors),
            ("SIGSTOP and SIGCONT of an agent", self.stopped_agents),
            ("agent that outlived its orchestrator", self.survivors),
        ] {
            campaign.caused(fault, count);
        }
    }
}

/// Causes faults, and knows which attempts may have been repeated for them.
#[derive(Debug)]
pub struct Chaos {
    /// What was caused.
    pub faults: Faults,
    /// How many faults beside the orchestrator's may still be caused.
    left: u32,
    /// How many of them may be kills of supervisors: each repeats many attempts, and these are
    /// not repeated for ever.
    supervisors_left: u32,
    disturbed: BTreeSet<(String, u32)>,
    stopped: Vec<(OwnedFd, Instant)>,
}

/// An agent that runs: what its environment says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Agent {
    attempt: (String, u32),
    pid: u32,
}

impl Chaos {
    /// Causes so many faults at most, beside kills of the orchestrator.
    #[must_use]
    pub fn new(faults: u32) -> Self {
        Self {
            faults: Faults::default(),
            left: faults,
            supervisors_left: 8.min(faults),
            disturbed: BTreeSet::new(),
            stopped: Vec::new(),
        }
    }

    /// Attempts whose agent or supervisor was killed. No other may have been repeated.
    #[must_use]
    pub fn disturbed(&self) -> &BTreeSet<(String, u32)> {
        &self.disturbed
    }

    /// Lives with an orchestrator until its end, and kills it after the time of its `life`.
    pub fn accompany(
        &mut self,
        orch: &mut RunningOrch<'_>,
        (repo, witness): (&TestRepo, &Witness),
        life: Option<Duration>,
        random: &mut fastrand::Rng,
    ) {
        let end = life.map(|life| Instant::now() + life);
        let mut next = Instant::now() + share(PAUSE, random);
        while !orch.has_ended() {
            let now = Instant::now();
            self.thaw(now);
            if end.is_some_and(|end| end <= now) {
                orch.kill();
                self.faults.orchestrators += 1;
                self.faults.survivors += u32::try_from(agents(repo).len()).unwrap_or(u32::MAX);
                return;
            }
            if next <= now {
                self.cause(repo, witness, random);
                next = Instant::now() + share(PAUSE, random);
            }
            // The moment of a fault is what is random here, not something that is waited for.
            thread::sleep(TICK);
        }
    }

    /// Lets everything go on that is stopped.
    pub fn thaw_all(&mut self) {
        for (process, _) in self.stopped.drain(..) {
            // It may have been killed meanwhile.
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }

    fn thaw(&mut self, now: Instant) {
        self.stopped.retain(|(process, until)| {
            let goes_on = *until <= now;
            if goes_on {
                let _ = pidfd_send_signal(process, Signal::CONT);
            }
            !goes_on
        });
    }

    fn cause(&mut self, repo: &TestRepo, witness: &Witness, random: &mut fastrand::Rng) {
        if self.left == 0 {
            return;
        }
        let is_done = match random.u32(0..10) {
            0 => self.supervisors_left > 0 && self.kill_supervisor(repo, witness),
            1..3 => {
                repo.supervisor().is_some_and(|pid| self.stop(pid, random)) && {
                    self.faults.stopped_supervisors += 1;
                    true
                }
            }
            3..6 => self.kill_agent(repo, random),
            _ => {
                random.choice(agents(repo)).is_some_and(|agent| self.stop(agent.pid, random)) && {
                    self.faults.stopped_agents += 1;
                    true
                }
            }
        };
        self.left -= u32::from(is_done);
    }

    fn kill_agent(&mut self, repo: &TestRepo, random: &mut fastrand::Rng) -> bool {
        let Some(agent) = random.choice(agents(repo)) else { return false };
        let Some(handle) = open(agent.pid) else { return false };
        // Only now that the handle is there the pid can't come to mean another process.
        if !agents(repo).contains(&agent) {
            return false;
        }
        let is_killed = pidfd_send_signal(handle, Signal::KILL).is_ok();
        self.faults.agents += u32::from(is_killed);
        self.disturbed.insert(agent.attempt);
        is_killed
    }

    /// Kills the supervisor of the repository's run, if there is one.
    pub fn kill_supervisor(&mut self, repo: &TestRepo, witness: &Witness) -> bool {
        let Some(pid) = repo.supervisor() else { return false };
        let Some(handle) = open(pid) else { return false };
        if repo.supervisor() != Some(pid) {
            return false;
        }
        // It begins nothing any more: a fork that meets a signal is not made.
        if pidfd_send_signal(&handle, Signal::STOP).is_err() {
            return false;
        }
        // Those that end before the kill need not be repeated, but may be: nobody may have been told.
        let (before, children) = (agents(repo), children(pid));
        if pidfd_send_signal(handle, Signal::KILL).is_err() {
            return false;
        }
        until("the end of a killed supervisor", || (!process_is_alive(pid)).then_some(()));
        self.faults.supervisors += 1;
        self.supervisors_left -= 1;
        // What was just becoming an agent is told by nothing until it has its own arguments. From then on it is
        // seen here, or has gone and written down before that it had begun.
        let is_told = |pid: &u32| !process_is_alive(*pid) || !is_unnamed(&command(*pid));
        until("the agents of a killed supervisor", || children.iter().all(is_told).then_some(()));
        let alive = before.into_iter().chain(agents(repo)).map(|agent| agent.attempt);
        // Those that were being verified have ended, and ended is not done.
        self.disturbed.extend(alive.chain(witness.undone()));
        true
    }

    fn stop(&mut self, pid: u32, random: &mut fastrand::Rng) -> bool {
        let Some(handle) = open(pid) else { return false };
        let is_stopped = pidfd_send_signal(&handle, Signal::STOP).is_ok();
        self.stopped.push((handle, Instant::now() + share(STOPPED, random)));
        is_stopped
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.thaw_all();
    }
}

fn share(most: Duration, random: &mut fastrand::Rng) -> Duration {
    most.mul_f64(random.f64())
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// The arguments with which a process was started.
fn command(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// Whether it is what a supervisor has just forked: a copy of it, or one without arguments in the middle of `execve`.
fn is_unnamed(command: &[u8]) -> bool {
    command.is_empty() || command.starts_with(SUPERVISOR)
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |thread: DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let children: String = threads.filter_map(of).collect();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl TestRepo {
    /// The process that looks after the agents of a run, where one does.
    #[must_use]
    pub fn supervisor(&self) -> Option<u32> {
        self.processes().into_iter().find(|pid| command(*pid).starts_with(SUPERVISOR))
    }
}

fn agents(repo: &TestRepo) -> Vec<Agent> {
    let agent = |pid: u32| {
        let command = command(pid);
        let program = command.split(|byte| *byte == 0).next()?;
        if !program.ends_with(b"/fake-agent") {
            return None;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let variable = |name: &str| {
            environment
                .split(|byte| *byte == 0)
                .find_map(|pair| str::from_utf8(pair).ok()?.strip_prefix(name))
        };
        let task = variable("ORCH_TASK_ID=")?.to_owned();
        let attempt = variable("ORCH_ATTEMPT=")?.parse().ok()?;
        Some(Agent { attempt: (task, attempt), pid })
    };
    repo.processes().into_iter().filter_map(agent).collect()
}
