//! `AgentRunner`: processes under a supervisor, which outlive an orchestrator that is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use orch_exec::model::{
    AgentName, RunId, TaskId, Timestamp,
    event::AgentIdentity,
    outcome::{AgentExit, ExitStatus, Failure},
    plan::{self, LockMode, Work},
    ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, Purpose, RunnerError, RunningAgent},
    state::Attempt,
};

use crate::{
    case::Trouble,
    world::{Inner, Part},
};

/// Run, task, attempt and purpose name an agent.
pub(crate) type Name = (RunId, TaskId, Attempt, Purpose);

/// All processes that ever were.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    all: BTreeMap<Name, Process>,
    last_pid: u32,
    /// How often the machine was started again.
    boots: u32,
    /// The process that agents are children of, while it lives.
    supervisor: Option<u32>,
    /// By task: how many of its agents have failed by themselves, and how many of its verifications.
    failed: BTreeMap<TaskId, (u32, u32)>,
    /// Who was given the last attempt at a task that is a prompt.
    chosen: BTreeMap<TaskId, (Attempt, AgentName)>,
    /// Whether a verification of merged results has failed by chance.
    has_flaked: bool,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    /// When it ends by itself; `None`: never.
    ends: Option<Timestamp>,
    heeds_term: bool,
    exit: AgentExit,
    /// How it ended, once it has.
    ended: Option<AgentExit>,
    /// Its supervisor died, and so did it.
    is_lost: bool,
    /// After how many starts of the machine it was started.
    boot: u32,
    since: Timestamp,
    frozen: Option<Timestamp>,
    /// For how long it was frozen before.
    stood_still: Duration,
    /// Whether it hung, and somebody has asked it to end: it has failed as its script says, also where it
    /// dies of something else before it does so.
    has_hung: bool,
    directory: PathBuf,
}

impl Process {
    fn runs(&self) -> bool {
        self.ended.is_none() && !self.is_lost
    }
}

/// What a new process will do.
struct Fate {
    /// How long until it ends by itself; `None`: for ever.
    lasts: Option<Duration>,
    heeds_term: bool,
    exit: AgentExit,
}

fn exit(code: i32) -> AgentExit {
    AgentExit::new(ExitStatus::Code(code))
}

impl Inner {
    /// Lets the processes do what they have done by now.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        let due: Vec<Name> = self
            .processes
            .all
            .iter()
            .filter(|(_, process)| process.runs() && process.frozen.is_none())
            .filter(|(_, process)| process.ends.is_some_and(|ends| ends <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let process = self.processes.all.get_mut(&name).expect("it was found");
            process.ended = Some(process.exit.clone());
            let (directory, is_good) =
                (process.directory.clone(), process.exit.status.is_success());
            let (_, task, attempt, purpose) = &name;
            let failed = self.processes.failed.entry(task.clone()).or_default();
            match purpose {
                Purpose::Work if is_good => {
                    let files = self.case.scripts[task].files.clone();
                    self.repository.write(&directory, task, *attempt, &files, true);
                }
                Purpose::Work => failed.0 += 1,
                Purpose::Verify { .. } if !is_good => failed.1 += 1,
                _ => {}
            }
            self.note(now, &format!("{name:?} has ended"));
        }
    }

    pub(crate) fn is_process_alive(&self, pid: u32) -> bool {
        // A supervisor whom nobody needs any more ends.
        let is_needed = self.is_alive || self.processes.all.values().any(Process::runs);
        (self.processes.supervisor == Some(pid) && is_needed)
            || self.processes.all.values().any(|process| process.pid == pid && process.runs())
    }

    /// The running processes, with where they work.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&Name, &PathBuf)> {
        let running = self.processes.all.iter().filter(|(_, process)| process.runs());
        running.map(|(name, process)| (name, &process.directory))
    }

    /// The supervisor dies, and its children with it.
    pub(crate) fn kill_supervisor(&mut self) {
        self.processes.supervisor = None;
        for process in self.processes.all.values_mut().filter(|process| process.runs()) {
            process.is_lost = true;
        }
    }

    /// The power fails. How processes ended may be known for all that, and counts for nothing.
    pub(crate) fn cut_processes(&mut self) {
        self.kill_supervisor();
        self.processes.boots += 1;
    }

    fn boot_id(&self) -> String {
        format!("simulated-{}", self.processes.boots)
    }

    fn identity(&self, pid: u32) -> AgentIdentity {
        AgentIdentity { pid, start_ticks: 0, boot_id: self.boot_id() }
    }

    fn supervisor(&mut self) -> u32 {
        let next = self.processes.last_pid + 1;
        let supervisor = *self.processes.supervisor.get_or_insert(next);
        self.processes.last_pid = self.processes.last_pid.max(supervisor);
        supervisor
    }

    fn fate(&mut self, request: &AgentRequest) -> Fate {
        let failed = self.processes.failed.get(&request.task).copied().unwrap_or_default();
        let longest = match request.purpose {
            Purpose::Work => self.case.scripts[&request.task].longest,
            _ => Duration::from_secs(3),
        };
        let lasts = Duration::from_millis(self.rng.u64(0..=longest.as_millis() as u64));
        let mut fate = Fate { lasts: Some(lasts), heeds_term: true, exit: exit(0) };
        let script = &self.case.scripts[&request.task];
        let is_one =
            |work: &Work| matches!(work, Work::Prompt { agent, .. } if agent.as_str() == "one");
        match request.purpose {
            Purpose::Work if script.trouble == Trouble::LoggedOut && is_one(&request.work) => {
                self.count("agent is not logged in");
                fate.exit = exit(1);
                let message = "log in".into();
                fate.exit.failure = Some(Failure::Authentication { message });
            }
            Purpose::Work if script.fails.is_none_or(|fails| failed.0 < fails) => {
                match script.trouble {
                    Trouble::Exit | Trouble::LoggedOut => fate.exit = exit(1),
                    Trouble::Hang => fate.lasts = None,
                    Trouble::IgnoreTerm => (fate.lasts, fate.heeds_term) = (None, false),
                    Trouble::RateLimit => {
                        fate.exit = exit(1);
                        let message = "too many requests".into();
                        fate.exit.failure = Some(Failure::RateLimit { reset: None, message });
                    }
                }
            }
            Purpose::Verify { .. } if failed.1 < script.bad_verifications => fate.exit = exit(1),
            Purpose::Candidate { .. } => {
                let is_bad = self.repository.is_poisoned(&self.case.poison);
                // Once: two failures in a row are not by chance.
                let may_flake = !is_bad && !self.processes.has_flaked;
                if may_flake && self.goes_wrong("merged results fail by chance", 20) {
                    self.processes.has_flaked = true;
                    fate.exit = exit(1);
                }
                if is_bad {
                    fate.exit = exit(1);
                }
            }
            _ => {}
        }
        fate
    }

    /// Who was given the last attempt at a task that an agent was started for.
    pub(crate) fn chosen(&self, task: &TaskId) -> Option<&(Attempt, AgentName)> {
        self.processes.chosen.get(task)
    }

    /// What must hold whenever a process is started.
    fn check_start(&mut self, name: &Name, request: &AgentRequest) {
        // A verification is repeated where nobody saw how it ended.
        let before = self.processes.all.get(name);
        if before.is_some_and(|process| {
            process.runs() || (name.3 == Purpose::Work && process.boot == self.processes.boots)
        }) {
            self.violation(format!("{name:?} was started twice"));
        }
        if matches!(name.3, Purpose::Candidate { .. }) {
            return;
        }
        let others: BTreeSet<TaskId> = self
            .running()
            .filter(|((_, task, _, purpose), _)| {
                *task != name.1 && !matches!(purpose, Purpose::Candidate { .. })
            })
            .map(|((_, task, ..), _)| task.clone())
            .collect();
        if others.len() >= self.case.max_concurrency as usize {
            self.violation(format!("{name:?} was started beside {others:?}"));
        }
        let holders: Vec<(TaskId, _)> = others
            .into_iter()
            .chain([name.1.clone()])
            .filter_map(|task| {
                let index = self.case.plan.index_of(&task)?;
                Some((task, self.case.plan.task(index).locks.clone()))
            })
            .collect();
        let (mut shared, mut exclusive, mut units) = (0, 0, 0);
        for claim in holders.iter().flat_map(|(_, locks)| locks) {
            match claim.mode {
                LockMode::Exclusive => exclusive += 1,
                LockMode::Shared => shared += 1,
                LockMode::Counted { count, .. } => units += count,
                _ => {}
            }
        }
        if exclusive > 1 || (exclusive == 1 && shared > 0) || units > 2 {
            self.violation(format!("{name:?} was started, and others have its locks: {holders:?}"));
        }
        if let (Purpose::Work, Work::Prompt { agent, .. }) = (name.3, &request.work) {
            if agent.as_str() == "gone" {
                self.violation(format!("{name:?} is given to an agent that is not there"));
            }
            let chosen = (name.2, agent.clone());
            self.processes.chosen.insert(name.1.clone(), chosen);
        }
        if name.3 == Purpose::Work && self.repository.is_merged(&name.1) {
            self.violation(format!("{name:?} was started, and its task is merged"));
        }
        self.repository.check_directory(name, &request.directory, &mut self.violations);
    }
}

#[async_trait]
impl AgentRunner for Part {
    fn name(&self) -> &str {
        "simulated"
    }

    async fn missing(
        &self,
        agents: &BTreeMap<AgentName, plan::Agent>,
    ) -> BTreeMap<AgentName, String> {
        let gone = agents.keys().filter(|name| name.as_str() == "gone");
        gone.map(|name| (name.clone(), "there is no such program".to_owned())).collect()
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let name: Name =
            (request.run.clone(), request.task.clone(), request.attempt, request.purpose);
        let pid = self
            .act(&format!("start {name:?}"), |world| {
                if world.goes_wrong("agent can't be started", 3) {
                    let source = std::io::ErrorKind::OutOfMemory.into();
                    return Err(RunnerError::Io { doing: "forking".into(), source });
                }
                // A supervisor hands out what it has already.
                let before = world.processes.all.get(&name);
                if let Some(process) = before.filter(|p| p.runs() && name.3 != Purpose::Work) {
                    return Ok(process.pid);
                }
                world.check_start(&name, &request);
                world.supervisor();
                let Fate { lasts, heeds_term, exit } = world.fate(&request);
                world.processes.last_pid += 1;
                let pid = world.processes.last_pid;
                if name.3 == Purpose::Work {
                    // What it has done so far is there whenever it is ended.
                    let files = vec![format!("notes-{}", name.1)];
                    world.repository.write(&request.directory, &name.1, name.2, &files, false);
                }
                world.processes.all.insert(
                    name.clone(),
                    Process {
                        pid,
                        ends: lasts.map(|lasts| self.now() + lasts),
                        heeds_term,
                        exit,
                        ended: None,
                        is_lost: false,
                        boot: world.processes.boots,
                        since: self.now(),
                        frozen: None,
                        stood_still: Duration::ZERO,
                        has_hung: false,
                        directory: request.directory.clone(),
                    },
                );
                Ok(pid)
            })
            .await?;
        Ok(Box::new(Agent { part: self.clone(), name, pid }))
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        let name: Name = (request.run, request.task, request.attempt, request.purpose);
        let found = self
            .act(&format!("adopt {name:?}"), |world| {
                let found = world.processes.all.get(&name);
                let boots = world.processes.boots;
                let is_known = |process: &&Process| !process.is_lost && process.boot == boots;
                found.filter(is_known).map(|process| process.pid)
            })
            .await;
        Ok(match found {
            Some(pid) => Adopted::Agent(Box::new(Agent { part: self.clone(), name, pid })),
            None => Adopted::Gone,
        })
    }

    fn is_of_earlier_boot(&self, agent: &AgentIdentity) -> bool {
        agent.boot_id != self.world.lock().boot_id()
    }

    async fn guardian(&self, _: &RunId) -> Result<Option<AgentIdentity>, RunnerError> {
        let start = |world: &mut Inner| {
            let pid = world.supervisor();
            world.identity(pid)
        };
        Ok(Some(self.act("start the supervisor", start).await))
    }

    async fn finish(&self, _: &RunId) {
        self.act("end the supervisor", |world| world.processes.supervisor = None).await;
    }
}

#[derive(Debug)]
struct Agent {
    part: Part,
    name: Name,
    pid: u32,
}

/// How a process stands.
enum Stand {
    Runs(Option<Timestamp>),
    Ended(Box<AgentExit>),
    Lost,
}

impl Agent {
    fn process<'a>(&self, world: &'a mut Inner) -> &'a mut Process {
        world.processes.all.get_mut(&self.name).expect("it was started")
    }

    fn stand(&self) -> Stand {
        let mut world = self.part.world.lock();
        world.settle(self.part.now());
        let process = self.process(&mut world);
        match &process.ended {
            _ if process.is_lost => Stand::Lost,
            Some(exit) => Stand::Ended(Box::new(exit.clone())),
            None => Stand::Runs(process.ends.filter(|_| process.frozen.is_none())),
        }
    }

    /// It is asked to end: one that hangs has failed by that.
    fn count(&self, world: &mut Inner) {
        let process = self.process(world);
        if process.ends.is_none() && !process.has_hung && self.name.3 == Purpose::Work {
            process.has_hung = true;
            world.processes.failed.entry(self.name.1.clone()).or_default().0 += 1;
        }
    }

    fn end(&self, signal: i32) {
        let mut world = self.part.world.lock();
        let process = self.process(&mut world);
        if process.runs() {
            let mut exit = AgentExit::new(ExitStatus::Signal(signal));
            exit.failure = Some(Failure::Interrupted { message: "ended on request".into() });
            process.ended = Some(exit);
            self.count(&mut world);
        }
        drop(world);
        self.part.world.changed.notify_waiters();
    }
}

#[async_trait]
impl RunningAgent for Agent {
    fn identity(&self) -> Option<AgentIdentity> {
        Some(self.part.world.lock().identity(self.pid))
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        loop {
            match self.stand() {
                Stand::Ended(exit) => return Ok(*exit),
                Stand::Lost => return Err(RunnerError::Lost("its supervisor is gone".into())),
                Stand::Runs(ends) => {
                    let left = ends.map(|ends| ends.since(self.part.now()));
                    let left = left.unwrap_or(Duration::from_secs(3600));
                    self.part.wait(left.max(Duration::from_millis(1))).await;
                }
            }
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        let heeds = self
            .part
            .act(&format!("stop {:?}", self.name), |world| {
                self.count(world);
                let process = self.process(world);
                process.heeds_term && process.frozen.is_none()
            })
            .await;
        if heeds && !grace.is_zero() {
            self.end(15);
        }
        if tokio::time::timeout(grace, self.wait()).await.is_err() {
            self.end(9);
        }
        Ok(())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        let now = self.part.now();
        let freeze = |world: &mut Inner| {
            self.process(world).frozen.get_or_insert(now);
        };
        self.part.act("freeze", freeze).await;
        Ok(())
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        let now = self.part.now();
        let thaw = |world: &mut Inner| {
            let process = self.process(world);
            if let Some(since) = process.frozen.take() {
                process.ends = process.ends.map(|ends| ends + now.since(since));
                process.stood_still += now.since(since);
            }
            self.part.world.changed.notify_waiters();
        };
        self.part.act("thaw", thaw).await;
        Ok(())
    }

    async fn age(&self) -> Option<Duration> {
        let age = |world: &mut Inner| {
            let now = self.part.now();
            let process = self.process(world);
            let until = process.frozen.unwrap_or(now);
            until.since(process.since).saturating_sub(process.stood_still)
        };
        Some(self.part.act("age", age).await)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.part.is_alive() {
            self.end(9);
        }
    }
}
