//! The merge queue: what merging several tasks, one after another, gives is verified as a whole before
//! it becomes the results. So two tasks that pass apart and fail together never both get in.
//!
//! One candidate at a time: the merges of a batch are stacked on the results without moving them, and
//! the topmost is verified. Where it passes, the whole batch is in by one step. Where it fails, the
//! first task that breaks it is found by halving: the one below is good, and it is not. That one is
//! verified again before it is refused, for a verification may fail by chance. The others go on
//! without it. What conflicts with a task on the stack waits until that is in or refused: its own fate
//! must not depend on one that does not get in.
//!
//! So the outcome of each task is what it would be if they were taken one by one, in their order. A batch of n
//! with one that fails takes at most log2(n) + 3 verifications, rounded up: the whole, the halving, that
//! one again, and the others.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use orch_model::{
    CommitId, RunId, Span,
    outcome::{Failure, StopReason},
    plan::{ValidPlan, Work, spec::CommandLine},
    ports::{AgentRequest, MergeOutcome, MergeRequest, Purpose, Stack, Stacked},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    dispatcher::Reporter,
    internal::UnitReport,
    orchestrator::Ports,
    unit::{Control, Exit},
};

/// How often the results may grow by somebody else's hand while a batch is verified before that is a
/// failure.
const RACES: usize = 16;

/// The way into the queue.
#[derive(Debug, Clone)]
pub(crate) struct MergeQueue(mpsc::UnboundedSender<Entry>);

/// A task that waits to be merged.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) request: MergeRequest,
    /// What a verification is started as; its work, purpose and folder are those of the candidate.
    pub(crate) agent: AgentRequest,
    pub(crate) grace: Duration,
    pub(crate) reporter: Reporter,
    pub(crate) control: watch::Receiver<Control>,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Result<MergeOutcome, Exit>>,
}

impl MergeQueue {
    /// A queue, and what works on it.
    pub(crate) fn new(
        plan: Arc<ValidPlan>,
        ports: Arc<Ports>,
        run: RunId,
        last_candidate: u64,
    ) -> (Self, Worker) {
        let (sender, inbox) = mpsc::unbounded_channel();
        (Self(sender), Worker { plan, ports, run, number: last_candidate, inbox })
    }

    /// Puts a task in. Its answer comes when it is merged, refused or told to stop.
    pub(crate) fn put(&self, entry: Entry) {
        // Where nobody works on the queue any more, the answer's sender is dropped with the entry.
        let _ = self.0.send(entry);
    }
}

/// Works on the queue.
#[derive(Debug)]
pub(crate) struct Worker {
    plan: Arc<ValidPlan>,
    ports: Arc<Ports>,
    run: RunId,
    /// The last candidate.
    number: u64,
    inbox: mpsc::UnboundedReceiver<Entry>,
}

/// A task on the stack.
#[derive(Debug)]
struct Candidate {
    entry: Entry,
    merge_commit: CommitId,
}

/// Why a candidate can't be verified.
#[derive(Debug)]
enum Halt {
    /// A task on the stack was told to stop.
    Stopped,
    /// The engine failed.
    Failed(Failure),
}

impl<E: Into<Exit>> From<E> for Halt {
    fn from(error: E) -> Self {
        match error.into() {
            Exit::Failed(failure) => Self::Failed(failure),
            Exit::Stopped(_) => Self::Stopped,
        }
    }
}

impl Worker {
    /// Works until the queue is dropped.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.inbox.recv().await {
            let mut batch = vec![first];
            while batch.len() < self.plan.merging().batch {
                let Ok(next) = self.inbox.try_recv() else { break };
                batch.push(next);
            }
            self.integrate(batch).await;
        }
    }

    /// Brings a batch in, as far as it can be.
    async fn integrate(&mut self, mut batch: Vec<Entry>) {
        let mut races = 0;
        loop {
            batch = still_wanted(batch);
            if batch.is_empty() {
                return;
            }
            let stack = match self.stack(&batch).await {
                Ok(stack) => stack,
                Err(halt) => return answer_all(batch, &halt),
            };
            let (base, Settled { candidates, later }) = (stack.base, settle(batch, stack.merges));
            if candidates.is_empty() {
                return;
            }
            let stacked = candidates.len();
            let rest = match self.longest_good(&candidates).await {
                Ok((good, failure)) => {
                    match self.take_in(&base, &candidates[..good]).await {
                        Ok(true) => taken_in(candidates, good, failure),
                        // Somebody else moved them: what was found out says nothing any more.
                        Ok(false) if races < RACES => {
                            races += 1;
                            entries(candidates)
                        }
                        Ok(false) => {
                            let message = "the results are moved faster than they can be verified";
                            let failure = Failure::Infrastructure { message: message.into() };
                            let all = in_order(entries(candidates), stacked, later);
                            return answer_all(all, &Halt::Failed(failure));
                        }
                        Err(halt) => {
                            return answer_all(
                                in_order(entries(candidates), stacked, later),
                                &halt,
                            );
                        }
                    }
                }
                Err(Halt::Stopped) => entries(candidates),
                Err(halt) => {
                    return answer_all(in_order(entries(candidates), stacked, later), &halt);
                }
            };
            batch = in_order(rest, stacked, later);
        }
    }

    async fn stack(&self, batch: &[Entry]) -> Result<Stack, Halt> {
        let requests: Vec<_> = batch.iter().map(|entry| entry.request.clone()).collect();
        Ok(self.ports.worktrees()?.stack(&self.run, &requests).await?)
    }

    /// Makes the topmost of these the results; `false` where they were moved meanwhile.
    async fn take_in(&self, base: &CommitId, good: &[Candidate]) -> Result<bool, Halt> {
        let Some(top) = good.last() else { return Ok(true) };
        Ok(self.ports.worktrees()?.advance(&self.run, base, &top.merge_commit).await?)
    }

    /// How many of the stack, from the bottom, pass together; and how the next one fails.
    async fn longest_good(
        &mut self,
        stack: &[Candidate],
    ) -> Result<(usize, Option<Failure>), Halt> {
        let mut good = 0;
        let mut bad: Option<(usize, Failure)> = None;
        while good < stack.len() {
            match bad.take() {
                None => bad = self.verify(stack, stack.len()).await?.map(|f| (stack.len(), f)),
                // It is the next one. Once more, for it may have failed by chance.
                Some((at, _)) if at == good + 1 => {
                    if let Some(failure) = self.verify(stack, at).await? {
                        return Ok((good, Some(failure)));
                    }
                    good = at;
                    continue;
                }
                Some((at, failure)) => {
                    let middle = good + (at - good) / 2;
                    bad = match self.verify(stack, middle).await? {
                        Some(failure) => Some((middle, failure)),
                        None => {
                            good = middle;
                            Some((at, failure))
                        }
                    };
                    continue;
                }
            }
            if bad.is_none() {
                good = stack.len();
            }
        }
        Ok((good, None))
    }

    /// Verifies what the first so many of the stack give; how it fails.
    async fn verify(
        &mut self,
        stack: &[Candidate],
        height: usize,
    ) -> Result<Option<Failure>, Halt> {
        let Some(top) = stack[..height].last() else { return Ok(None) };
        self.number += 1;
        let number = self.number;
        let tasks = stack[..height].iter().map(|c| c.entry.agent.task.clone()).collect();
        let commit = top.merge_commit.clone();
        top.entry.reporter.write(UnitReport::CandidateMade { number, tasks, commit }).await;
        let failure = self.run_commands(stack, top).await?;
        let passed = failure.is_none();
        top.entry.reporter.tell(UnitReport::CandidateVerified { number, passed });
        Ok(failure)
    }

    async fn run_commands(
        &self,
        stack: &[Candidate],
        top: &Candidate,
    ) -> Result<Option<Failure>, Halt> {
        let folder = self.ports.worktrees()?.checkout(&self.run, &top.merge_commit).await?;
        for (index, command) in self.plan.merging().verify.iter().enumerate() {
            let mut request = top.entry.agent.clone();
            request.purpose = Purpose::Candidate { number: self.number, index };
            request.work = Work::Command(command.clone());
            request.agent = None;
            request.env.insert("ORCH_WORKTREE".into(), folder.to_string_lossy().into_owned());
            request.directory.clone_from(&folder);
            if let Some(failure) = self.run_command(stack, top, request, command).await? {
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }

    async fn run_command(
        &self,
        stack: &[Candidate],
        top: &Candidate,
        request: AgentRequest,
        command: &CommandLine,
    ) -> Result<Option<Failure>, Halt> {
        let limit = self.plan.merging().timeout;
        let agent = self.ports.runner.start(request).await?;
        let ended = tokio::select! {
            biased;
            ended = timeout(limit, agent.wait()) => ended,
            () = one_is_stopped(stack) => {
                agent.stop(top.entry.grace).await?;
                return Err(Halt::Stopped);
            }
        };
        let Ok(exit) = ended else {
            agent.stop(top.entry.grace).await?;
            return Ok(Some(Failure::Timeout { after: Span(limit) }));
        };
        let exit = exit?;
        Ok((!exit.status.is_success()).then(|| Failure::MergedVerification {
            command: command.to_string(),
            exit: exit.status,
            output_tail: exit.output_tail,
        }))
    }
}

/// Answers those that were told to stop, and gives the others.
fn still_wanted(batch: Vec<Entry>) -> Vec<Entry> {
    let mut wanted = Vec::with_capacity(batch.len());
    for entry in batch {
        match reason_to_stop(&entry.control) {
            Some(reason) => answer(entry, Err(Exit::Stopped(reason))),
            None => wanted.push(entry),
        }
    }
    wanted
}

fn reason_to_stop(control: &watch::Receiver<Control>) -> Option<StopReason> {
    // Where the dispatcher is gone nobody would hear of the result.
    let is_gone = control.has_changed().is_err();
    control.borrow().stop.clone().or_else(|| is_gone.then_some(StopReason::Interrupted))
}

/// A batch after a look at what stacking it gives.
#[derive(Debug)]
struct Settled {
    /// The stack.
    candidates: Vec<Candidate>,
    /// Those that conflict with what is stacked below them, or are part of it, and how many that are.
    /// Whether these get in is yet to be seen.
    later: Vec<(usize, Entry)>,
}

/// Answers those of whom all is known, and gives the others.
fn settle(batch: Vec<Entry>, merges: Vec<Stacked>) -> Settled {
    let (mut candidates, mut later) = (Vec::with_capacity(batch.len()), Vec::new());
    for (entry, stacked) in batch.into_iter().zip(merges) {
        match stacked {
            Stacked::Merged { merge_commit } => candidates.push(Candidate { entry, merge_commit }),
            Stacked::Contained { .. } | Stacked::Conflicted { .. } if !candidates.is_empty() => {
                later.push((candidates.len(), entry));
            }
            Stacked::Contained { merge_commit } => {
                answer(entry, Ok(MergeOutcome::Merged { merge_commit }));
            }
            Stacked::Conflicted { files, hunks } => {
                answer(entry, Ok(MergeOutcome::Conflicted { files, hunks }));
            }
            other => {
                let message = format!("the merge ended in an unknown way: {other:?}");
                answer(entry, Err(Exit::Failed(Failure::Infrastructure { message })));
            }
        }
    }
    Settled { candidates, later }
}

/// In the order in which they were put in: the last of a stack of so many, and those that were not stacked.
fn in_order(mut rest: Vec<Entry>, stacked: usize, later: Vec<(usize, Entry)>) -> Vec<Entry> {
    let gone = stacked - rest.len();
    for (below, entry) in later.into_iter().rev() {
        rest.insert(below.saturating_sub(gone), entry);
    }
    rest
}

/// Answers those that are in and the one that is refused, and gives the others.
fn taken_in(candidates: Vec<Candidate>, good: usize, failure: Option<Failure>) -> Vec<Entry> {
    let mut rest = candidates.into_iter();
    for Candidate { entry, merge_commit } in rest.by_ref().take(good) {
        answer(entry, Ok(MergeOutcome::Merged { merge_commit }));
    }
    if let Some(failure) = failure
        && let Some(refused) = rest.next()
    {
        answer(refused.entry, Err(Exit::Failed(failure)));
    }
    rest.map(|candidate| candidate.entry).collect()
}

fn entries(candidates: Vec<Candidate>) -> Vec<Entry> {
    candidates.into_iter().map(|candidate| candidate.entry).collect()
}

fn answer_all(batch: Vec<Entry>, halt: &Halt) {
    for entry in batch {
        let exit = match halt {
            Halt::Failed(failure) => Exit::Failed(failure.clone()),
            Halt::Stopped => Exit::Stopped(StopReason::Interrupted),
        };
        answer(entry, Err(exit));
    }
}

fn answer(entry: Entry, answer: Result<MergeOutcome, Exit>) {
    // A unit that is gone was aborted with its run.
    let _ = entry.reply.send(answer);
}

/// Waits until one of these tasks is told to stop.
async fn one_is_stopped(stack: &[Candidate]) {
    let mut stopped: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
    for candidate in stack {
        let mut control = candidate.entry.control.clone();
        stopped.push(Box::pin(async move {
            // An error says that the dispatcher is gone.
            let _ = control.wait_for(|control| control.stop.is_some()).await;
        }));
    }
    poll_fn(|context| {
        let is_one = stopped.iter_mut().any(|waits| waits.as_mut().poll(context).is_ready());
        if is_one { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests;
