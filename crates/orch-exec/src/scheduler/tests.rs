//! Tests of the scheduler: a rule each, and a simulated world against a slow oracle.

use std::{sync::Arc, time::Duration};

use orch_model::{
    CommitId, EpicId, Event, EventKind, LockName, PlanSpec, RunId, RunState, Span, TaskId,
    Timestamp, ValidPlan,
    event::{EVENT_VERSION, RunBase, RunHeader, RunSettings},
    plan::{
        TaskIndex,
        spec::{EpicSpec, Isolation, LockSpec, TaskSpec},
    },
};


mod oracle;

mod simulation;

mod world;

/// A plan with a line for each task or epic. `epic ID NEEDS..` is an epic; other lines begin with
/// the id of a task and go on with `@epic` (`@@epic`: in its worktree), `<needs`, `~after`,
/// `p1` (priority), `=5s` (estimate), `r2` (retries), `f:glob`, `l:lock`, `l:lock:shared`, `l:lock:1/3`.
fn plan(text: &str) -> Arc<ValidPlan> {
    let mut spec = PlanSpec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let first = words.next().expect("a word");
        if first == "epic" {
            let mut ids = words.map(|word| EpicId::new(word).expect("an id"));
            let id = ids.next().expect("the id of an epic");
            spec.epics.push(EpicSpec { id, title: None, needs: ids.collect() });
            continue;
        }
        let mut task = TaskSpec::new(id(first)).run("true");
        task.retries = Some(0);
        words.for_each(|word| set(&mut task, word));
        spec.tasks.push(task);
    }
    Arc::new(spec.validate().expect("a valid plan"))
}

fn set(task: &mut TaskSpec, word: &str) {
    let (sign, rest) = word.split_at(1);
    match sign {
        "@" => {
            if rest.starts_with('@') {
                task.isolation = Some(Isolation::Epic);
            }
            task.epic = Some(EpicId::new(rest.trim_start_matches('@')).expect("an id"));
        }
        "<" => task.needs.push(id(rest)),
        "~" => task.after.push(id(rest)),
        "p" => task.priority = Some(rest.parse().expect("a number")),
        "r" => task.retries = Some(rest.parse().expect("a number")),
        "=" => task.estimate = Some(rest.parse().expect("a duration")),
        "f" => task.files.push(rest[1..].into()),
        "l" => {
            let (name, mode) = rest[1..].split_once(':').unwrap_or((&rest[1..], ""));
            let number = |text: &str| text.parse().expect("a number");
            task.locks.push(LockSpec {
                name: LockName::new(name).expect("a name"),
                shared: mode == "shared",
                counted: mode.split_once('/').map(|(count, of)| (number(count), number(of))),
            });
        }
        _ => panic!("what is {word:?}?"),
    }
}

fn id(text: &str) -> TaskId {
    TaskId::new(text).expect("an id")
}

fn at(plan: &ValidPlan, task: &str) -> TaskIndex {
    plan.index_of(&id(task)).expect("a task of the plan")
}

/// Settings with `max` slots and short, fixed pauses.
fn slots(max: u32) -> RunSettings {
    RunSettings {
        max_concurrency: max,
        backoff: Span(Duration::from_millis(100)),
        backoff_max: Span(Duration::from_millis(1000)),
        seed: 7,
        ..RunSettings::default()
    }
}

/// The moment `millis` after the beginning of the run.
fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

/// The first event of a run.
fn run_started(plan: &ValidPlan, settings: RunSettings, in_git: bool) -> Event {
    let base = in_git.then(|| RunBase { target: "main".into(), commit: CommitId::new("c0") });
    let header = RunHeader {
        run: RunId::new("r1").expect("an id"),
        version: EVENT_VERSION,
        plan: Arc::clone(plan.spec()),
        settings,
        repository: "/nowhere".into(),
        base,
        pid: 1,
    };
    Event { seq: 1, at: time(0), kind: EventKind::RunStarted { header: Box::new(header) } }
}

fn begun(plan: &ValidPlan, settings: RunSettings, in_git: bool) -> RunState {
    RunState::begin(&run_started(plan, settings, in_git)).expect("a first event")
}
