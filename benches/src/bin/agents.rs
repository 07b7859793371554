//! What orch costs on top of a coding agent: each real agent by hand and through orch, alternately, against the
//! scripted model server.
//!
//!     cargo run --release -p orch-benches --bin agents -- [--rounds 5] [--seconds 0,30] [NAME...]
//!
//! By hand, an agent gets the same command line, environment and prompt, and works in a repository of its own.
//! Through orch the wall time is that of `orch run`: also that of the worktree, the supervisor, the commit and the
//! merge. `--seconds` says how long the model thinks before its last word. Memory is the peak of resident memory of
//! orch and its supervisor together, beside that of the agent's first process.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{Write, stdout},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use orch_agents::{
    UserHome,
    adapter::{self, Ask, Session},
    home::PrivateHome,
};
use orch_model::plan::spec::{AgentKind, Permissions};
use orch_real_agents::{Install, Model, Real, agents, plan, task};
use orch_tests::TestRepo;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long one run took, and the peak of resident memory in KiB.
type Sample = (Duration, u64);

fn main() -> Result<()> {
    let (mut rounds, mut seconds, mut names) = (5, vec![0, 30], Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match &*word {
            "--rounds" => rounds = value()?.parse()?,
            "--seconds" => {
                seconds =
                    value()?.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
            }
            _ => names.push(word),
        }
    }
    let install = Install::default();
    let model = Model::start().ok_or("there is no python3")?;
    writeln!(
        stdout(),
        "agent      thinks s   by hand s   orch s   more ms   more %   agent MiB   orch MiB"
    )?;
    for agent in agents(&install, &model.url()) {
        let is_asked = names.is_empty() || names.iter().any(|name| name == agent.name);
        if agent.kind == "acp" || !is_asked {
            continue;
        }
        if let Some(why) = install.missing(&agent) {
            writeln!(stdout(), "{:<10} missing: {why}", agent.name)?;
            continue;
        }
        let _turn = install.turn(&agent);
        for seconds in &seconds {
            compare(&agent, *seconds, rounds)?;
        }
    }
    Ok(())
}

fn compare(agent: &Real, seconds: u32, rounds: usize) -> Result<()> {
    let prompt = format!("WRITE a.txt=hello\nSLEEP {seconds}\nSAY all done");
    // Warm caches of files, and the version that orch asks for once.
    let (_, _) = (by_hand(agent, &prompt)?, through_orch(agent, &prompt)?);
    let (mut hand, mut orch, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Neither is always the first.
        let (alone, run) = if round % 2 == 0 {
            let alone = by_hand(agent, &prompt)?;
            (alone, through_orch(agent, &prompt)?)
        } else {
            let run = through_orch(agent, &prompt)?;
            (by_hand(agent, &prompt)?, run)
        };
        more.push(run.0.as_secs_f64() - alone.0.as_secs_f64());
        hand.push(alone);
        orch.push(run);
    }
    let seconds_of = |samples: &[Sample]| median(samples.iter().map(|it| it.0.as_secs_f64()));
    let memory_of = |samples: &[Sample]| median(samples.iter().map(|it| it.1 as f64 / 1024.0));
    let (alone, run, more) = (seconds_of(&hand), seconds_of(&orch), median(more.into_iter()));
    writeln!(
        stdout(),
        "{:<10} {seconds:>8} {alone:>11.3} {run:>8.3} {:>9.0} {:>8.1} {:>11.0} {:>10.1}",
        agent.name,
        more * 1000.0,
        more / alone * 100.0,
        memory_of(&hand),
        memory_of(&orch)
    )?;
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The agent as orch would call it, in a repository of its own.
fn by_hand(agent: &Real, prompt: &str) -> Result<Sample> {
    let repo = TestRepo::new();
    let kind = AgentKind::ALL.into_iter().find(|kind| kind.name() == agent.kind);
    let adapter = kind.and_then(adapter::of).ok_or("no such kind of agent")?;
    let env: BTreeMap<String, String> =
        agent.env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let path = std::env::var("PATH")?;
    let user = UserHome::new(repo.beside("home"), [("PATH", path)]).with(&env);
    let call = adapter.call(&Ask {
        model: agent.model,
        permissions: Permissions::Allow,
        session: Session::New("11111111-2222-5333-8444-555555555555"),
        mcp: &BTreeMap::new(),
        user: &user,
    });
    let home = PrivateHome::new(repo.beside("agent"), repo.beside("tmp"));
    home.furnish(&user, &adapter.links(&user), &[], &call)?;
    let (program, first) = agent.command.split_first().ok_or("a command")?;
    let mut command = repo.isolated(Command::new(program));
    command
        .args(first)
        .args(&call.args)
        .args(&agent.args)
        .args(&call.last)
        .envs(home.env(&call))
        .envs(&call.env)
        .envs(&env)
        .envs(&call.settled)
        .current_dir(repo.path())
        .stdin(Stdio::piped())
        .stdout(fs::File::create(repo.beside("log"))?)
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn()?;
    child.stdin.take().ok_or("a pipe")?.write_all(prompt.as_bytes())?;
    let (took, memory) = watch(&mut child, start, &high_water)?;
    if fs::read_to_string(repo.path().join("a.txt")).unwrap_or_default().trim() != "hello" {
        return Err(format!(
            "{} did not do its work: {}",
            agent.name,
            repo.beside("log").display()
        )
        .into());
    }
    Ok((took, memory))
}

/// `orch run` of a plan with one task.
fn through_orch(agent: &Real, prompt: &str) -> Result<Sample> {
    let repo = TestRepo::new();
    let text = plan([agent], "", "") + &task("task", agent.name, prompt, "retries = 0");
    let file = repo.plan_file(&text);
    let mut command = repo.isolated(Command::new(orch_tests::binary::orch()));
    command
        .arg("run")
        .arg(file)
        .current_dir(repo.path())
        // What the version of an agent is, is asked once.
        .env("XDG_CACHE_HOME", Install::default().cache())
        .stdin(Stdio::null())
        .stdout(fs::File::create(repo.beside("log"))?)
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let runs = repo.path().join(".orch/runs");
    let sample = watch(&mut child, start, &|pid| high_water(pid) + of_supervisor(&runs))?;
    if repo.show("main", "a.txt").trim() != "hello" {
        return Err(format!("{} did not do its work", agent.name).into());
    }
    Ok(sample)
}

/// Waits for a process, and looks at its memory meanwhile.
fn watch(
    child: &mut Child,
    start: Instant,
    memory: &(dyn Fn(u32) -> u64 + Sync),
) -> Result<Sample> {
    let (pid, has_ended) = (child.id(), AtomicBool::new(false));
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut most = 0;
            while !has_ended.load(Ordering::Relaxed) {
                most = most.max(memory(pid));
                thread::sleep(LOOK);
            }
            most
        });
        let ended = child.wait();
        let took = start.elapsed();
        has_ended.store(true, Ordering::Relaxed);
        let most = looks.join().map_err(|_| "memory can't be looked at")?;
        ended?;
        Ok((took, most))
    })
}

/// The peak of a process's resident memory so far, in KiB; 0 where it is gone.
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}

/// That of the supervisor of a run below this folder.
fn of_supervisor(runs: &Path) -> u64 {
    let runs = runs.as_os_str().as_encoded_bytes();
    let is_ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(b"orch-supervisor") && words.any(|word| word.starts_with(runs))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_ours).map_or(0, high_water)
}
