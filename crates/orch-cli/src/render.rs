//! What a person reads.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};

use crate::{error::CliError, exit_code::Exit};

pub(crate) mod cost;
pub(crate) mod events;
pub(crate) mod live;
pub(crate) mod patch;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod summary;
pub(crate) mod terminal;

pub(crate) use orch_agents::harmless::{Harmless, clean, one_line};

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const STRONG: Style = Style::new().bold();

/// With less than this, in bytes, a disk is full: git alone writes as much for a few files.
const LITTLE: u64 = 1 << 20;

/// Whether what goes to the standard error may have colours.
pub(crate) fn is_colored() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Whether there can be a live view: both streams are a terminal, and one that can move its cursor.
pub(crate) fn is_interactive() -> bool {
    io::stdout().is_terminal()
        && io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Prints to the standard output, without colours where it takes none.
///
/// # Errors
/// Where that fails. A reader that has seen enough (`orch status | head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Io { doing: "writing to the standard output".into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Tells something that is not the answer: to the standard error, where nobody may be listening.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// An error as the last thing on the screen.
pub(crate) fn error(error: &CliError) -> String {
    match error {
        CliError::Report(report) => report.clone(),
        other => {
            let (text, room) = (other.to_string(), room(other));
            format!("{BAD}error{BAD:#}: {}{}", clean(&text), clean(&room))
        }
    }
}

/// What helps where a disk is full. Who met that says so, a system call in these words and a git by no more than a
/// file that it can't write; then what is left on the disk of the current folder tells.
fn room(error: &CliError) -> String {
    let text = error.to_string();
    let cure = "free some space there, then call it again (`orch resume` where it was a run)";
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        return format!("; {cure}");
    }
    let folder = std::env::current_dir().ok().filter(|_| error.exit() == Exit::Engine);
    let left = |folder: &PathBuf| {
        rustix::fs::statvfs(folder).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    };
    match folder.filter(|folder| left(folder) < LITTLE) {
        Some(folder) => format!("; the disk of {} is full: {cure}", folder.display()),
        None => String::new(),
    }
}

/// `1 task`, `2 tasks`.
pub(crate) fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// A length of time, short: `0.4s`, `12s`, `3m 20s`, `2h 5m`.
pub(crate) fn time(length: Duration) -> String {
    let secs = length.as_secs();
    match secs {
        0..10 => format!("{:.1}s", length.as_secs_f64()),
        10..60 => format!("{secs}s"),
        60..3600 => format!("{}m {}s", secs / 60, secs % 60),
        _ => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
    }
}

/// Rows under a heading, in columns.
pub(crate) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heading);
    for row in rows {
        table.add_row(row.map(|cell| clean(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let shown = |millis| time(Duration::from_millis(millis));
        assert_eq!(shown(420), "0.4s");
        assert_eq!(shown(12_900), "12s");
        assert_eq!(shown(200_000), "3m 20s");
        assert_eq!(shown(7_500_000), "2h 5m");
    }

    #[test]
    fn a_full_disk_is_told_with_its_cure() {
        let io = |source| CliError::Io { doing: "writing /x".into(), source };
        let shown = |source| anstream::adapter::strip_str(&error(&io(source))).to_string();
        let full = shown(rustix::io::Errno::NOSPC.into());
        assert!(full.starts_with("error: writing /x: No space left on device"), "{full}");
        assert!(full.contains("; free some space there, then call it again"), "{full}");
        let other = shown(rustix::io::Errno::IO.into());
        assert!(!other.contains("free some space"), "{other}");
    }

    #[test]
    fn columns_stand_under_one_another() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let table = table(["RUN", "STATUS"], [row("r1", "ok"), row("longer", "\u{1b}[1mfailed")]);
        assert_eq!(table, "RUN     STATUS\nr1      ok\nlonger  failed");
    }
}
