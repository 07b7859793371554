//! The end of a run, for people.

use std::fmt::Write;

use orch_model::{BudgetStop, Money, Report, RunStatus, report::TaskReport, usage::Usage};

use super::{BAD, DIM, STRONG, WARN, events, one_line, time};

/// How many tasks that did not succeed are listed.
const LISTED: usize = 50;

/// What became of a run, what was kept, and what to type next.
pub(crate) fn of(report: &Report) -> String {
    let mut out = String::new();
    let length = time(std::time::Duration::from_secs_f64(report.wall_seconds.max(0.0)));
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "{STRONG}run {}{STRONG:#} {} in {length}: {}",
        report.run_id,
        events::status(report.status),
        counts(report)
    );
    // Of those that have not ended, the counts say enough.
    let unmerged: Vec<_> = report
        .tasks
        .iter()
        .filter(|task| task.finished_at.is_some() && task.status != "merged")
        .collect();
    let width = unmerged.iter().take(LISTED).map(|task| task.id.as_str().len()).max().unwrap_or(0);
    let width = width.min(super::events::WIDEST);
    if !unmerged.is_empty() {
        out.push('\n');
    }
    for task in unmerged.iter().take(LISTED) {
        out.push_str(&unsuccessful(task, width));
    }
    if unmerged.len() > LISTED {
        let _ =
            writeln!(out, "  ... and {} more; see `orch status --all`", unmerged.len() - LISTED);
    }
    if let Some(text) = report.delivery.as_ref().and_then(events::delivery) {
        let _ = writeln!(out, "\n{text}");
    }
    let usage = &report.usage;
    if *usage != Usage::default() {
        let _ = writeln!(
            out,
            "Tokens: {} in, {} out; cost: {}.",
            usage.input_tokens,
            usage.output_tokens,
            cost(usage)
        );
    }
    if report.status != RunStatus::Succeeded {
        for stop in &report.budget_stops {
            let _ = writeln!(out, "\n{WARN}It stopped at a budget{WARN:#}: {}.", budget_stop(stop));
        }
    }
    if report.status == RunStatus::Interrupted {
        let _ = writeln!(out, "\nContinue it with {STRONG}orch resume{STRONG:#}.");
    }
    if report.status == RunStatus::Conflicted {
        let _ = writeln!(
            out,
            "\nIt waits for you: {STRONG}orch conflicts{STRONG:#}, {STRONG}orch resolve TASK\
             {STRONG:#}, then {STRONG}orch resume{STRONG:#}."
        );
    }
    out.truncate(out.trim_end().len());
    out
}

/// Where a run stopped for a budget's sake, and what to type.
pub(super) fn budget_stop(stop: &BudgetStop) -> String {
    let said = one_line(&stop.to_string());
    match &stop.unknown {
        None => format!("{said}; {STRONG}orch resume {}{STRONG:#} goes on", stop.cure()),
        Some(worker) => {
            let worker = one_line(&worker.to_string());
            format!("{said}; {STRONG}orch resume{STRONG:#} goes on without counting {worker}")
        }
    }
}

/// What was spent, in cents; what nobody knows the price of is not passed off as free.
pub(super) fn cost(usage: &Usage) -> String {
    let dollars = format!("{:.2}", Money(usage.cost_micro_usd));
    match (usage.unpriced_tokens, usage.cost_micro_usd) {
        (0, _) => dollars,
        (_, 0) => "unknown".into(),
        (unpriced, _) => format!("{dollars}, and that of {unpriced} tokens, which is unknown"),
    }
}

fn counts(report: &Report) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for task in &report.tasks {
        let status = if task.finished_at.is_some() { &task.status } else { "not ended" };
        match counts.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => counts.push((status, 1)),
        }
    }
    counts.sort_by_key(|(status, _)| *status != "merged");
    let parts: Vec<_> = counts
        .iter()
        .map(|(status, count)| format!("{count} {}", status.replace('_', " ")))
        .collect();
    parts.join(", ")
}

/// A task that was not merged: why, what was kept and what to type next.
fn unsuccessful(task: &TaskReport, width: usize) -> String {
    let mut out = String::new();
    let style = match task.status.as_str() {
        "failed" | "conflicted" | "needs_attention" => BAD,
        _ => WARN,
    };
    let status = task.status.replace('_', " ");
    let reason = match &task.error {
        Some(error) if *error != status => format!(": {}", one_line(error)),
        _ => String::new(),
    };
    let attempts = match task.attempts {
        0 | 1 => String::new(),
        n => format!(" after {n} attempts"),
    };
    let _ = writeln!(out, "  {:width$}  {style}{status}{style:#}{attempts}{reason}", task.id);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {:width$}    {DIM}{name:<8}{DIM:#}  {value}", "");
    };
    if let Some(hint) = &task.hint {
        line("hint", hint);
    }
    if let Some(worktree) = &task.worktree {
        line("worktree", &one_line(&worktree.display().to_string()));
    }
    if let Some(branch) = &task.branch {
        line("branch", &one_line(branch));
        if task.status == "conflicted" {
            line("merge", &format!("git merge {}", one_line(branch)));
        }
    }
    if task.started_at.is_some() {
        line("output", &format!("orch logs {}", task.id));
    }
    out
}

#[cfg(test)]
mod tests;
