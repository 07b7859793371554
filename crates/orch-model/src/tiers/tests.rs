//! Which model a task gets.

use proptest::prelude::*;

use super::*;
use crate::{
    id::AgentName,
    plan::{Complexity, spec::AgentKind},
    ports::{BudgetLeft, ModelPrice, ModelRecord, ModelRecords},
};

fn offers(tiers: &[Tier]) -> Vec<ModelOffer> {
    let price = |input| Some(ModelPrice { input, output: 5 * input });
    let offer = |tier: &Tier| ModelOffer {
        tier: *tier,
        model: tier.name().into(),
        price: price(match tier {
            Tier::Small => 1_000_000,
            Tier::Medium => 3_000_000,
            Tier::Large => 15_000_000,
        }),
    };
    tiers.iter().map(offer).collect()
}

const ALL: [Tier; 3] = [Tier::Small, Tier::Medium, Tier::Large];

/// A task that asks this much in each part.
#[derive(Debug, Clone)]
struct Asked {
    part: u8,
    critical: bool,
    left: Option<u64>,
    records: ModelRecords,
    offers: Vec<ModelOffer>,
}

impl Asked {
    fn new(part: u8) -> Self {
        let records = ModelRecords::default();
        Self { part, critical: false, left: None, records, offers: offers(&ALL) }
    }

    fn choice(&self) -> Option<ModelChoice> {
        let Self { part, .. } = *self;
        let agent = AgentName::new("a").unwrap();
        let left = |left_micro_usd| BudgetLeft { limit_micro_usd: 100_000_000, left_micro_usd };
        Tiers.select(&ModelRequest {
            agent: &agent,
            agent_kind: AgentKind::Claude,
            attempt: 1,
            complexity: Complexity { reasoning: part, code: part, domain: part, context: part },
            critical: self.critical,
            task_kind: "other",
            offers: &self.offers,
            records: &self.records,
            budget: self.left.map(left),
        })
    }

    fn said(&self) -> String {
        let choice = self.choice().expect("a model");
        format!("{}: {}", choice.model, choice.reason)
    }
}

#[test]
fn the_complexity_tells_the_tier() {
    for (part, expected) in [(0, "small"), (19, "small"), (20, "medium"), (45, "large")] {
        assert_eq!(Asked::new(part).said(), format!("{expected}: complexity {part} of 100"));
    }
    let critical = Asked { critical: true, ..Asked::new(20) };
    assert_eq!(critical.said(), "large: complexity 20 of 100, critical");
    let few = Asked { offers: offers(&[Tier::Small, Tier::Large]), ..Asked::new(20) };
    assert_eq!(few.said(), "large: complexity 20 of 100");
    let few = Asked { offers: offers(&[Tier::Small]), ..Asked::new(90) };
    assert_eq!(few.said(), "small: complexity 90 of 100");
    assert_eq!(Asked { offers: Vec::new(), ..Asked::new(90) }.choice(), None);
}

#[test]
fn what_did_badly_before_makes_way() {
    let mut asked = Asked::new(0);
    let record = |succeeded, failed| ModelRecord { succeeded, failed, mean_micro_usd: Some(70) };
    asked.records.insert("small", "other", record(1, 3));
    assert_eq!(asked.said(), "small: complexity 0 of 100", "four attempts tell nothing");
    asked.records.insert("small", "other", record(1, 4));
    assert_eq!(asked.said(), "medium: complexity 0 of 100, small did 1 of 5 tasks of kind other");
    asked.records.insert("medium", "other", record(9, 1));
    let choice = asked.choice().unwrap();
    assert_eq!((choice.confidence, choice.estimated_micro_usd), (83, Some(70)));
    asked.records.insert("small", "other", record(0, 0));
    assert_eq!(asked.choice().unwrap().confidence, 50, "nothing is known");
}

#[test]
fn near_the_end_of_the_budget_models_get_smaller() {
    let with = |left| Asked { left: Some(left), ..Asked::new(50) };
    for (left, expected) in [
        (100_000_000, "large: complexity 50 of 100"),
        (20_999_999, "medium: complexity 50 of 100, 20 % of the budget is left"),
        (5_999_999, "small: complexity 50 of 100, 5 % of the budget is left"),
        (0, "small: complexity 50 of 100, 0 % of the budget is left"),
    ] {
        assert_eq!(with(left).said(), expected);
    }
    let critical = |left| Asked { critical: true, ..with(left) };
    assert_eq!(critical(20_000_000).said(), "large: complexity 50 of 100");
    // 550 000 tokens read and a twentieth written, at the price of the large model: 10.3 dollars.
    assert_eq!(critical(20_000_000).choice().unwrap().estimated_micro_usd, Some(10_312_500));
    assert_eq!(
        critical(9_000_000).said(),
        "medium: complexity 50 of 100, 9 % of the budget is left"
    );
}

proptest! {
    #[test]
    fn less_money_never_buys_a_larger_model(
        part in 0_u8..=100, left in 0_u64..=100_000_000, less in 0_u64..=100_000_000,
        critical: bool, some in proptest::sample::subsequence(&ALL[..], 1..=3)
    ) {
        let asked = |left| Asked { critical, left: Some(left), offers: offers(&some), ..Asked::new(part) };
        let tier = |asked: Asked| {
            let choice = asked.choice().expect("a model");
            asked.offers.iter().position(|offer| offer.model == choice.model).expect("an offer")
        };
        prop_assert!(tier(asked(left.min(less))) <= tier(asked(left.max(less))));
        prop_assert_eq!(asked(left).choice(), asked(left).choice());
        let unlimited = tier(Asked { left: None, ..asked(left) });
        prop_assert!(tier(asked(left)) <= unlimited);
    }
}
