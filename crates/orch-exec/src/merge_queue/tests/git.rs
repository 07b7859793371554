//! The queue on a real repository, against the same model: with others who push, and an orchestrator that is killed
//! before or after one of its calls of the provider.

use std::{
    collections::BTreeMap,
    future::pending,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use orch_model::{
    CommitId, RunId,
    event::{Delivery, Place, RunBase},
    plan::{TaskIndex, spec::Strategy},
    ports::{
        BeginRun, CommitMessage, GcItem, GcRequest, MergeOutcome, MergeRequest, Stack, Worktree,
        WorktreeError, WorktreeProvider, WorktreeRequest,
    },
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};
use proptest::prelude::*;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    super::{Entry, MergeQueue},
    model, quiet,
    world::{Answer, Case, agent, id, plan, ports},
};
use crate::{
    dispatcher::{Message, Reporter},
    testing::{MockAgentRunner, MockRunningAgent, TempRepository},
    unit::{Control, Exit},
};

const RESULTS: &str = "orch/r/target";

/// Which tasks' files are in a folder; somebody else's stands for 1000.
fn found(folder: &Path) -> Vec<usize> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let number = |name: &str| match name.strip_prefix("task-") {
        Some(task) => task.parse().ok(),
        None => name.starts_with("pushed-").then_some(1000),
    };
    names.filter_map(|name| number(name.to_str()?)).collect()
}

/// Answers as the [`World`](super::world) does, by what lies in a folder.
fn verifier(case: &Arc<Case>) -> MockAgentRunner {
    let (mut verifier, case) = (MockAgentRunner::new(), Arc::clone(case));
    verifier.expect_start().returning(move |request| {
        let code = i32::from(case.fails(&found(&request.directory)));
        Ok(Box::new(MockRunningAgent::that_ended(code)))
    });
    verifier
}

/// A provider whose orchestrator is killed at some call.
#[derive(Debug)]
struct Mortal {
    git: GitWorktrees,
    /// How many calls are left, and half calls: an even number ends before a call, an odd one after it.
    left: AtomicUsize,
    killed: Arc<Notify>,
}

impl Mortal {
    async fn live(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.killed.notify_one();
            pending::<()>().await;
        }
    }
}

#[async_trait]
impl WorktreeProvider for Mortal {
    fn name(&self) -> &str {
        "mortal"
    }

    fn repository(&self) -> &Path {
        self.git.repository()
    }

    async fn begin(&self, request: BeginRun) -> Result<RunBase, WorktreeError> {
        self.git.begin(request).await
    }

    async fn acquire(&self, _: WorktreeRequest) -> Result<Box<dyn Worktree>, WorktreeError> {
        panic!("the queue makes no worktree")
    }

    async fn reopen(
        &self,
        _: WorktreeRequest,
        _: &Place,
    ) -> Result<Option<Box<dyn Worktree>>, WorktreeError> {
        panic!("the queue opens no worktree")
    }

    async fn merge(&self, _: MergeRequest) -> Result<MergeOutcome, WorktreeError> {
        panic!("the queue merges by stacks")
    }

    async fn stack(&self, run: &RunId, requests: &[MergeRequest]) -> Result<Stack, WorktreeError> {
        self.live().await;
        let stack = self.git.stack(run, requests).await;
        self.live().await;
        stack
    }

    async fn checkout(&self, run: &RunId, commit: &CommitId) -> Result<PathBuf, WorktreeError> {
        self.live().await;
        let folder = self.git.checkout(run, commit).await;
        self.live().await;
        folder
    }

    async fn advance(
        &self,
        run: &RunId,
        base: &CommitId,
        new: &CommitId,
    ) -> Result<bool, WorktreeError> {
        self.live().await;
        let advanced = self.git.advance(run, base, new).await;
        self.live().await;
        advanced
    }

    async fn finish(&self, run: &RunId) -> Result<Delivery, WorktreeError> {
        self.git.finish(run).await
    }

    async fn gc(&self, _: GcRequest) -> Result<Vec<GcItem>, WorktreeError> {
        Ok(Vec::new())
    }
}

/// The repository of a case, and the work of its tasks.
struct Site {
    repository: TempRepository,
    tips: Vec<CommitId>,
}

impl Site {
    fn new(case: &Case) -> Self {
        let repository = TempRepository::new().unwrap();
        let mut tips: Vec<CommitId> = Vec::new();
        for task in 0..case.tasks {
            let inner = case.contains.iter().find(|(_, outer)| *outer == task);
            let base = inner.map_or("main", |(inner, _)| tips[*inner].as_str());
            repository.git(&["checkout", "--quiet", "--detach", base]).unwrap();
            repository.write(format!("task-{task}"), "done\n").unwrap();
            for (a, b) in case.conflicts.iter().filter(|(a, b)| *a == task || *b == task) {
                repository.write(format!("both-{a}-{b}"), &format!("{task}\n")).unwrap();
            }
            repository.commit("work").unwrap();
            tips.push(CommitId::new(repository.git(&["rev-parse", "HEAD"]).unwrap()));
        }
        repository.git(&["checkout", "--quiet", "--detach", "main"]).unwrap();
        Self { repository, tips }
    }

    async fn open(&self) -> GitWorktrees {
        let config = GitWorktreesConfig::new(self.repository.path())
            .environment("GIT_CONFIG_GLOBAL", "/dev/null")
            .environment("GIT_CONFIG_SYSTEM", "/dev/null");
        GitWorktrees::open(config).await.unwrap()
    }

    /// Somebody else's commit on the target.
    fn push(&self, number: usize) {
        let git = |words: &[&str]| self.repository.git(words).unwrap();
        git(&["checkout", "--quiet", "--detach", "main"]);
        self.repository.write(format!("pushed-{number}"), "pushed\n").unwrap();
        self.repository.commit("pushed").unwrap();
        git(&["update-ref", "refs/heads/main", "HEAD"]);
    }

    /// The tasks that were merged, in their order.
    fn merged(&self) -> Vec<usize> {
        let words = ["log", "--first-parent", "--reverse", "--format=%P", RESULTS];
        let history = self.repository.git(&words).unwrap();
        let second = |parents: &str| parents.split(' ').nth(1).map(CommitId::new);
        let task = |tip: CommitId| self.tips.iter().position(|one| *one == tip);
        history.lines().filter_map(|parents| task(second(parents)?)).collect()
    }
}

/// An orchestrator, until it is done or killed: puts in what has no answer yet.
async fn live(
    case: &Arc<Case>,
    site: &Site,
    kill: usize,
    answers: &Arc<Mutex<BTreeMap<usize, Answer>>>,
) {
    let killed = Arc::new(Notify::new());
    let provider = Mortal {
        git: site.open().await,
        left: AtomicUsize::new(kill),
        killed: Arc::clone(&killed),
    };
    let ports = ports(Arc::new(verifier(case)), Arc::new(provider));
    let run = RunId::new("r").unwrap();
    let (queue, worker) = MergeQueue::new(plan(case), ports, run.clone(), 0);
    let mut tasks = JoinSet::new();
    tasks.spawn(worker.run());
    let (messages, mut inbox) = mpsc::unbounded_channel();
    let mut dispatcher = JoinSet::new();
    dispatcher.spawn(async move {
        while let Some(message) = inbox.recv().await {
            if let Message::Input(_, Some(written)) = message {
                let _ = written.send(());
            }
        }
    });
    let (_control, receiver) = watch::channel(Control::default());
    for task in case.order() {
        if answers.lock().unwrap().contains_key(&task) {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        queue.put(Entry {
            request: MergeRequest {
                commit: site.tips[task].clone(),
                branch: format!("b{task}"),
                message: CommitMessage::new("merge", run.clone(), id(task), 1),
                strategy: Strategy::Merge,
            },
            agent: agent(&run, task),
            grace: Duration::ZERO,
            reporter: Reporter::new(TaskIndex::from(task), messages.clone()),
            control: receiver.clone(),
            reply,
        });
        let answers = Arc::clone(answers);
        tasks.spawn(async move {
            let answer = match answer.await.expect("it is answered") {
                Ok(MergeOutcome::Merged { .. }) => Answer::Merged,
                Ok(_) => Answer::Conflicted,
                Err(Exit::Stopped(_)) => Answer::Stopped,
                Err(Exit::Failed(_)) => Answer::Refused,
            };
            answers.lock().unwrap().insert(task, answer);
        });
    }
    drop(queue);
    tokio::select! {
        () = killed.notified() => {
            tasks.shutdown().await;
        }
        () = async { while let Some(ended) = tasks.join_next().await { ended.unwrap() } } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_a_real_repository_it_does_what_the_model_does(
        case in quiet(),
        kills in prop::collection::vec(0usize..24, 0..3),
        pushes in 0usize..2,
    ) {
        let case = Arc::new(Case { tasks: case.tasks, ..case });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let site = Site::new(&case);
        let answers = Arc::default();
        runtime.block_on(async {
            let run = RunId::new("r").unwrap();
            let begin = BeginRun { run, target: Some("main".into()), base: None };
            site.open().await.begin(begin).await.unwrap();
            for (number, kill) in kills.iter().enumerate() {
                live(&case, &site, *kill, &answers).await;
                if number < pushes {
                    site.push(number);
                }
            }
            live(&case, &site, usize::MAX, &answers).await;
        });
        let answers: Vec<_> = answers.lock().unwrap().values().copied().collect();
        prop_assert_eq!(&answers, &model(&case));
        let order = case.order();
        let merged = |task: &usize| answers[*task] == Answer::Merged;
        // One that came in as a part of another one has no merge of its own.
        let mut due: Vec<usize> = Vec::new();
        for task in order.into_iter().filter(merged) {
            if !case.is_in(task, &due) {
                due.push(task);
            }
        }
        prop_assert_eq!(site.merged(), due);
        let main = site.repository.git(&["ls-tree", "--name-only", "main"]).unwrap();
        let there = main.lines().filter(|name| name.starts_with("pushed-")).count();
        prop_assert_eq!(there, pushes.min(kills.len()));
    }
}
