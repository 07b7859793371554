use super::*;

fn usd(text: &str) -> Amount {
    Amount::Usd(text.parse().unwrap())
}

#[test]
fn a_budget_is_read_as_flags_give_it() {
    let read = |text: &str| {
        text.parse::<BudgetChange>()
            .map(|change| (change.scope.to_string(), change.budget.to_string()))
    };
    let ok = |scope: &str, budget: &str| Ok((scope.to_owned(), budget.to_owned()));
    assert_eq!(read("1.5"), ok("run", "$1.50"));
    assert_eq!(read("$2, 3_000 tokens,20attempts"), ok("run", "$2.00, 3,000 tokens, 20 attempts"));
    assert_eq!(read("epic:api=0.25"), ok("epic:api", "$0.25"));
    assert_eq!(read("task:login = 1 attempt"), ok("task:login", "1 attempt"));
    for (text, expected) in [
        ("0", "nothing could run"),
        ("1.5 tokens", "is no limit"),
        ("0 tokens", "from 1 on"),
        ("3 apples", "write `1.50`, `200000 tokens`"),
        ("me=1", "write `run`, `epic:ID`"),
        ("epic:A B=1", "has no budget"),
        ("", "no decimal number"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn limits_that_are_not_given_stay() {
    let old: Budget = "1, 100 tokens".parse().unwrap();
    assert_eq!(old.with("2".parse().unwrap()).to_string(), "$2.00, 100 tokens");
}

#[test]
fn a_stop_says_where_why_and_what_to_type() {
    let mut stop = BudgetStop {
        scope: BudgetScope::Run,
        limit: usd("1"),
        spent: usd("0.9"),
        expected: Some(usd("0.3")),
        unknown: None,
        unpriced_tokens: 0,
    };
    assert_eq!(
        stop.to_string(),
        "the budget of the run has no room for another attempt: $0.90 of $1.00 is spent, and one takes \
         about $0.30"
    );
    assert_eq!(stop.cure(), "--budget 2.00");
    let text = serde_json::to_string(&stop).unwrap();
    assert_eq!(
        text,
        r#"{"scope":"run","limit":{"usd":"1.00"},"spent":{"usd":"0.90"},"expected":{"usd":"0.30"}}"#
    );
    assert_eq!(serde_json::from_str::<BudgetStop>(&text).unwrap(), stop);

    stop.scope = BudgetScope::Epic(EpicId::new("api").unwrap());
    (stop.limit, stop.spent, stop.expected) = (Amount::Tokens(1500), Amount::Tokens(1700), None);
    assert_eq!(
        stop.to_string(),
        "the budget of epic api is used up: 1,700 tokens of 1,500 tokens is spent"
    );
    assert_eq!(stop.cure(), "--budget epic:api=3000tokens");
    assert_eq!(
        stop.cure().trim_start_matches("--budget ").parse::<BudgetChange>().unwrap().budget,
        Budget { tokens: Some(3000), ..Budget::default() }
    );

    stop.unknown = Some(Worker { agent: Some(AgentName::new("coder").unwrap()), model: None });
    (stop.limit, stop.spent, stop.unpriced_tokens) = (usd("1"), usd("0"), 1200);
    assert_eq!(
        stop.to_string(),
        "the budget of epic api ($1.00) can't be kept: coder has used 1,200 tokens whose price nobody \
         knows; besides, $0.00 is spent"
    );
}

#[test]
fn numbers_are_grouped() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(number), text);
    }
}
