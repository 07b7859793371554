//! A service that refuses everybody for a while: few are refused, nobody is to blame, and everybody finishes.
//!
//! The agents ask the scripted model server, each request for an answer by HTTP. The real ones take part where
//! `ORCH_REAL_AGENTS` names a folder with them, see `real_agents.rs`:
//!
//! ```text
//! ORCH_REAL_AGENTS=FOLDER cargo test -p orch-tests --test storm -- --ignored --nocapture
//! ```

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use orch_tests::{TestRepo, is_task};
use serde_json::Value;

/// The scripted model server.
struct Model {
    server: Child,
    port: u16,
}

impl Model {
    /// One that refuses everything for a while: `FIRST:SECONDS`, and `:1` where it says for how long.
    fn start(storm: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fake_model.py");
        let mut server = Command::new("python3")
            .arg(script)
            .args(["--port", "0", "--storm", storm])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is there");
        let mut port = String::new();
        let stdout = server.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut port).expect("a port");
        Self { server, port: port.trim().parse().expect("a port") }
    }

    /// How many requests it has answered, and how many it has refused.
    fn counts(&self) -> (usize, usize) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it is there");
        let request = "GET /_requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let requests: Vec<Value> = serde_json::from_str(body).expect("JSON");
        let of = |status: u64| {
            requests.iter().filter(|r| r["api"].is_string() && r["status"] == status).count()
        };
        (of(200), of(429))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Claude as it was seen to behave: it waits for as long as the service says, or from half a second on by
/// itself, and tries again up to ten times.
const CLAUDE: &str = r#"#!/bin/bash
case "$*" in *--version*) echo "2.1.329 (Claude Code)"; exit;; esac
cat > /dev/null
echo '{"type":"system","subtype":"init","session_id":"s","model":"claude-sonnet-4-5"}'
body='{"model":"m","messages":[{"role":"user","content":"SAY done"}]}'
own=600
for ((attempt = 1; attempt <= 10; attempt++)); do
  exec 3<> /dev/tcp/127.0.0.1/PORT
  printf 'POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body" >&3
  read -r _ status _ <&3
  delay=$own
  while IFS=': ' read -r name value <&3 && [ "$name" != $'\r' ]; do
    if [ "$name" = Retry-After ]; then delay=${value%$'\r'}000; fi
  done
  exec 3>&-
  if [ "$status" = 200 ]; then
    echo '{"type":"assistant","session_id":"s","message":{"id":"m","model":"claude-sonnet-4-5","content":[{"type":"text","text":"done"}],"usage":{"input_tokens":1200,"output_tokens":34}}}'
    echo '{"type":"result","is_error":false,"result":"done","session_id":"s","usage":{"input_tokens":1200,"output_tokens":34}}'
    exit 0
  fi
  echo '{"type":"system","subtype":"api_retry","attempt":'$attempt',"max_retries":10,"retry_delay_ms":'$delay',"error_status":429,"error":"rate_limit","session_id":"s"}'
  sleep $((delay / 1000)).$(printf %03d $((delay % 1000)))
  own=$((own * 2))
done
echo '{"type":"result","is_error":true,"api_error_status":429,"result":"API Error: Request rejected (429)","session_id":"s"}'
exit 1
"#;

/// A plan of 50 tasks that an agent does, eight at a time.
fn plan(agent: &str) -> String {
    let mut text = format!(
        "version = 1\n[run]\nmax_concurrency = 8\n[defaults]\nisolation = \"none\"\nagent = \"coder\"\n\
         timeout = \"10m\"\n[agents.coder]\n{agent}\n"
    );
    for n in 0..50 {
        text += &format!("[[task]]\nid = \"t{n}\"\nprompt = \"SAY done {n}\"\n");
    }
    text
}

/// Every task has finished, none by an attempt that counts, and few requests were refused.
fn assert_weathered(repo: &TestRepo, model: &Model, plan: &str) {
    let file = repo.plan_file(plan);
    let begun = Instant::now();
    let mut run = repo.orch([OsStr::new("run"), file.as_os_str(), OsStr::new("--json")]).spawn();
    // As a whole it may take longer than anything is waited for.
    for _ in 0..50 {
        run.next_event(|event| (0..50).any(|n| is_task(event, &format!("t{n}"), "merged")));
    }
    run.wait().assert_code(0);
    let (answered, refused) = model.counts();
    let state: Value = serde_json::from_str(&repo.read(".orch/parallel-state.json")).expect("JSON");
    let tasks = state["tasks"].as_array().expect("tasks");
    let limited: u64 =
        tasks.iter().filter_map(|task| task["failures"]["rate_limit"].as_u64()).sum();
    // Also where the test harness keeps what tests print for itself.
    let _ = writeln!(
        std::io::stderr(),
        "storm: {answered} answered, {refused} refused, {limited} attempts limited, {:.1?} in all",
        begun.elapsed()
    );
    assert_eq!(tasks.len(), 50);
    for task in tasks {
        assert_eq!((&task["state"], &task["charged"]), (&"merged".into(), &0.into()), "{task:#}");
    }
    assert!(answered >= 50, "{answered} answers");
    assert!((1..=10).contains(&refused), "{refused} requests were refused");
}

#[test]
fn a_storm_of_refusals_is_weathered_with_few_of_them() {
    let repo = TestRepo::new();
    let model = Model::start("10:3:1");
    let program = repo.beside("claude");
    fs::write(&program, CLAUDE.replace("PORT", &model.port.to_string())).expect("it is written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is changed");
    let agent = format!("kind = \"claude\"\ncommand = ['{}']", program.display());
    assert_weathered(&repo, &model, &plan(&agent));
}

/// The real agent of a kind; `None`, and a word of it, where it is not installed.
fn real(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("ORCH_REAL_AGENTS").map(PathBuf::from).unwrap_or_default();
    let program = folder.join(path);
    if !program.is_file() {
        let missing = program.display();
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: no {missing} (see `tests/tests/real_agents.rs`)");
        return None;
    }
    Some(program)
}

fn with_real_claude(storm: &str) {
    let Some(program) = real("claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude")
    else {
        return;
    };
    let model = Model::start(storm);
    let agent = format!(
        "kind = \"claude\"\ncommand = ['{}']\nmodel = \"claude-sonnet-4-5\"\n\
         env = {{ ANTHROPIC_BASE_URL = \"http://127.0.0.1:{}\", ANTHROPIC_API_KEY = \"dummy\" }}",
        program.display(),
        model.port
    );
    assert_weathered(&TestRepo::new(), &model, &plan(&agent));
}

fn with_real_codex(storm: &str) {
    let path =
        "codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex";
    let Some(program) = real(path) else { return };
    let model = Model::start(storm);
    let settings = [
        "model_provider=\"fake\"".into(),
        "model_providers.fake.name=\"fake\"".into(),
        format!("model_providers.fake.base_url=\"http://127.0.0.1:{}/v1\"", model.port),
        "model_providers.fake.wire_api=\"responses\"".into(),
        "model_providers.fake.env_key=\"FAKE_KEY\"".into(),
    ];
    let args: Vec<String> = settings.into_iter().flat_map(|s: String| ["-c".into(), s]).collect();
    let agent = format!(
        "kind = \"codex\"\ncommand = ['{}']\nargs = {}\nmodel = \"gpt-5.5\"\nenv = {{ FAKE_KEY = \"dummy\" }}",
        program.display(),
        serde_json::to_string(&args).expect("JSON")
    );
    assert_weathered(&TestRepo::new(), &model, &plan(&agent));
}

#[test]
#[ignore = "takes a minute; with ORCH_REAL_AGENTS"]
fn real_claude_weathers_a_storm_that_says_how_long() {
    with_real_claude("10:30:1");
}

#[test]
#[ignore = "takes a minute; with ORCH_REAL_AGENTS"]
fn real_claude_weathers_a_storm() {
    with_real_claude("10:30");
}

#[test]
#[ignore = "takes a minute; with ORCH_REAL_AGENTS"]
fn real_codex_weathers_a_storm_that_says_how_long() {
    with_real_codex("10:30:1");
}

#[test]
#[ignore = "takes a minute; with ORCH_REAL_AGENTS"]
fn real_codex_weathers_a_storm() {
    with_real_codex("10:30");
}
