//! The stock [`ModelSelector`]: small models for small tasks.

use crate::{
    plan::spec::Tier,
    ports::{ModelChoice, ModelOffer, ModelRequest, ModelSelector},
};

/// From this [score](crate::plan::Complexity::score) on a task gets the medium model.
pub const MEDIUM_FROM: u8 = 20;
/// From this score on it gets the large one.
pub const LARGE_FROM: u8 = 45;
/// What came of a model counts from so many attempts on.
pub const TELLING_ATTEMPTS: u32 = 5;
/// A model that is this likely to succeed, or less, makes way for the next larger one.
pub const POOR_PERCENT: u8 = 50;
/// With this share of the budget left, or less, tasks that are not critical get the next smaller model.
pub const SAVE_AT_PERCENT: u8 = 20;
/// With this share left, or less, every task gets the smallest.
pub const SCRAPE_AT_PERCENT: u8 = 5;

/// Chooses among the models that an agent's `models` offers; says nothing where there are none, so it is off
/// unless a plan asks for it.
///
/// 1. The complexity of the task tells the tier ([`MEDIUM_FROM`], [`LARGE_FROM`]); a critical task gets the
///    next larger one.
/// 2. Where that model did badly at this kind of task before ([`POOR_PERCENT`] over at least
///    [`TELLING_ATTEMPTS`]), the next larger one is taken.
/// 3. Near the end of the budget it is the next smaller one, then the smallest ([`SAVE_AT_PERCENT`],
///    [`SCRAPE_AT_PERCENT`]); and none that is expected to cost more than is left, if there is another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tiers;

impl ModelSelector for Tiers {
    fn name(&self) -> &str {
        "tiers"
    }

    fn select(&self, request: &ModelRequest<'_>) -> Option<ModelChoice> {
        let mut offers: Vec<_> = request.offers.iter().collect();
        offers.sort_by_key(|offer| offer.tier);
        let last = offers.len().checked_sub(1)?;
        let score = request.complexity.score();
        let mut reasons = vec![format!("complexity {score} of 100")];
        let asked = match score {
            LARGE_FROM.. => Tier::Large,
            MEDIUM_FROM.. => Tier::Medium,
            _ => Tier::Small,
        };
        let mut at = offers.iter().position(|offer| offer.tier >= asked).unwrap_or(last);
        if request.critical && at < last {
            at += 1;
            reasons.push("critical".into());
        }
        while at < last {
            let record = request.records.of(&offers[at].model, request.task_kind);
            if record.attempts() < TELLING_ATTEMPTS || record.percent() > POOR_PERCENT {
                break;
            }
            let (model, of, kind) = (&offers[at].model, record.attempts(), request.task_kind);
            let merged = record.succeeded;
            reasons.push(format!("{model} did {merged} of {of} tasks of kind {kind}"));
            at += 1;
        }
        if let Some(budget) = request.budget {
            let left = budget.percent();
            let saves = left <= SAVE_AT_PERCENT && !request.critical;
            let lower = match () {
                () if left <= SCRAPE_AT_PERCENT => 0,
                () if saves => at.saturating_sub(1),
                () => at,
            };
            let is_too_much = |offer: &ModelOffer| {
                estimate(offer, request).is_some_and(|cost| cost > budget.left_micro_usd)
            };
            let affordable = (0..=lower).rev().find(|at| !is_too_much(offers[*at])).unwrap_or(0);
            if affordable < at {
                at = affordable;
                reasons.push(format!("{left} % of the budget is left"));
            }
        }
        let offer = offers[at];
        let estimated = estimate(offer, request);
        Some(ModelChoice {
            model: offer.model.clone(),
            confidence: request.records.of(&offer.model, request.task_kind).percent(),
            reason: reasons.join(", "),
            estimated_micro_usd: estimated,
        })
    }
}

/// What an attempt costs: what it did on average, else by the price. An agent reads the files again and
/// again; as a rule of thumb it reads 50 000 tokens and 10 000 for each point of complexity, and writes a
/// twentieth of that.
fn estimate(offer: &ModelOffer, request: &ModelRequest<'_>) -> Option<u64> {
    let recorded = request.records.of(&offer.model, request.task_kind).mean_micro_usd;
    recorded.or_else(|| {
        let price = offer.price?;
        let read = 50_000 + 10_000 * u128::from(request.complexity.score());
        let cost = read * u128::from(price.input) + read / 20 * u128::from(price.output);
        u64::try_from(cost / 1_000_000).ok()
    })
}

#[cfg(test)]
mod tests;
