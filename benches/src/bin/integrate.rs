//! Integration of independent branches, without verification: the engine's merge on objects beside
//! `git merge` in a ready worktree and beside the three bare commands of plumbing.
//!
//!     cargo run --release -p orch-benches --bin integrate -- [--branches 100] [--files 500,10000] [FOLDER]

use std::{
    error::Error,
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use orch_model::{
    CommitId, RunId, TaskId,
    plan::spec::Strategy,
    ports::{BeginRun, CommitMessage, MergeOutcome, MergeRequest, WorktreeProvider},
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut branches = 100;
    let mut sizes = vec![500, 10_000];
    let mut folder = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match &*word {
            "--branches" => branches = value()?.parse()?,
            "--files" => {
                sizes =
                    value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
            }
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    writeln!(stdout(), "files   contender     median ms   least ms   x git merge")?;
    for files in sizes {
        let place = match &folder {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        };
        measure(place.path(), files, branches).await?;
    }
    Ok(())
}

async fn measure(place: &Path, files: usize, branches: usize) -> Result<()> {
    let repo = place.join("repo");
    let commits = prepare(&repo, files, branches)?;
    let merged = in_worktree(&repo, &place.join("worktree"), &commits)?;
    let bare = plumbing(&repo, &commits)?;
    let ours = engine(&repo, &commits).await?;
    let reference = median(&merged);
    for (name, times) in [("git merge", merged), ("plumbing", bare), ("orch", ours)] {
        let (middle, least) = (median(&times), times.iter().min().copied().unwrap_or_default());
        writeln!(
            stdout(),
            "{files:<7} {name:<12} {:>10.1} {:>10.1} {:>13.2}",
            ms(middle),
            ms(least),
            middle.as_secs_f64() / reference.as_secs_f64()
        )?;
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A repository with so many files, and commits that each add one to its first commit.
fn prepare(repo: &Path, files: usize, branches: usize) -> Result<Vec<CommitId>> {
    fs::create_dir_all(repo)?;
    git(repo, &["init", "-q", "-b", "main"])?;
    for file in 0..files {
        let folder = repo.join(format!("d{}", file / 100));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("f{file}")), format!("{file}\n"))?;
    }
    git(repo, &["add", "."])?;
    git(repo, &["commit", "-q", "-m", "first"])?;
    let base = git(repo, &["rev-parse", "HEAD"])?;
    let mut commits = Vec::with_capacity(branches);
    for branch in 0..branches {
        fs::write(repo.join(format!("new{branch}")), "new\n")?;
        git(repo, &["add", &format!("new{branch}")])?;
        let tree = git(repo, &["write-tree"])?;
        let commit = git(repo, &["commit-tree", "-m", "work", "-p", &base, &tree])?;
        git(repo, &["update-ref", &format!("refs/heads/b{branch}"), &commit])?;
        git(repo, &["rm", "-q", "--cached", &format!("new{branch}")])?;
        fs::remove_file(repo.join(format!("new{branch}")))?;
        commits.push(CommitId::new(commit));
    }
    git(repo, &["pack-refs", "--all"])?;
    Ok(commits)
}

fn in_worktree(repo: &Path, worktree: &Path, commits: &[CommitId]) -> Result<Vec<Duration>> {
    let path = worktree.to_string_lossy();
    git(repo, &["worktree", "add", "-q", "-b", "merged", &path, "main"])?;
    let mut times = Vec::new();
    for commit in commits {
        let begin = Instant::now();
        git(worktree, &["merge", "-q", "--no-edit", commit.as_str()])?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn plumbing(repo: &Path, commits: &[CommitId]) -> Result<Vec<Duration>> {
    let mut tip = git(repo, &["rev-parse", "main"])?;
    git(repo, &["update-ref", "refs/heads/plumbed", &tip])?;
    let mut times = Vec::new();
    for commit in commits {
        let begin = Instant::now();
        let tree = git(repo, &["merge-tree", "--write-tree", &tip, commit.as_str()])?;
        let new = git(repo, &["commit-tree", "-m", "m", "-p", &tip, "-p", commit.as_str(), &tree])?;
        git(repo, &["update-ref", "refs/heads/plumbed", &new, &tip])?;
        tip = new;
        times.push(begin.elapsed());
    }
    Ok(times)
}

async fn engine(repo: &Path, commits: &[CommitId]) -> Result<Vec<Duration>> {
    let run = RunId::new("bench")?;
    // Away from the checked-out branch, as a run is that delivers at its end.
    let provider = GitWorktrees::open(GitWorktreesConfig::new(repo)).await?;
    provider.begin(BeginRun { run: run.clone(), target: Some("main".into()), base: None }).await?;
    let mut times = Vec::new();
    for (number, commit) in commits.iter().enumerate() {
        let message =
            CommitMessage::new("Merge", run.clone(), TaskId::new(format!("t{number}"))?, 1);
        let branch = format!("b{number}");
        let begin = Instant::now();
        let strategy = Strategy::Merge;
        let request = MergeRequest { commit: commit.clone(), branch, message, strategy };
        let outcome = provider.merge(request).await?;
        times.push(begin.elapsed());
        assert!(matches!(outcome, MergeOutcome::Merged { .. }), "{outcome:?}");
    }
    Ok(times)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("git {} ended with {}", arguments.join(" "), output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
