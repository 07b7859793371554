//! What an agent used.

use serde::{Deserialize, Serialize};

/// Tokens and money, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, those from a cache included.
    pub input_tokens: u64,
    /// Of those, tokens read from a cache.
    pub cached_input_tokens: u64,
    /// Tokens written, those of thoughts included.
    pub output_tokens: u64,
    /// Of those, tokens of thoughts.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// What it cost, in millionths of a US dollar, but for [`Usage::unpriced_tokens`].
    pub cost_micro_usd: u64,
    /// Of the tokens read and written, those whose cost nobody knows. Where there are any, the whole
    /// cost is not known.
    #[serde(default)]
    pub unpriced_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    /// A sum that is too large stays at the largest number: agents may say any.
    fn add_assign(&mut self, other: Self) {
        let add = |sum: &mut u64, number: u64| *sum = sum.saturating_add(number);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.cached_input_tokens, other.cached_input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
        add(&mut self.cost_micro_usd, other.cost_micro_usd);
        add(&mut self.unpriced_tokens, other.unpriced_tokens);
    }
}

impl std::ops::SubAssign for Usage {
    /// A difference below zero stays at zero.
    fn sub_assign(&mut self, other: Self) {
        let take = |sum: &mut u64, number: u64| *sum = sum.saturating_sub(number);
        take(&mut self.input_tokens, other.input_tokens);
        take(&mut self.cached_input_tokens, other.cached_input_tokens);
        take(&mut self.output_tokens, other.output_tokens);
        take(&mut self.reasoning_tokens, other.reasoning_tokens);
        take(&mut self.cost_micro_usd, other.cost_micro_usd);
        take(&mut self.unpriced_tokens, other.unpriced_tokens);
    }
}
