//! Budgets: what a run, an epic, a task or an agent may use at most, and where a run stopped for one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    id::{AgentName, EpicId, TaskId},
    money::Money,
    plan::PlanSpec,
    spending::Worker,
    usage::Usage,
};

/// What may be used at most. What is not given has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Money, in US dollars: `"1.50"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<Money>,
    /// Tokens, read and written, those of a cache included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Attempts at tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
}

impl Budget {
    /// With the limits of another one, which win.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            usd: other.usd.or(self.usd),
            tokens: other.tokens.or(self.tokens),
            attempts: other.attempts.or(self.attempts),
        }
    }

    /// Its limits.
    pub fn limits(self) -> impl Iterator<Item = Amount> {
        [
            self.usd.map(Amount::Usd),
            self.tokens.map(Amount::Tokens),
            self.attempts.map(Amount::Attempts),
        ]
        .into_iter()
        .flatten()
    }
}

/// As it is given to `--budget`: `1.50`, `200000 tokens`, `20 attempts`, or several with commas.
impl FromStr for Budget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut budget = Self::default();
        for part in text.split(',').map(str::trim) {
            let (number, unit) =
                part.split_at(part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(part.len()));
            let whole = || {
                let number = number.trim().replace('_', "").parse::<u64>().ok();
                number.filter(|number| *number > 0).ok_or_else(|| {
                    format!("{part:?} is no limit; write for example `200000 tokens`, from 1 on")
                })
            };
            let more = match unit.trim() {
                "" | "usd" | "USD" => {
                    let usd: Money = number.parse()?;
                    if usd == Money::ZERO {
                        return Err("with a budget of $0.00 nothing could run; write more".into());
                    }
                    Self { usd: Some(usd), ..Self::default() }
                }
                "tokens" | "token" => Self { tokens: Some(whole()?), ..Self::default() },
                "attempts" | "attempt" => Self { attempts: Some(whole()?), ..Self::default() },
                _ => {
                    return Err(format!(
                        "{part:?} is no limit; write `1.50`, `200000 tokens` or `20 attempts`"
                    ));
                }
            };
            budget = budget.with(more);
        }
        Ok(budget)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits: Vec<_> = self.limits().map(|limit| limit.to_string()).collect();
        f.write_str(&limits.join(", "))
    }
}

/// So much of what a budget limits. Amounts of the same kind can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Money.
    Usd(Money),
    /// Tokens.
    Tokens(u64),
    /// Attempts.
    Attempts(u64),
}

impl Amount {
    /// The number: millionths of a dollar, tokens, attempts.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Usd(Money(number)) | Self::Tokens(number) | Self::Attempts(number) => number,
        }
    }

    /// Another amount of the same kind.
    #[must_use]
    pub const fn with(self, number: u64) -> Self {
        match self {
            Self::Usd(_) => Self::Usd(Money(number)),
            Self::Tokens(_) => Self::Tokens(number),
            Self::Attempts(_) => Self::Attempts(number),
        }
    }
}

/// `$1.00`, `1,200 tokens`, `3 attempts`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usd(money) => money.fmt(f),
            Self::Tokens(1) => f.write_str("1 token"),
            Self::Tokens(tokens) => write!(f, "{} tokens", grouped(*tokens)),
            Self::Attempts(1) => f.write_str("1 attempt"),
            Self::Attempts(attempts) => write!(f, "{} attempts", grouped(*attempts)),
        }
    }
}

/// A number with a comma after every three digits: `1,200`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What is used of everything that a budget may limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Money.
    pub usd: Money,
    /// Tokens.
    pub tokens: u64,
    /// Attempts.
    pub attempts: u64,
}

impl Totals {
    /// So many attempts that used this together.
    #[must_use]
    pub const fn of(usage: &Usage, attempts: u64) -> Self {
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        Self { usd: Money(usage.cost_micro_usd), tokens, attempts }
    }

    /// The part of it that a limit is about.
    #[must_use]
    pub const fn like(&self, limit: Amount) -> Amount {
        match limit {
            Amount::Usd(_) => Amount::Usd(self.usd),
            Amount::Tokens(_) => Amount::Tokens(self.tokens),
            Amount::Attempts(_) => Amount::Attempts(self.attempts),
        }
    }
}

impl std::ops::AddAssign for Totals {
    /// A sum that is too large stays at the largest number.
    fn add_assign(&mut self, other: Self) {
        self.usd = self.usd.plus(other.usd);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.attempts = self.attempts.saturating_add(other.attempts);
    }
}

/// Whose budget it is. Written as `run`, `epic:ID`, `task:ID` or `agent:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BudgetScope {
    /// That of the whole run.
    Run,
    /// That of an epic: all attempts at its tasks.
    Epic(EpicId),
    /// That of a task: all attempts at it.
    Task(TaskId),
    /// That of an agent: all that it does in the run.
    Agent(AgentName),
}

/// As it is written.
impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Epic(epic) => write!(f, "epic:{epic}"),
            Self::Task(task) => write!(f, "task:{task}"),
            Self::Agent(agent) => write!(f, "agent:{agent}"),
        }
    }
}

impl FromStr for BudgetScope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |error: &dyn fmt::Display| format!("{text:?} has no budget: {error}");
        match text.split_once(':') {
            None if text == "run" => Ok(Self::Run),
            Some(("epic", id)) => EpicId::new(id).map(Self::Epic).map_err(|error| bad(&error)),
            Some(("task", id)) => TaskId::new(id).map(Self::Task).map_err(|error| bad(&error)),
            Some(("agent", id)) => AgentName::new(id).map(Self::Agent).map_err(|error| bad(&error)),
            _ => Err(bad(&"write `run`, `epic:ID`, `task:ID` or `agent:NAME`")),
        }
    }
}

impl BudgetScope {
    /// Whether a plan has what it names.
    #[must_use]
    pub fn is_in(&self, plan: &PlanSpec) -> bool {
        match self {
            Self::Run => true,
            Self::Epic(id) => plan.epics.iter().any(|epic| epic.id == *id),
            Self::Task(id) => plan.tasks.iter().any(|task| task.id == *id),
            Self::Agent(name) => plan.agents.contains_key(name),
        }
    }

    /// What it is: `epic`, for one.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Epic(_) => "epic",
            Self::Task(_) => "task",
            Self::Agent(_) => "agent",
        }
    }

    /// For people: `the run`, `epic api`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Run => "the run".into(),
            other => other.to_string().replacen(':', " ", 1),
        }
    }
}

impl Serialize for BudgetScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BudgetScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A budget that is given to a run in place of the one that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetChange {
    /// Whose.
    pub scope: BudgetScope,
    /// The new limits; those that are not given stay as they are.
    pub budget: Budget,
}

/// `2.00`, or `epic:api=2.00`.
impl FromStr for BudgetChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (scope, budget) = match text.split_once('=') {
            Some((scope, budget)) => (scope.trim().parse()?, budget),
            None => (BudgetScope::Run, text),
        };
        Ok(Self { scope, budget: budget.parse()? })
    }
}

/// Where a run stopped, or a part of it, for a budget's sake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStop {
    /// Whose budget.
    pub scope: BudgetScope,
    /// The limit that was reached.
    pub limit: Amount,
    /// What was spent by then, with what agents at work had used.
    pub spent: Amount,
    /// What one more attempt is expected to take, where there was no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Amount>,
    /// Whose work can't be counted, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Worker>,
    /// How many tokens nobody knows the price of, where that is why.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpriced_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl BudgetStop {
    /// The option of `orch resume` that gives more: twice the limit.
    #[must_use]
    pub fn cure(&self) -> String {
        let twice = match self.limit {
            Amount::Usd(Money(micros)) => {
                format!("{:.2}", Money(micros.saturating_mul(2).next_multiple_of(10_000)))
                    .trim_start_matches('$')
                    .to_owned()
            }
            Amount::Tokens(tokens) => format!("{}tokens", tokens.saturating_mul(2)),
            Amount::Attempts(attempts) => format!("{}attempts", attempts.saturating_mul(2)),
        };
        match &self.scope {
            BudgetScope::Run => format!("--budget {twice}"),
            scope => format!("--budget {scope}={twice}"),
        }
    }
}

/// One sentence without its end, for people.
impl fmt::Display for BudgetStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scope, limit, spent) = (self.scope.name(), self.limit, self.spent);
        if let Some(worker) = &self.unknown {
            let what = match (limit, self.unpriced_tokens) {
                (Amount::Usd(_), 0) => "does not tell what it costs".to_owned(),
                (Amount::Usd(_), tokens) => {
                    format!("has used {} whose price nobody knows", Amount::Tokens(tokens))
                }
                _ => "does not tell what it uses".to_owned(),
            };
            return write!(
                f,
                "the budget of {scope} ({limit}) can't be kept: {worker} {what}; besides, {spent} is spent"
            );
        }
        match self.expected {
            Some(expected) if spent < limit => write!(
                f,
                "the budget of {scope} has no room for another attempt: {spent} of {limit} is spent, and \
                 one takes about {expected}"
            ),
            _ => write!(f, "the budget of {scope} is used up: {spent} of {limit} is spent"),
        }
    }
}

#[cfg(test)]
mod tests;
