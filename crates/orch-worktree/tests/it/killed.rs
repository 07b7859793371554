//! A process that is killed in the middle of its work, at many points.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use orch_model::ports::{Release, WorktreeProvider};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};
use tokio::task::JoinSet;

use crate::support::{
    Fixture, finish, git, merge, merge_request, merged, message, request, trees, work, write,
};

const REPOSITORY: &str = "ORCH_TEST_REPOSITORY";
const ROUND: &str = "ORCH_TEST_ROUND";
const TASKS: usize = 4;

fn name(round: &str, n: usize) -> String {
    format!("r{round}-t{n}")
}

/// Works on tasks and says each step; the process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(repository) = std::env::var_os(REPOSITORY) else { return };
    let round = std::env::var(ROUND).unwrap();
    let provider =
        GitWorktrees::open(GitWorktreesConfig::new(repository).trees(trees())).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let (provider, name) = (provider.clone(), name(&round, n));
        tasks.spawn(async move {
            let step = |what: &str| writeln!(std::io::stderr(), "step {what} {name}").unwrap();
            step("begin");
            let worktree = provider.acquire(request(&name, 1)).await.unwrap();
            step("made");
            write(worktree.path(), &name, "victim");
            let tip = worktree.seal(&message(&name)).await.unwrap().tip.unwrap();
            step("sealed");
            provider.merge(merge_request(&name, &tip)).await.unwrap();
            step("merged");
            worktree.release(Release::Done).await.unwrap();
            step("released");
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_that_stops_the_next() {
    let fixture = Fixture::new();
    for n in 0..100 {
        write(&fixture.repo, &format!("files/{n}"), "text\n");
    }
    fixture.commit(&[]);
    drop(fixture.begun().await);
    let before = fixture.checkout();
    for steps in 1..=10 {
        let round = steps.to_string();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::victim", "--nocapture"])
            .env(REPOSITORY, &fixture.repo)
            .env(ROUND, &round)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let seen = said.lines().map_while(Result::ok).filter(|l| l.starts_with("step"));
        assert_eq!(seen.take(2 * steps).count(), 2 * steps);
        child.kill().unwrap();
        child.wait().unwrap();

        let provider = fixture.open().await;
        for n in 0..TASKS {
            let name = name(&round, n);
            let (worktree, tip) = work(&provider, &name, &[(&name, "next")]).await;
            merged(merge(&provider, &name, &tip).await);
            worktree.release(Release::Done).await.unwrap();
        }
        let list = fixture.git(&["worktree", "list", "--porcelain"]);
        assert_eq!(fixture.worktrees(), 0, "round {round}: {list}");
        assert_eq!(fixture.branches(), ["main", "orch/r1/target"]);
    }
    assert_eq!(fixture.checkout(), before);
    finish(&fixture.open().await).await;
    for (steps, n) in (1..=10).flat_map(|steps| (0..TASKS).map(move |n| (steps, n))) {
        let file = fixture.repo.join(name(&format!("{steps}"), n));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "next");
    }
    assert_eq!(git(&fixture.repo, &["fsck", "--no-dangling"]), "");
}
