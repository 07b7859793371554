//! Messages of agents and of the services behind them.
//!
//! A message counts only as a whole line that begins with it, after words like `API Error:`. So a test
//! with `rate limit` in its name, or an assertion that a `429` was expected, is no rate limit.

use std::time::Duration;

use orch_model::Timestamp;

use super::{Class, Said};

/// Lines from the end that are looked at: agents end soon after such a message.
const LINES: usize = 5;

/// What may stand before a message, in lower case.
const BEFORE: &[&str] = &[
    "error",
    "api error",
    "http error",
    "stream error",
    "http",
    "fatal",
    "status",
    "unexpected status",
    "last status",
    "exceeded retry limit,",
    "failed to authenticate.",
    "litellm.",
    "request rejected",
];

/// How messages begin, in lower case.
const KNOWN: &[(&str, Class)] = &[
    ("usage limit reached", Class::Quota),
    ("claude usage limit reached", Class::Quota),
    ("claude ai usage limit reached", Class::Quota),
    ("you've hit your usage limit", Class::Quota),
    ("you've hit your limit", Class::Quota),
    ("you exceeded your current quota", Class::Quota),
    ("insufficient_quota", Class::Quota),
    ("credit balance is too low", Class::Quota),
    ("your credit balance is too low", Class::Quota),
    ("429", Class::RateLimit),
    ("too many requests", Class::RateLimit),
    ("rate limit exceeded", Class::RateLimit),
    ("rate limit reached", Class::RateLimit),
    ("rate_limit_error", Class::RateLimit),
    ("rate_limit_exceeded", Class::RateLimit),
    ("ratelimiterror", Class::RateLimit),
    ("529", Class::RateLimit),
    ("overloaded_error", Class::RateLimit),
    ("resource_exhausted", Class::RateLimit),
    ("401", Class::Authentication),
    ("invalid api key", Class::Authentication),
    ("invalid x-api-key", Class::Authentication),
    ("incorrect api key", Class::Authentication),
    ("unauthorized", Class::Authentication),
    ("authentication_error", Class::Authentication),
    ("authenticationerror", Class::Authentication),
    ("not logged in", Class::Authentication),
    ("please run /login", Class::Authentication),
    ("we're currently experiencing high demand", Class::Infrastructure),
    ("stream disconnected before completion", Class::Infrastructure),
    ("cannot connect to api", Class::Infrastructure),
    ("unable to connect to api", Class::Infrastructure),
    ("connection to the api was lost", Class::Infrastructure),
    ("api error: connection error", Class::Infrastructure),
    // What undici says of a connection that was cut, or never made.
    ("api error: terminated", Class::Infrastructure),
    ("api error: fetch failed", Class::Infrastructure),
];

/// What the last of these lines that is understood says; the last one comes first.
pub(super) fn last(lines: &[&str], now: Timestamp) -> Option<Said> {
    lines.iter().take(LINES).find_map(|line| understand(line, now))
}

/// What a message says.
pub(super) fn understand(message: &str, now: Timestamp) -> Option<Said> {
    let lower = message.to_lowercase().replace('\u{2019}', "'");
    let mut rest = begin(&lower);
    let (_, class) = loop {
        let is_known = |words: &&(&str, Class)| after_words(rest, words.0).is_some();
        if let Some(known) = KNOWN.iter().find(is_known) {
            break known;
        }
        rest = begin(BEFORE.iter().find_map(|words| after_words(rest, words))?);
    };
    Some(Said { class: *class, reset: reset(rest, now), message: message.trim().to_owned() })
}

/// Without what leads to the first word: blanks, brackets, colons, signs.
fn begin(text: &str) -> &str {
    text.trim_start_matches(|c: char| !c.is_alphanumeric())
}

/// What follows whole words.
fn after_words<'t>(text: &'t str, words: &str) -> Option<&'t str> {
    let rest = text.strip_prefix(words)?;
    let is_whole = |c: char| !c.is_alphanumeric() && c != '_';
    (rest.is_empty() || rest.starts_with(is_whole) || words.ends_with(['.', ','])).then_some(rest)
}

/// From when on it goes on, where the message tells: `|1795235200`, `try again in 1h 5m`, `retry after 30`.
fn reset(lower: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some((_, seconds)) = lower.rsplit_once('|')
        && let Ok(seconds) = seconds.trim().parse::<u32>()
    {
        return Some(Timestamp::from_millis(u64::from(seconds) * 1000));
    }
    let after = ["try again in", "retry in", "retry after", "retry-after:"]
        .iter()
        .find_map(|words| Some(lower.split_once(words)?.1))?;
    Some(now + length(after)?)
}

/// A length of time, as people write it: `1.5s`, `2 hours 5 minutes`, `30`.
fn length(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut total = None;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        // A full stop ends a sentence.
        let Ok(number) = rest[..digits].trim_end_matches('.').parse::<f64>() else { break };
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "ms" => 0.001,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => 1.0,
        };
        total = Some(total.unwrap_or(0.0) + number * seconds);
        rest = rest[letters..].trim_start_matches([' ', ',']);
    }
    Duration::try_from_secs_f64(total?).ok()
}
