//! Tests of the scheduler: a rule each, and a simulated world against a slow oracle.

use std::{sync::Arc, time::Duration};

use orch_model::{
    AgentName, CommitId, EpicId, Event, EventKind, LockName, PlanSpec, RunId, RunState, Span,
    TaskId, Timestamp, ValidPlan,
    event::{EVENT_VERSION, RunBase, RunHeader, RunSettings},
    outcome::{ExitStatus, Failure, StopReason},
    plan::{
        TaskIndex,
        spec::{
            AgentKind, AgentSpec, CommandLine, EpicSpec, Isolation, LockSpec, OnConflict, TaskSpec,
        },
    },
    state::Merged,
};

use super::{Choosing, Scheduler};
use crate::internal::{Command, Input, UnitEnd, UnitReport};

mod budgets;
mod budgets_hold;
mod conflicts;
mod endings;
mod fallback;
mod limits;
mod machine;
mod oracle;
mod rules;

mod simulation;
mod stops;

mod world;

/// A plan with a line for each task or epic. `epic ID NEEDS..` is an epic; other lines begin with
/// the id of a task and go on with `@epic` (`@@epic`: in its worktree), `<needs`, `~after`,
/// `p1` (priority), `=5s` (estimate), `r2` (retries), `f:glob`, `l:lock`, `l:lock:shared`, `l:lock:1/3`,
/// `$other` (its program, where that is not `agent`), `!manual` (what its conflicts lead to), `?one,two` (in
/// place of a program: an agent that is given a prompt, and those that stand in for it), `%small` (the model).
fn plan(text: &str) -> Arc<ValidPlan> {
    let mut spec = PlanSpec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let first = words.next().expect("a word");
        if first == "epic" {
            let mut ids = words.map(|word| EpicId::new(word).expect("an id"));
            let id = ids.next().expect("the id of an epic");
            spec.epics.push(EpicSpec { needs: ids.collect(), ..EpicSpec::new(id) });
            continue;
        }
        let mut task = TaskSpec::new(id(first)).run("agent");
        task.retries = Some(0);
        words.for_each(|word| set(&mut task, word));
        for agent in task.agent.iter().chain(task.fallback_agents.iter().flatten()) {
            let called = || AgentSpec {
                command: vec![agent.to_string()],
                ..AgentSpec::new(AgentKind::Command)
            };
            spec.agents.entry(agent.clone()).or_insert_with(called);
        }
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
        "$" => task.run = Some(CommandLine::Shell(rest.into())),
        "?" => {
            let mut agents = rest.split(',').map(|name| AgentName::new(name).expect("a name"));
            task.run = None;
            task.prompt = Some("do it".into());
            task.agent = agents.next();
            task.fallback_agents = Some(agents.collect());
        }
        "%" => task.model = Some(rest.into()),
        "!" => {
            task.on_conflict = Some(match rest {
                "manual" => OnConflict::Manual,
                "retry" => OnConflict::RebaseRetry,
                _ => OnConflict::Fail,
            });
        }
        "f" => task.files.push(rest[1..].into()),
        "l" => {
            let (name, mode) = rest[1..].split_once(':').unwrap_or((&rest[1..], ""));
            let number = |text: &str| text.parse().expect("a number");
            task.locks.push(LockSpec {
                name: LockName::new(name).expect("a name"),
                shared: mode == "shared",
                counted: mode.split_once('/').map(|(count, of)| (number(count), number(of))),
                pool: None,
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

/// A scheduler on a machine where there is no agent `gone`.
fn scheduler(plan: &Arc<ValidPlan>, state: RunState) -> Scheduler {
    let gone = (AgentName::new("gone").expect("a name"), "there is no such program".to_owned());
    let choosing = Choosing { missing: [gone].into(), ..Choosing::default() };
    Scheduler::new(Arc::clone(plan), state, |_| None).choosing(choosing)
}

/// A scheduler whose commands are told as text: starts as ids, the rest in other words.
#[derive(Debug)]
struct Drive {
    plan: Arc<ValidPlan>,
    scheduler: Scheduler,
    events: Vec<Event>,
    now: u64,
}

impl Drive {
    /// Begins a run; gives what it starts with.
    fn begin(text: &str, settings: RunSettings) -> (Self, String) {
        let plan = plan(text);
        let started = run_started(&plan, settings, false);
        let state = RunState::begin(&started).expect("a first event");
        let scheduler = scheduler(&plan, state);
        let mut drive = Self { plan, scheduler, events: vec![started], now: 0 };
        let first = drive.tell(Input::Begin);
        (drive, first)
    }

    /// Another scheduler takes the run up where it stands.
    fn reopen(&mut self) -> String {
        let mut state = self.scheduler.state().clone();
        let event = Event {
            seq: state.seq + 1,
            at: time(self.now),
            kind: EventKind::RunReopened { pid: 2 },
        };
        state.apply(&event).expect("a run can be reopened");
        self.events.push(event);
        self.scheduler = scheduler(&self.plan, state);
        self.tell(Input::Begin)
    }

    fn tell(&mut self, input: Input) -> String {
        let mut said = Vec::new();
        let decision = self.scheduler.step(input, time(self.now));
        self.events.extend(decision.events);
        for command in decision.commands {
            let name = |task: TaskIndex| self.plan.task(task).id.to_string();
            said.push(match command {
                Command::Start { task, attempt: 1 } => name(task),
                Command::Start { task, attempt } => format!("{}#{attempt}", name(task)),
                Command::Adopt { task, attempt } => format!("adopt:{}#{attempt}", name(task)),
                Command::Stop { task, reason: StopReason::Cancelled } => {
                    format!("cancel:{}", name(task))
                }
                Command::Stop { task, .. } => format!("stop:{}", name(task)),
                Command::Freeze(frozen) => format!("freeze:{frozen}"),
                Command::AwaitLocks(task) => format!("await:{}", name(task)),
                Command::WakeAt(at) => format!("wake@{}", at.since(time(0)).as_millis()),
                Command::Deliver => "deliver".into(),
                Command::End => "end".into(),
            });
        }
        let replayed = RunState::replay(&self.events).expect("events add up").expect("events");
        assert_eq!(&replayed, self.scheduler.state());
        said.join(" ")
    }

    fn tell_at(&mut self, now: u64, input: Input) -> String {
        self.now = now;
        self.tell(input)
    }

    fn report(&mut self, task: &str, report: UnitReport) -> String {
        let task = at(&self.plan, task);
        self.tell(Input::Unit { task, report })
    }

    fn end(&mut self, task: &str, end: UnitEnd) -> String {
        self.report(task, UnitReport::Ended(end))
    }

    fn cancel(&mut self, task: &str) -> String {
        let task = at(&self.plan, task);
        self.tell(Input::CancelTask(task))
    }

    /// A task comes as far as merging.
    fn verify(&mut self, task: &str) {
        if !self.plan.task(at(&self.plan, task)).locks.is_empty() {
            self.report(task, UnitReport::Leased);
        }
        self.report(task, UnitReport::Started(None));
        self.report(
            task,
            UnitReport::AgentEnded { exit: ExitStatus::Code(0), usage: None, model: None },
        );
        self.report(task, UnitReport::Verified { commit: None });
    }

    /// A task goes its whole way and succeeds.
    fn succeed(&mut self, task: &str) -> String {
        self.verify(task);
        self.end(task, UnitEnd::Merged(Merged::Nothing))
    }

    /// A task's agent fails.
    fn fail(&mut self, task: &str) -> String {
        if !self.plan.task(at(&self.plan, task)).locks.is_empty() {
            self.report(task, UnitReport::Leased);
        }
        self.report(task, UnitReport::Started(None));
        self.end(task, UnitEnd::Failed(agent_failed()))
    }

    /// A task's work can't be merged.
    fn conflict(&mut self, task: &str) -> String {
        self.verify(task);
        self.end(task, conflicted())
    }

    fn busy(&mut self, task: &str) -> String {
        let lock = LockName::new("db").expect("a name");
        self.report(task, UnitReport::LockBusy { lock, holder: "a stranger".into() })
    }

    /// The name of a task's state.
    fn state(&self, task: &str) -> &'static str {
        self.scheduler.state().task(at(&self.plan, task)).state.name()
    }

    /// Why a task waits, for people.
    fn why(&self, task: &str) -> String {
        let progress = self.scheduler.progress(time(self.now));
        let waiting = progress.waiting.iter().find(|waiting| waiting.task.as_str() == task);
        waiting.map_or_else(|| "does not wait".into(), |waiting| waiting.reason.to_string())
    }
}

fn conflicted() -> UnitEnd {
    UnitEnd::Conflicted {
        commit: CommitId::new("c1"),
        branch: "orch/r1/x".into(),
        files: vec!["x".into()],
        hunks: Vec::new(),
    }
}

fn agent_failed() -> Failure {
    Failure::Agent { exit: ExitStatus::Code(1), output_tail: String::new() }
}
