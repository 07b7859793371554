//! The screen while a run goes on: lines that scroll, and below them, on a terminal, a line for each
//! running task and a progress bar.

use std::{collections::BTreeMap, io::Write, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use orch_model::{Progress, TaskId};

use super::{clean, time};

/// How often the figures move while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Where lines for people go.
#[derive(Debug)]
pub(crate) enum Screen {
    /// Nowhere: the standard output is for programs.
    Silent,
    /// To the standard output, one after the other.
    Plain,
    /// Above a live view.
    Live(View),
}

impl Screen {
    /// Shows a line, which may have several rows.
    pub(crate) fn line(&self, line: &str) {
        match self {
            Self::Silent => {}
            // A closed pipe must not end a run.
            Self::Plain => {
                let _ = writeln!(anstream::stdout(), "{line}");
            }
            Self::Live(view) => {
                let _ = view.bars.println(line);
            }
        }
    }

    /// Tells a person something that is no event, whatever the standard output is for.
    pub(crate) fn note(&self, text: &str) {
        match self {
            Self::Live(_) => self.line(&format!("orch: {text}")),
            _ => anstream::eprintln!("orch: {text}"),
        }
    }

    /// Brings the live view up to date.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        if let Self::Live(view) = self {
            view.update(progress);
        }
    }

    /// Takes the live view away.
    pub(crate) fn close(&self) {
        if let Self::Live(view) = self {
            let _ = view.bars.clear();
        }
    }
}

/// The live view.
#[derive(Debug)]
pub(crate) struct View {
    bars: MultiProgress,
    overall: ProgressBar,
    running: BTreeMap<TaskId, ProgressBar>,
    /// Of the column of task ids.
    width: usize,
}

impl View {
    /// A view whose column of task ids has this width.
    pub(crate) fn new(width: usize) -> Self {
        let bars = MultiProgress::new();
        let overall = bars.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("{bar:24.green/dim} {percent:>3}%  {wide_msg}");
        overall.set_style(style.expect("the template is right").progress_chars("━╸─"));
        overall.enable_steady_tick(TICK);
        Self { bars, overall, running: BTreeMap::new(), width }
    }

    fn update(&mut self, progress: &Progress) {
        let width = self.width;
        self.running.retain(|task, bar| {
            let stays = progress.running.iter().any(|running| running.task == *task);
            if !stays {
                bar.finish_and_clear();
                self.bars.remove(bar);
            }
            stays
        });
        for running in &progress.running {
            let bar = self.running.entry(running.task.clone()).or_insert_with(|| {
                let bar = self.bars.insert_before(&self.overall, ProgressBar::new_spinner());
                let style = ProgressStyle::with_template(
                    "{spinner:.cyan} {prefix:.bold}  {wide_msg} {elapsed:>5.dim}",
                );
                bar.set_style(style.expect("the template is right"));
                bar.set_prefix(format!("{:width$}", running.task));
                bar.enable_steady_tick(TICK);
                bar
            });
            let attempt = match running.attempt {
                1 => String::new(),
                n => format!(" (attempt {n})"),
            };
            let title = match running.title.as_str() {
                title if title == running.task.as_str() => String::new(),
                title => format!("  {}", clean(title).replace('\n', " ")),
            };
            bar.set_message(format!("{}{attempt}{title}", running.state));
        }
        let counts = &progress.counts;
        self.overall.set_length(counts.total as u64);
        self.overall.set_position(counts.ended() as u64);
        let mut parts = vec![format!("{}/{} merged", counts.merged, counts.total)];
        for (count, what) in [
            (counts.failed + counts.conflicted + counts.needs_attention, "failed"),
            (counts.skipped + counts.cancelled, "skipped"),
            (counts.active, "running"),
            (counts.waiting, "waiting"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if let Some(eta) = progress.eta.filter(|eta| !eta.is_zero()) {
            parts.push(format!("at least {} left", time(eta)));
        }
        self.overall.set_message(parts.join(" · "));
    }
}
