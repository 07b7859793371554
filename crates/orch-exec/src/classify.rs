//! Why an agent failed, from what it printed last.
//!
//! Any command may say it by a line of its own, the last of its kind:
//!
//! ```text
//! ::orch failure class=rate_limit retry_after=30s the service takes no more requests
//! ::orch failure class=quota reset=2026-11-21T12:00:00Z the week's tokens are used up
//! ::orch failure class=authentication log in first
//! ```
//!
//! By `::orch no-change`, with a reason, it says that there is nothing to change; a task with `expects =
//! "explained"` has then not failed.
//!
//! Of agents that were given a prompt, the ends of their streams and their well-known messages are
//! understood too. What is not clear is an ordinary failure: an agent that works on a client for a
//! limited service prints much about limits.

use std::time::Duration;

use orch_model::{
    Span, Timestamp,
    outcome::{AgentExit, ExitStatus, Failure},
};
use serde_json::Value;

mod stream;
mod text;

/// How the line begins.
const MARK: &str = "::orch failure ";

/// How the line begins by which an agent says that there is nothing to change.
const NO_CHANGE: &str = "::orch no-change ";

/// The longest message that is kept, in characters.
const LONGEST: usize = 200;

/// Lines from the end that are looked at.
const LINES: usize = 20;

/// What can be told from output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    RateLimit,
    Quota,
    Authentication,
    Infrastructure,
    LockTimeout,
    ResourceShortage,
}

/// What an agent said.
#[derive(Debug, PartialEq)]
struct Said {
    class: Class,
    reset: Option<Timestamp>,
    message: String,
}

/// What the output of an attempt that failed tells; `None` where it tells nothing.
pub(crate) fn classify(exit: &AgentExit, is_agent: bool, now: Timestamp) -> Option<Failure> {
    let last: Vec<&str> =
        exit.output_tail.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    let said = match last.iter().find_map(|line| line.strip_prefix(MARK)) {
        Some(marked) => marked_failure(marked, now),
        None if is_agent => match stream::end(&last) {
            Some(end) => stream::said(&end, exit.status, now),
            None => text::last(&last, now),
        },
        None => None,
    };
    said.map(Said::into_failure)
}

/// Why an agent says that there is nothing to change: the last line of a text that is
/// `::orch no-change` and a reason.
#[must_use]
pub fn no_change(text: &str) -> Option<String> {
    let said = text.lines().rev().find_map(|line| line.strip_prefix(NO_CHANGE))?.trim();
    (!said.is_empty()).then(|| said.chars().take(LONGEST).collect())
}

/// What the line that ends an agent's stream of JSON tells, with how the agent exited; `None` where
/// that is success or nothing special. Understood are claude, codex, gemini and opencode.
#[must_use]
pub fn stream_end(line: &Value, status: ExitStatus, now: Timestamp) -> Option<Failure> {
    stream::said(line, status, now).map(Said::into_failure)
}

/// What a message of an agent, or of the service behind it, tells.
#[must_use]
pub fn message(text: &str, now: Timestamp) -> Option<Failure> {
    text::understand(text, now).map(Said::into_failure)
}

/// What a status code of a service tells, with the message that came with it.
#[must_use]
pub fn status_code(code: u64, message: &str, now: Timestamp) -> Option<Failure> {
    let by_text = text::understand(message, now);
    let class = match &by_text {
        // Services tell of a quota by the code of a rate limit.
        Some(said) if said.class == Class::Quota => Class::Quota,
        _ => stream::class_of(code)?,
    };
    let reset = by_text.and_then(|said| said.reset);
    Some(Said { class, reset, message: message.to_owned() }.into_failure())
}

/// The failure of the last line of a text that says one by `::orch failure`.
#[must_use]
pub fn marked(text: &str, now: Timestamp) -> Option<Failure> {
    let last = text.lines().rev().find_map(|line| line.strip_prefix(MARK))?;
    marked_failure(last, now).map(Said::into_failure)
}

fn marked_failure(text: &str, now: Timestamp) -> Option<Said> {
    let (mut class, mut reset) = (None, None);
    let mut message = Vec::new();
    for word in text.split_whitespace() {
        // Once the message has begun, a `=` is a part of it.
        match word.split_once('=').filter(|_| message.is_empty()) {
            Some(("class", name)) => {
                class = Some(match name {
                    "rate_limit" => Class::RateLimit,
                    "quota" => Class::Quota,
                    "authentication" => Class::Authentication,
                    "infrastructure" => Class::Infrastructure,
                    "lock_timeout" => Class::LockTimeout,
                    "resource_shortage" => Class::ResourceShortage,
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
    Some(Said { class: class?, reset, message: message.join(" ") })
}

impl Said {
    fn into_failure(self) -> Failure {
        let Self { class, reset, message } = self;
        let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = words.chars().take(LONGEST).collect();
        match class {
            Class::RateLimit => Failure::RateLimit { reset, message },
            Class::Quota => Failure::Quota { reset, message },
            Class::Authentication => Failure::Authentication { message },
            Class::Infrastructure => Failure::Infrastructure { message },
            Class::LockTimeout => Failure::LockTimeout { message },
            Class::ResourceShortage => Failure::ResourceShortage { message },
        }
    }
}

#[cfg(test)]
mod tests;
