//! Tokens, counted alike for all agents.

use serde::{Deserialize, Serialize};

/// What a model read and wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Tokens read, those of a cache included.
    pub input: u64,
    /// Of those, tokens read from a cache.
    #[serde(default)]
    pub cached: u64,
    /// Of [`Tokens::input`], tokens written to a cache, which some services charge for.
    #[serde(default)]
    pub cache_write: u64,
    /// Tokens written, the thoughts included.
    pub output: u64,
    /// Of those, tokens of thoughts.
    #[serde(default)]
    pub reasoning: u64,
}

impl Tokens {
    /// What came on top of an earlier count; zero where the counts don't belong together.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            input: self.input.saturating_sub(earlier.input),
            cached: self.cached.saturating_sub(earlier.cached),
            cache_write: self.cache_write.saturating_sub(earlier.cache_write),
            output: self.output.saturating_sub(earlier.output),
            reasoning: self.reasoning.saturating_sub(earlier.reasoning),
        }
    }
}

/// Agents say numbers of any size: a sum stays at the largest number.
impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}
