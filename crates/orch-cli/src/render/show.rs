//! `orch show`: what a task did, for people.

use std::fmt::Write;

use orch_exec::review::{TaskReview, TaskWork, Verification};
use orch_model::{
    attempts::AttemptRecord, event::TaskChange, outcome::ExitStatus, state::Merged, usage::Usage,
};

use super::{BAD, DIM, GOOD, STRONG, WARN, clean, count, events, one_line, summary, time};

/// How many commits, and how many files, are listed.
const LISTED: usize = 30;
/// How many lines of a verification's output are shown.
const LINES: usize = 12;

pub(crate) fn task(found: &TaskReview) -> String {
    let (task, run) = (&found.task, &found.run);
    let mut out = String::new();
    let style = match task.status.as_str() {
        "merged" => GOOD,
        "failed" | "conflicted" | "needs_attention" => BAD,
        _ => WARN,
    };
    let status = task.status.replace('_', " ");
    // Writing to a string can't fail.
    let _ =
        writeln!(out, "{STRONG}task {}{STRONG:#} of run {run}: {style}{status}{style:#}", task.id);
    if let Some(title) = &found.title {
        let _ = writeln!(out, "{}", one_line(title));
    }
    if let Some(error) = task.error.as_ref().filter(|error| **error != status) {
        let _ = writeln!(out, "{}", one_line(error));
    }
    if let Some(undone) = &found.undone {
        let _ = writeln!(out, "{}", events::undone(undone));
    }
    attempts(&mut out, &found.attempts);
    if let Some(work) = &found.work {
        self::work(&mut out, work);
    }
    places(&mut out, found);
    found.verifications.iter().for_each(|verification| verified(&mut out, verification));
    cost(&mut out, &task.usage, task.agent_seconds);
    heading(&mut out, "Next");
    for (command, what) in hints(found) {
        let _ = writeln!(out, "  {STRONG}{command}{STRONG:#}  {DIM}{what}{DIM:#}");
    }
    out.truncate(out.trim_end().len());
    out
}

fn heading(out: &mut String, text: &str) {
    let _ = writeln!(out, "\n{text}");
}

fn attempts(out: &mut String, attempts: &[AttemptRecord]) {
    if attempts.is_empty() {
        return;
    }
    heading(out, "Attempts");
    for attempt in attempts {
        let ran = match attempt.agent_time {
            Some(length) => format!(", agent {}", time(length.0)),
            None => String::new(),
        };
        let took = attempt.ended_at.map(|end| time(end.since(attempt.began_at)));
        let took = took.map_or_else(String::new, |took| format!("  {DIM}{took}{ran}{DIM:#}"));
        let _ = writeln!(out, "  {}  {}{took}", attempt.attempt, end(attempt));
        if let Some(by) = &attempt.by {
            let (who, why) = (one_line(&by.to_string()), one_line(&by.reason));
            let _ = writeln!(out, "     by {who}  {DIM}{why}{DIM:#}");
        }
    }
}

/// How an attempt ended.
fn end(attempt: &AttemptRecord) -> String {
    match &attempt.end {
        None => "goes on, or was cut off".into(),
        Some(TaskChange::Merged { result: Merged::Nothing }) => {
            format!("{GOOD}done{GOOD:#}, nothing to merge")
        }
        Some(TaskChange::Merged { .. }) => format!("{GOOD}merged{GOOD:#}"),
        Some(TaskChange::Conflicted { files, .. }) => {
            format!("{BAD}conflicted{BAD:#} in {}", one_line(&files.join(", ")))
        }
        Some(TaskChange::Retry { failure, .. } | TaskChange::Failed { failure }) => {
            let class = failure.class().replace('_', " ");
            format!("{BAD}failed{BAD:#} ({class}): {}", one_line(&failure.to_string()))
        }
        Some(TaskChange::Cancelled) => match attempt.exit {
            Some(exit @ ExitStatus::Signal(_)) => format!("{WARN}cancelled{WARN:#} ({exit})"),
            _ => format!("{WARN}cancelled{WARN:#}"),
        },
        Some(TaskChange::Lost { known, .. }) => {
            format!("{BAD}needs attention{BAD:#}: {}", one_line(known))
        }
        Some(_) => String::new(),
    }
}

fn work(out: &mut String, work: &TaskWork) {
    let changes = &work.changes;
    if !changes.commits.is_empty() {
        heading(out, &count(changes.commits.len(), "commit"));
        for commit in changes.commits.iter().take(LISTED) {
            let (author, subject) = (one_line(&commit.author), one_line(&commit.subject));
            let _ = writeln!(out, "  {}  {subject}  {DIM}{author}{DIM:#}", commit.id.short());
        }
        more(out, changes.commits.len());
    }
    if changes.files.is_empty() {
        return;
    }
    let (added, removed) = changes
        .files
        .iter()
        .filter_map(|file| file.lines)
        .fold((0, 0), |(a, r), (added, removed)| (a + added, r + removed));
    let not_committed = if changes.uncommitted { ", not all of it committed" } else { "" };
    let files = count(changes.files.len(), "file");
    heading(out, &format!("{files}, {GOOD}+{added}{GOOD:#} {BAD}-{removed}{BAD:#}{not_committed}"));
    for file in changes.files.iter().take(LISTED) {
        let lines = match file.lines {
            Some((added, removed)) => {
                format!("{:>6} {:>6}", format!("+{added}"), format!("-{removed}"))
            }
            None => format!("{:>13}", "binary"),
        };
        let from = file.old_path.as_ref();
        let from = from.map_or_else(String::new, |old| format!("{} -> ", one_line(old)));
        let _ = writeln!(out, "  {lines}  {from}{}", one_line(&file.path));
    }
    more(out, changes.files.len());
}

fn more(out: &mut String, all: usize) {
    if all > LISTED {
        let _ = writeln!(out, "  ... and {} more (--json has them)", all - LISTED);
    }
}

/// Where the work is, and the output.
fn places(out: &mut String, found: &TaskReview) {
    let mut lines = Vec::new();
    if let Some(merge) = &found.task.merge_commit {
        lines.push(("merged by", merge.to_string()));
    }
    if let Some(work) = &found.work {
        if let Some(worktree) = &work.worktree {
            lines.push(("worktree", one_line(&worktree.display().to_string())));
        }
        if work.base != work.tip {
            let range = format!("{}..{}", work.base.short(), work.tip.short());
            lines.push(("range", range));
        }
    }
    for reference in &found.references {
        let name = one_line(reference.name.strip_prefix("refs/heads/").unwrap_or(&reference.name));
        let kind = if reference.name.starts_with("refs/heads/") { "branch" } else { "kept as" };
        lines.push((kind, format!("{name} at {}", reference.commit.short())));
    }
    lines.extend(found.logs.iter().map(|log| ("output", one_line(&log.display().to_string()))));
    if lines.is_empty() {
        return;
    }
    heading(out, "Where");
    for (name, value) in lines {
        let _ = writeln!(out, "  {DIM}{name:<9}{DIM:#}  {value}");
    }
}

fn verified(out: &mut String, verification: &Verification) {
    let of = if verification.of_merged { " of the merged result" } else { "" };
    heading(out, &format!("Verification{of}: {}", one_line(&verification.command)));
    let text = clean(&verification.tail);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        let _ = writeln!(out, "  {DIM}it printed nothing{DIM:#}");
    }
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        let _ = writeln!(out, "  {DIM}| {line}{DIM:#}");
    }
}

fn cost(out: &mut String, usage: &Usage, agent_seconds: f64) {
    if *usage == Usage::default() && agent_seconds == 0.0 {
        return;
    }
    heading(out, "Cost");
    let length = time(std::time::Duration::from_secs_f64(agent_seconds.max(0.0)));
    let _ = writeln!(out, "  agents ran for {length}");
    if *usage != Usage::default() {
        let _ = writeln!(
            out,
            "  {} tokens in ({} from a cache), {} out; {}",
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            summary::cost(usage)
        );
    }
}

/// What to type next.
fn hints(found: &TaskReview) -> Vec<(String, String)> {
    let (id, run) = (&found.task.id, &found.run);
    let mut hints = Vec::new();
    let mut hint = |command: String, what: &str| hints.push((command, what.to_owned()));
    if found.work.is_some() {
        hint(format!("orch diff {id} --run {run}"), "what it changed");
    }
    if !found.logs.is_empty() {
        hint(format!("orch logs {id} --run {run}"), "what it printed");
    }
    if let (Some(work), "conflicted" | "failed" | "cancelled") =
        (&found.work, found.task.status.as_str())
    {
        match &found.task.branch {
            Some(branch) if !work.changes.uncommitted => {
                hint(format!("git merge {}", one_line(branch)), "takes its work by hand");
            }
            _ => hint(format!("orch diff {id} --run {run} | git apply"), "takes its work by hand"),
        }
        hint(format!("orch keep {id} --run {run}"), "keeps it from `orch gc`");
    }
    if let Some(text) = &found.task.hint {
        hints.push(("hint:".into(), text.clone()));
    }
    if hints.is_empty() {
        hints.push((format!("orch status {run}"), "where the run stands".into()));
    }
    hints
}
