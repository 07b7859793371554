//! Why an agent failed, from what it printed last.
//!
//! Any command may say it by its last line:
//!
//! ```text
//! ::orch failure class=rate_limit retry_after=30s the service takes no more requests
//! ::orch failure class=quota reset=2026-11-21T12:00:00Z the week's tokens are used up
//! ::orch failure class=authentication log in first
//! ```
//!
//! Of agents that were given a prompt, messages that are well known are understood too. What is not
//! clear is an ordinary failure.

use std::time::Duration;

use orch_model::{Span, Timestamp, outcome::Failure};

/// How the line begins.
const MARK: &str = "::orch failure ";

/// The longest message that is kept, in characters.
const LONGEST: usize = 200;

/// Lines from the end that are looked at.
const LINES: usize = 20;

/// What agents and the services behind them say, in lower case.
const KNOWN: &[(&str, Class)] = &[
    ("usage limit reached", Class::Quota),
    ("you've hit your usage limit", Class::Quota),
    ("exceeded your current quota", Class::Quota),
    ("insufficient_quota", Class::Quota),
    ("credit balance is too low", Class::Quota),
    ("rate limit", Class::RateLimit),
    ("rate_limit_error", Class::RateLimit),
    ("too many requests", Class::RateLimit),
    ("status 429", Class::RateLimit),
    ("overloaded_error", Class::RateLimit),
    ("resource_exhausted", Class::RateLimit),
    ("invalid api key", Class::Authentication),
    ("invalid x-api-key", Class::Authentication),
    ("incorrect api key", Class::Authentication),
    ("401 unauthorized", Class::Authentication),
    ("authentication_error", Class::Authentication),
    ("not logged in", Class::Authentication),
    ("please run /login", Class::Authentication),
];

#[derive(Debug, Clone, Copy)]
enum Class {
    RateLimit,
    Quota,
    Authentication,
}

/// What the output of an attempt that failed tells; `None` where it tells nothing.
pub(crate) fn classify(tail: &str, is_agent: bool, now: Timestamp) -> Option<Failure> {
    let last: Vec<&str> = tail.lines().rev().take(LINES).collect();
    if let Some(marked) = last.iter().find_map(|line| line.trim().strip_prefix(MARK)) {
        return marked_failure(marked, now);
    }
    let known = |line: &&str| {
        let lower = line.to_lowercase();
        KNOWN.iter().find(|(words, _)| lower.contains(words)).map(|(_, class)| *class)
    };
    let (line, class) =
        last.iter().filter(|_| is_agent).find_map(|line| Some((line, known(line)?)))?;
    Some(failure(class, None, line))
}

fn marked_failure(text: &str, now: Timestamp) -> Option<Failure> {
    let (mut class, mut reset) = (None, None);
    let mut message = Vec::new();
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some(("class", name)) => {
                class = Some(match name {
                    "rate_limit" => Class::RateLimit,
                    "quota" => Class::Quota,
                    "authentication" => Class::Authentication,
                    _ => return None,
                });
            }
            Some(("retry_after", span)) => {
                let span = span.parse::<Span>().map_or(Duration::ZERO, |span| span.0);
                reset = Some(now + span);
            }
            Some(("reset", at)) => reset = at.parse().ok(),
            _ => message.push(word),
        }
    }
    Some(failure(class?, reset, &message.join(" ")))
}

fn failure(class: Class, reset: Option<Timestamp>, message: &str) -> Failure {
    let message: String = message.trim().chars().take(LONGEST).collect();
    match class {
        Class::RateLimit => Failure::RateLimit { reset, message },
        Class::Quota => Failure::Quota { reset, message },
        Class::Authentication => Failure::Authentication { message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(tail: &str, is_agent: bool) -> Option<&'static str> {
        classify(tail, is_agent, Timestamp::from_millis(0)).map(|failure| failure.class())
    }

    #[test]
    fn a_marked_line_says_it() {
        let now = Timestamp::from_millis(1_000);
        let text =
            "working\n::orch failure class=rate_limit retry_after=30s slow down, please\nbye\n";
        let expected = Failure::RateLimit {
            reset: Some(Timestamp::from_millis(31_000)),
            message: "slow down, please".into(),
        };
        assert_eq!(classify(text, false, now), Some(expected));
        let text = "::orch failure class=quota reset=1970-01-01T00:00:09Z";
        let reset = Some(Timestamp::from_millis(9_000));
        assert_eq!(
            classify(text, false, now),
            Some(Failure::Quota { reset, message: String::new() })
        );
        assert_eq!(class("::orch failure class=authentication x", false), Some("authentication"));
        assert_eq!(class("::orch failure class=nonsense", true), None);
        assert_eq!(class("::orch failure", true), None);
    }

    #[test]
    fn well_known_messages_are_understood_of_agents_only() {
        for (line, expected) in [
            ("Error: 429 Too Many Requests", "rate_limit"),
            ("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}", "rate_limit"),
            ("Claude usage limit reached. Resets at 5pm", "quota"),
            ("Invalid API key - Please run /login", "authentication"),
        ] {
            assert_eq!(class(line, true), Some(expected), "{line}");
            assert_eq!(class(line, false), None, "{line}");
        }
        assert_eq!(class("test rates ... FAILED", true), None);
    }
}
