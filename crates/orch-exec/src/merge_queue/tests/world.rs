//! A repository and a runner in memory: a commit is the list of what it contains.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    ByteSize, CommitId, RunId, TaskId,
    event::{AgentIdentity, Delivery, Place, RunBase},
    outcome::{AgentExit, ExitStatus, StopReason},
    plan::{
        PlanSpec, TaskIndex, ValidPlan,
        spec::{CommandLine, Strategy, TaskSpec},
    },
    ports::{
        AdoptRequest, Adopted, AgentRequest, AgentRunner, BeginRun, CommitMessage, GcItem,
        GcRequest, MergeOutcome, MergeRequest, Purpose, RunnerError, RunningAgent, Stack, Stacked,
        Worktree, WorktreeError, WorktreeProvider, WorktreeRequest,
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::super::{Entry, MergeQueue};
use crate::{
    dispatcher::{Message, Reporter},
    orchestrator::Ports,
    testing::{MockResourceLock, MockStateStore},
    time::SystemClock,
    unit::{Control, Exit},
};

/// From here on a number stands for what somebody else has pushed.
const FOREIGN: usize = 1000;

/// How long a verification takes.
const VERIFICATION: Duration = Duration::from_secs(1);

/// How long it takes until it is known that the results were moved.
const UNHEARD: Duration = Duration::from_millis(100);

/// Some tasks, and what is wrong with them.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) tasks: usize,
    pub(super) batch: usize,
    /// These fail wherever they are.
    pub(super) bad: BTreeSet<usize>,
    /// These fail together.
    pub(super) clashes: BTreeSet<(usize, usize)>,
    /// These can't be merged one after the other.
    pub(super) conflicts: BTreeSet<(usize, usize)>,
    /// The work of the second contains that of the first.
    pub(super) contains: BTreeSet<(usize, usize)>,
    /// When each is put in, in quarters of a verification.
    pub(super) delays: Vec<u64>,
    /// Which commits fail the first time they are verified, whatever is in them: bits by their hash.
    pub(super) flakes: u64,
    /// When tasks are told to stop, in quarters of a verification.
    pub(super) stops: BTreeMap<usize, u64>,
    /// When somebody else pushes, in quarters of a verification and a bit.
    pub(super) pushes: Vec<u64>,
    /// When the orchestrator is killed and another one begins with what is known, in milliseconds.
    pub(super) kills: Vec<u64>,
    /// A task that conflicts with what is pushed.
    pub(super) foreign_conflict: Option<usize>,
    /// A task that fails together with it.
    pub(super) foreign_clash: Option<usize>,
}

impl Case {
    /// The tasks in the order in which they are put in.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tasks).collect();
        order.sort_by_key(|task| self.delays[*task]);
        order
    }

    /// What a list of merges brings with it.
    fn all(&self, merges: &[usize]) -> BTreeSet<usize> {
        let inner = self.contains.iter().filter(|(_, outer)| merges.contains(outer));
        merges.iter().copied().chain(inner.map(|(inner, _)| *inner)).collect()
    }

    pub(super) fn is_in(&self, task: usize, merges: &[usize]) -> bool {
        self.all(merges).contains(&task)
    }

    pub(super) fn conflicts(&self, task: usize, merges: &[usize]) -> bool {
        let is_foreign = merges.iter().any(|one| *one >= FOREIGN);
        let (ours, theirs) = (self.all(&[task]), self.all(merges));
        let meet = |a, b| ours.contains(a) && !ours.contains(b) && theirs.contains(b);
        (is_foreign && self.foreign_conflict.is_some_and(|one| ours.contains(&one)))
            || self.conflicts.iter().any(|(a, b)| meet(a, b) || meet(b, a))
    }

    pub(super) fn fails(&self, merges: &[usize]) -> bool {
        let is_foreign = merges.iter().any(|one| *one >= FOREIGN);
        let merges = self.all(merges);
        let clash = |task: usize| is_foreign && merges.contains(&task);
        self.foreign_clash.is_some_and(clash)
            || self.bad.iter().any(|bad| merges.contains(bad))
            || self.clashes.iter().any(|(a, b)| merges.contains(a) && merges.contains(b))
    }
}

/// How a task came out of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Merged,
    Conflicted,
    Refused,
    Stopped,
}

/// What came of a case.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) answers: Vec<Answer>,
    /// What was merged, in its order; foreign commits too.
    pub(super) results: Vec<usize>,
    pub(super) verifications: usize,
    /// What must not have happened.
    pub(super) mistakes: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    results: Vec<usize>,
    /// Commits that have passed, and those that were verified at all.
    passed: BTreeSet<String>,
    seen: BTreeSet<String>,
    verifications: usize,
    at_once: usize,
    mistakes: Vec<String>,
    /// What the orchestrators have written down, by task.
    answers: BTreeMap<usize, Answer>,
}

#[derive(Debug, Clone)]
struct World {
    case: Arc<Case>,
    inner: Arc<Mutex<Inner>>,
}

fn commit(merges: &[usize]) -> CommitId {
    CommitId::new(merges.iter().map(|one| format!("{one}.")).collect::<String>() + "c")
}

fn merges(commit: &str) -> Vec<usize> {
    commit.split('.').filter_map(|one| one.parse().ok()).collect()
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Whether a verification of this commit fails by chance: once, and not again.
    fn is_flaky(&self, commit: &str) -> bool {
        let hash = commit.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31) + u32::from(byte));
        self.lock().seen.insert(commit.to_owned()) && self.case.flakes >> (hash % 64) & 1 == 1
    }
}

#[async_trait]
impl WorktreeProvider for World {
    fn name(&self) -> &str {
        "memory"
    }

    fn repository(&self) -> &Path {
        Path::new("/")
    }

    async fn begin(&self, _: BeginRun) -> Result<RunBase, WorktreeError> {
        Ok(RunBase { target: "main".into(), commit: commit(&[]) })
    }

    async fn acquire(&self, _: WorktreeRequest) -> Result<Box<dyn Worktree>, WorktreeError> {
        panic!("the queue makes no worktree")
    }

    async fn reopen(
        &self,
        _: WorktreeRequest,
        _: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        Ok(None)
    }

    async fn merge(&self, _: MergeRequest) -> Result<MergeOutcome, WorktreeError> {
        panic!("the queue merges by stacks")
    }

    async fn stack(&self, _: &RunId, requests: &[MergeRequest]) -> Result<Stack, WorktreeError> {
        let base = self.lock().results.clone();
        let mut top = base.clone();
        let mut stacked = Vec::new();
        for request in requests {
            let task = merges(request.commit.as_str())[0];
            stacked.push(if self.case.is_in(task, &top) {
                Stacked::Contained { merge_commit: commit(&top) }
            } else if self.case.conflicts(task, &top) {
                Stacked::Conflicted { files: vec!["file".into()], hunks: Vec::new() }
            } else {
                top.push(task);
                Stacked::Merged { merge_commit: commit(&top) }
            });
        }
        Ok(Stack { base: commit(&base), merges: stacked })
    }

    async fn checkout(&self, _: &RunId, commit: &CommitId) -> Result<PathBuf, WorktreeError> {
        Ok(PathBuf::from(commit.as_str()))
    }

    async fn advance(
        &self,
        _: &RunId,
        base: &CommitId,
        new: &CommitId,
    ) -> Result<bool, WorktreeError> {
        {
            let mut inner = self.lock();
            if commit(&inner.results) != *base {
                return Ok(false);
            }
            if !inner.passed.contains(new.as_str()) {
                inner.mistakes.push(format!("{new} got in and was not verified"));
            }
            inner.results = merges(new.as_str());
        }
        // Where it is killed now nobody has heard of it.
        sleep(UNHEARD).await;
        Ok(true)
    }

    async fn finish(&self, _: &RunId) -> Result<Delivery, WorktreeError> {
        Ok(Delivery::Nothing)
    }

    async fn gc(&self, _: GcRequest) -> Result<Vec<GcItem>, WorktreeError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl AgentRunner for World {
    fn name(&self) -> &str {
        "memory"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        let commit = request.directory.to_string_lossy().into_owned();
        let fails = self.case.fails(&merges(&commit));
        let flaky = self.is_flaky(&commit);
        let mut inner = self.lock();
        inner.verifications += 1;
        inner.at_once += 1;
        if inner.at_once > 1 {
            inner.mistakes.push("two candidates were verified at once in one folder".into());
        }
        let code = i32::from(fails || flaky);
        let ends = tokio::time::Instant::now() + VERIFICATION;
        Ok(Box::new(Verification { world: self.clone(), commit, code, ends }))
    }

    async fn adopt(&self, _: AdoptRequest) -> Result<Adopted, RunnerError> {
        Ok(Adopted::Gone)
    }
}

#[derive(Debug)]
struct Verification {
    world: World,
    commit: String,
    code: i32,
    ends: tokio::time::Instant,
}

#[async_trait]
impl RunningAgent for Verification {
    fn identity(&self) -> Option<AgentIdentity> {
        None
    }

    async fn wait(&self) -> Result<AgentExit, RunnerError> {
        tokio::time::sleep_until(self.ends).await;
        if self.code == 0 {
            self.world.lock().passed.insert(self.commit.clone());
        }
        Ok(AgentExit::new(ExitStatus::Code(self.code)))
    }

    async fn stop(&self, _: Duration) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn freeze(&self) -> Result<(), RunnerError> {
        Ok(())
    }

    async fn thaw(&self) -> Result<(), RunnerError> {
        Ok(())
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.world.lock().at_once -= 1;
    }
}

/// Only what the queue uses.
pub(super) fn ports(
    runner: Arc<dyn AgentRunner>,
    worktrees: Arc<dyn WorktreeProvider>,
) -> Arc<Ports> {
    Arc::new(Ports {
        workspace: "/".into(),
        runner,
        worktrees: Some(worktrees),
        store: Arc::new(MockStateStore::new()),
        locks: Arc::new(MockResourceLock::new()),
        clock: Arc::new(SystemClock),
        resources: None,
        selector: Arc::new(orch_model::tiers::Tiers),
        records: Arc::default(),
        before_delivery: None,
    })
}

pub(super) fn plan(case: &Case) -> Arc<ValidPlan> {
    let mut spec = PlanSpec::new();
    spec.merge.verify = vec![CommandLine::Shell("verify".into())];
    spec.merge.batch = Some(case.batch as u32);
    for task in 0..case.tasks {
        spec = spec.task(TaskSpec::new(id(task)).run("work"));
    }
    Arc::new(spec.validate().unwrap())
}

pub(super) fn id(task: usize) -> TaskId {
    TaskId::new(format!("t{task}")).unwrap()
}

fn quarters(count: u64) -> Duration {
    VERIFICATION / 4 * count as u32
}

/// Has the queue work on a case, in time that does not pass.
pub(super) fn play(case: &Case) -> Play {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play_in_time(case))
}

async fn play_in_time(case: &Case) -> Play {
    let world = World { case: Arc::new(case.clone()), inner: Arc::default() };
    let ports = ports(Arc::new(world.clone()), Arc::new(world.clone()));
    let begin = Instant::now();
    for (number, at) in case.pushes.iter().enumerate() {
        let (world, at) = (world.clone(), quarters(*at) + Duration::from_millis(1));
        tokio::spawn(async move {
            sleep(at).await;
            world.lock().results.push(FOREIGN + number);
        });
    }
    let mut kills = case.kills.clone();
    kills.sort_unstable();
    for at in kills {
        let life = live(&world, &ports, begin);
        if timeout_at(begin + Duration::from_millis(at), life).await.is_ok() {
            break;
        }
    }
    live(&world, &ports, begin).await;
    let inner = world.lock();
    Play {
        answers: inner.answers.values().copied().collect(),
        results: inner.results.clone(),
        verifications: inner.verifications,
        mistakes: inner.mistakes.clone(),
    }
}

/// One orchestrator: it puts in what has no answer yet. Whoever drops this kills it.
async fn live(world: &World, ports: &Arc<Ports>, begin: Instant) {
    let case = &world.case;
    let run = RunId::new("r").unwrap();
    let last_candidate = world.lock().verifications as u64;
    let (queue, worker) =
        MergeQueue::new(plan(case), Arc::clone(ports), run.clone(), last_candidate);
    let mut tasks = JoinSet::new();
    tasks.spawn(worker.run());
    let (messages, mut inbox) = mpsc::unbounded_channel();
    // A dispatcher that writes at once.
    let mut others = JoinSet::new();
    others.spawn(async move {
        while let Some(message) = inbox.recv().await {
            if let Message::Input(_, Some(written)) = message {
                let _ = written.send(());
            }
        }
    });
    for task in case.order() {
        if world.lock().answers.contains_key(&task) {
            continue;
        }
        tokio::time::sleep_until(begin + quarters(case.delays[task])).await;
        let (control, receiver) = watch::channel(Control::default());
        let stop = case.stops.get(&task).map(|at| quarters(*at) + Duration::from_millis(2));
        others.spawn(async move {
            if let Some(at) = stop {
                tokio::time::sleep_until(begin + at).await;
                control.send_modify(|control| control.stop = Some(StopReason::Cancelled));
            }
            // A control that is gone means that the dispatcher is.
            control.closed().await;
        });
        let (reply, answer) = oneshot::channel();
        let message = CommitMessage::new("merge", run.clone(), id(task), 1);
        queue.put(Entry {
            request: MergeRequest {
                commit: commit(&[task]),
                branch: format!("b{task}"),
                message,
                strategy: Strategy::Merge,
            },
            agent: agent(&run, task),
            grace: Duration::ZERO,
            reporter: Reporter::new(TaskIndex::from(task), messages.clone()),
            control: receiver,
            reply,
        });
        let world = world.clone();
        tasks.spawn(async move {
            let answer = judge(&world, task, answer.await.expect("it is answered"));
            world.lock().answers.insert(task, answer);
        });
    }
    drop(queue);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("neither the queue nor a unit panics");
    }
}

/// What an answer says, and whether it is right at the moment at which it is given.
fn judge(world: &World, task: usize, answer: Result<MergeOutcome, Exit>) -> Answer {
    let mut inner = world.lock();
    let (case, results) = (&world.case, inner.results.clone());
    let (answer, is_right) = match answer {
        Ok(MergeOutcome::Merged { .. }) => (Answer::Merged, case.is_in(task, &results)),
        Ok(_) => (Answer::Conflicted, case.conflicts(task, &results)),
        Err(Exit::Stopped(_)) => (Answer::Stopped, true),
        Err(Exit::Failed(_)) => (Answer::Refused, case.fails(&[&results[..], &[task]].concat())),
    };
    if !is_right {
        inner
            .mistakes
            .push(format!("{task} is answered with {answer:?} where the results are {results:?}"));
    }
    answer
}

pub(super) fn agent(run: &RunId, task: usize) -> AgentRequest {
    AgentRequest {
        context: None,
        run: run.clone(),
        task: id(task),
        attempt: 1,
        purpose: Purpose::Work,
        work: orch_model::plan::Work::Command(CommandLine::Shell("work".into())),
        agent: None,
        directory: "/".into(),
        repository: "/".into(),
        env: BTreeMap::new(),
        silence_timeout: None,
        max_output: ByteSize(1),
        max_total_output: ByteSize(1),
    }
}
