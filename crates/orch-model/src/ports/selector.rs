//! `ModelSelector`: which model an agent is told to use, where the plan leaves that open.

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Deserialize, Serialize};

use crate::{
    id::AgentName,
    plan::{
        Agent, Assignment, Complexity,
        spec::{AgentKind, Tier},
    },
    state::Attempt,
};

/// The kind of a task for which nothing in its description speaks.
const OTHER: &str = "other";

/// Chooses the model of an attempt.
///
/// # Contract
/// - It is asked only where no model is named: by the task, its epic, its agent or `[defaults]`.
/// - The same request gives the same answer: it does no IO, reads no clock and draws no randomness. The
///   scheduler asks, and what it answers is journalled.
/// - It answers at once.
pub trait ModelSelector: Debug + Send + Sync {
    /// The name of the implementation, for messages.
    fn name(&self) -> &str;

    /// The model; `None` leaves it to the agent.
    fn select(&self, request: &ModelRequest<'_>) -> Option<ModelChoice>;
}

/// What a model is chosen for, and from.
#[derive(Debug, Clone, Copy)]
pub struct ModelRequest<'a> {
    /// The agent that will use it.
    pub agent: &'a AgentName,
    /// What kind of agent that is.
    pub agent_kind: AgentKind,
    /// The attempt, from 1.
    pub attempt: Attempt,
    /// How much the task asks.
    pub complexity: Complexity,
    /// Whether the plan says `critical`.
    pub critical: bool,
    /// What kind of task it is, see [`Assignment::kind`](crate::plan::Assignment::kind); `other` where
    /// nothing speaks for one.
    pub task_kind: &'a str,
    /// The models that the plan offers for the agent, the smallest first; none where it offers none.
    pub offers: &'a [ModelOffer],
    /// What came of models before this run.
    pub records: &'a ModelRecords,
    /// What the run may still cost; `None` where nothing limits that.
    pub budget: Option<BudgetLeft>,
}

impl<'a> ModelRequest<'a> {
    /// A request for the first attempt at a task, with no budget to mind.
    #[must_use]
    pub fn new(
        agent: &'a AgentName,
        called: &Agent,
        task: &'a Assignment,
        (offers, records): (&'a [ModelOffer], &'a ModelRecords),
    ) -> Self {
        Self {
            agent,
            agent_kind: called.kind,
            attempt: 1,
            complexity: task.complexity,
            critical: task.critical,
            task_kind: task.kind.as_ref().map_or(OTHER, |kind| kind.as_str()),
            offers,
            records,
            budget: None,
        }
    }
}

/// A model that the plan offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOffer {
    /// For which tasks.
    pub tier: Tier,
    /// Its name, as the agent knows it.
    pub model: String,
    /// What it costs, where that is known.
    pub price: Option<ModelPrice>,
}

impl ModelOffer {
    /// What the plan offers for an agent, the smallest first.
    pub fn of(agent: &Agent, price: impl Fn(&str) -> Option<ModelPrice>) -> Vec<Self> {
        let Some(models) = &agent.models else { return Vec::new() };
        let offers = models.by_tier().map(|(tier, model)| {
            model.as_ref().map(|model| Self { tier, model: model.clone(), price: price(model) })
        });
        offers.into_iter().flatten().collect()
    }
}

/// What a million tokens cost, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
}

/// How much of a budget is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLeft {
    /// What may be spent in all, in millionths of a US dollar.
    pub limit_micro_usd: u64,
    /// What of it is left.
    pub left_micro_usd: u64,
}

impl BudgetLeft {
    /// The share that is left, in hundredths, rounded down.
    #[must_use]
    pub fn percent(self) -> u8 {
        if self.limit_micro_usd == 0 {
            return 0;
        }
        let share = u128::from(self.left_micro_usd) * 100 / u128::from(self.limit_micro_usd);
        u8::try_from(share.min(100)).unwrap_or(100)
    }
}

/// A model, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The model.
    pub model: String,
    /// How likely it is to do, from 0 to 100.
    pub confidence: u8,
    /// Why, in one clause.
    pub reason: String,
    /// What the attempt is expected to cost, in millionths of a US dollar.
    pub estimated_micro_usd: Option<u64>,
}

impl ModelChoice {
    /// The model and why, in one clause, with what it is expected to cost where that is known.
    #[must_use]
    pub fn why(&self) -> String {
        let Self { model, reason, estimated_micro_usd, .. } = self;
        match estimated_micro_usd.map(|micro| micro.div_ceil(10_000)) {
            Some(cents) => {
                format!("model {model}: {reason}, about ${}.{:02}", cents / 100, cents % 100)
            }
            None => format!("model {model}: {reason}"),
        }
    }
}

/// What came of models before, by model and kind of task: a snapshot from the beginning of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelRecords(BTreeMap<String, BTreeMap<String, ModelRecord>>);

/// What came of one model for one kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Attempts whose work was merged.
    pub succeeded: u32,
    /// Attempts that failed for a reason of their own: those that are charged to their tasks.
    pub failed: u32,
    /// What an attempt cost on average, in millionths of a US dollar, where that is known.
    pub mean_micro_usd: Option<u64>,
}

impl ModelRecord {
    /// How many attempts it speaks of.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.succeeded.saturating_add(self.failed)
    }

    /// How likely the next attempt is to succeed, from 0 to 100, by Laplace's rule of succession
    /// (P.-S. Laplace, *Essai philosophique sur les probabilités*, 1814): a half where nothing is known.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let (succeeded, all) = (u64::from(self.succeeded), u64::from(self.attempts()));
        u8::try_from((succeeded + 1) * 100 / (all + 2)).unwrap_or(100)
    }
}

impl ModelRecords {
    /// What stands for any kind of task.
    const ANY: &str = "*";

    /// Sets what came of a model for tasks of any kind: it counts where nothing is known of one.
    pub fn insert_any(&mut self, model: impl Into<String>, record: ModelRecord) {
        self.insert(model, Self::ANY, record);
    }

    /// Sets what came of a model for a kind of task: the name of an agent of `[detect]`, or `other`.
    pub fn insert(
        &mut self,
        model: impl Into<String>,
        kind: impl Into<String>,
        record: ModelRecord,
    ) {
        self.0.entry(model.into()).or_default().insert(kind.into(), record);
    }

    /// What came of a model for a kind of task, or where that is not known, for any.
    #[must_use]
    pub fn of(&self, model: &str, kind: &str) -> ModelRecord {
        let kinds = self.0.get(model);
        kinds.and_then(|of| of.get(kind).or_else(|| of.get(Self::ANY))).copied().unwrap_or_default()
    }
}
