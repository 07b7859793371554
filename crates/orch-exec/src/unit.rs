//! The unit of work: one attempt at one task, from lease to merge.
//!
//! It owns no state of the run. It reports to the dispatcher and is told when to stop.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use orch_faults::planted;
use orch_model::{
    BudgetScope, ByteSize, CommitId, EpicId, RunId, Timestamp,
    event::Place,
    outcome::{AgentExit, Failure, StopReason},
    plan::{
        AgentChoice, Task, TaskIndex, ValidPlan, Work,
        spec::{AgentKind, Expects, Isolation, OnConflict, Strategy},
    },
    ports::{
        Acquired, AgentRequest, CommitMessage, Findings, Lease, LockHolder, LockRequest,
        MergeOutcome, MergeRequest, Purpose, Release, RunningAgent, Sealed, Worktree,
        WorktreeProvider, WorktreeRequest,
    },
    run::LastFailure,
    state::{Attempt, Merged},
};
use tokio::sync::{oneshot, watch};

use crate::{
    briefing::Needed,
    classify,
    dispatcher::Reporter,
    internal::{UnitEnd, UnitReport},
    merge_queue::{self, MergeQueue},
    message::{self, Attempted},
    orchestrator::Ports,
};

mod causes;
mod facts;
mod inherited;
pub(crate) mod resolve;
mod watching;

use watching::{Watched, why_stopped};

/// What a unit is told while it works.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Control {
    /// End, for this reason.
    pub(crate) stop: Option<StopReason>,
    /// Have the agent that works on the task end: the budget with this name is used up. What verifies or
    /// merges goes on.
    pub(crate) out_of_budget: Option<BudgetScope>,
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
    /// The commits that brought in the work of the tasks that it needs.
    pub(crate) foundations: Vec<CommitId>,
    /// Who is given the attempt; `None` for a command.
    pub(crate) choice: Option<AgentChoice>,
    /// The tasks that it needs, where it has a prompt, and what came of them.
    pub(crate) needed: Vec<Needed>,
    /// How the attempt before this one failed.
    pub(crate) previous: Option<LastFailure>,
    /// Whether this one goes on where that one worked.
    pub(crate) proceeds: bool,
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
    /// Whether its work is being merged: all that cost anything is done.
    pub(crate) is_merging: bool,
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
    /// The folder of a merge in progress.
    Folder(PathBuf),
    /// Nowhere any more: of its work only the branch is left.
    Gone(Place),
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

    /// Work, for whoever was chosen for it.
    fn for_chosen(&self, work: Work) -> Work {
        match &self.choice {
            Some(choice) => choice.of(work),
            None => work,
        }
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
                let guardian = self.ports.runner.guardian(&self.run).await?;
                if let Some(guardian) = guardian.filter(|_| !planted("lease-of-orchestrator")) {
                    self.bind(lease.as_ref(), &guardian).await;
                }
                if self.adoption.is_none() {
                    // Before anything is started that a later orchestrator has to find.
                    self.reporter.write(UnitReport::Leased).await;
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
            Ok(UnitEnd::Merged(result)) => {
                let release = release_of(&result, self.task());
                (UnitEnd::Merged(result), release)
            }
            Ok(UnitEnd::Conflicted { commit, branch, files, hunks }) => {
                let (of, at) = (files.clone(), hunks.clone());
                let failure = Failure::Conflict { branch: branch.clone(), files: of, hunks: at };
                let retry = self.reporter.will_retry(failure).await;
                let end = UnitEnd::Conflicted { commit, branch, files, hunks };
                (end, if retry { Release::Retry } else { Release::Keep })
            }
            Ok(end) => (end, Release::Keep),
            Err(Exit::Stopped(StopReason::Interrupted)) => {
                // The merge is made when the run is resumed.
                let release = if self.is_merging { Release::Keep } else { Release::Retry };
                (UnitEnd::Stopped(StopReason::Interrupted), release)
            }
            Err(Exit::Stopped(StopReason::Budget { scope })) => {
                let retry =
                    self.reporter.will_retry(Failure::Budget { scope: scope.clone() }).await;
                let end = UnitEnd::Stopped(StopReason::Budget { scope });
                (end, if retry { Release::Retry } else { Release::Keep })
            }
            Err(Exit::Stopped(reason)) => (UnitEnd::Stopped(reason), Release::Keep),
            Err(Exit::Failed(failure)) => {
                let retry = self.reporter.will_retry(failure.clone()).await;
                let release = match retry {
                    true if !(failure.is_hold_up() && self.may_proceed()) => Release::Retry,
                    _ => Release::Keep,
                };
                (UnitEnd::Failed(failure), release)
            }
        };
        let released = match (place, &self.ports.worktrees) {
            (Workplace::Worktree(worktree), _) => worktree.release(release).await,
            (Workplace::Gone(_), Some(worktrees)) if matches!(end, UnitEnd::Merged(_)) => {
                worktrees.tidy(self.worktree_request(), release).await
            }
            _ => Ok(()),
        };
        if let Err(error) = released {
            self.warn(error.to_string());
        }
        end
    }

    fn worktree_request(&self) -> WorktreeRequest {
        WorktreeRequest {
            run: self.run.clone(),
            task: self.task().id.clone(),
            attempt: self.attempt,
            shared_by: shared_by(&self.plan, self.index),
        }
    }

    /// Whether an attempt can go on in the folder of one that was held up: its agent continues its session, and
    /// nobody else works there.
    fn may_proceed(&self) -> bool {
        let Work::Prompt { agent, .. } = &self.task().work else { return false };
        let kind = self.plan.agents().get(agent).map_or(AgentKind::Command, |agent| agent.kind);
        !matches!(kind, AgentKind::Command | AgentKind::Acp)
            && shared_by(&self.plan, self.index).is_none()
    }

    /// The worktree of an attempt that was held up, where this one goes on in it.
    async fn proceed(&self, worktrees: &dyn WorktreeProvider) -> Option<Box<dyn Worktree>> {
        let previous = self.previous.as_ref().filter(|_| self.may_proceed())?;
        let place = previous.place.as_ref()?;
        let request = self.worktree_request();
        match worktrees.proceed(request, previous.attempt, place).await {
            Ok(worktree) => worktree,
            // It begins in a new one, and what is in the old one is kept.
            Err(error) => {
                self.warn(format!("the worktree of the attempt before: {error}"));
                None
            }
        }
    }

    async fn prepare(&mut self) -> Result<Workplace, Exit> {
        if self.task().isolation == Isolation::None {
            return Ok(Workplace::Repository);
        }
        let ports = Arc::clone(&self.ports);
        let worktrees = ports.worktrees()?;
        let earlier = self.proceed(worktrees).await;
        self.proceeds = earlier.is_some();
        let worktree = match earlier {
            Some(worktree) => worktree,
            None => worktrees.acquire(self.worktree_request()).await?,
        };
        if let Some(lacking) = worktrees.lacks(worktree.base(), &self.foundations).await? {
            worktree.release(Release::Done).await?;
            let message = format!(
                "the results do not contain {}, which brought in the work of a task that this one needs; somebody moved their branch",
                lacking.short()
            );
            return Err(Exit::Failed(Failure::Infrastructure { message }));
        }
        // Whoever finds the agent without this orchestrator must know where it works.
        let place = Place {
            path: worktree.path().to_owned(),
            branch: worktree.branch().to_owned(),
            base: worktree.base().clone(),
            settings: worktree.settings().map(str::to_owned),
        };
        self.reporter.write(UnitReport::Prepared(place)).await;
        Ok(Workplace::Worktree(worktree))
    }

    async fn work(&mut self, place: &Workplace, entry: Entry) -> Result<UnitEnd, Exit> {
        let watched = match entry {
            Entry::Beginning => {
                self.go_on()?;
                self.is_affordable()?;
                let mut request = self.request(place, self.told(), Purpose::Work);
                request.context = self.context(place, &request).await;
                let agent = self.ports.runner.start(request).await?;
                self.reporter.tell(UnitReport::Started(agent.identity()));
                Some(self.watch_work(agent.as_ref(), Duration::ZERO).await?)
            }
            Entry::Agent { agent, since } => {
                // The run may have been frozen when its orchestrator died, and it is not any more. Where that
                // can't be done, the agent has ended, or waiting for it tells what is the matter.
                if !orch_faults::planted("frozen-for-ever") {
                    let _ = agent.thaw().await;
                }
                let elapsed = match agent.age().await {
                    Some(age) => age,
                    None => self.ports.clock.now().since(since),
                };
                Some(self.watch_work(agent.as_ref(), elapsed).await?)
            }
            Entry::Verification => {
                self.examine(place).await?;
                None
            }
            Entry::Merge { commit } => return self.merge(place, Some(commit)).await,
        };
        let mut explained = false;
        if let Some(Watched { exit, stopped }) = watched {
            let (usage, model) = (exit.usage, exit.model.clone());
            self.reporter.tell(UnitReport::AgentEnded { exit: exit.status, usage, model });
            if let Some(stopped) = stopped {
                return Err(stopped);
            }
            self.examine(place).await?;
            // Ended on request: by an earlier orchestrator, for a reason that is known or not.
            if matches!(exit.failure, Some(Failure::Interrupted { .. }))
                && let Some(reason) = self.control.borrow().stop.clone()
            {
                return Err(why_stopped(reason));
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
        self.verify(place, |index| Purpose::Verify { index }).await?;
        if !self.task().verify.is_empty() {
            self.examine(place).await?;
        }
        // The intent is written before the target moves.
        self.reporter.verified(sealed.clone()).await.map_err(Exit::Stopped)?;
        self.merge(place, sealed).await
    }

    /// Takes nothing over from a place that was led elsewhere, or while the repository has other
    /// settings than when the attempt began.
    async fn examine(&self, place: &Workplace) -> Result<(), Exit> {
        let Workplace::Worktree(worktree) = place else { return Ok(()) };
        let Findings { tampering, notices } = worktree.examine().await?;
        for notice in notices {
            self.warn(notice);
        }
        if tampering.is_empty() {
            return Ok(());
        }
        self.warn(format!(
            "while it ran this was changed, by it or by another task that ran at the time: {}",
            tampering.join("; ")
        ));
        Err(Exit::Failed(Failure::Tampered { changes: tampering }))
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

    fn is_affordable(&self) -> Result<(), Exit> {
        match self.control.borrow().out_of_budget.clone() {
            Some(scope) => Err(Exit::Stopped(StopReason::Budget { scope })),
            None => Ok(()),
        }
    }

    async fn seal(&self, place: &Workplace) -> Result<Option<CommitId>, Exit> {
        let Workplace::Worktree(worktree) = place else { return Ok(None) };
        let task = self.task();
        let subject = message::commit_subject(task);
        let message = CommitMessage::new(subject, self.run.clone(), task.id.clone(), self.attempt);
        let Sealed { tip, .. } = worktree.seal(&message).await?;
        Ok(tip)
    }

    async fn verify(
        &mut self,
        place: &Workplace,
        purpose: impl Fn(usize) -> Purpose + Send,
    ) -> Result<(), Exit> {
        let commands = self.task().verify.clone();
        for (index, command) in commands.into_iter().enumerate() {
            self.go_on()?;
            let work = Work::Command(command.clone());
            let request = self.request(place, work, purpose(index));
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

    async fn merge(
        &mut self,
        place: &Workplace,
        commit: Option<CommitId>,
    ) -> Result<UnitEnd, Exit> {
        let from = match place {
            Workplace::Worktree(worktree) => {
                Some((worktree.branch().to_owned(), worktree.base().clone()))
            }
            Workplace::Gone(place) => Some((place.branch.clone(), place.base.clone())),
            Workplace::Repository | Workplace::Folder(_) => None,
        };
        let (Some((branch, base)), Some(commit)) = (from, commit) else {
            return Ok(UnitEnd::Merged(Merged::Nothing));
        };
        if self.plan.merging().strategy == Strategy::None {
            return Ok(UnitEnd::Merged(Merged::Kept { commit, branch }));
        }
        let attempt = Attempted { run: &self.run, attempt: self.attempt, by: self.choice.as_ref() };
        let (task, from) = ((&*self.plan, self.index), (branch.as_str(), &base));
        let request = message::merge_request(task, &self.ports, attempt, from, &commit).await?;
        self.is_merging = true;
        let may_resolve = self.task().on_conflict == OnConflict::Resolver;
        let mut rounds = 1..=if may_resolve { resolve::ROUNDS } else { 0 };
        loop {
            let outcome = match &self.queue {
                Some(queue) => self.merge_verified(queue, place, request.clone()).await?,
                None => self.ports.worktrees()?.merge(request.clone()).await?,
            };
            match outcome {
                MergeOutcome::Merged { merge_commit } => {
                    self.close_merge(&request).await;
                    return Ok(UnitEnd::Merged(Merged::Commit { commit, merge_commit }));
                }
                MergeOutcome::Conflicted { files, hunks } => {
                    if let Some(round) = rounds.next()
                        && self.resolve(&request, round).await?
                    {
                        continue;
                    }
                    return Ok(UnitEnd::Conflicted { commit, branch, files, hunks });
                }
                outcome => {
                    let message = format!("the merge ended in an unknown way: {outcome:?}");
                    return Err(Exit::Failed(Failure::Unknown { message }));
                }
            }
        }
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
            agent: self.request(place, self.for_chosen(self.task().work.clone()), Purpose::Work),
            grace: self.grace,
            reporter: self.reporter.clone(),
            control: self.control.clone(),
            reply,
        });
        answer.await.unwrap_or(Err(Exit::Stopped(StopReason::Interrupted)))
    }

    fn request(&self, place: &Workplace, work: Work, purpose: Purpose) -> AgentRequest {
        let task = self.task();
        let repository = self.ports.workspace.clone();
        let directory = match place {
            Workplace::Repository | Workplace::Gone(_) => repository.clone(),
            Workplace::Worktree(worktree) => worktree.path().to_owned(),
            Workplace::Folder(path) => path.clone(),
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
            context: None,
            directory,
            repository,
            env,
            silence_timeout: task.silence_timeout,
            max_output: task.max_output,
            max_total_output: self.max_total_output,
        }
    }
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

/// What becomes of the worktree of a task that has succeeded.
pub(crate) fn release_of(result: &Merged, task: &Task) -> Release {
    let verified = !task.verify.is_empty();
    match result {
        Merged::Kept { .. } => Release::Shelve { verified },
        _ if verified => Release::Verified,
        _ => Release::Done,
    }
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
