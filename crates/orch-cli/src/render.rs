//! What a person reads.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};

use crate::error::CliError;

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

/// An error as the last thing on the screen, with what helps against it where that is known.
pub(crate) fn error(error: &CliError, cure: Option<&str>) -> String {
    match error {
        CliError::Report(report) => report.clone(),
        other => {
            let cure = cure.map(|cure| format!("; {cure}")).unwrap_or_default();
            format!("{BAD}error{BAD:#}: {}{}", clean(&other.to_string()), clean(&cure))
        }
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
    fn columns_stand_under_one_another() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let table = table(["RUN", "STATUS"], [row("r1", "ok"), row("longer", "\u{1b}[1mfailed")]);
        assert_eq!(table, "RUN     STATUS\nr1      ok\nlonger  failed");
    }
}
