//! Numbers, times and names as people read them.

use std::time::Duration;

use orch_model::Span;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `1 task`, `9,960 tasks`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time: to the second from a minute up, else to the millisecond.
pub(super) fn time(length: Duration) -> String {
    let rounded = if length >= Duration::from_secs(60) {
        Duration::from_secs(length.saturating_add(Duration::from_millis(500)).as_secs())
    } else {
        let micros = length.as_micros() as u64;
        Duration::from_millis((micros + 500) / 1000)
    };
    Span(rounded).to_string()
}

/// `a`, `a and b`, `a, b and c`, `a, b, c and 17 more`: at most `limit` names.
pub(super) fn list<S: AsRef<str>>(names: impl ExactSizeIterator<Item = S>, limit: usize) -> String {
    let total = names.len();
    let mut text = String::new();
    for (place, name) in names.enumerate() {
        if place == limit {
            text.push_str(&format!(" and {} more", grouped(total - limit)));
            break;
        }
        if place > 0 {
            text.push_str(if place + 1 == total { " and " } else { ", " });
        }
        text.push_str(name.as_ref());
    }
    text
}

/// One line that does nothing to a terminal: control characters become spaces.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().into()
}

/// How many columns a text takes in a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Cuts a text to so many columns and says so with `dots`.
pub(super) fn clip(text: &str, columns: usize, dots: &str) -> String {
    if width(text) <= columns {
        return text.into();
    }
    let room = columns.saturating_sub(width(dots));
    let mut taken = 0;
    let kept: String = text
        .chars()
        .take_while(|c| {
            taken += c.width().unwrap_or(0);
            taken <= room
        })
        .collect();
    format!("{}{dots}", kept.trim_end())
}

/// Fills a text with spaces on the right.
pub(super) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        let found = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(found, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((&*count(1, "task"), &*count(2000, "task")), ("1 task", "2,000 tasks"));
    }

    #[test]
    fn times_are_rounded_as_people_would() {
        let cases = [
            (0, "0s"),
            (1_499_600, "1s 500ms"),
            (59_000_000, "59s"),
            (276_600_000, "4m 37s"),
            (5_400_000_000, "1h 30m"),
        ];
        for (micros, expected) in cases {
            assert_eq!(time(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn lists_end_in_and() {
        let list = |names: &[&str]| list(names.iter(), 3);
        assert_eq!(list(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!(clip("日本語", 6, "…"), "日本語");
        assert_eq!(clip("日本語", 5, "…"), "日本…");
        assert_eq!(clip("日本語", 4, "…"), "日…");
        assert_eq!(pad("日", 4), "日  ");
        assert_eq!(plain("a\nb\u{1b}[0m\t"), "a b [0m");
    }
}
