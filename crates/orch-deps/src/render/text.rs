//! A plan as a person reads it.

use std::fmt::Write as _;

use orch_model::{
    TaskIndex, ValidPlan,
    plan::{Task, spec::Schedule},
    tiers::Tiers,
};

use super::{
    RenderOptions,
    overview::{LockClash, LockKind, Overview, lock_clashes},
    words::{clip, count, grouped, list, pad, plain, time, width},
};
use crate::{
    conflict::{Clash, Conflicts},
    graph::{BoundBy, Graph},
};

/// The widest that the column of ids gets.
const MAX_ID: usize = 28;
/// How many tasks one line names before it says "and 12 more".
const MAX_NAMES: usize = 6;
/// How many tasks of the critical path are named at its start and at its end.
const PATH_ENDS: (usize, usize) = (16, 8);

/// Draws a plan as text: the waves as a tree, the critical path (its tasks marked with `*`), the
/// least time that a run takes, where estimates say anything about it, and the tasks that won't run
/// together. Tasks of a wave come in the order in which they would be started. No line is wider
/// than the options allow, except for what can't be cut without loss (ids of tasks in a list).
#[must_use]
pub fn text(plan: &ValidPlan, graph: &Graph, options: &RenderOptions) -> String {
    let overview = Overview::new(plan, graph, options.concurrency);
    let mut page = Page { plan, options, overview: &overview, out: String::new() };
    page.header();
    page.waves();
    page.critical_path();
    page.bounds();
    page.conflicts(graph);
    page.out
}

struct Page<'a> {
    plan: &'a ValidPlan,
    options: &'a RenderOptions,
    overview: &'a Overview,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn columns(&self) -> usize {
        self.options.columns.max(40)
    }

    const fn dots(&self) -> &'static str {
        if self.options.unicode { "…" } else { "..." }
    }

    /// What stands before an entry of a tree, and before what belongs to that entry.
    const fn branch(&self, last: bool) -> (&'static str, &'static str) {
        match (self.options.unicode, last) {
            (true, false) => ("├─ ", "│  "),
            (true, true) => ("└─ ", "   "),
            (false, false) => ("|- ", "|  "),
            (false, true) => ("`- ", "   "),
        }
    }

    fn id(&self, task: TaskIndex) -> &str {
        self.plan.task(task).id.as_str()
    }

    fn names(&self, tasks: &[TaskIndex]) -> String {
        list(tasks.iter().map(|task| self.id(*task)), MAX_NAMES)
    }

    fn header(&mut self) {
        let mut line = count(self.plan.tasks().len(), "task");
        if !self.plan.epics().is_empty() {
            line += &format!(" in {}", count(self.plan.epics().len(), "epic"));
        }
        line += &format!(", {}", count(self.overview.waves.len(), "wave"));
        if let Some(target) = &self.options.target {
            line += &format!("; into {}", plain(target));
        }
        line += &format!("; at most {} at a time", grouped(self.options.concurrency.max(1)));
        if self.plan.run().schedule == Some(Schedule::Waves) {
            line += ", wave by wave";
        }
        let line = clip(&line, self.columns(), self.dots());
        self.line(&line);
    }

    fn waves(&mut self) {
        let waves = &self.overview.waves;
        let limit = self.options.max_tasks_per_wave;
        let max_waves = self.options.max_waves;
        let shown = || waves.iter().take(max_waves).flat_map(|wave| wave.iter().take(limit));
        let id_width = shown().map(|t| self.id(*t).len()).max().unwrap_or(0).min(MAX_ID);
        let time_width = shown()
            .filter_map(|task| self.plan.task(*task).estimate)
            .map(|estimate| time(estimate).len())
            .max()
            .unwrap_or(0);
        for (number, wave) in waves.iter().enumerate().take(max_waves) {
            self.line("");
            self.line(&format!("wave {}: {}", grouped(number + 1), count(wave.len(), "task")));
            let shown = &wave[..wave.len().min(limit)];
            for (place, task) in shown.iter().enumerate() {
                self.task(*task, place + 1 == wave.len(), (id_width, time_width));
            }
            if shown.len() < wave.len() {
                let (branch, _) = self.branch(true);
                let more = grouped(wave.len() - shown.len());
                let dots = self.dots();
                self.line(&format!("{branch}{dots} and {more} more"));
            }
        }
        if waves.len() > max_waves {
            let more = count(waves.len() - max_waves, "wave");
            let dots = self.dots();
            self.line("");
            self.line(&format!("{dots} and {more} more"));
        }
    }

    fn task(&mut self, index: TaskIndex, last: bool, (id_width, time_width): (usize, usize)) {
        let task = self.plan.task(index);
        let (branch, below) = self.branch(last);
        let mark = if self.overview.is_critical[index.get()] { '*' } else { ' ' };
        let mut line = format!("{branch}{mark} {}", pad(task.id.as_str(), id_width));
        if time_width > 0 {
            let estimate = task.estimate.map(time).unwrap_or_default();
            let _ = write!(line, "  {estimate:>time_width$}");
        }
        if let Some(title) = &task.title {
            line += &format!("  {}", plain(title));
        }
        if let Some(epic) = task.epic {
            line += &format!("  [{}]", self.plan.epics()[epic.get()].id);
        }
        let waits = self.waits(task);
        let line = line.trim_end();
        if width(line) + 2 + width(&waits) <= self.columns() {
            self.line(&format!("{line}  {waits}"));
        } else {
            let (columns, dots) = (self.columns(), self.dots());
            self.line(&clip(line, columns, dots));
            self.line(&clip(&format!("{below}    {waits}"), columns, dots));
        }
        if let Some(who) = self.who(task) {
            let (columns, dots) = (self.columns(), self.dots());
            self.line(&clip(&format!("{below}    {who}"), columns, dots));
        }
    }

    /// `by codex (gpt-5): named by its epic; else by claude`; `None` for a command.
    fn who(&self, task: &Task) -> Option<String> {
        let choice = task.first_choice(self.plan.agents(), &Tiers)?;
        let mut who = format!("by {}: {}", plain(&choice.to_string()), plain(&choice.reason));
        let fallbacks: Vec<_> = task.candidates().skip(1).map(|one| one.to_string()).collect();
        if !fallbacks.is_empty() {
            who += &format!("; else by {}", plain(&list(fallbacks.iter(), MAX_NAMES)));
        }
        Some(who)
    }

    /// `needs schema and all of infra; after docs`, as the plan has it.
    fn waits(&self, task: &Task) -> String {
        let mut parts = Vec::new();
        let epics = task.epic.map_or(&[][..], |epic| &self.plan.epics()[epic.get()].needs);
        let epics = epics.iter().map(|e| format!("all of {}", self.plan.epics()[e.get()].id));
        let mut needs: Vec<_> = epics.collect();
        needs.extend(task.needs.iter().map(|needed| self.id(*needed).to_owned()));
        if !needs.is_empty() {
            parts.push(format!("needs {}", list(needs.iter(), MAX_NAMES)));
        }
        if !task.after.is_empty() {
            parts.push(format!("after {}", self.names(&task.after)));
        }
        parts.join("; ")
    }

    fn critical_path(&mut self) {
        let path = &self.overview.critical_path;
        if path.len() < 2 {
            return;
        }
        let mut parts: Vec<String> = path.iter().map(|task| self.id(*task).into()).collect();
        let (start, end) = PATH_ENDS;
        if parts.len() > start + end + 1 {
            let more = grouped(parts.len() - start - end);
            parts.splice(start..parts.len() - end, [format!("{} {more} more", self.dots())]);
        }
        let durations = &self.overview.durations;
        let known = durations.known_count();
        let unknown = self.plan.tasks().len() - known;
        let total = match (known, unknown) {
            (0, _) => count(path.len(), "task"),
            (_, 0) => time(self.overview.critical_time),
            _ => format!("about {}", time(self.overview.critical_time)),
        };
        self.line("");
        self.wrap("* critical path:", &parts, &format!(" ({total})"));
        if known > 0 && unknown > 0 {
            self.line(&format!(
                "  {} without an estimate: taken to last {}, the mean of the others",
                count(unknown, "task"),
                time(durations.assumed()),
            ));
        }
    }

    /// Writes a chain over as many lines as it takes.
    fn wrap(&mut self, head: &str, parts: &[String], tail: &str) {
        let mut line = head.to_owned();
        for (place, part) in parts.iter().enumerate() {
            let mut word = if place == 0 { part.clone() } else { format!("-> {part}") };
            if place + 1 == parts.len() {
                word += tail;
            }
            if place > 0 && width(&line) + 1 + width(&word) > self.columns() {
                self.line(&line);
                line = "   ".into();
            }
            line += &format!(" {word}");
        }
        self.line(&line);
    }

    fn bounds(&mut self) {
        if self.overview.durations.known_count() == 0 {
            return;
        }
        let bounds = &self.overview.bounds;
        let why = match bounds.by {
            BoundBy::CriticalPath => "the critical path".into(),
            BoundBy::Work => format!(
                "{} of work, {} at a time",
                time(bounds.work),
                grouped(self.options.concurrency.max(1))
            ),
        };
        self.line("");
        self.line(&format!(
            "by these estimates a run takes at least {}: {why}",
            time(bounds.lower)
        ));
    }

    fn conflicts(&mut self, graph: &Graph) {
        let conflicts = Conflicts::new(self.plan);
        let limit = self.options.max_conflicts;
        let mut clashes = conflicts.clashes(graph);
        let mut lines: Vec<_> = clashes.by_ref().take(limit).map(|c| self.clash(&c)).collect();
        let mut more = clashes.next().is_some();
        let locks = lock_clashes(self.plan, graph);
        more |= locks.len() > limit;
        lines.extend(locks.iter().take(limit).map(|clash| self.lock(clash)));
        if lines.is_empty() {
            return;
        }
        if more {
            lines.push(format!("{} and more", self.dots()));
        }
        self.line("");
        self.line("conflicts:");
        for (place, line) in lines.iter().enumerate() {
            let (branch, _) = self.branch(place + 1 == lines.len());
            self.line(&clip(&format!("{branch}{line}"), self.columns(), self.dots()));
        }
    }

    fn clash(&self, clash: &Clash) -> String {
        let glob = plain(&clash.glob);
        let names = self.names(&clash.tasks);
        let (claim, both) = match clash.tasks.len() {
            1 => ("claims", ""),
            2 => ("claim", "both "),
            _ => ("claim", "all "),
        };
        match &clash.other {
            None => format!("{names} {both}{claim} {glob}: they won't run together"),
            Some((other, others)) => {
                let their = if others.len() == 1 { "claims" } else { "claim" };
                let (others, other) = (self.names(others), plain(other));
                format!(
                    "{names} {claim} {glob} and {others} {their} {other}: they won't run together"
                )
            }
        }
    }

    fn lock(&self, clash: &LockClash) -> String {
        let (name, names) = (&clash.name, self.names(&clash.tasks));
        match &clash.kind {
            LockKind::Exclusive => format!("{names} hold the lock {name}: one at a time"),
            LockKind::Mixed(alone) => {
                let want = if alone.len() == 1 { "wants" } else { "want" };
                let alone = self.names(alone);
                format!("{names} hold the lock {name}, which {alone} {want} alone")
            }
            LockKind::Counted(wanted, of) => {
                format!("{names} take {wanted} units of the lock {name}, which has {of}")
            }
        }
    }
}
