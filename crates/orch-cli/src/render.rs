//! What a person reads.

use std::{io::IsTerminal, time::Duration};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};

use crate::error::CliError;

pub(crate) mod events;
pub(crate) mod live;
pub(crate) mod status;
pub(crate) mod summary;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const STRONG: Style = Style::new().bold();

/// Whether what goes to the standard error may have colours.
pub(crate) fn is_colored() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// Whether there can be a live view: both streams are a terminal.
pub(crate) fn is_interactive() -> bool {
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// An error as the last thing on the screen.
pub(crate) fn error(error: &CliError) -> String {
    match error {
        CliError::Report(report) => report.clone(),
        other => format!("{BAD}error{BAD:#}: {other}"),
    }
}

/// Text of others without anything that a terminal would act on: escape sequences, control and
/// direction characters. Line ends and tabs stay.
pub(crate) fn clean(text: &str) -> String {
    strip_ansi_escapes::strip_str(text).chars().filter(|c| is_harmless(*c)).collect()
}

/// Whether a terminal shows the character and does nothing else with it.
pub(crate) fn is_harmless(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        c => !c.is_control(),
    }
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
    fn nothing_that_a_terminal_acts_on_is_left() {
        for (text, shown) in [
            ("a\u{1b}[31mred\u{1b}[0m", "ared"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]52;c;aGk=\u{1b}\\x", "x"),
            ("\u{9b}31mx", "31mx"),
            ("a\u{202e}b\u{8}c\r\n\td", "abc\n\td"),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
    }

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
