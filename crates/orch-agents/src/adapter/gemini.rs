//! `gemini`, measured with 0.61.0.

use orch_model::plan::spec::{AgentKind, McpServer, Permissions};
use serde_json::{Value, json};

use super::{Adapter, Ask, Call, Link, Login, Session, Version, login, pairs, split, words};
use crate::{home::UserHome, stream::Dialect};

#[derive(Debug)]
pub(super) struct Gemini;

impl Adapter for Gemini {
    fn kind(&self) -> AgentKind {
        AgentKind::Gemini
    }

    fn program(&self) -> &'static str {
        "gemini"
    }

    fn install(&self) -> &'static str {
        "npm install -g @google/gemini-cli"
    }

    fn oldest(&self) -> Version {
        Version(0, 60, 0)
    }

    fn tested(&self) -> Version {
        Version(0, 61, 0)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn names_session(&self) -> bool {
        true
    }

    fn binds_session_to_folder(&self) -> bool {
        true
    }

    fn call(&self, ask: &Ask<'_>) -> Call {
        let mut args = words(["--output-format", "stream-json", "--skip-trust"]);
        args.extend(ask.model.into_iter().flat_map(|model| words(["-m", model])));
        if ask.permissions == Permissions::Allow {
            args.extend(words(["--yolo"]));
        }
        args.extend(match ask.session {
            Session::New(id) => words(["--session-id", id]),
            Session::Continued(id) => words(["--resume", id]),
        });
        // Relaunched, it needs 140 MB more.
        // By the Agent Client Protocol there is no option for trust; without it there are no servers of tools.
        let env =
            pairs([("GEMINI_CLI_NO_RELAUNCH", "true"), ("GEMINI_CLI_TRUST_WORKSPACE", "true")]);
        let servers: Value = ask.mcp.iter().map(|(name, it)| (name.clone(), server(it))).collect();
        let settings = json!({
            "security": { "auth": { "selectedType": way_in(ask.user) } },
            "general": { "enableAutoUpdate": false },
            "privacy": { "usageStatisticsEnabled": false },
            "mcpServers": servers,
        });
        let files = [(".gemini/settings.json", settings.to_string())].into();
        // The variable names the folder that has `.gemini` in it.
        Call { args, env, files, folders: [("GEMINI_CLI_HOME", "")].into(), ..Call::default() }
    }

    fn links(&self, user: &UserHome) -> Vec<Link> {
        let links =
            ["oauth_creds.json", "google_accounts.json", "installation_id", "GEMINI.md", ".env"];
        links.map(|name| user.link_of("GEMINI_CLI_HOME", "", &format!(".gemini/{name}"))).into()
    }

    fn login(&self, user: &UserHome) -> Login {
        let file = user.link_of("GEMINI_CLI_HOME", "", ".gemini/oauth_creds.json");
        let variables = ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS"];
        login(user, &variables, &file, "gemini, then /auth")
    }

    fn abilities(&self) -> &'static [&'static str] {
        &["resume", "tokens"]
    }

    fn attach(&self, session: &str) -> Option<Vec<String>> {
        Some(words(["--resume", session]))
    }
}

fn server(server: &McpServer) -> Value {
    let (program, args) = split(server);
    match &server.url {
        Some(url) => json!({ "httpUrl": url }),
        None => json!({ "command": program, "args": args, "env": server.env }),
    }
}

/// How it logs in: it does not start without being told. What the user has chosen counts.
fn way_in(user: &UserHome) -> String {
    let chosen = user.read("GEMINI_CLI_HOME", "", ".gemini/settings.json").and_then(|text| {
        let settings: Value = serde_json::from_str(&text).ok()?;
        Some(settings.pointer("/security/auth/selectedType")?.as_str()?.to_owned())
    });
    chosen.unwrap_or_else(|| {
        if user.has("GOOGLE_GENAI_USE_VERTEXAI") {
            "vertex-ai".into()
        } else if user.has("GEMINI_API_KEY") {
            "gemini-api-key".into()
        } else {
            "oauth-personal".into()
        }
    })
}
