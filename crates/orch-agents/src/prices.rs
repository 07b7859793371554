//! What tokens cost where the agent does not say it: a dated table that a file can replace.
//!
//! The cost of a model that the table does not know is unknown, not zero.

use std::collections::BTreeMap;

use orch_model::{ports::ModelPrice, usage::Usage};
use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive};
use serde::{Deserialize, Serialize};

use crate::tokens::Tokens;

/// The version of the format.
pub const PRICES_VERSION: u32 = 1;

/// The table that orch comes with.
const BUILT_IN: &str = include_str!("prices.json");

/// Prices of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The version of the format.
    pub v: u32,
    /// The day on which somebody looked the prices up, as `2026-11-21`.
    pub date: String,
    /// Prices by the name of the model, without provider and date.
    pub models: BTreeMap<String, Price>,
}

/// What a million tokens of a model cost, in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens read.
    pub input: Decimal,
    /// Tokens read from a cache. Default: as those read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<Decimal>,
    /// Tokens read and written to a cache. Default: as those read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Decimal>,
    /// Tokens written.
    pub output: Decimal,
}

/// Why a file is no table of prices.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PricesError {
    /// It is not of this form.
    #[error("no table of prices: {0}")]
    Form(#[from] serde_json::Error),
    /// It is of another version.
    #[error("a table of prices of version {0}; this orch reads version {PRICES_VERSION}")]
    Version(u32),
    /// A price is below zero.
    #[error("the price of `{0}` is below zero")]
    Negative(String),
}

impl Prices {
    /// The table that orch comes with.
    #[must_use]
    pub fn built_in() -> Self {
        // A test reads it.
        Self::parse(BUILT_IN).unwrap_or_else(|_| Self {
            v: PRICES_VERSION,
            date: String::new(),
            models: BTreeMap::new(),
        })
    }

    /// Reads a table.
    ///
    /// # Errors
    /// Where the text is none.
    pub fn parse(text: &str) -> Result<Self, PricesError> {
        let prices: Self = serde_json::from_str(text)?;
        if prices.v != PRICES_VERSION {
            return Err(PricesError::Version(prices.v));
        }
        let is_negative = |price: &Price| {
            let all = [Some(price.input), price.cached, price.cache_write, Some(price.output)];
            all.into_iter().flatten().any(|amount| amount < Decimal::ZERO)
        };
        match prices.models.iter().find(|(_, price)| is_negative(price)) {
            Some((model, _)) => Err(PricesError::Negative(model.clone())),
            None => Ok(prices),
        }
    }

    /// With the prices of another table, which win.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.date = other.date;
        self.models.extend(other.models);
        self
    }

    /// The price of a model: under its whole name, without what stands before a `/`, and without a date
    /// at its end.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&Price> {
        let bare = model.rsplit_once('/').map_or(model, |(_, name)| name);
        let undated = bare.rsplit_once('-').and_then(|(name, date)| {
            (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
        });
        [Some(model), Some(bare), undated].into_iter().flatten().find_map(|n| self.models.get(n))
    }
}

impl Price {
    /// As the engine knows prices; one that is too large is the largest number.
    #[must_use]
    pub fn per_million(&self) -> ModelPrice {
        let micro = |price: Decimal| {
            let micro = price.checked_mul(Decimal::from(1_000_000)).map(|micro| micro.round());
            micro.and_then(|micro| micro.to_u64()).unwrap_or(u64::MAX)
        };
        ModelPrice { input: micro(self.input), output: micro(self.output) }
    }

    /// What tokens cost, in US dollars.
    #[must_use]
    pub fn cost(&self, tokens: Tokens) -> Decimal {
        let fresh = tokens.input.saturating_sub(tokens.cached).saturating_sub(tokens.cache_write);
        let parts = [
            (fresh, self.input),
            (tokens.cached, self.cached.unwrap_or(self.input)),
            (tokens.cache_write, self.cache_write.unwrap_or(self.input)),
            (tokens.output, self.output),
        ];
        let sum = parts.into_iter().try_fold(Decimal::ZERO, |sum, (count, price)| {
            sum.checked_add(Decimal::from(count).checked_mul(price)?)
        });
        sum.map_or(Decimal::MAX, |sum| sum / Decimal::from(1_000_000))
    }
}

/// What is recorded of an attempt: its tokens, and its cost by the agent's word or by the table.
#[must_use]
pub fn usage(
    tokens: Option<Tokens>,
    cost: Option<Decimal>,
    model: Option<&str>,
    prices: &Prices,
) -> Option<Usage> {
    if tokens.is_none() && cost.is_none() {
        return None;
    }
    let tokens = tokens.unwrap_or_default();
    let all = tokens.input.saturating_add(tokens.output);
    let cost = cost.or_else(|| Some(prices.of(model?)?.cost(tokens)));
    let micro = |cost: Decimal| {
        let strategy = RoundingStrategy::MidpointNearestEven;
        let micro = cost.checked_mul(Decimal::from(1_000_000))?;
        micro.round_dp_with_strategy(0, strategy).to_u64()
    };
    Some(Usage {
        input_tokens: tokens.input,
        cached_input_tokens: tokens.cached,
        output_tokens: tokens.output,
        reasoning_tokens: tokens.reasoning,
        cost_micro_usd: cost.map_or(0, |cost| micro(cost).unwrap_or(u64::MAX)),
        unpriced_tokens: if cost.is_some() { 0 } else { all },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Tokens =
        Tokens { input: 3600, cached: 600, cache_write: 0, output: 102, reasoning: 2 };

    #[test]
    fn the_built_in_table_agrees_with_an_agent_that_tells_its_cost() {
        let prices = Prices::parse(BUILT_IN).unwrap();
        assert_eq!(prices, Prices::built_in());
        assert_eq!(prices.date.len(), "2026-11-21".len());
        for model in
            ["claude-sonnet-4-5", "anthropic/claude-sonnet-4-5", "claude-sonnet-4-5-20250929"]
        {
            // As claude said after reading and writing this much.
            let cost = prices.of(model).unwrap().cost(TOKENS);
            assert_eq!(cost, "0.01071".parse().unwrap(), "{model}");
        }
        let usage = usage(Some(TOKENS), None, Some("claude-sonnet-4-5"), &prices).unwrap();
        assert_eq!((usage.cost_micro_usd, usage.unpriced_tokens), (10_710, 0));
        assert_eq!((usage.input_tokens, usage.reasoning_tokens), (3600, 2));
    }

    #[test]
    fn an_unknown_model_has_an_unknown_cost() {
        let prices = Prices::built_in();
        for model in [None, Some("fake-model"), Some("claude-sonnet-4-5-next")] {
            let usage = usage(Some(TOKENS), None, model, &prices).unwrap();
            assert_eq!((usage.cost_micro_usd, usage.unpriced_tokens), (0, 3702), "{model:?}");
        }
        // The agent knows better.
        let usage = usage(Some(TOKENS), Some(Decimal::ONE), None, &prices).unwrap();
        assert_eq!((usage.cost_micro_usd, usage.unpriced_tokens), (1_000_000, 0));
        assert_eq!(super::usage(None, None, Some("claude-sonnet-4-5"), &prices), None);
    }

    #[test]
    fn amounts_are_decimal_and_bounded() {
        let price = Price {
            input: "0.1".parse().unwrap(),
            cached: None,
            cache_write: None,
            output: "0.2".parse().unwrap(),
        };
        let tokens = Tokens { input: 1, output: 1, ..Tokens::default() };
        assert_eq!(price.cost(tokens), "0.0000003".parse().unwrap());
        let most = Tokens { input: u64::MAX, output: u64::MAX, ..Tokens::default() };
        assert!(price.cost(most) > Decimal::ZERO);
        let huge = usage(Some(most), Some(Decimal::MAX), None, &Prices::built_in()).unwrap();
        assert_eq!(huge.cost_micro_usd, u64::MAX);
    }

    #[test]
    fn a_file_replaces_prices() {
        let text = r#"{"v":1,"date":"2027-01-01","models":{"mine":{"input":"1","output":"2"}}}"#;
        let prices = Prices::built_in().with(Prices::parse(text).unwrap());
        assert_eq!(prices.date, "2027-01-01");
        assert_eq!(prices.of("mine").unwrap().cost(TOKENS), "0.003804".parse().unwrap());
        assert!(prices.of("claude-sonnet-4-5").is_some());
        for (text, expected) in [
            ("{}", "missing field"),
            (r#"{"v":2,"date":"","models":{}}"#, "version 2"),
            (
                r#"{"v":1,"date":"","models":{"m":{"input":"-1","output":"2"}}}"#,
                "`m` is below zero",
            ),
            (
                r#"{"v":1,"date":"","models":{"m":{"input":"1","output":"2","x":1}}}"#,
                "unknown field",
            ),
        ] {
            let error = Prices::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
