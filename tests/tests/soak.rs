//! One orchestrator and one supervisor work for a long time, and neither of them grows.
//!
//! A run of many short tasks, eight at a time; beside it, what both processes hold is written down again and again, and
//! a line is laid through it (least squares) after the first third. In its short form this is part of the tests, and knows too little to
//! see a slow leak. The long form takes half an hour:
//!
//! ```text
//! ORCH_SOAK_MINUTES=30 cargo test --release -p orch-tests --test soak -- --nocapture
//! ```

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use orch_tests::{Campaign, Plan, RunningOrch, TestRepo, Trend, setting};

const COMMAND: &str =
    "ORCH_SOAK_MINUTES=30 cargo test --release -p orch-tests --test soak -- --nocapture";
/// How many tasks there are for each second; what is left when the time is over is not done.
const TASKS_PER_SECOND: u64 = 25;
/// So many files are written again and again, so that trees stay small. More than run at a time.
const FILES: u64 = 64;
const CONCURRENCY: u64 = 8;
/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);
/// How long the doctor may take after that.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long it takes at least until slopes tell anything.
const TELLING: Duration = Duration::from_secs(60);

/// How much may be held more for a thousand tasks: what is none, but for noise.
const NOTHING: f64 = 0.5;
/// In KiB: of a task that was merged the state holds its attempts, place, commits and use, which was measured as
/// 1.1 KiB more than one that waits.
const MEMORY: f64 = 2048.0;
const MEMORY_OF_SUPERVISOR: f64 = 256.0;
/// In bytes: 1.1 kB of journal for a task, and its logs, were measured.
const JOURNAL: f64 = 2e6;
const RECORDS: f64 = 4e6;

/// What a process holds.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Its share of memory (PSS), in KiB.
    memory: u64,
    descriptors: u64,
    threads: u64,
    /// Children that have ended and were not asked for.
    zombies: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// How many tasks have been merged.
    tasks: u64,
    orchestrator: Held,
    supervisor: Held,
    /// How long the journal is, in bytes.
    journal: u64,
    /// What the folder of the run takes, in bytes.
    records: u64,
}

#[test]
fn a_long_run_does_not_grow() {
    let minutes: f64 = setting("ORCH_SOAK_MINUTES", 0.2);
    let time = Duration::from_secs_f64(60.0 * minutes);
    let mut campaign = Campaign::begin("soak", COMMAND);
    let repo = TestRepo::new();
    repo.git(["checkout", "--quiet", "-b", "mine"]);
    repo.configure("grace = \"500ms\"\nbackoff = \"50ms\"\npressure = \"\"\n");
    let plan = plan(time.as_secs() * TASKS_PER_SECOND);
    let file = repo.plan_file(&plan.to_string());
    let mut orch = repo.orch(["run", "--json"]).arg(file).spawn();
    let samples = watch(&repo, &mut orch, time);
    // On a quick machine nothing is left to do.
    let code = if orch.has_ended() { 0 } else { 130 };
    if code == 130 {
        orch.interrupt();
    }
    let outcome = orch.wait();
    outcome.assert_code(code);
    let last = samples.last().expect("it was looked at");
    assert!(last.tasks > 0, "{outcome}");
    check_bounds(&samples);
    if time >= TELLING {
        check_slopes(&samples, &mut campaign);
    }
    repo.wait_until_quiet();
    // It reads and proves again all that was done in half an hour.
    repo.orch(["doctor"]).spawn().wait_or_kill(PATIENCE).assert_code(0);
    campaign.did("tasks", last.tasks);
    campaign.did("samples", samples.len() as u64);
    campaign.finish();
}

/// Every other one has a worktree, and leaves a commit.
fn plan(tasks: u64) -> Plan {
    let mut plan = Plan::new().set("max_concurrency", 8).set("target", "main");
    for number in 0..tasks.max(400) {
        let id = format!("t{number}");
        plan = plan.task(&id, |task| match number % 2 {
            0 => task.shell("echo something to keep").set("isolation", "none"),
            _ => {
                let file = number / 2 % FILES;
                task.shell(&format!("mkdir -p work && echo {id} > work/{file}.txt"))
            }
        });
    }
    plan
}

/// What is held, until the time is over.
fn watch(repo: &TestRepo, orch: &mut RunningOrch<'_>, time: Duration) -> Vec<Sample> {
    orch.next_event(|event| event["change"] == "merged");
    let end = Instant::now() + time;
    let runs = repo.path().join(".orch/runs");
    let run = fs::read_dir(&runs).expect("it runs").next().expect("a run").expect("a run").path();
    let supervisor = repo.supervisor().expect("a supervisor");
    let mut samples = Vec::new();
    while Instant::now() < end {
        // Looking every now and then is what this is about.
        thread::sleep(EVERY);
        if orch.has_ended() {
            break;
        }
        let tasks = orch.events_until_now().filter(|event| event["change"] == "merged").count();
        samples.push(Sample {
            tasks: samples.last().map_or(1, |last: &Sample| last.tasks) + tasks as u64,
            orchestrator: held(orch.pid()),
            supervisor: held(supervisor),
            journal: fs::metadata(run.join("journal")).map_or(0, |metadata| metadata.len()),
            records: size(&run),
        });
    }
    samples
}

fn held(pid: u32) -> Held {
    let folder = Path::new("/proc").join(pid.to_string());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let number = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let children = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
    let children: String = children
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default())
        .collect();
    let is_zombie = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    };
    Held {
        memory: number(&read("smaps_rollup"), "Pss:"),
        descriptors: fs::read_dir(folder.join("fd")).map_or(0, |entries| entries.count() as u64),
        threads: number(&read("status"), "Threads:"),
        zombies: children.split_whitespace().filter(is_zombie).count() as u64,
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |path: &Path| match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => size(path),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(|entry| of(&entry.path())).sum()
}

/// What is true of each sample, however long it takes.
fn check_bounds(samples: &[Sample]) {
    for sample in samples {
        for held in [sample.orchestrator, sample.supervisor] {
            // A unit of work has its git, its pipes and its lock; the rest is the same for all.
            assert!(held.descriptors < 64 + 16 * CONCURRENCY, "{sample:?}");
            // The pool of threads that block has 512 at most, and few are needed.
            assert!(held.threads < 64, "{sample:?}");
            assert!(held.zombies <= 4 * CONCURRENCY, "{sample:?}");
            assert!(held.memory > 0, "{sample:?}");
        }
    }
}

/// A line through what was measured after the first third, for a thousand tasks.
#[expect(clippy::print_stdout, reason = "how much it is is the result, also where it is little")]
fn check_slopes(samples: &[Sample], campaign: &mut Campaign) {
    let samples = &samples[samples.len() / 3..];
    let slope = |of: &dyn Fn(&Sample) -> u64| {
        let thousands = |sample: &Sample| sample.tasks as f64 / 1000.0;
        let points: Vec<_> = samples.iter().map(|s| (thousands(s), of(s) as f64)).collect();
        Trend::of(&points)
    };
    let table: [(&str, Trend, f64); 10] = [
        ("KiB of the orchestrator", slope(&|s| s.orchestrator.memory), MEMORY),
        ("KiB of the supervisor", slope(&|s| s.supervisor.memory), MEMORY_OF_SUPERVISOR),
        ("descriptors of the orchestrator", slope(&|s| s.orchestrator.descriptors), NOTHING),
        ("descriptors of the supervisor", slope(&|s| s.supervisor.descriptors), NOTHING),
        ("threads of the orchestrator", slope(&|s| s.orchestrator.threads), NOTHING),
        ("threads of the supervisor", slope(&|s| s.supervisor.threads), NOTHING),
        ("zombies of the orchestrator", slope(&|s| s.orchestrator.zombies), NOTHING),
        ("zombies of the supervisor", slope(&|s| s.supervisor.zombies), NOTHING),
        ("bytes of the journal", slope(&|s| s.journal), JOURNAL),
        ("bytes of all records", slope(&|s| s.records), RECORDS),
    ];
    for (what, trend, _) in &table {
        println!("{:>12.3} +- {:.3} {what} for 1000 tasks", trend.slope, trend.error);
    }
    for (what, trend, most) in table {
        assert!(!trend.exceeds(most), "{what}: {trend:?} for 1000 tasks");
        // Records hold whole numbers.
        let million = (trend.slope.max(0.0) * 1000.0).round() as u64;
        campaign.did(&format!("{what} more in a million tasks"), million);
    }
}
