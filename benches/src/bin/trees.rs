//! How long a task waits for its tree, side by side with `git worktree add`.
//!
//!     cargo run --release -p orch-benches --bin trees -- [--large] [--rounds N] [--scratch FOLDER]
//!
//! Makes a repository of 10,000 files (with `--large` also one of 80,000) and, in each round, has every
//! contender make a tree of it: git, and each kind of ours, warm, after a small change of the base.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use orch_model::{
    RunId, TaskId,
    plan::spec::Strategy,
    ports::{
        BeginRun, CommitMessage, MergeRequest, Release, Worktree, WorktreeProvider, WorktreeRequest,
    },
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig, TreeConfig, TreeKind};

type Failure = Box<dyn std::error::Error>;

/// How many files one task changes, so that the next one's base differs.
const CHANGED: usize = 20;

fn git(folder: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A repository of so many files of 2 to 18 kB, a hundred to a folder.
fn repository(folder: &Path, files: usize) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(1);
    for n in 0..files {
        let place = folder.join(format!("dir{}/sub{}", n / 1000, n / 100 % 10));
        if n % 100 == 0 {
            fs::create_dir_all(&place)?;
        }
        let line = format!("line {} of file {n}\n", random.u32(..));
        fs::write(place.join(format!("file{n}")), line.repeat(random.usize(80..720)))?;
    }
    git(folder, &["init", "--quiet", "-b", "main"])?;
    git(folder, &["config", "user.name", "Someone"])?;
    git(folder, &["config", "user.email", "someone@example.com"])?;
    git(folder, &["add", "-A"])?;
    git(folder, &["commit", "--quiet", "-m", "first"])
}

/// One kind of ours, with a run begun.
struct Ours {
    kind: TreeKind,
    provider: GitWorktrees,
    run: RunId,
    tasks: usize,
}

impl Ours {
    async fn new(repository: &Path, kind: TreeKind) -> Result<Self, Failure> {
        let mut trees = TreeConfig::default();
        trees.kind = kind;
        let root = repository.with_file_name(format!("trees-{kind}"));
        let config = GitWorktreesConfig::new(repository).root(root).trees(trees);
        let provider = GitWorktrees::open(config).await?;
        let run = RunId::new(format!("bench-{kind}"))?;
        provider.begin(BeginRun { run: run.clone(), target: None, base: None }).await?;
        Ok(Self { kind, provider, run, tasks: 0 })
    }

    /// Makes a tree; how long that took, and how long the first status of it.
    async fn acquire(&mut self) -> Result<(Box<dyn Worktree>, TaskId, [Duration; 2]), Failure> {
        self.tasks += 1;
        let task = TaskId::new(format!("t{}", self.tasks))?;
        let request = WorktreeRequest {
            run: self.run.clone(),
            task: task.clone(),
            attempt: 1,
            shared_by: None,
        };
        let start = Instant::now();
        let tree = self.provider.acquire(request).await?;
        let ready = start.elapsed();
        let start = Instant::now();
        git(tree.path(), &["status", "--porcelain"])?;
        Ok((tree, task, [ready, start.elapsed()]))
    }

    /// The whole way of a task that changes some files; how long its tree took.
    async fn task(&mut self) -> Result<[Duration; 2], Failure> {
        let (tree, task, took) = self.acquire().await?;
        for n in 0..CHANGED {
            let place = tree.path().join(format!("dir0/sub{}/file{}", n / 2, n / 2 * 100 + n));
            fs::write(place, format!("{} by {task}\n", self.tasks))?;
        }
        let message = CommitMessage::new("work", self.run.clone(), task, 1);
        let commit = tree.seal(&message).await?.tip.ok_or("nothing was changed")?;
        let branch = tree.branch().to_owned();
        self.provider
            .merge(MergeRequest { commit, branch, message, strategy: Strategy::Merge })
            .await?;
        tree.release(Release::Done).await?;
        self.settle().await?;
        Ok(took)
    }

    /// A task that changes nothing; how long its tree took.
    async fn idle_task(&mut self) -> Result<[Duration; 2], Failure> {
        let (tree, _, took) = self.acquire().await?;
        tree.release(Release::Done).await?;
        self.settle().await?;
        Ok(took)
    }

    /// Waits for what goes on in the background, so that it burdens no other contender.
    async fn settle(&self) -> Result<(), Failure> {
        let live = vec![self.run.clone()];
        let request = orch_model::ports::GcRequest { live, ..Default::default() };
        self.provider.gc(request).await?;
        Ok(())
    }
}

/// `git worktree add`, as a user would type it.
fn plain(repository: &Path, round: usize) -> Result<[Duration; 2], Failure> {
    let place = repository.with_file_name(format!("plain-{round}"));
    let branch = format!("plain-{round}");
    let text = place.to_string_lossy().into_owned();
    let start = Instant::now();
    git(repository, &["worktree", "add", "--quiet", "-b", &branch, &text, "main"])?;
    let ready = start.elapsed();
    let start = Instant::now();
    git(&place, &["status", "--porcelain"])?;
    let status = start.elapsed();
    git(repository, &["worktree", "remove", "--force", &text])?;
    Ok([ready, status])
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn report(name: &str, took: &[[Duration; 2]], git: Option<Duration>) -> Duration {
    let of = |n: usize| median(took.iter().map(|both| both[n]).collect());
    let (ready, status) = (of(0), of(1));
    let ratio = git.map_or_else(String::new, |git| {
        format!("{:8.4} x git", ready.as_secs_f64() / git.as_secs_f64())
    });
    say(&format!(
        "{name:<18}{:>9.1} ms {ratio:<16} first status {:>8.1} ms",
        ready.as_secs_f64() * 1000.0,
        status.as_secs_f64() * 1000.0
    ));
    ready
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn compare(scratch: &Path, files: usize, rounds: usize) -> Result<(), Failure> {
    let repo = scratch.join(format!("files-{files}/repo"));
    fs::create_dir_all(&repo)?;
    repository(&repo, files)?;
    say(&format!("{files} files, {CHANGED} change between tasks, medians of {rounds} rounds"));
    let mut ours = Vec::new();
    for kind in [TreeKind::Worktree, TreeKind::Pool, TreeKind::Overlay] {
        let mut contender = Ours::new(&repo, kind).await?;
        if contender.provider.tree_choice().kind != kind {
            say(&format!("{kind}: {}", contender.provider.tree_choice().why));
            continue;
        }
        // The first tree fills the pool, or makes the base of the others.
        let first = contender.idle_task().await?;
        say(&format!("{kind:<18}{:>9.1} ms for the first", first[0].as_secs_f64() * 1000.0));
        let mut same = Vec::new();
        for _ in 0..rounds {
            same.push(contender.idle_task().await?);
        }
        ours.push((contender, same, Vec::new()));
    }
    let mut plainly = Vec::new();
    for round in 0..rounds {
        plainly.push(plain(&repo, round)?);
        for (contender, _, took) in &mut ours {
            took.push(contender.task().await?);
        }
    }
    let git = report("git worktree add", &plainly, None);
    for (contender, same, took) in &ours {
        report(contender.kind.name(), took, Some(git));
        report("  at the same base", same, Some(git));
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut sizes = vec![10_000];
    let (mut rounds, mut scratch) = (5, env::temp_dir());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--large" => sizes.push(80_000),
            "--rounds" => rounds = arguments.next().ok_or("--rounds needs a number")?.parse()?,
            "--scratch" => {
                scratch = PathBuf::from(arguments.next().ok_or("--scratch needs a folder")?);
            }
            other => {
                return Err(format!("`{other}` is none of --large, --rounds, --scratch").into());
            }
        }
    }
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
    let scratch = scratch.join(format!("orch-trees-{now}"));
    let mut result = Ok(());
    for files in sizes {
        result = result.and(compare(&scratch, files, rounds).await);
    }
    fs::remove_dir_all(&scratch)?;
    result
}
