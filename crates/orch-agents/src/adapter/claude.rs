//! `claude -p`, measured with 2.1.329.

use orch_model::plan::spec::{AgentKind, McpServer, Permissions};
use serde_json::{Value, json};

use super::{Adapter, Ask, Call, Link, Login, Session, Version, login, pairs, split, words};
use crate::{home::UserHome, stream::Dialect};

#[derive(Debug)]
pub(super) struct Claude;

impl Adapter for Claude {
    fn kind(&self) -> AgentKind {
        AgentKind::Claude
    }

    fn program(&self) -> &'static str {
        "claude"
    }

    fn install(&self) -> &'static str {
        "npm install -g @anthropic-ai/claude-code"
    }

    fn oldest(&self) -> Version {
        Version(2, 1, 0)
    }

    fn tested(&self) -> Version {
        Version(2, 1, 329)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Claude
    }

    fn names_session(&self) -> bool {
        true
    }

    fn binds_session_to_folder(&self) -> bool {
        true
    }

    fn call(&self, ask: &Ask<'_>) -> Call {
        let mut args = words(["-p", "--output-format", "stream-json", "--verbose"]);
        args.extend(ask.model.into_iter().flat_map(|model| words(["--model", model])));
        args.extend(match ask.session {
            Session::New(id) => words(["--session-id", id]),
            Session::Continued(id) => words(["--resume", id]),
        });
        if !ask.mcp.is_empty() {
            let servers: Value =
                ask.mcp.iter().map(|(name, it)| (name.clone(), server(it))).collect();
            args.extend(["--mcp-config".to_owned(), json!({ "mcpServers": servers }).to_string()]);
        }
        // `--dangerously-skip-permissions` is refused to root. The list of tools takes everything that
        // follows it and is no option.
        args.extend(match ask.permissions {
            Permissions::Allow => {
                let names = ask.mcp.keys().map(|name| format!(",mcp__{name}"));
                let tools = format!("Bash,Write,Edit,Read{}", names.collect::<String>());
                words(["--permission-mode", "acceptEdits", "--allowedTools", &tools])
            }
            _ => words(["--permission-mode", "default"]),
        });
        let env = pairs([
            ("DISABLE_AUTOUPDATER", "1"),
            ("DISABLE_TELEMETRY", "1"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ]);
        Call { args, env, folders: [("CLAUDE_CONFIG_DIR", ".claude")].into(), ..Call::default() }
    }

    fn links(&self, user: &UserHome) -> Vec<Link> {
        let links =
            [".credentials.json", "settings.json", "CLAUDE.md", "agents", "commands", "skills"];
        links.map(|name| user.link_of("CLAUDE_CONFIG_DIR", ".claude", name)).into()
    }

    fn login(&self, user: &UserHome) -> Login {
        let file = user.link_of("CLAUDE_CONFIG_DIR", ".claude", ".credentials.json");
        let variables = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
        login(user, &variables, &file, "claude auth login")
    }

    fn abilities(&self) -> &'static [&'static str] {
        &["resume", "tokens", "cost"]
    }

    fn attach(&self, session: &str) -> Option<Vec<String>> {
        Some(words(["--resume", session]))
    }
}

fn server(server: &McpServer) -> Value {
    let (program, args) = split(server);
    match &server.url {
        Some(url) => json!({ "type": "http", "url": url }),
        None => json!({ "command": program, "args": args, "env": server.env }),
    }
}
