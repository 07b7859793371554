//! The end of a run, for people.

use std::fmt::Write;

use orch_model::{Report, RunStatus, report::TaskReport};

use super::{BAD, STRONG, WARN, clean, events, time};

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
    let unmerged: Vec<_> = report.tasks.iter().filter(|task| task.status != "merged").collect();
    for task in unmerged.iter().take(LISTED) {
        out.push_str(&unsuccessful(task));
    }
    if unmerged.len() > LISTED {
        let _ =
            writeln!(out, "  ... and {} more; see `orch status --all`", unmerged.len() - LISTED);
    }
    if let Some(text) = report.delivery.as_ref().and_then(events::delivery) {
        let _ = writeln!(out, "{text}");
    }
    let usage = &report.usage;
    if usage.input_tokens + usage.output_tokens > 0 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let dollars = usage.cost_micro_usd as f64 / 1e6;
        let _ = writeln!(
            out,
            "Tokens: {} in, {} out; cost: {dollars:.2} USD.",
            usage.input_tokens, usage.output_tokens
        );
    }
    if report.status == RunStatus::Interrupted {
        let _ = writeln!(out, "Continue it with `orch resume`.");
    }
    out.truncate(out.trim_end().len());
    out
}

fn counts(report: &Report) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for task in &report.tasks {
        match counts.iter_mut().find(|(status, _)| *status == task.status) {
            Some((_, count)) => *count += 1,
            None => counts.push((&task.status, 1)),
        }
    }
    counts.sort_by_key(|(status, _)| *status != "merged");
    let parts: Vec<_> = counts
        .iter()
        .map(|(status, count)| format!("{count} {}", status.replace('_', " ")))
        .collect();
    parts.join(", ")
}

fn unsuccessful(task: &TaskReport) -> String {
    let mut out = String::new();
    let style = match task.status.as_str() {
        "failed" | "conflicted" | "needs_attention" => BAD,
        _ => WARN,
    };
    let status = task.status.replace('_', " ");
    let reason = match &task.error {
        Some(error) if *error != status => format!(": {}", clean(error)),
        _ => String::new(),
    };
    let _ = writeln!(out, "  {}  {style}{status}{style:#}{reason}", task.id);
    if let Some(worktree) = &task.worktree {
        let _ = writeln!(out, "      worktree  {}", clean(&worktree.display().to_string()));
    }
    if let Some(branch) = &task.branch {
        let _ = writeln!(out, "      branch    {}", clean(branch));
    }
    if task.output_tail.is_some() {
        let _ = writeln!(out, "      output    orch logs {}", task.id);
    }
    out
}
