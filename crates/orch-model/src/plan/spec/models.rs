//! Models that a plan offers for an agent.

use serde::{Deserialize, Serialize};

/// `models` of an agent: which models it may be told to use, for tasks that name none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// For tasks that ask for little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small: Option<String>,
    /// For those in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<String>,
    /// For tasks that ask for much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large: Option<String>,
}

impl Models {
    /// What is offered for each tier, the smallest first.
    #[must_use]
    pub const fn by_tier(&self) -> [(Tier, &Option<String>); 3] {
        [(Tier::Small, &self.small), (Tier::Medium, &self.medium), (Tier::Large, &self.large)]
    }
}

/// How much of a model a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// Little.
    Small,
    /// Some.
    Medium,
    /// Much.
    Large,
}

impl Tier {
    /// The name, as plans write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}
