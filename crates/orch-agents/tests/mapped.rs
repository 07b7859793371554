//! Agents whose stream a plan describes.

use orch_agents::{AgentEvent, Dialect, Parser, Summary, Tokens, Totals, judge};
use orch_model::{
    Timestamp,
    outcome::{AgentExit, ExitStatus, Failure},
    plan::{Format, parse, spec::EventRule},
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

const PLAN: &str = r#"
version = 1
[agents.mine]
command = ["mine", "--json"]
output = "jsonl"
events = [
  { event = "session", when = { "/kind" = "hello" }, take = { id = "/session/id", model = "/model" } },
  { event = "message", when = { "/kind" = "say" }, take = { text = "/text" } },
  { event = "tool_call", when = { "/kind" = "tool", "/done" = false }, take = { id = "/id", name = "/name", input = "/args" } },
  { event = "tool_result", when = { "/kind" = "tool", "/done" = true }, take = { id = "/id", exit_code = "/code", output = "/out" } },
  { event = "file_change", when = { "/kind" = "tool", "/name" = "edit", "/done" = true }, take = { path = "/paths" } },
  { event = "usage", when = { "/kind" = "cost" }, take = { fresh_input = "/in", cached = "/cache", output = "/out", cost = "/usd" } },
  { event = "rate_limit", when = { "/kind" = "slow", "/code" = 429 }, take = { message = "/why", retry_after = "/wait" } },
  { event = "waiting", when = { "/kind" = "ask" }, take = { message = "/what" } },
  { event = "failed", when = { "/kind" = "bye", "/ok" = false }, take = { message = "/why", status = "/code" } },
  { event = "done", when = { "/kind" = "bye", "/ok" = true } },
  { event = "ignore", when = { "/kind" = "ping" } },
]
[[task]]
id = "a"
agent = "mine"
prompt = "x"
"#;

fn rules() -> Vec<EventRule> {
    let plan = parse(PLAN, Format::Toml).unwrap();
    plan.agents().values().next().unwrap().events.clone()
}

fn events(text: &[u8]) -> (Vec<AgentEvent>, Summary) {
    let mut parser = Parser::new(&Dialect::Mapped(rules().into()));
    let (mut events, mut summary) = (Vec::new(), Summary::default());
    let mut take = |record: orch_agents::Record| {
        summary.take(&record);
        events.push(record.event);
    };
    parser.push(text, NOW, &mut take);
    parser.finish(NOW, &mut take);
    (events, summary)
}

fn failure(text: &str, code: i32) -> Option<Failure> {
    let exit = AgentExit::new(ExitStatus::Code(code));
    let dialect = Dialect::Mapped(rules().into());
    judge(&dialect, &events(text.as_bytes()).1, &exit, &Totals::default(), NOW).failure
}

#[test]
fn lines_mean_what_the_plan_says() {
    let text = r#"{"kind":"hello","session":{"id":"s1"},"model":"m"}
{"kind":"ping"}
{"kind":"say","text":"working"}
{"kind":"tool","done":false,"id":7,"name":"edit","args":{"a":1}}
{"kind":"tool","done":true,"id":"7","name":"edit","code":2,"out":"no","paths":["a","b"]}
{"kind":"cost","in":10,"cache":5,"out":2,"usd":0.01}
{"kind":"cost","in":1,"out":1,"usd":"0.02"}
{"kind":"slow","code":429,"why":"limit","wait":9}
{"kind":"slow","code":500,"why":"other"}
text
{"kind":"bye","ok":true}
"#;
    let (events, summary) = events(text.as_bytes());
    assert_eq!(events.len(), 12, "{events:#?}");
    assert!(
        matches!(&events[2], AgentEvent::ToolCall { id, input, .. } if id == "7" && input == r#"{"a":1}"#)
    );
    assert!(matches!(&events[3], AgentEvent::ToolResult { ok: false, exit_code: Some(2), .. }));
    let limit = AgentEvent::RateLimit {
        message: "limit".into(),
        reset: Some(Timestamp::from_millis(10_000)),
    };
    assert_eq!(events[8], limit);
    assert_eq!((summary.session.as_deref(), summary.model.as_deref()), (Some("s1"), Some("m")));
    assert_eq!((summary.file_changes, summary.unknown), (2, 2));
    assert_eq!(
        summary.used.steps,
        Some(Tokens { input: 16, cached: 5, output: 3, ..Tokens::default() })
    );
    assert_eq!(summary.used.steps_cost, Some("0.03".parse().unwrap()));
    assert_eq!(failure(text, 0), None);
}

#[test]
fn success_needs_the_word_for_it() {
    let said = r#"{"kind":"say","text":"all done"}"#;
    assert_eq!(failure(said, 0).unwrap().class(), "agent");
    assert_eq!(failure("{\"kind\":\"bye\",\"ok\":true}", 1).unwrap().class(), "agent");
    let asked = r#"{"kind":"ask","what":"may I?"}"#;
    assert_eq!(failure(asked, 0), Some(Failure::NeedsInput { message: "may I?".into() }));
    for (code, class) in
        [(429, "rate_limit"), (401, "authentication"), (503, "infrastructure"), (7, "agent")]
    {
        let failed = format!(r#"{{"kind":"bye","ok":false,"why":"no","code":{code}}}"#);
        assert_eq!(failure(&failed, 1).unwrap().class(), class, "{code}");
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_told_of() {
    let plan = |events: &str, output: &str| {
        format!(
            "version = 1\n[agents.a]\ncommand = [\"a\"]\n{output}\n{events}\n\
             [[task]]\nid = \"t\"\nagent = \"a\"\nprompt = \"x\"\n"
        )
    };
    for (events, output, expected) in [
        ("", "output = \"jsonl\"", "nothing says what the lines"),
        ("events = [{ event = \"done\" }]", "", "its output is text"),
        (
            "events = [{ event = \"done\" }]",
            "kind = \"codex\"\noutput = \"jsonl\"",
            "output that is known",
        ),
        (
            "events = [{ event = \"message\", take = { txt = \"/a\" } }]",
            "output = \"jsonl\"",
            "takes no `txt`",
        ),
        (
            "events = [{ event = \"message\", take = { text = \"a\" } }]",
            "output = \"jsonl\"",
            "no JSON pointer",
        ),
        (
            "events = [{ event = \"done\", when = { \"a\" = 1 } }]",
            "output = \"jsonl\"",
            "no JSON pointer",
        ),
        ("link = [\"../x\"]", "", "no path inside"),
        ("args = [\"{prompt}\"]", "kind = \"claude\"", "is given its prompt otherwise"),
    ] {
        let problems = parse(&plan(events, output), Format::Toml).unwrap_err().to_string();
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    parse(
        &plan("args = [\"-v\"]\nlink = [\".ssh\", \".config/x\"]", "kind = \"claude\"")
            .replace("command = [\"a\"]", ""),
        Format::Toml,
    )
    .unwrap();
}

proptest! {
    #[test]
    fn any_json_is_read(text in "(\\{\"kind\":\"(hello|say|tool|cost|slow|ask|bye)\",\"(text|in|usd|id|paths|done|ok)\":(1|-1|1e999|true|null|\"x\"|\\[\\]|\\{\\})\\}\n){0,20}") {
        let (events, summary) = events(text.as_bytes());
        prop_assert!(events.len() <= 3 * text.lines().count());
        prop_assert!(summary.unknown as usize <= text.lines().count());
    }
}
