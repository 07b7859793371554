//! The lives of one orchestrator after the other, until the run has ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastrand::Rng;
use orch_exec::{
    EngineConfig, EngineError, ParallelOrchestrator, Run,
    model::{Report, RunStatus, Timestamp},
    time::TokioClock,
};
use tokio::runtime::Builder;

use crate::{
    case::Case,
    oracle,
    world::{Part, World},
};

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) lives: u32,
    pub(crate) steps: u64,
    /// Equal for two runs in which the same happened at the same times.
    pub(crate) trace: u64,
    /// How much time has passed in the world.
    pub(crate) took: Duration,
    /// How much the engine had going on (tasks of its runtime), from time to time.
    pub(crate) going_on: Vec<usize>,
}

/// How a life ended.
enum End {
    Killed,
    /// The engine gave up, as it has to where its journal fails.
    Stopped,
    Interrupted,
    Over(Box<Report>),
    Hangs,
}

/// More orchestrators than anything could need: many of the longer ones meet a disk that fails.
const MOST_LIVES: u32 = 40;
const MOST_LIVES_OF_A_WEEK: u32 = 1000;

/// Longer than any run takes, with all pauses.
const LONGEST: Duration = Duration::from_secs(60 * 86_400);

/// How often is looked at what goes on.
const LOOK: Duration = Duration::from_secs(6 * 3600);

/// A small plan, which much happens to.
pub(crate) fn simulate(seed: u64, tells: bool) -> Outcome {
    // The ids of runs.
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let case = Case::new(&mut rng);
    let kills = rng.u32(0..=5);
    live_out(case, (kills, MOST_LIVES), [12, 60, 300], rng, tells)
}

/// A plan that takes a week, while orchestrators come and go.
pub(crate) fn simulate_week(seed: u64) -> Outcome {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let case = Case::week(&mut rng);
    live_out(case, (20, MOST_LIVES_OF_A_WEEK), [300, 1000, 3000], rng, false)
}

/// So many orchestrators are killed, each after some steps; so many there are at most.
fn live_out(
    case: Case,
    (kills, most_lives): (u32, u32),
    late: [u64; 3],
    mut rng: Rng,
    tells: bool,
) -> Outcome {
    let world = World::new(case, rng.fork(), tells);
    let began = Timestamp::from_millis(1_700_000_000_000);
    let mut now = began;
    let report = loop {
        let killed_late = late[rng.usize(0..3)];
        let kill_at = (world.lock().life < kills).then(|| rng.u64(1..=killed_late));
        let life = world.begin_life(kill_at);
        let end = live(&world, life, &mut now);
        match end {
            End::Over(report) => break Some(report),
            End::Hangs => world.lock().violation("the run hangs".into()),
            _ if life == most_lives => world.lock().violation("the run never ends".into()),
            End::Killed | End::Stopped | End::Interrupted => {
                now = meanwhile(&world, &mut rng, now);
                continue;
            }
        }
        break None;
    };
    let mut world = world.lock();
    if let Some(report) = report {
        oracle::check(&mut world, &report, now);
    }
    Outcome {
        violations: std::mem::take(&mut world.violations),
        faults: std::mem::take(&mut world.faults),
        lives: world.life,
        steps: world.steps,
        trace: world.trace(),
        took: now.since(began),
        going_on: std::mem::take(&mut world.going_on),
    }
}

/// One orchestrator, from its start to its end. `now` goes on with its clock.
fn live(world: &World, life: u32, now: &mut Timestamp) -> End {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and files");
    let end = runtime.block_on(async {
        let clock = TokioClock::starting_at(*now);
        let part = Part { world: world.clone(), life, clock };
        let end = tokio::select! {
            biased;
            () = world.killed.notified() => End::Killed,
            end = tokio::time::timeout(LONGEST, work(&part)) => end.unwrap_or(End::Hangs),
        };
        *now = part.now();
        end
    });
    // What is dropped with the runtime does nothing: a process that is killed runs no destructors.
    world.end_life();
    end
}

/// What happens between one orchestrator and the next.
fn meanwhile(world: &World, rng: &mut Rng, now: Timestamp) -> Timestamp {
    let now = now + Duration::from_millis(rng.u64(0..90_000));
    let mut world = world.lock();
    world.settle(now);
    let is_cut = std::mem::take(&mut world.is_cut);
    if rng.u8(..) < 60 || is_cut {
        world.note(now, "power cut");
        world.count("power cut");
        world.cut_journals();
        world.cut_processes();
        world.cut_trees();
    } else if rng.u8(..) < 40 {
        world.note(now, "supervisor is killed");
        world.count("supervisor is killed");
        world.kill_supervisor();
    }
    now
}

async fn orchestrator(part: &Part) -> Result<ParallelOrchestrator, EngineError> {
    let mut config = EngineConfig::default();
    config.defaults.seed = 1;
    let port = Arc::new(part.clone());
    ParallelOrchestrator::builder("/sim")
        .config(config)
        .runner(port.clone())
        .worktrees(port.clone())
        .store(port.clone())
        .locks(port.clone())
        .resources(port)
        .clock(Arc::new(part.clock))
        .build()
        .await
}

async fn work(part: &Part) -> End {
    match run(part).await {
        Ok(report) if report.status == RunStatus::Interrupted => End::Interrupted,
        Ok(report) => End::Over(Box::new(report)),
        Err(error) => {
            part.world.lock().note(part.now(), &format!("the engine gave up: {error}"));
            // Only its journal may stop an engine, and git before it has begun.
            let why = format!("{error:?}");
            if !why.contains("Store") && !why.contains("Worktree") && !why.contains("Io") {
                part.world.lock().violation(format!("the engine gave up: {why}"));
            }
            End::Stopped
        }
    }
}

async fn run(part: &Part) -> Result<Report, EngineError> {
    let orchestrator = orchestrator(part).await?;
    let begun = {
        let world = part.world.lock();
        let current = world.journals.current();
        current.filter(|(_, journal)| !journal.events.is_empty()).map(|(run, _)| run.clone())
    };
    let run = match &begun {
        Some(run) => match orchestrator.resume(run).await {
            // It had ended, and its orchestrator was killed before anybody heard of it.
            Err(EngineError::CantResume { .. }) => return ended(part),
            run => run?,
        },
        None => {
            let plan = part.world.lock().case.plan.clone();
            orchestrator.start(plan).await?
        }
    };
    part.world.lock().is_running = true;
    tokio::spawn(observe(part.clone(), run.clone()));
    tokio::spawn(look(part.clone()));
    tokio::spawn(interfere(part.clone(), run.clone()));
    run.wait().await
}

/// What the journal tells of a run that has ended.
fn ended(part: &Part) -> Result<Report, EngineError> {
    let world = part.world.lock();
    let (_, journal) = world.journals.current().expect("it was resumed");
    match orch_exec::model::RunState::replay(&journal.events) {
        Ok(Some(state)) if state.status.is_ended() => Ok(Report::of(&state)),
        state => Err(EngineError::Internal(format!("can't be resumed: {state:?}"))),
    }
}

/// Whoever is told of an event relies on it.
async fn observe(part: Part, run: Run) {
    let mut events = run.events_from(run.first_event());
    while let Ok(Some(event)) = events.next().await {
        if part.is_alive() {
            part.world.lock().told(run.id(), event.seq);
        }
    }
}

/// Looks from time to time at how much goes on.
async fn look(part: Part) {
    while part.is_alive() {
        tokio::time::sleep(LOOK).await;
        let going_on = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        part.world.lock().going_on.push(going_on);
    }
}

/// People, and the supervisor's end.
async fn interfere(part: Part, run: Run) {
    let (pause, what) = {
        let rng = &mut part.world.lock().rng;
        (Duration::from_millis(rng.u64(0..100_000)), rng.u8(0..24))
    };
    tokio::time::sleep(pause).await;
    let note = |fault| {
        let mut world = part.world.lock();
        if world.is_alive && world.life == part.life {
            world.note(part.now(), fault);
            world.count(fault);
        }
    };
    let a_while = Duration::from_secs(20);
    match what {
        0..=2 => {
            note("people pause");
            let _ = run.pause().await;
            tokio::time::sleep(a_while).await;
            let _ = run.resume().await;
        }
        3..=5 => {
            note("people freeze");
            let _ = run.freeze().await;
            tokio::time::sleep(a_while).await;
            let _ = run.resume().await;
        }
        6 => {
            note("people interrupt");
            let _ = run.interrupt().await;
        }
        7 => {
            note("people cancel a task");
            let task = {
                let mut world = part.world.lock();
                // What follows from that has no say in how a calm case ends.
                world.case.is_calm = false;
                let tasks: Vec<_> = world.case.scripts.keys().cloned().collect();
                let nth = world.rng.usize(0..tasks.len());
                tasks[nth].clone()
            };
            let _ = run.cancel_task(&task).await;
        }
        8..=9 => {
            note("supervisor is killed");
            part.world.lock().kill_supervisor();
            part.world.changed.notify_waiters();
        }
        10..=11 => {
            note("second orchestrator");
            second(&part, &run).await;
        }
        _ => {}
    }
}

/// Another orchestrator wants to take up what this one is at work on.
async fn second(part: &Part, run: &Run) {
    let Ok(orchestrator) = orchestrator(part).await else { return };
    let had_ended = run.progress().status.is_ended();
    if orchestrator.resume(run.id()).await.is_ok() && !had_ended {
        part.world.lock().violation("two orchestrators are at work on the run".into());
    }
}
