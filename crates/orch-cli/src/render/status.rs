//! `orch status`: what runs, why the rest waits, what has ended.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
};

use orch_model::{
    BudgetStop, Progress, RunState, RunStatus, TaskId, TaskState, Timestamp,
    budget::grouped,
    run::{Breaker, Slowdown, TaskRun},
    state::{Merged, SkipReason},
    usage::Usage,
};

use super::{BAD, DIM, GOOD, STRONG, WARN, count, events, one_line, summary, time};

/// How many tasks of a kind are shown unless all are asked for.
const SHOWN: usize = 30;

/// A run under way, as its orchestrator tells.
pub(crate) fn live(state: &RunState, progress: &Progress, all: bool) -> String {
    let limit = if all { usize::MAX } else { SHOWN };
    let width = width(state);
    let mut out = String::new();
    let eta = progress.eta.filter(|eta| !eta.is_zero());
    let eta = eta.map_or_else(String::new, |eta| format!(", at least {} left", time(eta)));
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "{STRONG}run {}{STRONG:#} {}: {:.0} % of {}, wave {} of {}, for {}{eta}",
        progress.run,
        events::status(progress.status),
        progress.percent_complete().floor(),
        count(progress.counts.total, "task"),
        progress.current_wave,
        progress.waves,
        time(progress.at.since(progress.started_at)),
    );
    let full = state.header.settings.max_concurrency;
    limits(
        &mut out,
        (progress.max_concurrency, full),
        progress.slowdown.as_ref(),
        &progress.breakers,
        progress.at,
    );
    budgets(&mut out, state, &progress.budget_stops);
    section(
        &mut out,
        "Running",
        progress.running.len(),
        limit,
        progress.running.iter().map(|task| {
            let process =
                task.pid.map_or_else(String::new, |pid| format!("  {DIM}process {pid}{DIM:#}"));
            let attempt = match task.attempt {
                1 => String::new(),
                n => format!(" (attempt {n})"),
            };
            let by = task
                .by
                .as_ref()
                .map_or_else(String::new, |by| format!(" by {}", one_line(&by.to_string())));
            let used = state.index_of(&task.task).map(|index| state.task(index).used());
            format!(
                "{:width$}  {}{attempt}{} for {}{}{process}",
                task.task,
                task.state,
                by,
                time(progress.at.since(task.since)),
                used.filter(|used| *used != Usage::default()).map_or_else(String::new, spent),
            )
        }),
    );
    section(
        &mut out,
        "Waiting",
        progress.waiting.len(),
        limit,
        progress.waiting.iter().map(|task| {
            format!("{:width$}  waits for {}", task.task, one_line(&task.reason.to_string()))
        }),
    );
    // The journal was read a moment later and may know of the end of a task shown above.
    let above: HashSet<&TaskId> = progress
        .running
        .iter()
        .map(|running| &running.task)
        .chain(progress.waiting.iter().map(|waiting| &waiting.task))
        .collect();
    let tasks =
        state.tasks.iter().filter(|task| task.state.is_terminal() && !above.contains(&task.id));
    ended(&mut out, tasks, limit, width);
    out.truncate(out.trim_end().len());
    out
}

/// A supervisor that does not look after its agents.
pub(crate) fn stuck(pid: u32) -> String {
    let cure = let_go_on(pid);
    format!("{WARN}Its supervisor (process {pid}) does not answer:{WARN:#} {cure}.")
}

/// What helps where a process does not answer.
pub(crate) fn let_go_on(pid: u32) -> String {
    format!("if somebody stopped it, `kill -CONT {pid}` lets it go on")
}

/// A run as its journal tells. `owner` is the process that is at work on it, where one is that
/// could not be asked.
pub(crate) fn at_rest(state: &RunState, owner: Option<u32>, now: Timestamp, all: bool) -> String {
    let limit = if all { usize::MAX } else { SHOWN };
    let width = width(state);
    let is_abandoned = owner.is_none() && !state.status.is_ended();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{STRONG}run {}{STRONG:#} {}, {} ago, after {}",
        state.run(),
        if is_abandoned { format!("{WARN}stopped{WARN:#}") } else { events::status(state.status) },
        time(now.since(state.updated_at)),
        time(state.updated_at.since(state.started_at)),
    );
    if let Some(pid) = owner {
        let cure = let_go_on(pid);
        let _ = writeln!(out, "Process {pid} is at work on it and does not answer; {cure}.");
    } else if is_abandoned {
        let _ = writeln!(
            out,
            "{WARN}Its orchestrator (process {}) is gone.{WARN:#} Continue it with `orch resume`.",
            state.pid
        );
    } else if state.status == RunStatus::Interrupted {
        let _ = writeln!(out, "Continue it with `orch resume`.");
    } else if state.status == RunStatus::Conflicted {
        let _ = writeln!(out, "{WARN}It waits for you{WARN:#}: see `orch conflicts`.");
    }
    if state.status.may_go_on() {
        let full = state.header.settings.max_concurrency;
        let now_at = state.concurrency.unwrap_or(full);
        limits(&mut out, (now_at, full), state.slowdown.as_ref(), &state.breakers, now);
        budgets(&mut out, state, &state.budget_stops);
    }
    let open: Vec<_> = state.tasks.iter().filter(|task| !task.state.is_terminal()).collect();
    section(
        &mut out,
        "Not ended",
        open.len(),
        limit,
        open.iter().map(|task| format!("{:width$}  {}", task.id, open_task(state, task))),
    );
    let tasks = state.tasks.iter().filter(|task| task.state.is_terminal());
    ended(&mut out, tasks, limit, width);
    if let Some(undone) = &state.undone {
        let _ = writeln!(out, "\n{}", events::undone(undone));
    } else if let Some(text) = state.delivery.as_ref().and_then(events::delivery) {
        let _ = writeln!(out, "\n{text}");
    }
    out.truncate(out.trim_end().len());
    out
}

/// What holds tasks back besides one another: fewer at a time than was asked for, open breakers.
fn limits(
    out: &mut String,
    (limit, full): (u32, u32),
    slowdown: Option<&Slowdown>,
    breakers: &BTreeMap<String, Breaker>,
    now: Timestamp,
) {
    if limit < full {
        let why = slowdown.map_or_else(String::new, |slowdown| {
            let ago = time(now.since(slowdown.at));
            format!(", since {ago} ago: {}", one_line(&slowdown.reason))
        });
        let _ = writeln!(out, "{WARN}{limit} at a time{WARN:#} instead of {full}{why}");
    }
    for (key, breaker) in breakers {
        let (key, reason) = (one_line(key), one_line(&breaker.reason));
        let when = if now < breaker.until {
            let pause = time(breaker.until.since(now));
            format!("is not started for {pause}, until {}", breaker.until)
        } else {
            "is tried again by one task".into()
        };
        let _ = writeln!(out, "{WARN}{key}{WARN:#} {when} ({reason})");
    }
}

/// What the attempts at a task have used so far.
fn spent(used: Usage) -> String {
    let tokens = used.input_tokens.saturating_add(used.output_tokens);
    format!(", {} tokens, {}", grouped(tokens), summary::cost(&used))
}

/// What is spent of which budget; where it stopped for one's sake, and how it goes on.
fn budgets(out: &mut String, state: &RunState, stops: &[BudgetStop]) {
    let open = state.budgets.iter().filter(|(scope, _)| stops.iter().all(|s| s.scope != **scope));
    for (scope, budget) in open.take(SHOWN) {
        let spent = state.spent(scope);
        let parts = budget.limits().map(|limit| format!("{} of {limit}", spent.like(limit)));
        let parts: Vec<_> = parts.collect();
        let _ = writeln!(out, "budget of {}: {} spent", scope.name(), parts.join(", "));
    }
    for stop in stops {
        let _ = writeln!(out, "{WARN}budget{WARN:#}: {}", summary::budget_stop(stop));
    }
}

fn width(state: &RunState) -> usize {
    state.tasks.iter().map(|task| task.id.as_str().len()).max().unwrap_or(0).min(28)
}

fn section(
    out: &mut String,
    heading: &str,
    count: usize,
    limit: usize,
    lines: impl Iterator<Item = String>,
) {
    if count == 0 {
        return;
    }
    let _ = writeln!(out, "\n{heading}");
    for line in lines.take(limit) {
        let _ = writeln!(out, "  {line}");
    }
    if count > limit {
        let _ = writeln!(out, "  ... and {} more (--all shows them)", count - limit);
    }
}

fn ended<'a>(
    out: &mut String,
    tasks: impl Iterator<Item = &'a TaskRun>,
    limit: usize,
    width: usize,
) {
    let mut ended: Vec<_> = tasks.collect();
    // What a person has to look at must not be folded away.
    ended.sort_by_key(|task| matches!(task.state, TaskState::Merged { .. }));
    section(
        out,
        "Ended",
        ended.len(),
        limit,
        ended.iter().map(|task| {
            let hint = task.state.failure().map_or("", |failure| failure.policy().hint);
            let hint = match hint {
                "" => String::new(),
                hint => format!("\n  {:width$}  {DIM}hint:{DIM:#} {hint}", ""),
            };
            format!("{:width$}  {}{hint}", task.id, result(task))
        }),
    );
}

/// Where a task stands whose run nobody is at work on.
fn open_task(state: &RunState, task: &TaskRun) -> String {
    match &task.state {
        TaskState::Backoff { failure, .. } => {
            format!("to be tried again: {}", one_line(&failure.to_string()))
        }
        active if active.is_active() => {
            format!("was {} (attempt {})", active.name(), task.attempts)
        }
        _ => {
            let written = state.header.plan.tasks.iter().find(|written| written.id == task.id);
            let open: Vec<&str> = written
                .into_iter()
                .flat_map(|written| written.needs.iter().chain(&written.after))
                .filter(|id| {
                    // What needs a task in conflict is skipped, unless a person is waited for.
                    let is_open = |state: &TaskState| {
                        !state.is_terminal() || matches!(state, TaskState::Conflicted { .. })
                    };
                    state.index_of(id).is_some_and(|index| is_open(&state.task(index).state))
                })
                .map(TaskId::as_str)
                .collect();
            match open.as_slice() {
                [] if task.attempts > 0 => "to be run again".into(),
                [] => "not started".into(),
                open => format!("waits for {}", open.join(", ")),
            }
        }
    }
}

fn result(task: &TaskRun) -> String {
    match &task.state {
        TaskState::Merged { result: Merged::Commit { merge_commit, .. }, .. } => {
            format!("{GOOD}merged{GOOD:#} {}", merge_commit.short())
        }
        TaskState::Merged { result: Merged::Kept { branch, .. }, .. } => {
            format!("{GOOD}done{GOOD:#}, on branch {}", one_line(branch))
        }
        TaskState::Merged { .. } => format!("{GOOD}merged{GOOD:#}, nothing to merge"),
        TaskState::Failed { failure, .. } => {
            format!("{BAD}failed{BAD:#}: {}", one_line(&failure.to_string()))
        }
        TaskState::Conflicted { files, branch, .. } => format!(
            "{BAD}conflicted{BAD:#} in {}; branch {}",
            one_line(&files.join(", ")),
            one_line(branch)
        ),
        TaskState::Skipped { because: SkipReason::Dependency { task } } => {
            format!("{WARN}skipped{WARN:#}: {task} did not succeed")
        }
        TaskState::Skipped { because: SkipReason::RunStopped { task } } => {
            format!("{WARN}skipped{WARN:#}: the run stopped because {task} failed")
        }
        TaskState::Skipped { because: SkipReason::Budget { scope } } => {
            format!("{WARN}skipped{WARN:#}: the budget of {} is used up", scope.name())
        }
        TaskState::NeedsAttention { known, hint, .. } => {
            format!("{BAD}needs attention{BAD:#}: {}; {}", one_line(known), one_line(hint))
        }
        state => state.name().into(),
    }
}

#[cfg(test)]
mod tests;
