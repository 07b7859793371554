//! The real coding agents, against a scripted model server on this machine: no network is needed.
//!
//! They are looked for under the folder that `ORCH_REAL_AGENTS` names, each installed by itself, without
//! scripts:
//!
//! ```text
//! npm i --prefix $ORCH_REAL_AGENTS/codex --ignore-scripts @openai/codex@0.169.0
//! npm i --prefix $ORCH_REAL_AGENTS/claude --ignore-scripts @anthropic-ai/claude-code-linux-x64@2.1.329
//! npm i --prefix $ORCH_REAL_AGENTS/opencode --ignore-scripts opencode-ai@1.18.33
//! npm i --prefix $ORCH_REAL_AGENTS/gemini --ignore-scripts @google/gemini-cli@0.61.0
//! npm i --prefix $ORCH_REAL_AGENTS/codex-acp --ignore-scripts @zed-industries/codex-acp@0.16.0
//! ```
//!
//! What is not there is skipped, and the test says how many that were.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use orch_tests::TestRepo;
use serde_json::{Value, json};

/// The scripted model server. The prompt is the script.
struct Model {
    server: Child,
    url: String,
}

impl Model {
    /// `None` where there is no Python.
    fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fake_model.py");
        let mut server = Command::new("python3")
            .arg(script)
            .args(["--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut port = String::new();
        BufReader::new(server.stdout.take()?).read_line(&mut port).ok()?;
        Some(Self { server, url: format!("http://127.0.0.1:{}", port.trim()) })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// An agent as a plan has it.
struct Real {
    name: &'static str,
    kind: &'static str,
    command: Vec<String>,
    /// The file whose absence means that it is not installed.
    program: PathBuf,
    args: Vec<String>,
    model: Option<&'static str>,
    env: Vec<(&'static str, String)>,
}

fn agents(folder: &Path, url: &str) -> Vec<Real> {
    let at = |path: &str| folder.join(path);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let codex =
        at("codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex");
    let claude = at("claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude");
    let opencode = at("opencode/node_modules/opencode-linux-x64/bin/opencode");
    let gemini = at("gemini/node_modules/@google/gemini-cli/bundle/gemini.js");
    let codex_acp = at("codex-acp/node_modules/@zed-industries/codex-acp-linux-x64/bin/codex-acp");
    let provider: Vec<String> = [
        "model_provider=\"fake\"".into(),
        "model_providers.fake.name=\"fake\"".into(),
        format!("model_providers.fake.base_url=\"{url}/v1\""),
        "model_providers.fake.wire_api=\"responses\"".into(),
        "model_providers.fake.env_key=\"FAKE_KEY\"".into(),
        "model_providers.fake.request_max_retries=0".into(),
        "model_providers.fake.stream_max_retries=0".into(),
    ]
    .into_iter()
    .flat_map(|setting: String| ["-c".into(), setting])
    .collect();
    let config = json!({
        "autoupdate": false, "share": "disabled", "snapshot": false,
        "provider": { "fake": {
            "npm": "@ai-sdk/openai-compatible",
            "options": { "baseURL": format!("{url}/v1"), "apiKey": "dummy" },
            "models": { "fake-model": {
                "name": "fake-model", "limit": { "context": 100_000, "output": 4096 },
                "cost": { "input": 3, "output": 15, "cache_read": 0.3 },
            } },
        } },
        "enabled_providers": ["fake"], "model": "fake/fake-model", "small_model": "fake/fake-model",
        "agent": { "title": { "disable": true } },
    });
    let of_gemini =
        vec![("GOOGLE_GEMINI_BASE_URL", url.to_owned()), ("GEMINI_API_KEY", "dummy".to_owned())];
    let of_opencode = vec![("OPENCODE_CONFIG_CONTENT", config.to_string())];
    let of_codex = vec![("FAKE_KEY", "dummy".to_owned())];
    vec![
        Real {
            name: "codex",
            kind: "codex",
            command: vec![text(&codex)],
            program: codex,
            args: provider.clone(),
            model: Some("gpt-5.5"),
            env: of_codex.clone(),
        },
        Real {
            name: "claude",
            kind: "claude",
            command: vec![text(&claude)],
            program: claude,
            args: Vec::new(),
            model: Some("claude-sonnet-4-5"),
            env: vec![
                ("ANTHROPIC_BASE_URL", url.to_owned()),
                ("ANTHROPIC_API_KEY", "dummy".to_owned()),
                ("CLAUDE_CODE_MAX_RETRIES", "0".to_owned()),
            ],
        },
        Real {
            name: "opencode",
            kind: "opencode",
            command: vec![text(&opencode)],
            program: opencode.clone(),
            args: Vec::new(),
            model: Some("fake/fake-model"),
            env: of_opencode.clone(),
        },
        Real {
            name: "gemini",
            kind: "gemini",
            command: vec!["node".into(), text(&gemini)],
            program: gemini.clone(),
            args: Vec::new(),
            model: Some("gemini-2.5-flash"),
            env: of_gemini.clone(),
        },
        Real {
            name: "gemini-acp",
            kind: "acp",
            command: vec![
                "node".into(),
                text(&gemini),
                "--acp".into(),
                "-m".into(),
                "{model}".into(),
            ],
            program: gemini,
            args: Vec::new(),
            model: Some("gemini-2.5-flash"),
            env: of_gemini,
        },
        Real {
            name: "opencode-acp",
            kind: "acp",
            command: vec![text(&opencode), "acp".into()],
            program: opencode,
            args: Vec::new(),
            model: None,
            env: of_opencode,
        },
        Real {
            name: "codex-acp",
            kind: "acp",
            command: vec![text(&codex_acp)],
            program: codex_acp,
            args: provider,
            model: None,
            env: of_codex,
        },
    ]
}

/// The agents that are installed, with the server that they talk to; says how many are not.
fn installed(test: &str) -> Option<(Model, Vec<Real>)> {
    let folder = std::env::var_os("ORCH_REAL_AGENTS").map(PathBuf::from);
    let model = folder.as_ref().and_then(|_| Model::start());
    let url = model.as_ref().map_or("", |model| &model.url);
    let (there, missing): (Vec<_>, Vec<_>) = agents(&folder.unwrap_or_default(), url)
        .into_iter()
        .partition(|agent| model.is_some() && agent.program.is_file());
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|agent| agent.name).collect();
        let count = missing.len();
        // Also where the test harness keeps what tests print for itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: {count} of {} real agents: {} (see `tests/tests/real_agents.rs`)",
            count + there.len(),
            names.join(", ")
        );
    }
    model.filter(|_| !there.is_empty()).map(|model| (model, there))
}

fn plan(agents: &[Real], task: &str) -> String {
    let quoted = |texts: &[String]| serde_json::to_string(texts).expect("JSON");
    let mut text =
        "version = 1\n[run]\nmax_concurrency = 2\n[defaults]\ntimeout = \"5m\"\n".to_owned();
    for agent in agents {
        text += &format!("[agents.{}]\nkind = \"{}\"\n", agent.name, agent.kind);
        text += &format!("command = {}\nargs = {}\n", quoted(&agent.command), quoted(&agent.args));
        text += &agent.model.map_or_else(String::new, |model| format!("model = \"{model}\"\n"));
        for (name, value) in &agent.env {
            text += &format!("env.{name} = {}\n", json!(value));
        }
    }
    for Real { name, .. } in agents {
        text += &format!("[[task]]\nid = \"{name}\"\nagent = \"{name}\"\n{task}\n")
            .replace("NAME", name);
    }
    text
}

fn events(repo: &TestRepo, task: &str, attempt: u32) -> Vec<Value> {
    let run = repo.read(".orch/current");
    let text = repo.read(&format!(".orch/runs/{}/logs/{task}.{attempt}.events.jsonl", run.trim()));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn they_do_a_task_and_their_work_is_merged() {
    let Some((_model, agents)) = installed("they_do_a_task_and_their_work_is_merged") else {
        return;
    };
    let repo = TestRepo::new();
    let task = "prompt = \"WRITE NAME.txt=hello\\nRUN cat NAME.txt\\nSAY all done\"\nexpects = \"changes\"";
    let file = repo.plan_file(&plan(&agents, task));
    let outcome = repo.orch([OsStr::new("run"), file.as_os_str()]).with_report().run();
    outcome.assert_code(0);
    for Real { name, kind, .. } in &agents {
        assert_eq!(repo.show("main", &format!("{name}.txt")).trim(), "hello");
        let told = events(&repo, name, 1);
        let has = |kind: &str| told.iter().any(|event| event["event"] == kind);
        assert!(has("session") && has("message"), "{name}: {told:#?}");
        // Remarks may follow it.
        let end = told.iter().rfind(|event| event["event"] == "end").expect("an end");
        assert_eq!(end["success"], true, "{name}");
        if *kind != "acp" {
            let report = outcome.report();
            let usage = &report.task(name)["usage"];
            assert_eq!(
                (&usage["input_tokens"], &usage["output_tokens"]),
                (&3600.into(), &102.into()),
                "{name}"
            );
        }
    }
}

#[test]
fn a_failure_of_the_service_has_its_class() {
    let Some((_model, agents)) = installed("a_failure_of_the_service_has_its_class") else {
        return;
    };
    // The others retry for minutes, or for ever.
    let quick: Vec<_> =
        agents.into_iter().filter(|agent| ["codex", "claude"].contains(&agent.name)).collect();
    let repo = TestRepo::new();
    let file = repo.plan_file(&plan(&quick, "prompt = \"FAIL status=401\"\nretries = 2"));
    let outcome = repo.orch([OsStr::new("run"), file.as_os_str()]).with_report().run();
    outcome.assert_code(1);
    for Real { name, .. } in &quick {
        let report = outcome.report();
        assert_eq!(report.status_of(name), "failed", "{name}");
        assert!(
            report.error_of(name).contains("not logged in"),
            "{name}: {}",
            report.error_of(name)
        );
    }
}
