//! Four real agents in one run: their work is merged, and what they used adds up to what the server gave, also
//! where the orchestrator is killed in the middle.

use std::{collections::BTreeMap, io::Write};

use orch_real_agents::{Install, Left, Model, Real, agents, ended, patiently, plan, task};
use orch_tests::{Outcome, TestRepo};
use serde_json::Value;

/// The agents, with the interface that each asks the server by, and what an answer (1,000 fresh tokens, 200 cached
/// ones, 34 of output) costs with the model that it asks, in millionths of a US dollar.
const FOUR: [(&str, &str, u64); 4] = [
    // 1.25, 0.125 and 10 dollars a million.
    ("codex", "Responses", 1615),
    // 3, 0.30 and 15.
    ("claude", "Anthropic", 3570),
    ("opencode", "ChatCompletions", 3570),
    // 0.30, 0.03 and 2.50: 391 exactly.
    ("gemini", "Gemini", 391),
];

/// A cent in millionths of a US dollar.
const CENT: u64 = 10_000;

/// The four, their server, and the turn of the one that has to wait for it; `None`, said loudly, where one is missing.
fn four(test: &str) -> Option<(Model, Vec<Real>, Option<std::fs::File>)> {
    let install = Install::default();
    let model = Model::start();
    let url = model.as_ref().map(Model::url).unwrap_or_default();
    let is_one = |agent: &Real| FOUR.iter().any(|(name, ..)| *name == agent.name);
    let mut found: Vec<_> = agents(&install, &url).into_iter().filter(is_one).collect();
    // One that has a price.
    found.iter_mut().filter(|agent| agent.name == "codex").for_each(|it| it.model = Some("gpt-5"));
    let missing: Vec<_> = found
        .iter()
        .filter_map(|agent| Some(format!("{} ({})", agent.name, install.missing(agent)?)))
        .collect();
    let Some(model) = model.filter(|_| missing.is_empty()) else {
        let why =
            if missing.is_empty() { "there is no python3".into() } else { missing.join(", ") };
        // Also where the test harness keeps what tests print for itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: 1 case of four real agents: {test}: {why}");
        return None;
    };
    let turn = found.iter().find_map(|agent| install.turn(agent));
    Some((model, found, turn))
}

/// How many answers each agent was given.
fn answers(model: &Model) -> BTreeMap<&'static str, u64> {
    let requests = model.requests();
    let is_answer = |request: &&Value| request["status"] == 200 && request["state"] == "answered";
    let count = |api: &str| {
        requests.iter().filter(is_answer).filter(|request| request["api"] == api).count() as u64
    };
    FOUR.iter().map(|(name, api, _)| (*name, count(api))).collect()
}

/// What each agent used is what the server gave it, and costs what that costs.
fn assert_used(outcome: &Outcome, model: &Model) {
    let (report, answers) = (outcome.report(), answers(model));
    let tasks = report.0["tasks"].as_array().expect("tasks");
    let mut total = 0;
    for (name, _, cost) in FOUR {
        let is_its = |task: &&Value| task["id"].as_str().is_some_and(|id| id.starts_with(name));
        let used = |field: &str| -> u64 {
            let uses = tasks.iter().filter(is_its).map(|task| &task["usage"][field]);
            uses.map(|used| used.as_u64().unwrap_or(0)).sum()
        };
        let count = answers[name];
        assert!(count > 0, "{name} asked for nothing");
        let found =
            ["input_tokens", "cached_input_tokens", "output_tokens", "cost_micro_usd"].map(used);
        assert_eq!(found, [1200, 200, 34, cost].map(|each| count * each), "{name}\n{outcome}");
        total += count * cost;
    }
    let sums = ["input_tokens", "cost_micro_usd"].map(|field| report.0["usage"][field].as_u64());
    let all: u64 = answers.values().sum();
    assert_eq!(sums, [Some(all * 1200), Some(total)]);
    // To the cent.
    let cents = (total + CENT / 2) / CENT;
    let cost = format!("${}.{:02}", cents / 100, cents % 100);
    let tokens = format!("Tokens: {} in, {} out; cost: {cost}.", all * 1200, all * 34);
    assert!(outcome.stdout.contains(&tokens), "{tokens}\n{outcome}");
}

/// A plan in which each agent has a task with a script, under the number of each.
fn each(agents: &[Real], run: &str, scripts: &[&str], more: &str) -> String {
    let mut text = plan(agents, run, "");
    for (number, script) in scripts.iter().enumerate() {
        for Real { name, .. } in agents {
            let id = format!("{name}-{number}");
            text += &task(&id, name, &script.replace("FILE", &format!("{id}.txt")), more);
        }
    }
    text
}

fn assert_nothing_left(repo: &TestRepo) {
    let top = repo.path().parent().expect("a repository is in a folder");
    assert_eq!(Left::of(top).for_good(), []);
    assert_eq!(repo.doctor(), [] as [Value; 0]);
}

#[test]
fn eight_tasks_of_four_agents_are_merged_and_add_up() {
    let Some((model, agents, _turn)) = four("eight_tasks_of_four_agents_are_merged_and_add_up")
    else {
        return;
    };
    let repo = TestRepo::new();
    let scripts = [
        "WRITE FILE=one\\n\nRUN cat FILE\nSAY all done",
        "RUN echo two > FILE\nRUN git add FILE && git commit -qm 'by itself'\nRUN cat FILE\nSAY all done",
    ];
    let text =
        each(&agents, "max_concurrency = 4", &scripts, "expects = \"changes\"\ntimeout = \"4m\"");
    let file = repo.plan_file(&text);
    let outcome = ended(repo.orch(["run".as_ref(), file.as_os_str()]).with_report().spawn());
    outcome.assert_code(0);
    for Real { name, .. } in &agents {
        assert_eq!(repo.show("main", &format!("{name}-0.txt")).trim(), "one", "{name}");
        assert_eq!(repo.show("main", &format!("{name}-1.txt")).trim(), "two", "{name}");
    }
    assert_used(&outcome, &model);
    assert_nothing_left(&repo);
}

/// The events of the only attempt at a task: numbered without gaps, with one session and the end of its turn.
fn assert_whole(repo: &TestRepo, task: &str) {
    let run = repo.read(".orch/current");
    let text = repo.read(&format!(".orch/runs/{}/logs/{task}.1.events.jsonl", run.trim()));
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let events: Vec<Value> = lines.skip(1).collect();
    let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64()).collect();
    let expected: Vec<_> = (1..=events.len() as u64).map(Some).collect();
    assert_eq!(numbers, expected, "{task}: {text}");
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((count("session"), count("end")), (1, 1), "{task}: {text}");
}

#[test]
fn agents_whose_orchestrator_is_killed_are_taken_up_and_counted_once() {
    let test = "agents_whose_orchestrator_is_killed_are_taken_up_and_counted_once";
    let Some((model, agents, _turn)) = four(test) else { return };
    let repo = TestRepo::new();
    // The second answer takes a while: so long all of them are in the middle of their work.
    let script = "WRITE FILE=one\\n\nSLEEP 15\nRUN cat FILE\nSAY all done";
    let text = each(&agents, "max_concurrency = 4", &[script], "retries = 0\ntimeout = \"4m\"");
    let file = repo.plan_file(&text);
    let mut first = repo.orch(["run".as_ref(), file.as_os_str()]).spawn();
    patiently("the first step of each agent", || answers(&model).values().all(|count| *count > 0));
    assert!(!first.has_ended(), "the run goes on");
    first.kill();
    let _ = first.wait();
    let before: u64 = answers(&model).values().sum();
    // They go on alone.
    patiently("a step without an orchestrator", || answers(&model).values().sum::<u64>() > before);

    let outcome = ended(repo.orch(["resume"]).with_report().spawn());
    outcome.assert_code(0);
    for Real { name, .. } in &agents {
        let id = format!("{name}-0");
        assert_eq!(repo.show("main", &format!("{id}.txt")).trim(), "one", "{name}");
        assert_eq!(outcome.report().task(&id)["attempts"], 1, "{name}: taken up, not repeated");
        assert_whole(&repo, &id);
    }
    assert_used(&outcome, &model);
    assert_nothing_left(&repo);
}
