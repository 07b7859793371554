//! Coding agents by their kind, through the whole of orch. The agents are scripts that behave as the real
//! ones were seen to.

use std::{ffi::OsStr, fs, path::PathBuf};

use orch_tests::{Orch, Report, TestRepo, is_task};
use serde_json::Value;

/// What is like codex: its version, its session, and `work` in it, with the prompt in `$prompt`.
fn codex(repo: &TestRepo, work: &str) -> String {
    let script = format!(
        r#"case "$*" in *--version*) echo codex-cli 0.169.0; exit;; esac
prompt=$(cat)
echo "$*" >> {calls}
printf '%s\n' "$prompt" >> {prompts}
say() {{ printf '{{"type":"item.completed","item":{{"id":"i","type":"agent_message","text":"%s"}}}}\n' "$1"; }}
end() {{ echo '{{"type":"turn.completed","usage":{{"input_tokens":1200,"cached_input_tokens":200,"output_tokens":34}}}}'; }}
echo '{{"type":"thread.started","thread_id":"th-1"}}'
{work}"#,
        calls = repo.signal("calls"),
        prompts = repo.signal("prompts"),
    );
    repo.program("codex", &script)
}

fn plan(kind: &str, command: &str, agent: &str, task: &str) -> String {
    format!(
        "version = 1\n[run]\nmax_concurrency = 2\n[agents.coder]\nkind = \"{kind}\"\ncommand = ['{command}']\n\
         {agent}\n[[task]]\nid = \"a\"\nagent = \"coder\"\nprompt = \"do it\"\n{task}\n"
    )
}

fn run<'r>(repo: &'r TestRepo, plan: &str) -> Orch<'r> {
    let file = repo.plan_file(plan);
    repo.orch([OsStr::new("run"), file.as_os_str()]).with_report()
}

fn events(repo: &TestRepo, attempt: u32) -> Vec<Value> {
    let run = repo.read(".orch/current");
    let file = format!(".orch/runs/{}/logs/a.{attempt}.events.jsonl", run.trim());
    let text = repo.read(&file);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn text(repo: &TestRepo, name: &str) -> String {
    fs::read_to_string(repo.signal(name).path()).unwrap_or_default()
}

#[test]
fn a_retry_goes_on_in_the_session_with_what_failed() {
    let repo = TestRepo::new();
    let work = "echo work > a.txt; say done; end";
    let verify = "retries = 1\nverify = [\"echo not good enough; test $ORCH_ATTEMPT = 2\"]";
    let plan = plan("codex", &codex(&repo, work), "model = \"gpt-5\"", verify);
    let outcome = run(&repo, &plan).run();
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "work\n");

    let calls = text(&repo, "calls");
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].starts_with("exec --json ") && calls[0].ends_with("-m gpt-5 -"), "{calls:?}");
    assert!(calls[1].ends_with("-m gpt-5 resume th-1 -"), "{calls:?}");
    let prompts = text(&repo, "prompts");
    let again = prompts.find("\nThe last attempt at this task has failed (verification): ");
    let (first, second) = prompts.split_at(again.expect("the second prompt"));
    assert!(first.starts_with("# Task `a`\n\ndo it\n") && !second.contains("do it"), "{prompts}");
    assert!(
        prompts.contains("not good enough") && prompts.contains("refs/orch/preserved/"),
        "{prompts}"
    );

    // The counts are those of the whole thread, of which the second attempt added nothing.
    let report = outcome.report();
    let usage = &report.task("a")["usage"];
    assert_eq!(usage["input_tokens"], 1200, "{usage:#}");
    // 1000 * 1.25 + 200 * 0.125 + 34 * 10 millionths.
    assert_eq!(usage["cost_micro_usd"], 1615);
    let told = events(&repo, 2);
    assert_eq!((&told[0]["v"], &told[0]["kind"]), (&1.into(), &"codex".into()));
    assert_eq!(told.last().expect("events")["event"], "end");

    let attach = repo.orch(["attach", "a"]).run();
    attach.assert_code(0);
    attach.assert_stdout(&["cd ", "CODEX_HOME=", "codex resume th-1"]);
    repo.orch(["attach", "b"]).run().assert_code(2).assert_stderr(&["no session"]);
}

#[test]
fn a_run_begins_only_with_agents_that_are_there() {
    let repo = TestRepo::new();
    let missing = run(&repo, &plan("gemini", "/no/such/gemini", "", "")).run();
    missing.assert_code(2).assert_stderr(&["agent `coder`", "npm install -g @google/gemini-cli"]);
    let old = repo.program("old", "echo codex-cli 0.2.0");
    let old = run(&repo, &plan("codex", &old, "", "")).run();
    old.assert_code(2).assert_stderr(&["is version 0.2.0 of codex", "0.150.0 is the oldest"]);
    assert!(!repo.path().join(".orch/current").exists(), "nothing was begun");

    let file: PathBuf = repo.plan_file(&plan("codex", &codex(&repo, ""), "", ""));
    let listed = repo.orch([OsStr::new("agents"), file.as_os_str(), OsStr::new("--json")]).run();
    listed.assert_code(0);
    let agent = &listed.json()["agents"][0];
    assert_eq!((&agent["name"], &agent["found"]), (&"coder".into(), &"0.169.0".into()), "{agent}");
    assert_eq!((&agent["state"], &agent["problem"]), (&"known".into(), &Value::Null), "{agent}");
}

#[test]
fn an_agent_that_exits_well_without_its_last_word_has_failed() {
    let repo = TestRepo::new();
    let codex = codex(&repo, "echo work > a.txt; say done; exit 0");
    let outcome = run(&repo, &plan("codex", &codex, "", "retries = 0")).run();
    outcome.assert_code(1);
    assert!(outcome.text().contains("never said that its turn is over"), "{outcome}");
}

#[test]
fn an_agent_may_explain_why_there_is_nothing_to_change() {
    for (expects, said, code) in [
        ("explained", "::orch no-change it is so already", 0),
        ("explained", "nothing to do", 1),
        ("changes", "::orch no-change it is so already", 1),
    ] {
        let repo = TestRepo::new();
        let codex = codex(&repo, &format!("say '{said}'; end"));
        let task = format!("retries = 0\nexpects = \"{expects}\"");
        run(&repo, &plan("codex", &codex, "", &task)).run().assert_code(code);
    }
}

#[test]
fn an_agent_that_outlives_its_orchestrator_is_judged_by_its_stream() {
    let repo = TestRepo::new();
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    let work = format!(
        "touch {begun}; while ! test -e {go}; do sleep 0.02; done; echo work > a.txt\n\
         echo '{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"exceeded retry limit, last status: 429 Too Many Requests\"}}}}'; exit 1"
    );
    let plan = plan("codex", &codex(&repo, &work), "", "retries = 0");
    let mut first = run(&repo, &plan).arg("--json").spawn();
    first.wait_for(&begun);
    let killed =
        std::process::Command::new("kill").args(["-KILL", &first.pid().to_string()]).status();
    assert!(killed.expect("kill").success());
    drop(first);
    let mut second = repo.orch(["resume", "--json"]).spawn();
    go.raise();
    let event = second.next_event(|event| is_task(event, "a", "retry"));
    assert_eq!(event["failure"]["class"], "rate_limit", "{event}");
    assert_eq!(events(&repo, 1).last().expect("events")["event"], "end");
}

#[test]
fn what_an_agent_used_counts_once_however_often_its_orchestrator_is_killed() {
    let repo = TestRepo::new();
    let go: Vec<_> = (0..3).map(|n| repo.signal(&format!("go{n}"))).collect();
    let answer = |n: u32, go: &str| {
        format!(
            "echo '{{\"type\":\"assistant\",\"session_id\":\"s\",\"message\":{{\"id\":\"m{n}\",\"model\":\"claude-sonnet-4-5\",\
         \"content\":[{{\"type\":\"text\",\"text\":\"answer {n}\"}}],\"usage\":{{\"input_tokens\":1000,\"output_tokens\":10}}}}}}'\n\
         while ! test -e {go}; do sleep 0.02; done"
        )
    };
    let script = format!(
        "case \"$*\" in *--version*) echo '2.1.329 (Claude Code)'; exit;; esac\ncat > a.txt\n{}\n{}\n{}\n\
         echo '{{\"type\":\"result\",\"is_error\":false,\"result\":\"done\",\"session_id\":\"s\",\
         \"usage\":{{\"input_tokens\":3000,\"output_tokens\":90}}}}'",
        answer(1, &go[0].to_string()),
        answer(2, &go[1].to_string()),
        answer(3, &go[2].to_string()),
    );
    let used = || {
        let status = repo.orch(["status", "--json"]).run();
        status.assert_code(0);
        let report = Report(status.json()["report"].clone());
        let usage = &report.task("a")["usage"];
        (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64())
    };
    let plan = plan("claude", &repo.program("claude", &script), "", "retries = 0");
    let mut orch = run(&repo, &plan).arg("--json").spawn();
    for (n, go) in go.iter().enumerate() {
        let input = 1000 * (n as u64 + 1);
        let so_far = Some(input);
        orch.next_event(|event| {
            is_task(event, "a", "agent_used") && event["usage"]["input_tokens"].as_u64() == so_far
        });
        assert_eq!(used(), (so_far, Some(10 * (n as u64 + 1))), "told while it works");
        let killed =
            std::process::Command::new("kill").args(["-KILL", &orch.pid().to_string()]).status();
        assert!(killed.expect("kill").success());
        drop(orch);
        assert_eq!(used().0, so_far, "it is in the journal");
        orch = repo.orch(["resume", "--json"]).spawn();
        // It is adopted, and all that it said so far is read again.
        orch.next_event(|event| is_task(event, "a", "agent_used"));
        assert_eq!(used().0, so_far, "and does not count again");
        go.raise();
    }
    orch.wait().assert_code(0);
    assert_eq!(used(), (Some(3000), Some(90)), "by its last word");
    let seqs: Vec<u64> = events(&repo, 1)[1..]
        .iter()
        .map(|event| event["seq"].as_u64().expect("a number"))
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without gaps");
    assert_eq!(events(&repo, 1).last().expect("events")["event"], "end");
    assert!(!repo.show("main", "a.txt").is_empty());
}

#[test]
fn who_was_held_up_goes_on_in_its_session_and_its_folder() {
    let repo = TestRepo::new();
    let work = "case \"$*\" in
*resume*) test -e a.txt || exit 1; echo more >> a.txt; say done; end;;
*) echo work > a.txt
  echo '{\"type\":\"item.started\",\"item\":{\"id\":\"i\",\"type\":\"command_execution\",\"command\":\"x\"}}'
  echo '{\"type\":\"turn.failed\",\"error\":{\"message\":\"429 Too Many Requests, try again in 1s\"}}'; exit 1;;
esac";
    // What others merge meanwhile is in the way of nothing.
    let other = "\n[[task]]\nid = \"b\"\nrun = \"echo b > b.txt\"";
    let plan = plan("codex", &codex(&repo, work), "", &format!("retries = 0{other}"));
    let outcome = run(&repo, &plan).run();
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "work\nmore\n");
    assert_eq!(repo.show("main", "b.txt"), "b\n");
    let prompts = text(&repo, "prompts");
    assert!(prompts.contains("go on with the task where you were"), "{prompts}");
    assert!(repo.doctor().is_empty(), "{:?}", repo.doctor());
}

/// A small agent that speaks the protocol, and asks before it writes a file.
const ACP: &str = r#"
say() { printf '%s\n' "$1"; }
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9][0-9]*\).*/\1/p')
  case $line in
    *'"initialize"'*) say '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":1,"agentInfo":{"name":"stub","version":"9"}}}';;
    *'"session/new"'*) say '{"jsonrpc":"2.0","id":'$id',"result":{"sessionId":"s1"}}';;
    *'"session/prompt"'*) turn=$id
      say 'a remark'
      case $line in
        *sleep-on*) touch $BEGUN;;
        *) say '{"jsonrpc":"2.0","id":"ask-1","method":"session/request_permission","params":{"sessionId":"s1","options":[{"optionId":"always","name":"Always","kind":"allow_always"},{"optionId":"yes","name":"Yes","kind":"allow_once"},{"optionId":"no","name":"No","kind":"reject_once"}],"toolCall":{"toolCallId":"t1","title":"write a.txt","rawInput":{"path":"a.txt"}}}}';;
      esac;;
    *'"ask-1"'*'"yes"'*) echo work > a.txt
      say '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"tool_call_update","toolCallId":"t1","status":"completed","title":"write a.txt"}}}'
      say '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"done"}}}}'
      say '{"jsonrpc":"2.0","id":'$turn',"result":{"stopReason":"end_turn"}}';;
    *'"ask-1"'*) say '{"jsonrpc":"2.0","id":'$turn',"result":{"stopReason":"refusal"}}';;
    *'"session/cancel"'*) touch $CANCELLED; say '{"jsonrpc":"2.0","id":'$turn',"result":{"stopReason":"cancelled"}}';;
  esac
done
# The input has ended; two of the real ones go on.
sleep 60 &
wait
"#;

fn acp(repo: &TestRepo) -> String {
    let (begun, cancelled) = (repo.signal("begun"), repo.signal("cancelled"));
    repo.program("acp", &format!("BEGUN={begun}\nCANCELLED={cancelled}\n{ACP}"))
}

#[test]
fn an_agent_that_speaks_acp_is_granted_what_it_asks_for() {
    let repo = TestRepo::new();
    run(&repo, &plan("acp", &acp(&repo), "", "expects = \"changes\"")).run().assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "work\n");
    let told: Vec<String> = events(&repo, 1)
        .iter()
        .filter_map(|event| Some(event["event"].as_str()?.to_owned()))
        .collect();
    assert_eq!(told, ["session", "unknown", "tool_call", "tool_result", "message", "end"]);
}

#[test]
fn an_agent_that_speaks_acp_is_refused_what_it_asks_for() {
    let repo = TestRepo::new();
    let plan = plan("acp", &acp(&repo), "permissions = \"deny\"", "retries = 3");
    let outcome = run(&repo, &plan).run();
    outcome.assert_code(1);
    assert!(outcome.text().contains("waited for a person: write a.txt"), "{outcome}");
    assert!(!outcome.text().contains("attempt 2"), "it would end the same way again: {outcome}");
}

#[test]
fn the_session_of_an_agent_that_speaks_acp_is_cancelled() {
    let repo = TestRepo::new();
    let plan = plan("acp", &acp(&repo), "", "retries = 0").replace("do it", "sleep-on");
    let mut running = run(&repo, &plan).arg("--json").spawn();
    running.wait_for(&repo.signal("begun"));
    repo.orch(["cancel", "a"]).run().assert_code(0);
    running.wait().assert_code(1);
    assert!(repo.signal("cancelled").is_raised());
    assert_eq!(events(&repo, 1).last().expect("events")["reason"], "cancelled");
}

#[test]
fn a_program_whose_lines_the_plan_describes() {
    let repo = TestRepo::new();
    let script = r#"cat > a.txt
echo '{"t":"cost","in":7,"out":3,"usd":"0.25"}'
echo '{"t":"end"}'"#;
    let agent = r#"output = "jsonl"
events = [{ event = "usage", when = { "/t" = "cost" }, take = { input = "/in", output = "/out", cost = "/usd" } },
          { event = "done", when = { "/t" = "end" } }]"#;
    let plan = plan("command", &repo.program("mine", script), agent, "");
    let outcome = run(&repo, &plan).run();
    outcome.assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "do it\n");
    assert!(outcome.text().contains("Tokens: 7 in, 3 out; cost: $0.25."), "{outcome}");
    assert_eq!(events(&repo, 1).len(), 3);
}
