//! `codex exec`, measured with 0.169.0.

use orch_model::plan::spec::{AgentKind, McpServer, Permissions};
use serde_json::json;

use super::{Adapter, Ask, Call, Link, Login, Session, Version, login, split, words};
use crate::{home::UserHome, stream::Dialect};

#[derive(Debug)]
pub(super) struct Codex;

impl Adapter for Codex {
    fn kind(&self) -> AgentKind {
        AgentKind::Codex
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    fn install(&self) -> &'static str {
        "npm install -g @openai/codex"
    }

    fn oldest(&self) -> Version {
        Version(0, 150, 0)
    }

    fn tested(&self) -> Version {
        Version(0, 169, 0)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Codex
    }

    fn names_session(&self) -> bool {
        false
    }

    fn binds_session_to_folder(&self) -> bool {
        false
    }

    fn call(&self, ask: &Ask<'_>) -> Call {
        // By default it calls out, delays its exit by 5 s, and writes the environment down.
        let mut args = words([
            "exec",
            "--json",
            "--skip-git-repo-check",
            "--disable",
            "plugins",
            "--disable",
            "apps",
            "--disable",
            "shell_snapshot",
            "-c",
            "analytics.enabled=false",
            "-c",
            "check_for_update_on_startup=false",
        ]);
        args.extend(match ask.permissions {
            // Its sandbox for writing keeps it from committing in a linked worktree, whose git folder
            // lies outside.
            Permissions::Allow => words(["--dangerously-bypass-approvals-and-sandbox"]),
            _ => words(["-s", "read-only"]),
        });
        args.extend(ask.model.into_iter().flat_map(|model| words(["-m", model])));
        args.extend(ask.mcp.iter().flat_map(|(name, server)| settings(name, server)));
        let last = match ask.session {
            Session::New(_) => words(["-"]),
            Session::Continued(id) => words(["resume", id, "-"]),
        };
        Call { args, last, folders: [("CODEX_HOME", ".codex")].into(), ..Call::default() }
    }

    fn links(&self, user: &UserHome) -> Vec<Link> {
        let links = ["auth.json", "config.toml", "AGENTS.md", "prompts", "rules", "skills"];
        links.map(|name| user.link_of("CODEX_HOME", ".codex", name)).into()
    }

    fn login(&self, user: &UserHome) -> Login {
        let file = user.link_of("CODEX_HOME", ".codex", "auth.json");
        login(user, &["CODEX_API_KEY", "OPENAI_API_KEY"], &file, "codex login")
    }

    fn abilities(&self) -> &'static [&'static str] {
        &["resume", "tokens"]
    }

    fn attach(&self, session: &str) -> Option<Vec<String>> {
        Some(words(["resume", session]))
    }
}

/// A server of tools, as settings on the command line. Strings and lists of JSON are such of TOML too.
fn settings(name: &str, server: &McpServer) -> Vec<String> {
    let mut settings = Vec::new();
    let mut set = |what: &str, value: String| {
        settings.extend(["-c".to_owned(), format!("mcp_servers.{name}.{what}={value}")]);
    };
    if let Some(url) = &server.url {
        set("url", json!(url).to_string());
        return settings;
    }
    let (program, args) = split(server);
    set("command", json!(program).to_string());
    set("args", json!(args).to_string());
    if !server.env.is_empty() {
        let pairs =
            server.env.iter().map(|(name, value)| format!("{}={}", json!(name), json!(value)));
        set("env", format!("{{{}}}", pairs.collect::<Vec<_>>().join(",")));
    }
    settings
}
