//! What a seed stands for: a plan, and what its agents do.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use orch_exec::model::{
    AgentName, Span, TaskId, ValidPlan,
    plan::spec::{
        AgentKind, AgentSpec, CommandLine, Isolation, LockSpec, OnFailure, PlanSpec, TaskSpec,
    },
};

/// How the agent of an attempt that is to fail does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Exits with 1.
    Exit,
    /// Works for ever, and ends when it is asked to.
    Hang,
    /// Works for ever, and ends when it is killed.
    IgnoreTerm,
    /// The model's provider wants to be left alone for a while: not the task's fault.
    RateLimit,
    /// The agent `one` is not logged in, so that another one has to do the task.
    LoggedOut,
}

/// What the agents of a task do.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// How many of them fail before one succeeds; `None`: all.
    pub(crate) fails: Option<u32>,
    pub(crate) trouble: Trouble,
    /// How many of its verifications fail before one succeeds.
    pub(crate) bad_verifications: u32,
    /// The files that they write.
    pub(crate) files: Vec<String>,
    /// How long they work at most.
    pub(crate) longest: Duration,
}

/// What a seed stands for.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) plan: ValidPlan,
    pub(crate) scripts: BTreeMap<TaskId, Script>,
    /// Two tasks whose work does not go together: what verifies merged results finds out.
    pub(crate) poison: Option<(TaskId, TaskId)>,
    /// Whether the order in which tasks are merged has no say in how they end.
    pub(crate) is_calm: bool,
    pub(crate) max_concurrency: u32,
}

/// How long a task may take.
const TIMEOUT: u64 = 60;

/// How many tasks take a week.
const WEEK: usize = 600;

fn id(n: usize) -> TaskId {
    TaskId::new(format!("t{n}")).expect("an id")
}

impl Case {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let count = rng.usize(1..=9);
        let shares_files = rng.u8(..) < 64;
        let verifies_merged = rng.u8(..) < 90;
        let stops = rng.u8(..) < 24;
        let max_concurrency = rng.u32(1..=4);
        let mut spec = PlanSpec::new();
        for name in ["one", "two", "gone"] {
            let command = vec![name.to_owned()];
            let agent = AgentSpec { command, ..AgentSpec::new(AgentKind::Command) };
            spec.agents.insert(AgentName::new(name).expect("a name"), agent);
        }
        let mut scripts = BTreeMap::new();
        for n in 0..count {
            let (task, script) = Self::task(rng, n, shares_files);
            scripts.insert(task.id.clone(), script);
            spec = spec.task(task);
        }
        spec.run.max_concurrency = Some(max_concurrency);
        if stops {
            spec.run.on_failure = Some(OnFailure::Stop);
        }
        let mut poison = None;
        if verifies_merged {
            spec.merge.verify = vec![CommandLine::Shell("check the merged results".into())];
            spec.merge.batch = Some(rng.u32(1..=4));
            if count > 1 && rng.bool() {
                let first = rng.usize(0..count - 1);
                poison = Some((id(first), id(rng.usize(first + 1..count))));
            }
        }
        let plan = spec.validate().expect("a valid plan");
        let is_calm = !shares_files && !stops && poison.is_none();
        Self { plan, scripts, poison, is_calm, max_concurrency }
    }

    fn task(rng: &mut Rng, n: usize, shares_files: bool) -> (TaskSpec, Script) {
        let mut task = TaskSpec::new(id(n)).run("work");
        for needed in 0..n {
            if rng.u8(..) < 50 {
                task = task.needs(id(needed));
            }
        }
        let retries = rng.u32(0..=3);
        task.retries = Some(retries);
        task.timeout = Some(Span::from_secs(TIMEOUT));
        if rng.u8(..) < 25 {
            task.isolation = Some(Isolation::None);
        }
        for name in ["db", "gpu"] {
            if rng.u8(..) < 40 {
                let mut lock = LockSpec::new(name.parse().expect("a name"));
                if name == "gpu" {
                    lock.counted = Some((1, 2));
                } else {
                    lock.shared = rng.bool();
                }
                task.locks.push(lock);
            }
        }
        let verifications = if rng.bool() { 0 } else { rng.usize(1..=2) };
        task.verify = Some(vec![CommandLine::Shell("check".into()); verifications]);
        let mut files = vec![format!("own-{n}")];
        if shares_files && rng.bool() {
            files.push(format!("shared-{}", rng.u8(0..2)));
        }
        let fails = if rng.u8(..) < 20 { None } else { Some(rng.u32(0..=retries)) };
        let left = retries - fails.unwrap_or(retries);
        let trouble = [Trouble::Exit, Trouble::Hang, Trouble::IgnoreTerm, Trouble::RateLimit];
        // One that is always limited would wait for weeks.
        let mut trouble = trouble[rng.usize(0..if fails.is_none() { 3 } else { 4 })];
        if rng.u8(..) < 100 {
            let mut agents =
                ["one", "two", "gone"].map(|name| AgentName::new(name).expect("a name"));
            rng.shuffle(&mut agents);
            task.run = None;
            task.prompt = Some("work".into());
            let [first, rest @ ..] = agents;
            task.agent = Some(first);
            task.fallback_agents = Some(rest.to_vec());
            if fails == Some(0) && rng.bool() {
                trouble = Trouble::LoggedOut;
            }
        }
        let script = Script {
            fails,
            trouble,
            bad_verifications: if verifications == 0 { 0 } else { rng.u32(0..=left) },
            files,
            longest: Duration::from_secs(rng.u64(1..=TIMEOUT / 2)),
        };
        (task, script)
    }

    /// A plan that takes a week or more: many tasks, each up to some hours long.
    pub(crate) fn week(rng: &mut Rng) -> Self {
        let mut case = Self::new(rng);
        let mut spec = PlanSpec { tasks: Vec::new(), ..(**case.plan.spec()).clone() };
        case.scripts.clear();
        for n in 0..WEEK {
            let (mut task, mut script) = Self::task(rng, n, false);
            // The others would wait for what can't be had.
            script.fails.get_or_insert(0);
            script.longest *= 240;
            task.timeout = Some(Span::from_secs(TIMEOUT * 240));
            task.needs.truncate(2);
            case.scripts.insert(task.id.clone(), script);
            spec = spec.task(task);
        }
        spec.run.max_concurrency = Some(4);
        spec.run.on_failure = None;
        case.plan = spec.validate().expect("a valid plan");
        Self { poison: None, is_calm: true, max_concurrency: 4, ..case }
    }

    /// Whether a task's work is merged in the end, or would be if those that it needs are: only for a
    /// calm case.
    pub(crate) fn succeeds(&self, task: &TaskId) -> bool {
        let spec = self.plan.spec().tasks.iter().find(|spec| spec.id == *task);
        let needs = spec.map_or(&[][..], |spec| &spec.needs);
        self.scripts[task].fails.is_some() && needs.iter().all(|needed| self.succeeds(needed))
    }
}
