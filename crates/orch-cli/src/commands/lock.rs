//! `orch lock`: locks for whoever can call a command, above all for agents while they run.
//!
//! `orch` itself ends at once; the lease depends on the processes that it is taken for.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use orch_model::{
    RunId,
    event::AgentIdentity,
    plan::{LockClaim, LockMode, Pool, PoolValues},
    ports::{
        Acquired, Deadlock, HeldLock, LockError, LockHolder, LockOverview, LockRequest,
        ResourceLock,
    },
    time::Timestamp,
};
use orch_state::{FileLocks, FileStore};
use tokio::time::timeout;

use crate::{
    app::{LockAcquireArgs, LockCommand, LockReleaseArgs},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render,
};

/// The variables that name an attempt to its agent.
const ATTEMPT: [&str; 3] = ["ORCH_RUN_ID", "ORCH_TASK_ID", "ORCH_ATTEMPT"];

pub(super) async fn lock(repo: Option<&Path>, command: LockCommand) -> Result<Exit, CliError> {
    // An agent works in a worktree, and its locks are those of the repository.
    let of_task = env::var_os("ORCH_REPO").map(PathBuf::from);
    let workspace = Workspace::find(repo.or(of_task.as_deref()))?;
    let locks = workspace.locks()?;
    match command {
        LockCommand::Acquire(args) => {
            let result = acquire(&workspace, &locks, args).await;
            if let Err(error @ (CliError::Busy(_) | CliError::Lock(LockError::Deadlock { .. }))) =
                &result
            {
                tell_orchestrator(error);
            }
            result
        }
        LockCommand::Release(args) => release(&locks, args).await,
        LockCommand::List(args) => {
            let overview = locks.overview().await?;
            if args.json {
                let mut document = serde_json::json!({ "version": 1 });
                document["locks"] = serde_json::json!(overview);
                render::print(&format!("{document:#}"))?;
            } else {
                render::print(&list(&overview, SystemTime::now().into()))?;
            }
            Ok(Exit::Success)
        }
    }
}

/// The deadlocks that were broken lately and in which a run had a part.
pub(super) async fn deadlocks_of(
    workspace: &Workspace,
    run: &RunId,
) -> Result<Vec<Deadlock>, CliError> {
    let locks = workspace.locks()?;
    let mut deadlocks = locks.overview().await?.deadlocks;
    deadlocks.retain(|deadlock| deadlock.concerns(run));
    Ok(deadlocks)
}

/// A deadlock as a line.
pub(super) fn deadlock_line(deadlock: &Deadlock, now: Timestamp) -> String {
    let ago = render::time(now.since(deadlock.at));
    let line = format!("{ago} ago: {deadlock}; {} was refused", deadlock.victim);
    format!("Deadlock broken {}", render::clean(&line))
}

async fn acquire(
    workspace: &Workspace,
    locks: &FileLocks,
    args: LockAcquireArgs,
) -> Result<Exit, CliError> {
    let claim = claim(&args)?;
    let (holder, lives) = holder(args.pid, Some(workspace))?;
    FileStore::open(&workspace.state_dir)?.prepare()?;
    let of_task = env::var("ORCH_PRIORITY").ok().and_then(|text| text.parse().ok());
    let mut request = LockRequest::new(holder, vec![claim]);
    request.priority = args.priority.or(of_task).unwrap_or(request.priority);
    // First without waiting, which a time of zero would not let happen.
    let lease = match locks.try_acquire(request.clone()).await? {
        Acquired::Granted(lease) => lease,
        Acquired::Busy { .. } => match timeout(args.timeout.0, locks.acquire(request)).await {
            Ok(lease) => lease?,
            Err(_) => return Err(not_free(locks, &args).await),
        },
    };
    let fence = lease.fence();
    lease.keep(lives).await?;
    for held in locks.overview().await?.leases.iter().filter(|lease| lease.fence == fence) {
        for value in held.locks.iter().flat_map(|held| &held.values) {
            render::print(value)?;
        }
    }
    Ok(Exit::Success)
}

/// Should the agent end because of it, its orchestrator finds out why.
fn tell_orchestrator(error: &CliError) {
    if env::var_os("ORCH_TASK_ID").is_some() {
        render::tell(&format!(
            "::orch failure class=lock_timeout {}",
            render::clean(&error.to_string())
        ));
    }
}

async fn not_free(locks: &FileLocks, args: &LockAcquireArgs) -> CliError {
    let holders = match locks.overview().await {
        Ok(overview) => {
            let of_lock = |held: &HeldLock| held.claim.name == args.name;
            let leases = overview.leases.iter().filter(|lease| lease.locks.iter().any(of_lock));
            leases.map(|lease| lease.holder.to_string()).collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::new(),
    };
    let by = if holders.is_empty() {
        "others wait for it too".into()
    } else {
        format!("held by {holders}")
    };
    CliError::Busy(format!(
        "`{}` was not free within {}: {by}; `orch lock list` shows more",
        args.name, args.timeout
    ))
}

fn claim(args: &LockAcquireArgs) -> Result<LockClaim, CliError> {
    let name = args.name.clone();
    let count = args.count.unwrap_or(1);
    let too_many = |of| CliError::input(format!("--count {count}: there are only {of}"));
    match (args.of, args.range) {
        (_, Some(range)) => {
            let values = PoolValues::Range(range);
            if count > values.len() {
                return Err(too_many(values.len()));
            }
            Ok(LockClaim::pooled(name, count, Pool { values, env: None }))
        }
        (Some(of), None) if count > of => Err(too_many(of)),
        (Some(of), None) => Ok(LockClaim::new(name, LockMode::Counted { count, of })),
        (None, None) if args.count.is_some() => {
            Err(CliError::input("--count needs --of, or --range: how many there are in all"))
        }
        (None, None) if args.shared => Ok(LockClaim::new(name, LockMode::Shared)),
        (None, None) => Ok(LockClaim::new(name, LockMode::Exclusive)),
    }
}

async fn release(locks: &FileLocks, args: LockReleaseArgs) -> Result<Exit, CliError> {
    let (holder, _) = holder(args.pid, None)?;
    if locks.release_kept(&holder, Some(&args.name)).await? > 0 {
        return Ok(Exit::Success);
    }
    let overview = locks.overview().await?;
    let is_own = |held: &HeldLock| held.claim.name == args.name;
    let by_plan = overview
        .leases
        .iter()
        .any(|lease| lease.holder == holder && lease.locks.iter().any(is_own));
    Err(CliError::input(if by_plan {
        format!("the plan gives `{}` to {holder}, until the attempt ends", args.name)
    } else {
        format!("{holder} does not hold `{}`; `orch lock list` shows who does", args.name)
    }))
}

/// Who the locks are for, and the processes that they depend on. Without a workspace only who.
fn holder(
    pid: Option<u32>,
    workspace: Option<&Workspace>,
) -> Result<(LockHolder, Vec<AgentIdentity>), CliError> {
    let living = |pid: u32| {
        FileLocks::identify(pid)
            .ok_or_else(|| CliError::input(format!("there is no process {pid}")))
    };
    if let Some(pid) = pid {
        return Ok((LockHolder::Process { pid }, vec![living(pid)?]));
    }
    let parent = rustix::process::getppid()
        .and_then(|parent| u32::try_from(parent.as_raw_nonzero().get()).ok())
        .ok_or_else(|| CliError::input("the calling process is gone; name one with --pid"))?;
    let Some(holder) = attempt()? else {
        return Ok((LockHolder::Process { pid: parent }, vec![living(parent)?]));
    };
    let LockHolder::Attempt { run, .. } = &holder else { return Ok((holder, Vec::new())) };
    let mut lives = vec![living(agent(parent))?];
    if let Some(workspace) = workspace {
        let store = FileStore::open(&workspace.state_dir)?;
        // While it is at work on the run it frees them when the attempt ends.
        lives.extend(store.owner(run).and_then(FileLocks::identify));
    }
    Ok((holder, lives))
}

/// The attempt that the environment names, if it does.
fn attempt() -> Result<Option<LockHolder>, CliError> {
    let [Ok(run), Ok(task), Ok(attempt)] = ATTEMPT.map(env::var) else { return Ok(None) };
    let wrong = |name: &str, error: String| CliError::input(format!("{name}: {error}"));
    Ok(Some(LockHolder::Attempt {
        run: run.parse().map_err(|error| wrong(ATTEMPT[0], format!("{error}")))?,
        task: task.parse().map_err(|error| wrong(ATTEMPT[1], format!("{error}")))?,
        attempt: attempt.parse().map_err(|error| wrong(ATTEMPT[2], format!("{error}")))?,
    }))
}

/// The outermost process of the attempt: the last of the parents that has its variables. What an
/// agent calls has its own sessions and groups, so that these say nothing.
fn agent(parent: u32) -> u32 {
    let own = ATTEMPT.map(|name| env::var(name).unwrap_or_default());
    let mut outermost = parent;
    let mut at = Some(parent);
    while let Some(pid) = at.filter(|pid| *pid > 1 && has(*pid, &own)) {
        outermost = pid;
        at = parent_of(pid);
    }
    outermost
}

fn has(pid: u32, values: &[String; 3]) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let variables: Vec<&[u8]> = environ.split(|byte| *byte == 0).collect();
    ATTEMPT
        .iter()
        .zip(values)
        .all(|(name, value)| variables.contains(&format!("{name}={value}").as_bytes()))
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

fn list(overview: &LockOverview, now: Timestamp) -> String {
    let since = |at: Timestamp| render::time(now.since(at));
    let held = overview.leases.iter().flat_map(|lease| {
        lease.locks.iter().map(move |held| {
            [
                held.claim.name.to_string(),
                how(&held.claim, &held.values),
                lease.holder.to_string(),
                since(lease.since),
            ]
        })
    });
    let waiting = overview.waiters.iter().flat_map(|waiter| {
        waiter.claims.iter().map(move |claim| {
            [
                claim.name.to_string(),
                format!("waits: {}", how(claim, &[])),
                waiter.holder.to_string(),
                since(waiter.since),
            ]
        })
    });
    let rows: Vec<_> = held.chain(waiting).collect();
    let mut text = if rows.is_empty() {
        "no lock is held".to_owned()
    } else {
        render::table(["LOCK", "HOW", "WHO", "FOR"], rows)
    };
    for deadlock in &overview.deadlocks {
        text.push('\n');
        text.push_str(&deadlock_line(deadlock, now));
    }
    text
}

fn how(claim: &LockClaim, values: &[String]) -> String {
    match claim.mode {
        LockMode::Shared => "shared".into(),
        LockMode::Counted { count, of } if values.is_empty() => format!("{count} of {of}"),
        LockMode::Counted { .. } => values.join(", "),
        _ => "alone".into(),
    }
}

#[cfg(test)]
mod tests {
    use orch_model::{
        LockName,
        ports::{Deadlock, DeadlockStep, LeaseInfo, WaiterInfo},
    };

    use super::*;

    fn name(text: &str) -> LockName {
        LockName::new(text).unwrap()
    }

    #[test]
    fn what_is_held_and_waited_for_is_shown() {
        let at = Timestamp::from_millis;
        let (a, b) = (LockHolder::Process { pid: 7 }, LockHolder::Process { pid: 8 });
        let pool = Pool { values: PoolValues::Range("1-3".parse().unwrap()), env: None };
        let held = |claim, values: &[&str]| HeldLock {
            claim,
            values: values.iter().map(ToString::to_string).collect(),
        };
        let locks = vec![
            held(LockClaim::new(name("db"), LockMode::Exclusive), &[]),
            held(LockClaim::pooled(name("ports"), 2, pool), &["1", "2"]),
        ];
        let step = |holder: &LockHolder| DeadlockStep { holder: holder.clone(), wants: name("db") };
        let cycle = vec![step(&a), step(&b)];
        let overview = LockOverview {
            leases: vec![LeaseInfo {
                fence: 1,
                holder: a.clone(),
                locks,
                pids: vec![7],
                since: at(0),
            }],
            waiters: vec![WaiterInfo {
                holder: b.clone(),
                claims: vec![
                    LockClaim::new(name("db"), LockMode::Shared),
                    LockClaim::new(name("gpu"), LockMode::Counted { count: 1, of: 4 }),
                ],
                priority: 2,
                since: at(1000),
            }],
            deadlocks: vec![Deadlock { number: 1, at: at(3000), cycle, victim: b }],
        };
        let expected = "\
LOCK   HOW            WHO        FOR
db     alone          process 7  5.0s
ports  1, 2           process 7  5.0s
db     waits: shared  process 8  4.0s
gpu    waits: 1 of 4  process 8  4.0s
Deadlock broken 2.0s ago: process 7 waits for `db`, held by process 8, \
while process 8 waits for `db`, held by process 7; process 8 was refused";
        assert_eq!(list(&overview, at(5000)), expected);
        assert_eq!(list(&LockOverview::default(), at(0)), "no lock is held");
    }

    #[test]
    fn parents_are_found() {
        let own = std::process::id();
        let parent = parent_of(own).unwrap();
        let known = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(i32::try_from(parent), Ok(known));
        assert!(!has(own, &["x".into(), "y".into(), "z".into()]));
        assert_eq!(parent_of(u32::MAX), None);
    }
}
