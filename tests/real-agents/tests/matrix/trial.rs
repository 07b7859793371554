//! One case by one agent.

use std::{
    fmt::Write,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use orch_real_agents::{Install, Left, Model, Real, agents, ended, plan, task};
use orch_tests::{Outcome, Signal, TestRepo};
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::cases::{Act, Case, Expected, Told, Usage};

/// Runs a case; gives what is not as it has to be.
pub(crate) fn run(install: &Install, agent: &str, case: &Case) -> Result<(), String> {
    let model = Model::start().ok_or("the server can't be started")?;
    let agent = agents(install, &model.url()).into_iter().find(|known| known.name == agent);
    let mut agent = agent.ok_or("there is no such agent")?;
    if let (Some(model), "codex") = (case.model_of_codex, agent.name) {
        agent.model = Some(model);
    }
    let _turn = install.turn(&agent);
    let repo = TestRepo::new();
    // What the harness of `orch` has to say, it says by panics.
    let judged = catch_unwind(AssertUnwindSafe(|| judge(&repo, &model, install, &agent, case)));
    let mut wrong = judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    });
    let top = repo.path().parent().ok_or("a repository is in a folder")?;
    for (pid, command) in Left::of(top).for_good() {
        let _ = writeln!(wrong, "left behind: process {pid}: {command}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// What is not as it has to be, line by line.
fn judge(repo: &TestRepo, model: &Model, install: &Install, agent: &Real, case: &Case) -> String {
    let expected = case.expected(agent);
    let tool = repo.signal("tool");
    let outcome = carry_out(repo, install, agent, case, &tool);
    let mut wrong = String::new();
    let mut check = |what: &str, expected: Value, found: Value| {
        if expected != found {
            let _ = writeln!(wrong, "{what}: expected {expected}, found {found}");
        }
    };
    let report = outcome.report();
    let seen = report.task("task");
    let Expected { status, class, attempts, usage, told, session } = expected;
    check("status", status.into(), seen["status"].clone());
    check("class", class.into(), seen["class"].clone());
    check("attempts", attempts.into(), seen["attempts"].clone());

    let answers = model.answers();
    let used = (&seen["usage"]["input_tokens"], &seen["usage"]["output_tokens"]);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let used = (number(used.0), number(used.1));
    let (least, most) = match usage {
        Usage::All => (answers.count, answers.count),
        Usage::None => (0, 0),
        Usage::Some => (0, answers.count),
    };
    let each = |count: u64| {
        answers
            .input
            .checked_div(answers.count)
            .map_or((0, 0), |input| (count * input, count * (answers.output / answers.count)))
    };
    let is_within = each(least) <= used && used <= each(most);
    check("usage is right", true.into(), is_within.into());

    let first = events(repo, 1);
    let last = events(repo, attempts);
    let sessions: Vec<&Value> = [&first, &last]
        .into_iter()
        .filter_map(|events| events.iter().find(|event| event["event"] == "session"))
        .map(|event| &event["id"])
        .collect();
    if let Some(session) = session {
        check("has a session", session.into(), (!sessions.is_empty()).into());
    }
    if case.goes_on && agent.kind != "acp" {
        check(
            "goes on in its session",
            true.into(),
            (sessions.len() == 2 && sessions[0] == sessions[1]).into(),
        );
    }
    let has_told = |told: &str| {
        let texts = first.iter().chain(&last).filter_map(|event| event["text"].as_str());
        // Messages may come in pieces.
        let said: String = texts.collect();
        let outputs = first.iter().chain(&last).filter_map(|event| event["output"].as_str());
        (said.contains(told) || outputs.into_iter().any(|text| text.contains(told))).into()
    };
    if let Told::This(text) = told {
        check(&format!("`{text}` was told"), true.into(), has_told(text));
    }
    if case.leaves {
        let pid = tool.text().trim().parse::<u32>().map(orch_tests::process_is_alive);
        check("the process that it left is alive", Some(false).into(), pid.ok().into());
    }
    if !wrong.is_empty() {
        let _ = writeln!(
            wrong,
            "used {used:?}, {answers:?}, events {}\n{outcome}\n{seen:#}",
            Value::from(last)
        );
        for request in model.requests() {
            let _ = writeln!(wrong, "{request}");
        }
    }
    wrong
}

fn carry_out(
    repo: &TestRepo,
    install: &Install,
    agent: &Real,
    case: &Case,
    tool: &Signal,
) -> Outcome {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../mcp_echo.py");
    let setup = case.agent.replace("ECHO", &script.to_string_lossy());
    let prompt = case.prompt.replace("TOOL", &tool.to_string());
    let time = if agent.package == "opencode" { case.time.1 } else { case.time.0 };
    let more = format!("timeout = \"{time}s\"\n{}", case.task);
    let text = plan([agent], "", &setup) + &task("task", agent.name, &prompt, &more);
    let file = repo.plan_file(&text);
    // What its version is, is asked once for all cases.
    let call = repo.orch(["run".as_ref(), file.as_os_str()]).with_report();
    let call = call.env("XDG_CACHE_HOME", install.cache());
    let Act::Send(signal) = case.act else { return ended(call.spawn()) };
    let mut run = call.spawn();
    let pid = run.text_of(tool).trim().parse().expect("the tool tells its process id");
    let agent = Pid::from_raw(started_by_supervisor(pid)).expect("a process id");
    kill_process(agent, signal).expect("the agent is alive");
    ended(run)
}

/// The process above this one that the supervisor has started.
fn started_by_supervisor(pid: i32) -> i32 {
    let (mut pid, mut parent) = (pid, parent(pid));
    while !fs::read(format!("/proc/{parent}/cmdline"))
        .is_ok_and(|line| line.starts_with(b"orch-supervisor\0"))
    {
        (pid, parent) = (parent, self::parent(parent));
    }
    pid
}

fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a process id")
}

/// The events of an attempt; none where it has none.
fn events(repo: &TestRepo, attempt: u32) -> Vec<Value> {
    let run = repo.read(".orch/current");
    let logs = repo.path().join(".orch/runs").join(run.trim()).join("logs");
    let text = fs::read_to_string(logs.join(format!("task.{attempt}.events.jsonl")));
    text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
