//! Merges under the scheduler `shuttle`: orchestrators that merge the same tasks into the same results, because one
//! takes the run over while the other has not noticed, or after it was killed at any call of git; and somebody
//! else who moves the target. See `orch_faults::interleave`.

use std::{
    collections::BTreeMap,
    future::Future,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use orch_faults::interleave::{Fate, explore, note, process};
use orch_model::{
    CommitId,
    ports::{MergeOutcome, MergeRequest, Stacked, WorktreeProvider},
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};
use shuttle::rand::{Rng, thread_rng};
use tempfile::TempDir;

use crate::support::{Fixture, commit, finish, git, merge_request, run_id, trees, try_git};

const RESULTS: &str = "orch/r1/target";

/// Wakes the thread of the system.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a call of git, in which nobody else goes on.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

/// A repository with a run that was begun, and the work of its tasks: of `a` and `c` that conflict, and of `b`.
struct Template {
    fixture: Fixture,
    tasks: Vec<(&'static str, CommitId)>,
}

impl Template {
    fn new(runtime: &tokio::runtime::Runtime) -> Self {
        let fixture = Fixture::new();
        runtime.block_on(fixture.begun());
        // Where the target is checked out nowhere it moves together with the results.
        git(&fixture.repo, &["checkout", "--quiet", "--detach"]);
        let work = [
            ("a", [("a", "a"), ("both", "a")]),
            ("b", [("b", "b"), ("b2", "b")]),
            ("c", [("c", "c"), ("both", "c")]),
        ];
        let tasks = work.map(|(task, files)| {
            git(&fixture.repo, &["checkout", "--quiet", "--detach", "main"]);
            (task, commit(&fixture.repo, &files))
        });
        git(&fixture.repo, &["checkout", "--quiet", "--detach", "main"]);
        for (task, tip) in &tasks {
            git(&fixture.repo, &["branch", &format!("orch/r1/{task}"), tip.as_str()]);
        }
        Self { fixture, tasks: tasks.into() }
    }

    fn copy(&self) -> (TempDir, PathBuf) {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let folder = folder.unwrap();
        let repo = folder.path().join("repo");
        let copied = Command::new("cp").arg("-a").arg(&self.fixture.repo).arg(&repo).status();
        assert!(copied.unwrap().success());
        (folder, repo)
    }
}

async fn open(repo: &Path) -> GitWorktrees {
    let config = GitWorktreesConfig::new(repo)
        .trees(trees())
        .environment("GIT_CONFIG_GLOBAL", "/dev/null")
        .environment("GIT_CONFIG_SYSTEM", "/dev/null");
    GitWorktrees::open(config).await.unwrap()
}

/// What those who merge were told, by task.
#[derive(Debug, Default)]
struct Told {
    merged: BTreeMap<String, CommitId>,
    conflicted: Vec<String>,
}

impl Told {
    fn hear(&mut self, task: &str, outcome: MergeOutcome) {
        note(|| format!("hears of {task}: {outcome:?}"));
        match outcome {
            MergeOutcome::Merged { merge_commit } => {
                let before = self.merged.insert(task.into(), merge_commit.clone());
                assert!(before.is_none_or(|before| before == merge_commit), "{task} is in twice");
            }
            MergeOutcome::Conflicted { files, .. } => {
                assert_eq!(files, ["both"]);
                self.conflicted.push(task.into());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Merges all tasks, each for itself or by stacks as the merge queue does.
async fn orchestrate(
    repo: &Path,
    requests: &[(&str, MergeRequest)],
    by_stack: bool,
    told: &Mutex<Told>,
) {
    let provider = open(repo).await;
    let mut rest = requests.to_vec();
    while !rest.is_empty() {
        if !by_stack {
            let (task, request) = rest.remove(0);
            let outcome = provider.merge(request).await.unwrap();
            told.lock().unwrap().hear(task, outcome);
            continue;
        }
        let all: Vec<_> = rest.iter().map(|(_, request)| request.clone()).collect();
        let stack = provider.stack(&run_id(), &all).await.unwrap();
        let top = stack.merges.iter().rev().find_map(|stacked| match stacked {
            Stacked::Merged { merge_commit } => Some(merge_commit),
            _ => None,
        });
        if let Some(top) = top
            && !provider.advance(&run_id(), &stack.base, top).await.unwrap()
        {
            // Somebody else moved them.
            continue;
        }
        for ((task, _), stacked) in rest.drain(..).zip(stack.merges) {
            let outcome = match stacked {
                Stacked::Merged { merge_commit } | Stacked::Contained { merge_commit } => {
                    MergeOutcome::Merged { merge_commit }
                }
                Stacked::Conflicted { files, hunks } => MergeOutcome::Conflicted { files, hunks },
                other => panic!("{other:?}"),
            };
            told.lock().unwrap().hear(task, outcome);
        }
    }
}

/// Somebody who pushes a commit to the target; what he pushed.
fn push(repo: &Path, number: usize) -> CommitId {
    let file = format!("pushed-{number}");
    loop {
        let step = || orch_faults::step("a push").unwrap();
        step();
        let tip = git(repo, &["rev-parse", "main"]);
        let blob = git(repo, &["hash-object", "-w", "README"]);
        let tree = git(repo, &["ls-tree", "main"]) + &format!("\n100644 blob {blob}\t{file}\n");
        let tree = make_tree(repo, &tree);
        step();
        let pushed = git(repo, &["commit-tree", &tree, "-p", &tip, "-m", &file]);
        step();
        if try_git(repo, &["update-ref", "refs/heads/main", &pushed, &tip]).status.success() {
            note(|| format!("pushed {pushed}"));
            return CommitId::new(pushed);
        }
    }
}

fn make_tree(repo: &Path, listing: &str) -> String {
    let list = repo.join(format!(".git/listing-{}", orch_faults::own_pid().unwrap()));
    std::fs::write(&list, listing).unwrap();
    let made = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["mktree"])
        .stdin(std::fs::File::open(list).unwrap())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// The merges by which each task came into the results: those that have its tip as a parent.
fn times_in(repo: &Path, tip: &CommitId) -> usize {
    let history = git(repo, &["log", "--format=%P", RESULTS]);
    history.lines().filter(|parents| parents.split(' ').skip(1).any(|p| p == tip.as_str())).count()
}

fn is_in(repo: &Path, commit: &CommitId, branch: &str) -> bool {
    try_git(repo, &["merge-base", "--is-ancestor", commit.as_str(), branch]).status.success()
}

#[test]
fn whoever_merges_and_whoever_is_killed_each_task_is_in_once_and_no_push_is_lost() {
    // Calls of git are real ones, on a thread of the runtime.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = ManuallyDrop::new(runtime.unwrap());
    let template = Template::new(&runtime);
    let _inside = runtime.enter();
    explore("merges", 24, move || {
        let (_folder, repo) = template.copy();
        let told = Arc::new(Mutex::new(Told::default()));
        let tasks: Vec<_> =
            template.tasks.iter().map(|(task, tip)| (*task, merge_request(task, tip))).collect();
        let start = |fate, after: Vec<orch_faults::interleave::Running<()>>| {
            let (repo, tasks, told) = (repo.clone(), tasks.clone(), Arc::clone(&told));
            let by_stack = thread_rng().gen_bool(0.5);
            process(fate, move || {
                for before in after {
                    before.join();
                }
                wait(orchestrate(&repo, &tasks, by_stack, &told));
            })
        };
        let pusher = {
            let repo = repo.clone();
            process(Fate::Lives, move || [push(&repo, 1), push(&repo, 2)])
        };
        let first = start(Fate::DiesWithin(100), Vec::new());
        // The second one takes the run over when the first one is dead, or is wrong about that.
        let (before, beside) = match thread_rng().gen_bool(0.5) {
            true => (vec![first], None),
            false => (Vec::new(), Some(first)),
        };
        let second = start(Fate::DiesWithin(160), before);
        let pushed = pusher.join().unwrap();
        second.join();
        if let Some(first) = beside {
            first.join();
        }
        let last = start(Fate::Lives, Vec::new());
        last.join().unwrap();
        let delivering = repo.clone();
        process(Fate::Lives, move || {
            wait(async {
                let results = git(&delivering, &["rev-parse", RESULTS]);
                finish(&open(&delivering).await).await;
                // So that they can be looked at.
                git(&delivering, &["branch", "--force", RESULTS, &results]);
            });
        })
        .join()
        .unwrap();
        let told = told.lock().unwrap();
        for (task, tip) in &template.tasks {
            let times = times_in(&repo, tip);
            assert!(times <= 1, "{task} is in {times} times");
            assert_eq!(times == 1, told.merged.contains_key(*task), "{task}: {told:?}");
            assert!(times == 0 || is_in(&repo, tip, "main"), "{task} was not delivered");
        }
        assert!(told.merged.contains_key("b"), "{told:?}");
        let both = ["a", "c"].map(|task| told.merged.contains_key(task));
        assert_eq!(both.into_iter().filter(|is_in| *is_in).count(), 1, "{told:?}");
        for pushed in &pushed {
            assert!(is_in(&repo, pushed, "main"), "a push was lost");
        }
    });
}
