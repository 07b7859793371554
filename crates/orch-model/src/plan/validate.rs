//! From a [`PlanSpec`] to a [`ValidPlan`]: what serde can't see.

mod agents;
mod assignment;
mod briefing;
mod budgets;
mod conflicts;
mod cycle;
mod locks;
mod mcp;
mod merging;
mod names;
mod task;

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use assignment::Named;

use super::{
    Epic, EpicIndex, PlanSpec, Problems, RunOptions, TaskIndex, VERSION, ValidPlan,
    detect::Detector,
    nearest::nearest,
    path::Path,
    problem::Finding,
    spec::{CommandLine, Schedule, TaskSpec},
};
use crate::{
    id::{EpicId, TaskId},
    size::ByteSize,
    time::Span,
};

/// How long an attempt may run where the plan says nothing.
pub const DEFAULT_TIMEOUT: Span = Span::from_secs(60 * 60);
/// How many further attempts a failed task has where the plan says nothing.
pub const DEFAULT_RETRIES: u32 = 0;
/// The priority of a task for which the plan says nothing.
pub const DEFAULT_PRIORITY: u8 = 2;
/// The lowest priority; 0 is the highest.
pub const LOWEST_PRIORITY: u8 = 4;
/// How much of an attempt's output is kept where the plan says nothing.
pub const DEFAULT_MAX_OUTPUT: ByteSize = ByteSize(64 << 20);

/// Beyond so many findings no nearest names are looked for: each search looks at every name.
const MAX_SUGGESTIONS: usize = 200;

/// What is known of the text that a spec was read from, beyond the spec.
pub(super) trait Origin {
    /// Whether something was written at or below this path that could not be read.
    fn is_damaged(&self, path: &Path) -> bool;
    /// Whether an element of this list could not be read and seems to have this id.
    fn declares(&self, list: &'static str, id: &str) -> bool;
}

/// The spec is all there is.
struct NoText;

impl Origin for NoText {
    fn is_damaged(&self, _: &Path) -> bool {
        false
    }
    fn declares(&self, _: &'static str, _: &str) -> bool {
        false
    }
}

impl ValidPlan {
    /// Validates a plan that was built by code; [`super::parse`] reads one from text.
    ///
    /// # Errors
    /// Every problem of the plan, with paths and without spans.
    ///
    /// ```
    /// use orch_model::{PlanSpec, TaskId, ValidPlan, plan::spec::TaskSpec};
    ///
    /// let lint = TaskSpec::new(TaskId::new("lint")?).run("make lint");
    /// let test = TaskSpec::new(TaskId::new("test")?).run("make test").needs(TaskId::new("lnt")?);
    /// let problems = ValidPlan::new(PlanSpec::new().task(lint).task(test)).unwrap_err();
    /// assert_eq!(
    ///     problems.to_string(),
    ///     "task[1].needs[0]: there is no task `lnt` (did you mean `lint`?)",
    /// );
    /// # Ok::<(), orch_model::IdError>(())
    /// ```
    pub fn new(spec: PlanSpec) -> Result<Self, Problems> {
        let (plan, findings) = check(spec, &NoText);
        plan.ok_or_else(|| Problems(findings.into_iter().map(Into::into).collect()))
    }
}

/// Validates; there is a plan where there is no finding.
pub(super) fn check(spec: PlanSpec, origin: &dyn Origin) -> (Option<ValidPlan>, Vec<Finding>) {
    let mut checker = Checker::new(&spec, origin);
    checker.version();
    let run = checker.run_options();
    checker.defaults();
    let merging = checker.merging();
    let agents = checker.agents();
    checker.detection();
    let mut epics = checker.epics();
    let tasks: Vec<_> = (0..spec.tasks.len()).map(|index| checker.task(index)).collect();
    checker.locks();
    checker.models(&tasks);
    checker.stays_apart(merging.strategy, &tasks, &epics);
    checker.findings.extend(cycle::cycles(&spec, &tasks, &epics));
    let findings = checker.findings;
    if !findings.is_empty() {
        return (None, findings);
    }
    for (index, task) in tasks.iter().enumerate() {
        if let Some(epic) = task.epic {
            epics[epic.get()].tasks.push(TaskIndex::from(index));
        }
    }
    let by_id = tasks.iter().enumerate().map(|(at, task)| (task.id.clone(), at.into())).collect();
    (
        Some(ValidPlan {
            spec: std::sync::Arc::new(spec),
            run,
            merging,
            agents,
            epics,
            tasks,
            by_id,
        }),
        findings,
    )
}

pub(super) fn bad_version(version: u32) -> Finding {
    let message = format!("this is a plan of version {version}; this orch reads version {VERSION}");
    let help = if version > VERSION { "update orch" } else { "write `version = 1`" };
    Finding::new(Path::from("version"), message).help(help)
}

/// Whether a path can be that of a file of the repository; else what is wrong, and the cure.
#[cfg(feature = "parse")]
pub(super) fn file(path: &str) -> Result<(), (String, String)> {
    names::file(path)
}

struct Checker<'a> {
    spec: &'a PlanSpec,
    origin: &'a dyn Origin,
    tasks: HashMap<&'a TaskId, TaskIndex>,
    epics: HashMap<&'a EpicId, EpicIndex>,
    detector: Detector,
    findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    fn new(spec: &'a PlanSpec, origin: &'a dyn Origin) -> Self {
        let mut checker = Self {
            spec,
            origin,
            tasks: HashMap::new(),
            epics: HashMap::new(),
            detector: Detector::new(&spec.detect),
            findings: Vec::new(),
        };
        for (index, task) in spec.tasks.iter().enumerate() {
            match checker.tasks.entry(&task.id) {
                Entry::Vacant(place) => drop(place.insert(index.into())),
                Entry::Occupied(first) => {
                    let first = first.get().get();
                    checker.findings.push(duplicate("task", index, first, task.id.as_str()));
                }
            }
        }
        for (index, epic) in spec.epics.iter().enumerate() {
            match checker.epics.entry(&epic.id) {
                Entry::Vacant(place) => drop(place.insert(index.into())),
                Entry::Occupied(first) => {
                    let first = first.get().get();
                    checker.findings.push(duplicate("epic", index, first, epic.id.as_str()));
                }
            }
        }
        checker
    }

    fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn version(&mut self) {
        if self.spec.version != VERSION {
            self.report(bad_version(self.spec.version));
        }
        if self.spec.tasks.is_empty() && !self.origin.is_damaged(&Path::from("task")) {
            let finding = Finding::new(Path::default(), "the plan has no task");
            self.report(finding.help("add a `[[task]]` with an `id` and a `run`"));
        }
    }

    fn run_options(&mut self) -> RunOptions {
        let run = &self.spec.run;
        let path = Path::from("run");
        if let Some(target) = &run.target
            && let Err((message, help)) = names::branch(target)
        {
            self.report(Finding::new(path.then("target"), message).help(help));
        }
        if let Some(base) = &run.base {
            self.text(base, "base", &path);
            if run.target.is_none() {
                let message =
                    "`base` has no effect without `target`: the branch that is checked out exists";
                let finding = Finding::new(path.then("base"), message).on_key();
                self.report(finding.help("write `target`, or remove `base`"));
            } else if base.starts_with('-') {
                let message = "the base can't begin with a dash";
                let finding = Finding::new(path.then("base"), message);
                self.report(finding.help("write a branch, a tag or a commit, such as `HEAD`"));
            }
        }
        for (key, value) in
            [("max_concurrency", run.max_concurrency), ("max_per_wave", run.max_per_wave)]
        {
            if value == Some(0) {
                let finding =
                    Finding::new(path.then(key), format!("`{key}` is 0: nothing could run"));
                self.report(finding.help("write 1 or more, or leave it out"));
            }
        }
        // Without a schedule of its own the plan takes that of the configuration or of the flags.
        let is_ready = run.schedule == Some(Schedule::Ready);
        for (key, is_given) in
            [("max_per_wave", run.max_per_wave.is_some()), ("wave_delay", run.wave_delay.is_some())]
        {
            if is_given && is_ready {
                let finding =
                    Finding::new(path.then(key), format!("`{key}` has no effect without waves"))
                        .on_key();
                self.report(
                    finding.help(format!("write `schedule = \"waves\"`, or remove `{key}`")),
                );
            }
        }
        RunOptions {
            target: run.target.clone(),
            base: run.base.clone(),
            max_concurrency: run.max_concurrency,
            schedule: run.schedule,
            max_per_wave: run.max_per_wave,
            wave_delay: run.wave_delay.map(|delay| delay.0),
            on_failure: run.on_failure,
            min_free_disk: run.min_free_disk,
            min_free_memory: run.min_free_memory,
            max_total_output: run.max_total_output,
            budgets: self.budgets(),
            on_budget: run.on_budget,
        }
    }

    fn defaults(&mut self) {
        let defaults = &self.spec.defaults;
        let path = Path::from("defaults");
        self.timeout(defaults.timeout, &path);
        self.silence_timeout(defaults.silence_timeout, &path);
        self.verify(defaults.verify.as_deref().unwrap_or_default(), &path);
        self.env(&defaults.env, &path);
        self.named(self.defaults_name(), &path);
        self.template_exists(defaults.template.as_deref(), &path);
        self.texts();
    }

    fn epics(&mut self) -> Vec<Epic> {
        let spec = self.spec;
        let mut epics = Vec::with_capacity(spec.epics.len());
        for (index, epic) in spec.epics.iter().enumerate() {
            let path = Path::element("epic", index);
            let agents = Named {
                agent: epic.agent.as_ref(),
                fallbacks: epic.fallback_agents.as_ref(),
                model: epic.model.as_ref(),
            };
            self.named(agents, &path);
            let path = path.then("needs");
            let mut needs = Vec::with_capacity(epic.needs.len());
            for (at, id) in epic.needs.iter().enumerate() {
                let here = || path.then(at);
                if *id == epic.id {
                    let finding = Finding::new(here(), format!("epic `{id}` needs itself"));
                    self.report(finding.help("remove it from `needs`"));
                } else if let Some(found) = self.epics.get(id) {
                    needs.push(*found);
                } else {
                    self.missing(
                        "epic",
                        id.as_str(),
                        here(),
                        Some("add an `[[epic]]` with this id"),
                    );
                }
            }
            needs.sort_unstable();
            needs.dedup();
            self.template_exists(epic.template.as_deref(), &Path::element("epic", index));
            epics.push(Epic {
                id: epic.id.clone(),
                title: epic.title.clone(),
                needs,
                tasks: Vec::new(),
            });
        }
        epics
    }

    /// Reports a reference to nothing, unless what it means is there and could not be read.
    fn missing(&mut self, kind: &'static str, id: &str, path: Path, otherwise: Option<&str>) {
        let list = if kind == "agent" { "agents" } else { kind };
        if self.origin.declares(list, id) {
            return;
        }
        let spec = self.spec;
        let near = if self.findings.len() >= MAX_SUGGESTIONS {
            None
        } else {
            match kind {
                "task" => nearest(id, spec.tasks.iter().map(|task| task.id.as_str())),
                "epic" => nearest(id, spec.epics.iter().map(|epic| epic.id.as_str())),
                _ => nearest(id, spec.agents.keys().map(|name| name.as_str())),
            }
        };
        let mut finding = Finding::new(path, format!("there is no {kind} `{id}`"));
        finding.help = match near {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => otherwise.map(Into::into),
        };
        self.report(finding);
    }

    fn timeout(&mut self, timeout: Option<Span>, parent: &Path) {
        if timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            let finding = Finding::new(
                parent.then("timeout"),
                "a timeout of zero ends every attempt at once",
            );
            self.report(finding.help("write for example 30m, or leave it out for 1h"));
        }
    }

    fn silence_timeout(&mut self, timeout: Option<Span>, parent: &Path) {
        if timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            let finding = Finding::new(
                parent.then("silence_timeout"),
                "a silence timeout of zero ends every attempt at once",
            );
            self.report(finding.help("write for example 30m, or leave it out"));
        }
    }

    fn verify(&mut self, lines: &[CommandLine], parent: &Path) {
        for (at, line) in lines.iter().enumerate() {
            self.command(line, &parent.then("verify").then(at));
        }
    }

    /// A command must name a program, and no argument can hold a NUL.
    fn command(&mut self, command: &CommandLine, path: &Path) {
        let (is_empty, has_nul) = match command {
            CommandLine::Shell(line) => (line.trim().is_empty(), line.contains('\0')),
            CommandLine::Argv(argv) => (
                argv.first().is_none_or(|program| program.is_empty()),
                argv.iter().any(|argument| argument.contains('\0')),
            ),
        };
        if is_empty && !self.origin.is_damaged(path) {
            let finding = Finding::new(path.clone(), "the command is empty");
            self.report(
                finding.help("write a shell line, or a list of a program and its arguments"),
            );
        }
        if has_nul {
            let finding = Finding::new(path.clone(), "the command contains a NUL character");
            self.report(finding.help("remove it: no program can be given one"));
        }
    }

    /// Text that becomes an argument.
    fn text(&mut self, text: &str, key: &'static str, parent: &Path) {
        if text.trim().is_empty() {
            let finding = Finding::new(parent.then(key), format!("the {key} is empty"));
            self.report(finding.help(format!("write one, or remove `{key}`")));
        }
        if text.contains('\0') {
            let finding =
                Finding::new(parent.then(key), format!("the {key} contains a NUL character"));
            self.report(finding.help("remove it: no program can be given one"));
        }
    }

    fn env(&mut self, env: &BTreeMap<String, String>, parent: &Path) {
        for (name, value) in env {
            let path = || parent.then("env").then(name.clone());
            if let Err((message, help)) = names::variable(name) {
                self.report(Finding::new(path(), message).on_key().help(help));
            }
            if value.contains('\0') {
                let finding =
                    Finding::new(path(), format!("the value of `{name}` contains a NUL character"));
                self.report(finding.help("remove it: no program can be given one"));
            }
        }
    }

    fn task_spec(&self, index: usize) -> (&'a TaskSpec, Path) {
        (&self.spec.tasks[index], Path::element("task", index))
    }
}

fn duplicate(list: &'static str, index: usize, first: usize, id: &str) -> Finding {
    let path = |index| Path::element(list, index).then("id");
    Finding::new(path(index), format!("there are two {list}s with the id `{id}`"))
        .label("used again here")
        .help("rename one of them")
        .related(path(first), "first used here")
}

#[cfg(test)]
mod tests;
