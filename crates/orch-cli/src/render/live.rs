//! The screen while a run goes on: lines that scroll, and below them, on a terminal, a line for each
//! running task and a progress bar.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anstyle::Style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use orch_model::{Progress, RunStatus, progress::RunningTask};

use super::{
    STRONG, events, is_colored, one_line,
    terminal::{self, Quiet},
    time,
};

/// How often times and spinners move while nothing happens.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// How many running tasks are shown where the height of the terminal is not known.
const ROWS: usize = 12;

/// Where lines for people go.
#[derive(Debug)]
pub(crate) enum Screen {
    /// To the standard error, and only what must be known: the standard output is for programs.
    Silent,
    /// To the standard output, one after the other.
    Plain,
    /// Above a live view.
    Live(Box<View>),
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
            Self::Live(view) => view.line(line),
        }
    }

    /// Shows a line that a person at the keyboard must see, whoever reads the standard output.
    pub(crate) fn notice(&self, line: &str) {
        match self {
            Self::Silent | Self::Plain => super::tell(line),
            Self::Live(view) => view.line(line),
        }
    }

    /// Brings the live view up to date.
    pub(crate) fn progress(&mut self, progress: &Progress) {
        if let Self::Live(view) = self {
            view.update(progress.clone());
        }
    }

    /// Lets the times and spinners of the live view go on.
    pub(crate) fn tick(&mut self) {
        if let Self::Live(view) = self {
            view.draw();
        }
    }

    /// Whether [`Screen::tick`] has an effect.
    pub(crate) const fn moves(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Takes the live view away; what follows comes line by line.
    pub(crate) fn close(&mut self) {
        if let Self::Live(view) = self {
            view.close();
            *self = Self::Plain;
        }
    }
}

/// The live view that is on the screen, so that log messages can be written above it.
static SHOWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Writes log messages to the standard error, above the live view where there is one.
#[derive(Debug, Default)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match shown {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The live view.
#[derive(Debug)]
pub(crate) struct View {
    bars: MultiProgress,
    /// One for each row above the progress bar.
    rows: Vec<ProgressBar>,
    overall: ProgressBar,
    /// How wide the column of ids is.
    width: usize,
    /// What is shown, and when it was told.
    latest: Option<(Progress, Instant)>,
    quiet: Option<Quiet>,
}

impl View {
    /// A view whose column of task ids has this width.
    pub(crate) fn new(width: usize) -> Self {
        let bars = MultiProgress::new();
        let overall = bars.add(ProgressBar::new(1));
        overall.set_style(style("{bar:24.green/dim} {wide_msg}").progress_chars("━╸─"));
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bars.clone());
        let quiet = Some(Quiet::new());
        Self { bars, rows: Vec::new(), overall, width, latest: None, quiet }
    }

    fn line(&self, line: &str) {
        let plain;
        let shown = if is_colored() {
            line
        } else {
            plain = anstream::adapter::strip_str(line).to_string();
            &plain
        };
        let _ = self.bars.println(shown);
    }

    fn update(&mut self, progress: Progress) {
        self.latest = Some((progress, Instant::now()));
        self.draw();
    }

    fn draw(&mut self) {
        let Some((progress, told)) = &self.latest else { return };
        let now = progress.at + told.elapsed();
        let shown = shown_rows(progress.running.len(), height());
        let strong = if is_colored() { STRONG } else { Style::new() };
        let width = self.width;
        let mut messages: Vec<String> = progress.running[..shown]
            .iter()
            .map(|task| {
                let rest = row(task, now.since(task.since));
                format!("{strong}{:width$}{strong:#}  {rest}", task.task)
            })
            .collect();
        if shown < progress.running.len() {
            messages.push(format!("{:width$}  {} more run", "", progress.running.len() - shown));
        }
        while self.rows.len() > messages.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.bars.remove(&row);
            }
        }
        while self.rows.len() < messages.len() {
            let row = self.bars.insert_before(&self.overall, ProgressBar::new_spinner());
            row.set_style(style("{spinner:.cyan} {wide_msg}"));
            self.rows.push(row);
        }
        for (row, message) in self.rows.iter().zip(messages) {
            row.set_message(message);
            row.tick();
        }
        let counts = &progress.counts;
        self.overall.set_length(counts.total.max(1) as u64);
        self.overall.set_position(counts.ended() as u64);
        let elapsed = now.since(progress.started_at);
        self.overall.set_message(overview(progress, elapsed, told.elapsed()));
    }

    fn close(&mut self) {
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for row in &self.rows {
            row.finish_and_clear();
        }
        self.overall.finish_and_clear();
        self.quiet = None;
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is right")
}

fn height() -> Option<usize> {
    terminal::size(io::stderr()).map(|(rows, _)| rows)
}

/// How many of the running tasks get a row: all, or what half of the terminal takes together with
/// the row that counts the rest.
fn shown_rows(running: usize, height: Option<usize>) -> usize {
    let room = height.map_or(ROWS, |height| height / 2).max(2);
    if running <= room { running } else { room - 1 }
}

/// What stands beside the id of a running task.
fn row(task: &RunningTask, elapsed: Duration) -> String {
    let title = one_line(&task.title);
    let title = if title == task.task.as_str() { String::new() } else { format!("  {title}") };
    let attempt = match task.attempt {
        1 => String::new(),
        n => format!("  (attempt {n})"),
    };
    format!("{:<9} {:>6}{title}{attempt}", task.state, time(elapsed))
}

/// What stands beside the progress bar.
fn overview(progress: &Progress, elapsed: Duration, age: Duration) -> String {
    let counts = &progress.counts;
    let percent = progress.percent_complete().floor();
    let mut parts = vec![format!("{percent:>3}%  {}/{} merged", counts.merged, counts.total)];
    for (count, what) in [
        (counts.failed, "failed"),
        (counts.conflicted, "conflicted"),
        (counts.needs_attention, "to look at"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "skipped"),
        (counts.active, "running"),
        (counts.waiting, "waiting"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.push(time(elapsed));
    match progress.status {
        RunStatus::Running => {
            let left = progress.eta.map(|eta| eta.saturating_sub(age));
            if let Some(left) = left.filter(|left| !left.is_zero()) {
                parts.push(format!("at least {} left", time(left)));
            }
        }
        status => parts.push(events::status_name(status).into()),
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use orch_model::{RunId, TaskId, Timestamp, progress::Counts};

    use super::*;

    fn progress() -> Progress {
        Progress {
            run: RunId::new("r").unwrap(),
            status: RunStatus::Running,
            at: Timestamp::from_millis(60_000),
            seq: 9,
            started_at: Timestamp::from_millis(0),
            counts: Counts {
                total: 8,
                merged: 3,
                failed: 1,
                active: 2,
                waiting: 2,
                ..Counts::default()
            },
            max_concurrency: 2,
            slowdown: None,
            breakers: BTreeMap::new(),
            current_wave: 1,
            waves: 2,
            budget_stops: Vec::new(),
            running: Vec::new(),
            waiting: Vec::new(),
            eta: Some(Duration::from_secs(90)),
        }
    }

    #[test]
    fn the_bar_says_how_far_it_is() {
        let mut progress = progress();
        let shown = |progress: &Progress| {
            overview(progress, Duration::from_secs(61), Duration::from_secs(1))
        };
        assert_eq!(
            shown(&progress),
            " 50%  3/8 merged · 1 failed · 2 running · 2 waiting · 1m 1s · at least 1m 29s left"
        );
        progress.status = RunStatus::Paused;
        assert_eq!(
            shown(&progress),
            " 50%  3/8 merged · 1 failed · 2 running · 2 waiting · 1m 1s · paused"
        );
    }

    #[test]
    fn a_row_says_what_the_task_does_and_nothing_escapes() {
        let mut task = RunningTask {
            task: TaskId::new("login").unwrap(),
            title: "Login\n\u{1b}[2Jendpoint".into(),
            state: "verifying".into(),
            attempt: 2,
            since: Timestamp::from_millis(0),
            pid: None,
            by: None,
        };
        assert_eq!(
            row(&task, Duration::from_secs(12)),
            "verifying    12s  Login endpoint  (attempt 2)"
        );
        task.title = "login".into();
        task.attempt = 1;
        assert_eq!(row(&task, Duration::from_millis(1_500)), "verifying   1.5s");
    }

    #[test]
    fn rows_leave_room_for_what_scrolls() {
        assert_eq!(shown_rows(5, Some(24)), 5);
        assert_eq!(shown_rows(12, Some(24)), 12);
        assert_eq!(shown_rows(13, Some(24)), 11, "one row counts the rest");
        assert_eq!(shown_rows(64, Some(3)), 1);
        assert_eq!(shown_rows(64, None), ROWS - 1);
    }
}
