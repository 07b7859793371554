//! The unit of work: one attempt at one task, from lease to merge.
//!
//! It owns no state of the run. It reports to the dispatcher and is told when to stop.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use orch_model::{
    ByteSize, CommitId, EpicId, RunId, Span, Timestamp,
    event::{AgentIdentity, Place},
    outcome::{AgentExit, Failure, StopReason},
    plan::{
        Task, TaskIndex, ValidPlan, Work,
        spec::{Expects, Isolation},
    },
    ports::{
        Acquired, AgentRequest, CommitMessage, Lease, LockHolder, LockRequest, MergeOutcome,
        MergeRequest, Purpose, Release, RunningAgent, Sealed, Worktree, WorktreeRequest,
    },
    run::LastFailure,
    state::{Attempt, Merged},
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    classify,
    dispatcher::Reporter,
    internal::{UnitEnd, UnitReport},
    merge_queue::{self, MergeQueue},
    orchestrator::Ports,
};

mod causes;
mod inherited;

/// What a unit is told while it works.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Control {
    /// End, for this reason.
    pub(crate) stop: Option<StopReason>,
    /// End at once: no grace.
    pub(crate) kill: bool,
    /// Keep the agent's processes stopped.
    pub(crate) frozen: bool,
}

/// What a unit works with.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) plan: Arc<ValidPlan>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) run: RunId,
    pub(crate) index: TaskIndex,
    pub(crate) attempt: Attempt,
    /// How the attempt before this one failed.
    pub(crate) previous: Option<LastFailure>,
    pub(crate) grace: Duration,
    pub(crate) max_total_output: ByteSize,
    pub(crate) reporter: Reporter,
    pub(crate) control: watch::Receiver<Control>,
    /// The locks of the task, from the time when they are held.
    pub(crate) lease: Option<Box<dyn Lease>>,
    /// What the agent and the verification are told of the attempts before this one.
    pub(crate) inherited: BTreeMap<String, String>,
    /// Where an attempt of an earlier orchestrator goes on; `None` for a new one.
    pub(crate) adoption: Option<Adoption>,
    /// The merge queue; `None` where nothing verifies the merged result.
    pub(crate) queue: Option<MergeQueue>,
}

/// An attempt that an earlier orchestrator began.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) place: Workplace,
    pub(crate) entry: Entry,
}

/// What a task asks for before it begins.
pub(crate) fn lock_request(task: &Task, run: &RunId, attempt: Attempt) -> LockRequest {
    let mut request = LockRequest::new(holder(task, run, attempt), task.locks.clone());
    request.priority = task.priority;
    request.takes_over = true;
    request
}

fn holder(task: &Task, run: &RunId, attempt: Attempt) -> LockHolder {
    LockHolder::Attempt { run: run.clone(), task: task.id.clone(), attempt }
}

/// Why the way from lease to merge was left early.
#[derive(Debug)]
pub(crate) enum Exit {
    Failed(Failure),
    Stopped(StopReason),
}

/// Where the task works.
#[derive(Debug)]
pub(crate) enum Workplace {
    Repository,
    Worktree(Box<dyn Worktree>),
}

impl Unit {
    /// Goes the whole way and reports how it ended.
    pub(crate) async fn run(mut self) {
        match self.lease().await {
            Ok(Some(lease)) => self.lease = lease,
            Ok(None) => return,
            Err(exit) => return self.end(exit.into_end()),
        }
        let end = self.work_and_merge().await;
        self.release_locks().await;
        self.end(end);
    }

    /// Frees the locks of the attempt: its lease, and what its agent took by `orch lock`.
    async fn release_locks(&mut self) {
        let holder = holder(self.task(), &self.run, self.attempt);
        let mut results = vec![self.ports.locks.release_kept(&holder, None).await.map(drop)];
        if let Some(lease) = self.lease.take() {
            results.push(lease.release().await);
        }
        for error in results.into_iter().filter_map(Result::err) {
            self.warn(format!("its locks: {error}"));
        }
    }

    fn task(&self) -> &Task {
        self.plan.task(self.index)
    }

    fn end(&self, end: UnitEnd) {
        self.reporter.tell(UnitReport::Ended(end));
    }

    fn warn(&self, message: String) {
        self.reporter.tell(UnitReport::Warning(message));
    }

    /// The locks, `Some(None)` where the task needs none, `None` where somebody else has them.
    async fn lease(&self) -> Result<Option<Option<Box<dyn Lease>>>, Exit> {
        let task = self.task();
        if task.locks.is_empty() {
            return Ok(Some(None));
        }
        let request = lock_request(task, &self.run, self.attempt);
        match self.ports.locks.try_acquire(request).await {
            Ok(Acquired::Granted(lease)) => {
                // Before anything is started: this process may die the moment after.
                if let Some(guardian) = self.ports.runner.guardian(&self.run).await? {
                    self.bind(lease.as_ref(), &guardian).await;
                }
                if self.adoption.is_none() {
                    self.reporter.tell(UnitReport::Leased);
                }
                Ok(Some(Some(lease)))
            }
            // Its agent works already: to hold it up would not help.
            Ok(Acquired::Busy { lock, .. }) if self.adoption.is_some() => {
                self.warn(format!("it goes on without its lock {lock}, which another one took"));
                Ok(Some(None))
            }
            Ok(Acquired::Busy { lock, holder }) => {
                let holder = holder.map_or_else(|| "another process".into(), |h| h.to_string());
                self.reporter.tell(UnitReport::LockBusy { lock, holder });
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn work_and_merge(&mut self) -> UnitEnd {
        let (place, entry) = match self.adoption.take() {
            Some(Adoption { place, entry }) => (place, entry),
            None => match self.prepare().await {
                Ok(place) => (place, Entry::Beginning),
                Err(exit) => return exit.into_end(),
            },
        };
        self.inherit().await;
        let result = self.work(&place, entry).await;
        let (end, release) = match result {
            Ok(end @ UnitEnd::Merged(_)) => {
                let verified = !self.task().verify.is_empty();
                (end, if verified { Release::Verified } else { Release::Done })
            }
            Ok(end) => (end, Release::Keep),
            Err(Exit::Stopped(StopReason::Interrupted)) => {
                (UnitEnd::Stopped(StopReason::Interrupted), Release::Retry)
            }
            Err(Exit::Stopped(reason)) => (UnitEnd::Stopped(reason), Release::Keep),
            Err(Exit::Failed(failure)) => {
                let retry = self.reporter.will_retry(failure.clone()).await;
                (UnitEnd::Failed(failure), if retry { Release::Retry } else { Release::Keep })
            }
        };
        if let Workplace::Worktree(worktree) = place
            && let Err(error) = worktree.release(release).await
        {
            self.warn(error.to_string());
        }
        end
    }

    async fn prepare(&self) -> Result<Workplace, Exit> {
        let task = self.task();
        if task.isolation == Isolation::None {
            return Ok(Workplace::Repository);
        }
        let shared_by = shared_by(&self.plan, self.index);
        let request = WorktreeRequest {
            run: self.run.clone(),
            task: task.id.clone(),
            attempt: self.attempt,
            shared_by,
        };
        let worktree = self.ports.worktrees()?.acquire(request).await?;
        // Whoever finds the agent without this orchestrator must know where it works.
        let place = Place {
            path: worktree.path().to_owned(),
            branch: worktree.branch().to_owned(),
            base: worktree.base().clone(),
        };
        self.reporter.write(UnitReport::Prepared(place)).await;
        Ok(Workplace::Worktree(worktree))
    }

    async fn work(&mut self, place: &Workplace, entry: Entry) -> Result<UnitEnd, Exit> {
        let watched = match entry {
            Entry::Beginning => {
                self.go_on()?;
                let request = self.request(place, self.task().work.clone(), Purpose::Work);
                let agent = self.ports.runner.start(request).await?;
                self.reporter.tell(UnitReport::Started(agent.identity()));
                Some(self.watch(agent.as_ref(), Duration::ZERO).await?)
            }
            Entry::Agent { agent, since } => {
                let elapsed = self.ports.clock.now().since(since);
                Some(self.watch(agent.as_ref(), elapsed).await?)
            }
            Entry::Verification => None,
            Entry::Merge { commit } => return self.merge(place, Some(commit)).await,
        };
        let mut explained = false;
        if let Some(Watched { exit, stopped }) = watched {
            self.reporter.tell(UnitReport::AgentEnded { exit: exit.status, usage: exit.usage });
            if let Some(stopped) = stopped {
                return Err(stopped);
            }
            if !exit.is_success() {
                return Err(Exit::Failed(self.failure_of(exit)));
            }
            let said = exit.no_change.or_else(|| classify::no_change(&exit.output_tail));
            explained = said.is_some() && self.task().expects == Expects::Explained;
        }
        let sealed = self.seal(place).await?;
        if sealed.is_none() && self.task().expects != Expects::Any && !explained {
            return Err(Exit::Failed(Failure::NoChanges));
        }
        self.verify(place).await?;
        // The intent is written before the target moves.
        self.reporter.verified(sealed.clone()).await.map_err(Exit::Stopped)?;
        self.merge(place, sealed).await
    }

    fn failure_of(&self, exit: AgentExit) -> Failure {
        let is_agent = matches!(self.task().work, Work::Prompt { .. });
        let now = self.ports.clock.now();
        let said = classify::classify(&exit, is_agent, now);
        exit.failure
            .or(said)
            .unwrap_or(Failure::Agent { exit: exit.status, output_tail: exit.output_tail })
    }

    fn go_on(&self) -> Result<(), Exit> {
        match &self.control.borrow().stop {
            Some(reason) => Err(Exit::Stopped(reason.clone())),
            None => Ok(()),
        }
    }

    async fn seal(&self, place: &Workplace) -> Result<Option<CommitId>, Exit> {
        let Workplace::Worktree(worktree) = place else { return Ok(None) };
        let message = self.message(commit_subject(self.task()));
        let Sealed { tip, .. } = worktree.seal(&message).await?;
        Ok(tip)
    }

    async fn verify(&mut self, place: &Workplace) -> Result<(), Exit> {
        let commands = self.task().verify.clone();
        for (index, command) in commands.into_iter().enumerate() {
            self.go_on()?;
            let work = Work::Command(command.clone());
            let request = self.request(place, work, Purpose::Verify { index });
            let agent = self.ports.runner.start(request).await?;
            let Watched { exit, stopped } = self.watch(agent.as_ref(), Duration::ZERO).await?;
            if let Some(stopped) = stopped {
                return Err(stopped);
            }
            if let Some(failure @ Failure::Silent { .. }) = exit.failure {
                return Err(Exit::Failed(failure));
            }
            if !exit.status.is_success() {
                return Err(Exit::Failed(exit.failure.unwrap_or(Failure::Verification {
                    command: command.to_string(),
                    exit: exit.status,
                    output_tail: exit.output_tail,
                })));
            }
        }
        Ok(())
    }

    async fn merge(&self, place: &Workplace, commit: Option<CommitId>) -> Result<UnitEnd, Exit> {
        let (Workplace::Worktree(worktree), Some(commit)) = (place, commit) else {
            return Ok(UnitEnd::Merged(Merged::Nothing));
        };
        let branch = worktree.branch().to_owned();
        let request = MergeRequest {
            commit: commit.clone(),
            branch: branch.clone(),
            message: self.message(merge_subject(self.task())),
        };
        let outcome = match &self.queue {
            Some(queue) => self.merge_verified(queue, place, request).await?,
            None => self.ports.worktrees()?.merge(request).await?,
        };
        Ok(match outcome {
            MergeOutcome::Merged { merge_commit } => {
                UnitEnd::Merged(Merged::Commit { commit, merge_commit })
            }
            MergeOutcome::Conflicted { files } => UnitEnd::Conflicted { commit, branch, files },
            outcome => {
                let message = format!("the merge ended in an unknown way: {outcome:?}");
                return Err(Exit::Failed(Failure::Unknown { message }));
            }
        })
    }

    /// Merges by way of the merge queue.
    async fn merge_verified(
        &self,
        queue: &MergeQueue,
        place: &Workplace,
        request: MergeRequest,
    ) -> Result<MergeOutcome, Exit> {
        let (reply, answer) = oneshot::channel();
        queue.put(merge_queue::Entry {
            request,
            agent: self.request(place, self.task().work.clone(), Purpose::Work),
            grace: self.grace,
            reporter: self.reporter.clone(),
            control: self.control.clone(),
            reply,
        });
        answer.await.unwrap_or(Err(Exit::Stopped(StopReason::Interrupted)))
    }

    fn message(&self, subject: String) -> CommitMessage {
        CommitMessage {
            subject,
            run: self.run.clone(),
            task: self.task().id.clone(),
            attempt: self.attempt,
        }
    }

    fn request(&self, place: &Workplace, work: Work, purpose: Purpose) -> AgentRequest {
        let task = self.task();
        let repository = self.ports.workspace.clone();
        let directory = match place {
            Workplace::Repository => repository.clone(),
            Workplace::Worktree(worktree) => worktree.path().to_owned(),
        };
        let agent = match &work {
            Work::Prompt { agent, .. } => self.plan.agents().get(agent).cloned(),
            _ => None,
        };
        let mut env = agent.as_ref().map_or_else(BTreeMap::new, |agent| agent.env.clone());
        env.extend(task.env.clone());
        env.extend(
            [
                ("ORCH_RUN_ID", self.run.to_string()),
                ("ORCH_TASK_ID", task.id.to_string()),
                ("ORCH_ATTEMPT", self.attempt.to_string()),
                ("ORCH_PRIORITY", task.priority.to_string()),
                ("ORCH_WORKTREE", directory.to_string_lossy().into_owned()),
                ("ORCH_REPO", repository.to_string_lossy().into_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        env.extend(self.inherited.clone());
        env.extend(self.lease.iter().flat_map(|lease| lease.env().clone()));
        AgentRequest {
            run: self.run.clone(),
            task: task.id.clone(),
            attempt: self.attempt,
            purpose,
            work,
            agent,
            directory,
            repository,
            env,
            silence_timeout: task.silence_timeout,
            max_output: task.max_output,
            max_total_output: self.max_total_output,
        }
    }

    /// Sees an agent to its end, under the task's time limit, of which some has gone by, and the
    /// dispatcher's control.
    async fn watch(
        &mut self,
        agent: &dyn RunningAgent,
        elapsed: Duration,
    ) -> Result<Watched, Exit> {
        self.bind_locks(agent).await;
        let limit = self.task().timeout;
        let mut watch = Stopwatch::new(limit.saturating_sub(elapsed));
        // What was said to an earlier agent of this unit holds for this one too.
        self.control.mark_changed();
        loop {
            let deadline = watch.deadline();
            tokio::select! {
                biased;
                // First, so that what was said before the end is not lost.
                notice = agent.notice() => self.warn(notice),
                exit = agent.wait() => {
                    let exit = exit?;
                    if exit.left_behind > 0 {
                        self.warn(format!(
                            "processes that it left behind were ended: {}",
                            exit.left_behind
                        ));
                    }
                    if exit.leaked_output {
                        self.warn(
                            "a process that it left behind held its output open and was cut off"
                                .into(),
                        );
                    }
                    return Ok(Watched { exit, stopped: None });
                }
                () = reached(deadline) => {
                    let after = Span(limit);
                    self.reporter.tell(UnitReport::Stopping(StopReason::Timeout { after }));
                    return self.stop(agent, Exit::Failed(Failure::Timeout { after })).await;
                }
                changed = self.control.changed() => {
                    let control = match changed {
                        Ok(()) => self.control.borrow_and_update().clone(),
                        // The dispatcher is gone: nobody would hear of the result.
                        Err(_) => Control {
                            stop: Some(StopReason::Interrupted),
                            kill: true,
                            frozen: false,
                        },
                    };
                    if let Some(reason) = control.stop {
                        let why = match reason {
                            // An earlier orchestrator found it late.
                            StopReason::Timeout { after } => {
                                Exit::Failed(Failure::Timeout { after })
                            }
                            reason => Exit::Stopped(reason),
                        };
                        return self.stop(agent, why).await;
                    }
                    if watch.set_frozen(control.frozen) {
                        if control.frozen { agent.freeze().await? } else { agent.thaw().await? }
                    }
                }
            }
        }
    }

    /// Has the locks last for as long as the agent lives, should this process die before it.
    async fn bind_locks(&self, agent: &dyn RunningAgent) {
        if let (Some(lease), Some(process)) = (&self.lease, agent.identity()) {
            self.bind(lease.as_ref(), &process).await;
        }
    }

    async fn bind(&self, lease: &dyn Lease, process: &AgentIdentity) {
        if let Err(error) = lease.bind(process).await {
            self.warn(format!("its locks: {error}"));
        }
    }

    /// Ends an agent; without grace once that is asked for.
    async fn stop(&mut self, agent: &dyn RunningAgent, why: Exit) -> Result<Watched, Exit> {
        let polite = agent.stop(self.grace);
        tokio::pin!(polite);
        let no_grace = async {
            while !self.control.borrow_and_update().kill {
                if self.control.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            ended = &mut polite => ended?,
            () = no_grace => agent.stop(Duration::ZERO).await?,
        }
        match agent.wait().await {
            Ok(exit) => Ok(Watched { exit, stopped: Some(why) }),
            Err(_) => Err(why),
        }
    }
}

/// How an agent ended.
struct Watched {
    exit: AgentExit,
    /// Why it was ended; `None` where it did so by itself.
    stopped: Option<Exit>,
}

/// Where an attempt is entered.
#[derive(Debug)]
pub(crate) enum Entry {
    Beginning,
    /// Its agent was started then.
    Agent {
        agent: Box<dyn RunningAgent>,
        since: Timestamp,
    },
    /// Its agent has ended, with success.
    Verification,
    /// It is verified, and not merged yet.
    Merge {
        commit: CommitId,
    },
}

/// The epic whose tasks share the worktree of a task.
pub(crate) fn shared_by(plan: &ValidPlan, index: TaskIndex) -> Option<EpicId> {
    let task = plan.task(index);
    let epic = task.epic.filter(|_| task.isolation == Isolation::Epic)?;
    Some(plan.epics()[epic.get()].id.clone())
}

impl Exit {
    fn into_end(self) -> UnitEnd {
        match self {
            Self::Failed(failure) => UnitEnd::Failed(failure),
            Self::Stopped(reason) => UnitEnd::Stopped(reason),
        }
    }
}

/// The first line of the commit that merges a task's work.
pub(crate) fn merge_subject(task: &Task) -> String {
    match &task.title {
        Some(title) => format!("Merge {}: {title}", task.id),
        None => format!("Merge {}", task.id),
    }
}

/// The first line of the commit of what a task left uncommitted.
fn commit_subject(task: &Task) -> String {
    match &task.title {
        Some(title) => format!("{}: {title}", task.id),
        None => format!("{}: work of the task", task.id),
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A time limit that stands still while the agent is frozen.
#[derive(Debug)]
enum Stopwatch {
    Running { deadline: Option<Instant> },
    Frozen { left: Option<Duration> },
}

impl Stopwatch {
    fn new(limit: Duration) -> Self {
        Self::Running { deadline: Instant::now().checked_add(limit) }
    }

    const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running { deadline } => *deadline,
            Self::Frozen { .. } => None,
        }
    }

    /// Whether that changed anything.
    fn set_frozen(&mut self, frozen: bool) -> bool {
        match (&*self, frozen) {
            (Self::Running { deadline }, true) => {
                let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                *self = Self::Frozen { left };
                true
            }
            (Self::Frozen { left }, false) => {
                let deadline = left.and_then(|left| Instant::now().checked_add(left));
                *self = Self::Running { deadline };
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frozen_limit_stands_still() {
        let mut watch = Stopwatch::new(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(watch.set_frozen(true));
        assert!(!watch.set_frozen(true));
        assert_eq!(watch.deadline(), None);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(watch.set_frozen(false));
        assert_eq!(watch.deadline(), Some(Instant::now() + Duration::from_secs(6)));
        reached(watch.deadline()).await;
    }
}
