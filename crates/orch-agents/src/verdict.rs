//! What came of an attempt: from its [`Summary`] and how the process ended.
//!
//! An agent that exited with success but never said that its turn is over has not succeeded: its
//! output was cut off, or it was ended by a signal that it takes for an order. One that says that its
//! tools were refused has not either.

use orch_exec::classify;
use orch_model::{
    Timestamp,
    outcome::{AgentExit, ExitStatus, Failure},
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::{
    event::ErrorClass,
    stream::Dialect,
    summary::{LastError, Limited, Summary, Used},
    tokens::Tokens,
};

/// How gemini ends that can't log in, before it says anything.
const GEMINI_LOGIN: ExitStatus = ExitStatus::Code(41);

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Why it failed; `None`: it is done.
    pub failure: Option<Failure>,
    /// Why the agent says that there is nothing to change, where it says so.
    pub no_change: Option<String>,
    /// What the attempt used.
    pub tokens: Option<Tokens>,
    /// What the attempt cost in US dollars, where the agent says so.
    pub cost: Option<Decimal>,
    /// What the session used and cost, to tell what an attempt that continues it uses.
    pub totals: Totals,
}

/// What a session used under all the attempts that worked in it, where the agent counts so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Decimal>,
}

/// Judges an attempt whose stream has ended. `earlier` is what its session had used before.
#[must_use]
pub fn judge(
    dialect: &Dialect,
    summary: &Summary,
    exit: &AgentExit,
    earlier: &Totals,
    now: Timestamp,
) -> Verdict {
    let failure = match (&exit.failure, &summary.limited, &summary.held_up) {
        // It was ended while it waited for that.
        (Some(Failure::Interrupted { .. }), Some(Limited { message, reset }), _) => {
            Some(Failure::RateLimit { reset: *reset, message: message.clone() })
        }
        (Some(Failure::Silent { .. }), _, Some(message)) => {
            Some(Failure::NeedsInput { message: message.clone() })
        }
        (Some(failure), ..) => Some(failure.clone()),
        (None, ..) => failure(dialect, summary, exit, now),
    };
    let is_done = failure.is_none();
    Verdict {
        no_change: is_done.then(|| classify::no_change(&summary.text)).flatten(),
        failure,
        tokens: tokens(&summary.used, earlier),
        cost: cost(&summary.used, earlier),
        totals: Totals {
            tokens: summary.used.session.or(earlier.tokens),
            cost: summary.used.session_cost.or(earlier.cost),
        },
    }
}

fn failure(
    dialect: &Dialect,
    summary: &Summary,
    exit: &AgentExit,
    now: Timestamp,
) -> Option<Failure> {
    let ended = |tail: &str| {
        Some(Failure::Agent { exit: exit.status, output_tail: tail.trim().to_owned() })
    };
    if let Some(failure) = classify::marked(&summary.text, now) {
        return Some(failure);
    }
    let Some(end) = &summary.end else {
        if !dialect.tells_its_end() {
            // What an ordinary failure is, is told from the output's last lines.
            return summary
                .error
                .as_ref()
                .filter(|_| !exit.status.is_success())
                .map(|error| of_error(dialect, error, exit));
        }
        if *dialect == Dialect::Gemini && exit.status == GEMINI_LOGIN {
            let message = last_words(summary, exit);
            return Some(Failure::Authentication { message: last_line(&message) });
        }
        return match (&summary.waiting, &summary.error) {
            (_, Some(error)) => Some(of_error(dialect, error, exit)),
            // Whoever is refused a tool may end its turn without a word.
            (Some(message), None) if exit.status.is_success() => {
                Some(Failure::NeedsInput { message: message.clone() })
            }
            _ => ended(&format!(
                "{}\n[orch: the output was cut off: the agent never said that its turn is over]",
                last_words(summary, exit)
            )),
        };
    };
    if !end.success {
        return match (&summary.error, &summary.waiting) {
            (Some(error), _) => Some(of_error(dialect, error, exit)),
            (None, Some(message)) => Some(Failure::NeedsInput { message: message.clone() }),
            (None, None) => ended(&format!(
                "{}\n[orch: it ended with: {}]",
                last_words(summary, exit),
                end.reason
            )),
        };
    }
    match exit.status {
        ExitStatus::Code(0) => None,
        // What gemini says counts, whatever its exit code.
        ExitStatus::Code(_) if *dialect == Dialect::Gemini => None,
        _ => ended(&last_words(summary, exit)),
    }
}

fn of_error(dialect: &Dialect, error: &LastError, exit: &AgentExit) -> Failure {
    let (message, reset) = (error.message.clone(), error.reset);
    let class = match (error.class, exit.status) {
        // It exits with the service's status code, of which the lower eight bits arrive.
        (ErrorClass::Other, ExitStatus::Code(code)) if *dialect == Dialect::Gemini => {
            match code + 256 {
                401 | 403 => ErrorClass::Authentication,
                429 => ErrorClass::RateLimit,
                500 | 502..=504 => ErrorClass::Infrastructure,
                _ => ErrorClass::Other,
            }
        }
        (class, _) => class,
    };
    match class {
        ErrorClass::RateLimit => Failure::RateLimit { reset, message },
        ErrorClass::Quota => Failure::Quota { reset, message },
        ErrorClass::Authentication => Failure::Authentication { message },
        ErrorClass::Infrastructure => Failure::Infrastructure { message },
        ErrorClass::Other => Failure::Agent { exit: exit.status, output_tail: message },
    }
}

/// What a person would want to read first.
fn last_words(summary: &Summary, exit: &AgentExit) -> String {
    if summary.text.is_empty() { exit.output_tail.clone() } else { summary.text.clone() }
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// The tokens of an attempt in a session that had used `earlier` before.
pub(crate) fn tokens(used: &Used, earlier: &Totals) -> Option<Tokens> {
    let of_session = used.session.map(|all| match earlier.tokens {
        // A smaller number than before is that of another count.
        Some(before) if before.input <= all.input && before.output <= all.output => {
            all.since(before)
        }
        _ => all,
    });
    of_session.or(used.run).or(used.steps)
}

/// Its cost.
pub(crate) fn cost(used: &Used, earlier: &Totals) -> Option<Decimal> {
    let of_session = used.session_cost.map(|all| match earlier.cost {
        Some(before) if before <= all => all - before,
        _ => all,
    });
    of_session.or(used.run_cost).or(used.steps_cost)
}
