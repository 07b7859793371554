//! A child: its output, and its end.

use std::{collections::BTreeMap, io, os::unix::process::ExitStatusExt, sync::Arc, time::Duration};

use orch_model::{
    event::AgentIdentity,
    outcome::{AgentExit, ExitStatus, Failure},
    ports::RunnerError,
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, sync::watch, time::timeout};

use super::{
    activity::Activity,
    age::Age,
    budget::Budget,
    cgroup::{Cgroup, Cgroups},
    environment::Environment,
    group::Group,
    identity,
    launch::Launch,
    oom::OomKills,
    orphans::Orphanage,
    output::Output,
    redact::Redactor,
};

/// How long a process outside the group may hold the output open after the agent's end.
const LEAK_TIMEOUT: Duration = Duration::from_millis(200);

/// A process group that this process started and watches. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct ChildGroup {
    group: Arc<Group>,
    cgroup: Option<Arc<Cgroup>>,
    identity: Option<AgentIdentity>,
    exit: watch::Receiver<Ended>,
    activity: Arc<Activity>,
    age: Age,
}

impl ChildGroup {
    /// Starts it. Must be called within a tokio runtime.
    /// With an orphanage, what it leaves behind outside of its group ends with it too; with control groups it gets one of this name. `tell` is called
    /// with what people should know of it.
    pub(crate) fn start(
        launch: &Launch,
        environment: &Environment,
        orphanage: Option<&Arc<Orphanage>>,
        cgroups: Option<(&Cgroups, &str)>,
        budget: &Arc<Budget>,
        tell: impl Fn(String) + Send + 'static,
    ) -> Result<Self, RunnerError> {
        let failed = |doing: &str, source: io::Error| RunnerError::Io {
            doing: format!("{doing} for {}", launch.program),
            source,
        };
        // One pipe for both keeps the order of what is written to them.
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("making a pipe", e.into()))?;
        let also = write.try_clone().map_err(|e| failed("making a pipe", e))?;
        let oom_kills = OomKills::now();
        let mut cgroup = None;
        let spawn = || {
            let spawn = || launch.spawn(environment, write, also);
            let Some((cgroups, name)) = cgroups else { return spawn() };
            let (child, own) = cgroups.start(name, spawn)?;
            cgroup = own.map(Arc::new);
            Ok(child)
        };
        let child = match orphanage {
            Some(orphanage) => orphanage.exempt(spawn)?,
            None => spawn()?,
        };
        let group = Arc::new(Group::new(child).map_err(|e| failed("watching the process", e))?);
        let redactor = Redactor::new(environment, &launch.env);
        let output = Output::new(launch.log.clone(), launch.max_output, Arc::clone(budget));
        let receiver =
            Receiver::from_owned_fd(read).map_err(|e| failed("reading the output", e))?;
        let (ended, exit) = watch::channel(None);
        let identity = identity::of(group.pid());
        let orphans = orphanage.map(|orphanage| (Arc::clone(orphanage), launch.env.clone()));
        let sweep = Sweep { orphans, cgroup: cgroup.clone() };
        let activity = Arc::<Activity>::default();
        let seen = Arc::clone(&activity);
        let (budget, tell) = (Arc::clone(budget), Box::new(tell));
        let taker =
            Taker { output, redactor, activity: seen, budget, tell, oom_kills, failed: false };
        tokio::spawn(supervise(Arc::clone(&group), receiver, taker, sweep, ended));
        Ok(Self { group, cgroup, identity, exit, activity, age: Age::new() })
    }

    pub(crate) const fn identity(&self) -> Option<&AgentIdentity> {
        self.identity.as_ref()
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Waits until it has ended and nothing of its group is left.
    pub(crate) async fn wait(&self) -> Result<AgentExit, RunnerError> {
        let mut exit = self.exit.clone();
        let gone = || RunnerError::Unsupported("the agent's supervision ended early".into());
        let result = exit.wait_for(Option::is_some).await.map_err(|_| gone())?.clone();
        result.ok_or_else(gone)?.map_err(|error| RunnerError::Io {
            doing: format!("watching process {}", self.group.pid()),
            source: io::Error::new(error.kind(), error),
        })
    }

    /// Asks it to end, waits for `grace`, then kills it.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<(), RunnerError> {
        self.group.ask();
        if !grace.is_zero() {
            self.signal(Signal::TERM)?;
            // A frozen group would not hear of it.
            self.signal(Signal::CONT)?;
            if timeout(grace, self.wait()).await.is_ok() {
                return Ok(());
            }
        }
        self.kill().map_err(|source| RunnerError::Io {
            doing: format!("killing process group {}", self.group.pid()),
            source,
        })?;
        self.wait().await.map(|_| ())
    }

    fn kill(&self) -> io::Result<()> {
        // What forks in it dies too, so this is the end of it; the process group is the second net.
        if let Some(Err(error)) = self.cgroup.as_ref().map(|cgroup| cgroup.kill()) {
            tracing::warn!(%error, "a control group can't be killed");
        }
        self.group.kill()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), RunnerError> {
        self.group.signal(signal).map_err(|source| RunnerError::Io {
            doing: format!("signalling process group {}", self.group.pid()),
            source,
        })?;
        if matches!(signal, Signal::STOP | Signal::CONT) {
            self.age.set_still(signal == Signal::STOP);
        }
        Ok(())
    }

    /// For how long it has worked, without the time for which it was stopped by [`ChildGroup::signal`].
    pub(crate) fn age(&self) -> Duration {
        self.age.now()
    }
}

/// Nobody will ask for its end any more.
impl Drop for ChildGroup {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            let _ = self.kill();
        }
    }
}

/// Where what an agent leaves behind is looked for.
struct Sweep {
    cgroup: Option<Arc<Cgroup>>,
    /// Where orphans are, and the variables that those of the agent carry.
    orphans: Option<(Arc<Orphanage>, BTreeMap<String, String>)>,
}

impl Sweep {
    /// Ends it, and gives how many processes that were.
    async fn end(self, leader: u32) -> usize {
        let mut ended = 0;
        if let Some(cgroup) = self.cgroup {
            match cgroup.end().await {
                Ok(left) => ended += left,
                Err(error) => tracing::warn!(%error, "an agent's control group is left"),
            }
        }
        if let Some((orphanage, variables)) = self.orphans {
            orphanage.reaped(leader);
            ended += orphanage.end(&variables).await;
        }
        ended
    }
}

type Ended = Option<Result<AgentExit, Arc<io::Error>>>;

/// Takes the output of a process.
struct Taker {
    output: Output,
    redactor: Redactor,
    activity: Arc<Activity>,
    budget: Arc<Budget>,
    tell: Box<dyn Fn(String) + Send>,
    /// How many there had been when it was started.
    oom_kills: OomKills,
    /// A disk that takes no more must not keep the agent from ending: what it writes is dropped.
    failed: bool,
}

impl Taker {
    fn take(&mut self, bytes: &[u8]) {
        self.activity.note(bytes);
        let harmless = self.redactor.push(bytes);
        self.write(&harmless);
    }

    fn finish(&mut self) {
        let rest = self.redactor.finish();
        self.write(&rest);
        if let Err(error) = self.output.finish() {
            tracing::warn!(%error, "output can't be written");
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        // Without output there is no file.
        if !self.failed
            && !bytes.is_empty()
            && let Err(error) = self.output.write(bytes)
        {
            tracing::warn!(%error, "output can't be written");
            self.failed = true;
        }
        if let Some(news) = self.budget.news() {
            (self.tell)(news);
        }
    }
}

/// Sees a process to its end: streams its output, and reaps it.
async fn supervise(
    group: Arc<Group>,
    mut receiver: Receiver,
    mut taker: Taker,
    sweep: Sweep,
    ended: watch::Sender<Ended>,
) {
    let result = follow(&group, &mut receiver, &mut taker, sweep).await.map_err(Arc::new);
    ended.send_replace(Some(result));
}

async fn follow(
    group: &Group,
    receiver: &mut Receiver,
    taker: &mut Taker,
    sweep: Sweep,
) -> io::Result<AgentExit> {
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    loop {
        tokio::select! {
            exited = group.exited() => break exited?,
            read = receiver.read(&mut buffer), if open => match read? {
                0 => open = false,
                n => taker.take(&buffer[..n]),
            },
        }
    }
    let status = group.reap().await?;
    let left_behind = sweep.end(group.pid()).await;
    // The group is gone, so the end of the output is there, unless somebody outside it holds it.
    let drained = timeout(LEAK_TIMEOUT, async {
        while open {
            match receiver.read(&mut buffer).await? {
                0 => open = false,
                n => taker.take(&buffer[..n]),
            }
        }
        io::Result::Ok(())
    })
    .await;
    let leaked_output = drained.is_err();
    if let Ok(drained) = drained {
        drained?;
    }
    taker.finish();
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or(0)),
    };
    let mut exit = AgentExit::new(status);
    exit.output_tail = taker.output.tail();
    exit.output_bytes = taker.output.total();
    exit.leaked_output = leaked_output;
    exit.left_behind = left_behind;
    exit.failure = if group.is_asked() {
        Some(Failure::Interrupted { message: "it was ended on request".into() })
    } else {
        taker.oom_kills.explain(status)
    };
    Ok(exit)
}
