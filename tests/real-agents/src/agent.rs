//! The agents, as plans have them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Where the agents are installed.
#[derive(Debug, Clone)]
pub struct Install {
    folder: PathBuf,
}

impl Default for Install {
    /// Where `ORCH_REAL_AGENTS` says, or `target/real-agents`.
    fn default() -> Self {
        let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/real-agents");
        Self { folder: std::env::var_os("ORCH_REAL_AGENTS").map_or_else(usual, PathBuf::from) }
    }
}

impl Install {
    /// Why an agent is not there; `None`: it is.
    #[must_use]
    pub fn missing(&self, agent: &Real) -> Option<String> {
        if agent.program.is_file() {
            return None;
        }
        let why = fs::read_to_string(self.folder.join(format!("{}.why", agent.package)));
        Some(why.map_or_else(|_| "not installed".into(), |why| why.trim().to_owned()))
    }

    /// A folder for what orch may keep between tests: which version an agent is.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Waits until no other test runs an agent that needs much of the machine, where this one does: opencode
    /// takes up to 1.3 GB and a whole core.
    ///
    /// # Panics
    /// Where the lock can't be taken.
    #[must_use]
    pub fn turn(&self, agent: &Real) -> Option<File> {
        (agent.package == "opencode").then(|| {
            let file = File::create(self.folder.join("opencode.lock")).expect("a lock");
            file.lock().expect("it can be taken");
            file
        })
    }
}

/// An agent as a plan has it.
#[derive(Debug, Clone)]
pub struct Real {
    /// Its name in plans and tests.
    pub name: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// The package that it comes with: a folder of the install.
    pub package: &'static str,
    /// How it is called.
    pub command: Vec<String>,
    /// The file whose absence means that it is not installed.
    pub program: PathBuf,
    /// What its command line has besides what orch gives.
    pub args: Vec<String>,
    /// The model that it asks for.
    pub model: Option<&'static str>,
    /// Its environment, besides what orch gives.
    pub env: Vec<(&'static str, String)>,
    /// What it tells of the tokens that it used.
    pub tells: Tells,
}

/// What an agent tells of the tokens that it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// All of them.
    All,
    /// Those of its last step: by the Agent Client Protocol, opencode does no better.
    LastStep,
    /// Nothing.
    Nothing,
}

/// All agents, to be run against a server.
#[must_use]
pub fn agents(install: &Install, url: &str) -> Vec<Real> {
    let at = |path: &str| install.folder.join(path);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let codex =
        at("codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex");
    let claude = at("claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude");
    let opencode = at("opencode/node_modules/opencode-linux-x64/bin/opencode");
    let gemini = at("gemini/node_modules/@google/gemini-cli/bundle/gemini.js");
    let codex_acp = at("codex-acp/node_modules/@zed-industries/codex-acp-linux-x64/bin/codex-acp");
    let of_codex = vec![("FAKE_KEY", "dummy".to_owned())];
    let of_gemini =
        vec![("GOOGLE_GEMINI_BASE_URL", url.to_owned()), ("GEMINI_API_KEY", "dummy".to_owned())];
    let of_opencode = vec![("OPENCODE_CONFIG_CONTENT", opencode_config(url).to_string())];
    let real = |name, kind, package, program: &PathBuf, env: &[(&'static str, String)]| Real {
        name,
        kind,
        package,
        command: vec![text(program)],
        program: program.clone(),
        args: Vec::new(),
        model: None,
        env: env.to_vec(),
        tells: Tells::All,
    };
    let gemini_acp = ["node", &text(&gemini), "--acp", "-m", "{model}"].map(str::to_owned);
    vec![
        Real {
            args: codex_provider(url),
            model: Some("gpt-5.5"),
            ..real("codex", "codex", "codex", &codex, &of_codex)
        },
        Real {
            model: Some("claude-sonnet-4-5"),
            env: vec![
                ("ANTHROPIC_BASE_URL", url.to_owned()),
                ("ANTHROPIC_API_KEY", "dummy".to_owned()),
                ("CLAUDE_CODE_MAX_RETRIES", "0".to_owned()),
                // The model of the tests searches for no tools.
                ("ENABLE_TOOL_SEARCH", "false".to_owned()),
            ],
            ..real("claude", "claude", "claude", &claude, &[])
        },
        Real {
            model: Some("fake/fake-model"),
            ..real("opencode", "opencode", "opencode", &opencode, &of_opencode)
        },
        Real {
            command: vec!["node".into(), text(&gemini)],
            model: Some("gemini-2.5-flash"),
            ..real("gemini", "gemini", "gemini", &gemini, &of_gemini)
        },
        Real {
            command: gemini_acp.into(),
            model: Some("gemini-2.5-flash"),
            ..real("gemini-acp", "acp", "gemini", &gemini, &of_gemini)
        },
        Real {
            command: vec![text(&opencode), "acp".into()],
            tells: Tells::LastStep,
            ..real("opencode-acp", "acp", "opencode", &opencode, &of_opencode)
        },
        Real {
            // Its sandbox needs a program that is not everywhere. So it asks for everything instead.
            args: [codex_provider(url), ACP_SETTINGS.map(str::to_owned).into()].concat(),
            tells: Tells::Nothing,
            ..real("codex-acp", "acp", "codex-acp", &codex_acp, &of_codex)
        },
    ]
}

const ACP_SETTINGS: [&str; 4] =
    ["-c", "sandbox_mode=\"danger-full-access\"", "-c", "approval_policy=\"untrusted\""];

/// A provider for codex, whose requests are not repeated.
fn codex_provider(url: &str) -> Vec<String> {
    let settings = [
        "model_provider=\"fake\"".to_owned(),
        "model_providers.fake.name=\"fake\"".to_owned(),
        format!("model_providers.fake.base_url=\"{url}/v1\""),
        "model_providers.fake.wire_api=\"responses\"".to_owned(),
        "model_providers.fake.env_key=\"FAKE_KEY\"".to_owned(),
        "model_providers.fake.request_max_retries=0".to_owned(),
        "model_providers.fake.stream_max_retries=0".to_owned(),
    ];
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// A provider for opencode, with prices.
fn opencode_config(url: &str) -> Value {
    json!({
        "share": "disabled",
        "provider": { "fake": {
            "npm": "@ai-sdk/openai-compatible",
            "options": { "baseURL": format!("{url}/v1"), "apiKey": "dummy" },
            "models": { "fake-model": {
                "name": "fake-model", "limit": { "context": 100_000, "output": 4096 },
                "cost": { "input": 3, "output": 15, "cache_read": 0.3 },
            } },
        } },
        "enabled_providers": ["fake"], "model": "fake/fake-model", "small_model": "fake/fake-model",
    })
}

/// A plan with these agents, as far as its tasks; `setup` goes into the table of each of them.
#[must_use]
pub fn plan<'a>(agents: impl IntoIterator<Item = &'a Real>, run: &str, setup: &str) -> String {
    let quoted = |texts: &[String]| Value::from(texts).to_string();
    let mut text = format!("version = 1\n[run]\n{run}\n");
    for agent in agents {
        text += &format!("[agents.{}]\nkind = \"{}\"\n", agent.name, agent.kind);
        text += &format!("command = {}\nargs = {}\n", quoted(&agent.command), quoted(&agent.args));
        text += &agent.model.map_or_else(String::new, |model| format!("model = \"{model}\"\n"));
        for (name, value) in &agent.env {
            text += &format!("env.{name} = {}\n", json!(value));
        }
        text += &setup.replace("AGENT", agent.name);
        text.push('\n');
    }
    text
}

/// A task of such a plan: its prompt is a script of the model.
#[must_use]
pub fn task(id: &str, agent: &str, prompt: &str, more: &str) -> String {
    format!("[[task]]\nid = \"{id}\"\nagent = \"{agent}\"\nprompt = {}\n{more}\n", json!(prompt))
}
