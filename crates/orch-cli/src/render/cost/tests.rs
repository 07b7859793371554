use orch_model::{
    CommitId, Event, EventKind, TaskChange, TaskId, Timestamp,
    costs::Expenses,
    event::{EVENT_VERSION, RunBase, RunHeader, RunSettings},
    outcome::ExitStatus,
    plan::{Format, parse},
};

use super::*;

const DAY: u64 = 24 * 60 * 60 * 1000;

/// A run whose tasks used this: micro-dollars, and tokens of unknown price.
fn expenses(used: &[(&str, &str, u64, u64)]) -> Vec<Expense> {
    let mut text = "version = 1\n[[epic]]\nid = \"api\"\n[agents]\n\
                    a = { command = [\"a\"] }\n\
                    b = { command = [\"b\", \"{model}\"], model = \"big\" }\n"
        .to_owned();
    for (at, (task, agent, ..)) in used.iter().enumerate() {
        let epic = if at == 0 { "epic = \"api\"\n" } else { "" };
        text += &format!("[[task]]\nid = \"{task}\"\nprompt = \"p\"\nagent = \"{agent}\"\n{epic}");
    }
    let plan = parse(&text, Format::Toml).unwrap();
    let header = RunHeader {
        run: RunId::new("r1").unwrap(),
        version: EVENT_VERSION,
        plan: std::sync::Arc::clone(plan.spec()),
        settings: RunSettings::default(),
        repository: "/repo".into(),
        base: Some(RunBase { target: "main".into(), commit: CommitId::new("c0") }),
        pid: 7,
    };
    let mut kinds = vec![(0, EventKind::RunStarted { header: Box::new(header) })];
    for (day, (task, _, micros, unpriced)) in (0..).zip(used) {
        let usage = Usage {
            input_tokens: 1000 + unpriced,
            cached_input_tokens: 600,
            output_tokens: 100,
            reasoning_tokens: 10,
            cost_micro_usd: *micros,
            unpriced_tokens: *unpriced,
        };
        for change in [
            TaskChange::Unblocked,
            TaskChange::Queued,
            TaskChange::Leased { attempt: 1, by: None },
            TaskChange::Preparing,
            TaskChange::Started { agent: None },
            TaskChange::AgentEnded { exit: ExitStatus::Code(0), usage: Some(usage), model: None },
        ] {
            kinds.push((day * DAY, EventKind::Task { task: TaskId::new(*task).unwrap(), change }));
        }
    }
    let mut expenses = Expenses::default();
    for (seq, (at, kind)) in (1..).zip(kinds) {
        expenses.see(&Event { seq, at: Timestamp::from_millis(at), kind }).unwrap();
    }
    expenses.into_all()
}

fn shown(used: &[(&str, &str, u64, u64)], by: CostBy) -> String {
    let text = Bill::new(&expenses(used), by).text(&[RunId::new("r1").unwrap()], false);
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn the_table_adds_up_to_the_cent() {
    let used = [("t1", "a", 300_000, 0), ("t2", "b", 310_000, 0), ("t3", "a", 300_000, 0)];
    assert_eq!(
        shown(&used, CostBy::Task),
        "run r1\n\n\
         TASK   ATTEMPTS  INPUT  CACHED  OUTPUT  REASONING   COST\n\
         t2            1  1,000     600     100         10  $0.31\n\
         t1            1  1,000     600     100         10  $0.30\n\
         t3            1  1,000     600     100         10  $0.30\n\
         total         3  3,000   1,800     300         30  $0.91"
    );
    let model = shown(&used, CostBy::Model);
    assert!(model.contains("(the agent's own)         2"), "{model}");
    assert!(model.contains("big                       1"), "{model}");
    let epic = shown(&used, CostBy::Epic);
    assert!(epic.contains("(none)         2") && epic.contains("api            1"), "{epic}");
    let day = shown(&used, CostBy::Day);
    let days: Vec<_> = day.lines().filter_map(|line| line.strip_prefix("1970-01-0")).collect();
    assert_eq!(days.len(), 3, "{day}");
    assert!(days[0].starts_with('1') && days[2].starts_with('3'), "{day}");
    let agent = shown(&used, CostBy::Agent);
    assert!(agent.contains("$0.60\n") && agent.contains("$0.31\n"), "{agent}");
}

#[test]
fn small_amounts_have_the_decimals_that_their_sum_needs() {
    let used = [("t1", "a", 10_710, 0), ("t2", "a", 4_000, 0)];
    let text = shown(&used, CostBy::Task);
    for amount in ["$0.01071\n", "$0.00400\n", "$0.01471"] {
        assert!(text.contains(amount), "{text}");
    }
}

#[test]
fn what_nobody_knows_is_not_free() {
    let used = [("t1", "a", 300_000, 0), ("t2", "a", 0, 1_200)];
    let text = shown(&used, CostBy::Task);
    assert!(
        text.contains("2,200     600     100         10") && text.contains("unknown\n"),
        "{text}"
    );
    assert!(text.contains("$0.30 + 1,200 tokens of unknown price\n"), "{text}");
    assert!(text.contains("Nobody knows the price of 1,200 tokens"), "{text}");
    let bill = Bill::new(&expenses(&used), CostBy::Agent).json(&[RunId::new("r1").unwrap()]);
    assert_eq!(bill["rows"][0]["agent"], "a");
    assert_eq!(bill["total"]["cost_usd"], "0.30");
    assert_eq!(bill["total"]["unpriced_tokens"], 1_200);
    assert_eq!(bill["total"]["attempts"], 2);
    let nothing = Bill::new(&[], CostBy::Task).text(&[RunId::new("r1").unwrap()], false);
    assert_eq!(nothing, "run r1: no agent has worked");
}
