//! Events as lines for people.

use std::collections::HashMap;

use orch_model::{
    Event, EventKind, Hunk, TaskChange, TaskId, Timestamp, ValidPlan,
    event::{Delivery, Undone},
    outcome::Failure,
    state::{Attempt, Merged, RunStatus, SkipReason},
};

use super::{BAD, DIM, GOOD, STRONG, WARN, clean, count, one_line, time};

/// The widest column of task ids.
pub(super) const WIDEST: usize = 28;

/// How many lines of output are shown with a failure.
const OUTPUT_LINES: usize = 12;

/// Turns events to lines.
#[derive(Debug)]
pub(crate) struct Lines {
    begin: Option<Timestamp>,
    width: usize,
    /// The attempt under way of tasks that are not at their first.
    repeated: HashMap<TaskId, Attempt>,
    tasks: usize,
}

impl Lines {
    pub(crate) fn new(plan: &ValidPlan) -> Self {
        let longest = plan.tasks().iter().map(|task| task.id.as_str().len()).max();
        Self {
            begin: None,
            width: longest.unwrap_or(0).clamp(4, WIDEST),
            repeated: HashMap::new(),
            tasks: plan.tasks().len(),
        }
    }

    /// How wide the column of task ids is.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// What a person wants to know of an event; `None` where that is nothing.
    pub(crate) fn of(&mut self, event: &Event) -> Option<String> {
        let begin = *self.begin.get_or_insert(event.at);
        let text = match &event.kind {
            EventKind::RunStarted { header } => {
                let into = header.base.as_ref().map_or_else(String::new, |base| {
                    format!(" into {} at {}", one_line(&base.target), base.commit.short())
                });
                format!(
                    "run {}: {}{into}, {} at a time",
                    header.run,
                    count(self.tasks, "task"),
                    header.settings.max_concurrency
                )
            }
            EventKind::RunReopened { .. } => "the run goes on".into(),
            EventKind::Task { task, change } => return self.task(event.at, begin, task, change),
            EventKind::RunPaused { frozen: false } => {
                format!("{WARN}paused{WARN:#}: nothing new is started; `orch resume` goes on")
            }
            EventKind::RunPaused { frozen: true } => {
                format!("{WARN}frozen{WARN:#}: running agents stand still; `orch resume` goes on")
            }
            EventKind::RunResumed => "resumed".into(),
            EventKind::RunCancelling => format!("{WARN}cancelling{WARN:#}"),
            EventKind::BreakerOpened { key, until, reason } => {
                let pause = time(until.since(event.at));
                let reason = one_line(reason);
                format!("{WARN}{}{WARN:#} is not started for {pause}: {reason}", one_line(key))
            }
            EventKind::BreakerClosed { key } => format!("{} is started again", one_line(key)),
            EventKind::ConcurrencyChanged { limit, reason } => {
                format!("{limit} at a time from now on: {}", one_line(reason))
            }
            EventKind::CandidateMade { tasks, .. } => {
                let tasks: Vec<_> = tasks.iter().map(ToString::to_string).collect();
                format!("merge queue: verifies {} merged", tasks.join(" + "))
            }
            EventKind::CandidateVerified { passed: true, .. } => "merge queue: passed".into(),
            EventKind::CandidateVerified { passed: false, .. } => {
                format!("{WARN}merge queue: failed{WARN:#}")
            }
            EventKind::ConflictExpected { tasks: [one, other], files } if files.is_empty() => {
                format!("{one} and {other} don't conflict any more")
            }
            EventKind::ConflictExpected { tasks: [one, other], files } => {
                let files = one_line(&files.join(", "));
                format!("{WARN}warning{WARN:#}: {one} and {other} will conflict in {files}")
            }
            EventKind::BudgetReached { stop } => {
                format!("{WARN}budget{WARN:#}: {}", one_line(&stop.to_string()))
            }
            EventKind::BudgetChanged { change } => {
                format!("the budget of {} is {} now", change.scope.name(), change.budget)
            }
            EventKind::StartsHeld { shortage } => {
                let shortage = one_line(&shortage.to_string());
                format!("{WARN}nothing is started{WARN:#} for want of {shortage}")
            }
            EventKind::StartsResumed => "tasks are started again".into(),
            EventKind::Warning { task: None, message } => {
                format!("{WARN}warning{WARN:#}: {}", one_line(message))
            }
            EventKind::Warning { task: Some(task), message } => {
                let text = format!("{WARN}warning{WARN:#}: {}", one_line(message));
                return Some(self.line(event.at, begin, task, &text));
            }
            _ => return None,
        };
        Some(format!("{DIM}{:>7}{DIM:#}  {text}", time(event.at.since(begin))))
    }

    fn line(&self, at: Timestamp, begin: Timestamp, task: &TaskId, text: &str) -> String {
        let width = self.width;
        format!("{DIM}{:>7}{DIM:#}  {task:width$}  {text}", time(at.since(begin)))
    }

    fn task(
        &mut self,
        at: Timestamp,
        begin: Timestamp,
        task: &TaskId,
        change: &TaskChange,
    ) -> Option<String> {
        let text = match change {
            TaskChange::Leased { attempt, by } => {
                if *attempt > 1 {
                    self.repeated.insert(task.clone(), *attempt);
                }
                // What is as the plan says needs no saying.
                let by = by.as_ref().filter(|by| by.is_fallback)?;
                format!("by {}, {}", one_line(&by.to_string()), one_line(&by.reason))
            }
            TaskChange::Started { .. } => match self.repeated.get(task) {
                Some(attempt) => format!("started, attempt {attempt}"),
                None => "started".into(),
            },
            TaskChange::Merged { result: Merged::Commit { merge_commit, .. } } => {
                format!("{GOOD}merged{GOOD:#} {}", merge_commit.short())
            }
            TaskChange::Merged { result: Merged::Kept { branch, .. } } => {
                format!("{GOOD}done{GOOD:#}, on branch {}", one_line(branch))
            }
            TaskChange::Merged { .. } => format!("{GOOD}done{GOOD:#}, nothing to merge"),
            TaskChange::Conflicted { files, hunks, .. } => {
                let files = one_line(&files.join(", "));
                let text = format!("{BAD}conflicts{BAD:#} with the target in {files}");
                self.with_hunks(text, hunks)
            }
            TaskChange::Resolving { files, .. } => {
                let files = one_line(&files.join(", "));
                format!("{WARN}conflicts{WARN:#} in {files}; the resolver is at work")
            }
            TaskChange::ResolvingEnded { resolved: true, .. } => {
                "its conflicts are resolved".into()
            }
            TaskChange::ResolvingEnded { resolved: false, .. } => {
                format!("{WARN}its conflicts are not resolved{WARN:#}")
            }
            TaskChange::Resolved => "its conflicts are resolved".into(),
            TaskChange::Retry { failure: Failure::Interrupted { message }, .. } => {
                format!("{WARN}stopped{WARN:#}: {}", one_line(message))
            }
            TaskChange::Retry { failure: failure @ Failure::Budget { .. }, .. } => {
                let why = one_line(&failure.to_string());
                format!("{WARN}ended{WARN:#}: {why}; its work is kept for the next attempt")
            }
            TaskChange::Retry { failure: failure @ Failure::Conflict { hunks, .. }, until } => {
                let pause = time(until.since(at));
                let said = one_line(&failure.to_string());
                let text = format!("{WARN}{said}{WARN:#}; begins anew on the results in {pause}");
                self.with_hunks(text, hunks)
            }
            TaskChange::Retry { failure, until } => {
                let next = if failure.policy().opens_breaker {
                    "once it is started again".into()
                } else {
                    format!("in {}", time(until.since(at)))
                };
                self.with_output(
                    format!(
                        "{WARN}failed{WARN:#}: {}; next attempt {next}",
                        one_line(&failure.to_string())
                    ),
                    failure,
                )
            }
            TaskChange::Failed { failure } => {
                let text = format!("{BAD}failed{BAD:#}: {}", one_line(&failure.to_string()));
                let mut text = self.with_output(text, failure);
                let hint = failure.policy().hint;
                if !hint.is_empty() {
                    text.push_str(&format!("\n{:1$}hint: {hint}", "", self.indent()));
                }
                text
            }
            TaskChange::Cancelled => format!("{WARN}cancelled{WARN:#}"),
            TaskChange::Skipped { because: SkipReason::Dependency { task } } => {
                format!("{WARN}skipped{WARN:#}: {task}, which it needs, did not succeed")
            }
            TaskChange::Skipped { because: SkipReason::RunStopped { task } } => {
                format!("{WARN}skipped{WARN:#}: the run stops because {task} failed")
            }
            TaskChange::Skipped { because: SkipReason::Budget { scope } } => {
                format!("{WARN}skipped{WARN:#}: the budget of {} is used up", scope.name())
            }
            TaskChange::Lost { known, hint } => {
                format!("{BAD}needs attention{BAD:#}: {}; {}", one_line(known), one_line(hint))
            }
            _ => return None,
        };
        Some(self.line(at, begin, task, &text))
    }

    /// Where the text of a task's line begins.
    const fn indent(&self) -> usize {
        9 + self.width + 2
    }

    /// The first lines of what is in conflict.
    fn with_hunks(&self, mut text: String, hunks: &[Hunk]) -> String {
        let lines = hunks.iter().flat_map(|hunk| {
            let place = match hunk.line {
                Some(line) => format!("{}, line {line}", one_line(&hunk.file)),
                None => one_line(&hunk.file),
            };
            let shown = clean(&hunk.text);
            let lines: Vec<_> = shown.lines().map(str::to_owned).collect();
            std::iter::once(place).chain(lines)
        });
        let indent = self.indent();
        for line in lines.take(OUTPUT_LINES) {
            text.push_str(&format!("\n{:indent$}{DIM}| {line}{DIM:#}", ""));
        }
        text
    }

    fn with_output(&self, mut text: String, failure: &Failure) -> String {
        let output = clean(failure.output_tail());
        let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        let indent = self.indent();
        for line in &lines[lines.len().saturating_sub(OUTPUT_LINES)..] {
            text.push_str(&format!("\n{:indent$}{DIM}| {line}{DIM:#}", ""));
        }
        text
    }
}

/// That results were taken back, with what to type to have them again.
pub(crate) fn undone(undone: &Undone) -> String {
    format!(
        "{WARN}The run was undone{WARN:#}: {} is back at {}. What it did is kept as {}.",
        one_line(&undone.target),
        undone.to.short(),
        one_line(&undone.kept)
    )
}

/// Where the results stand, with what to type where they wait.
pub(crate) fn delivery(delivery: &Delivery) -> Option<String> {
    Some(match delivery {
        Delivery::Target { target, commit } => {
            format!("The results are in {GOOD}{}{GOOD:#} at {}.", one_line(target), commit.short())
        }
        Delivery::Waiting { target, branch, reason, hint, .. } => format!(
            "{WARN}The results are not in {} yet{WARN:#}: {}.\n\
             They wait on {STRONG}{}{STRONG:#}. To bring them in:\n\n    {STRONG}{}{STRONG:#}",
            one_line(target),
            one_line(reason),
            one_line(branch),
            one_line(hint)
        ),
        Delivery::Failed { target, branch, reason } => format!(
            "{BAD}The results could not be brought to {}{BAD:#}: {}.\n\
             They are safe on {STRONG}{}{STRONG:#}.",
            one_line(target),
            one_line(reason),
            one_line(branch)
        ),
        _ => return None,
    })
}

/// The status of a run in its colour.
pub(crate) fn status(status: RunStatus) -> String {
    let style = match status {
        RunStatus::Running | RunStatus::Succeeded => GOOD,
        RunStatus::Failed => BAD,
        _ => WARN,
    };
    format!("{style}{}{style:#}", status_name(status))
}

/// The status of a run for people.
pub(crate) const fn status_name(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Frozen => "frozen",
        RunStatus::Cancelling => "cancelling",
        RunStatus::Interrupting => "stopping",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Conflicted => "conflicted",
        RunStatus::OutOfBudget => "out of budget",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests;
