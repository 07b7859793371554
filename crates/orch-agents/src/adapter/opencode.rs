//! `opencode run`, measured with 1.18.33.

use orch_model::plan::spec::{AgentKind, McpServer, Permissions};
use serde_json::{Value, json};

use super::{Adapter, Ask, Call, Link, Login, Session, Version, login, pairs, words};
use crate::{home::UserHome, stream::Dialect};

#[derive(Debug)]
pub(super) struct Opencode;

/// The variable that settings are given in.
const CONFIG: &str = "OPENCODE_CONFIG_CONTENT";

impl Adapter for Opencode {
    fn kind(&self) -> AgentKind {
        AgentKind::Opencode
    }

    fn program(&self) -> &'static str {
        "opencode"
    }

    fn install(&self) -> &'static str {
        "npm install -g opencode-ai"
    }

    fn oldest(&self) -> Version {
        Version(1, 18, 0)
    }

    fn tested(&self) -> Version {
        Version(1, 18, 33)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Opencode
    }

    fn names_session(&self) -> bool {
        false
    }

    fn binds_session_to_folder(&self) -> bool {
        true
    }

    fn call(&self, ask: &Ask<'_>) -> Call {
        let mut args = words(["run", "--format", "json"]);
        args.extend(ask.model.into_iter().flat_map(|model| words(["-m", model])));
        if ask.permissions == Permissions::Allow {
            args.extend(words(["--auto"]));
        }
        if let Session::Continued(id) = ask.session {
            args.extend(words(["-s", id]));
        }
        let env = pairs([
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
        ]);
        let settled = [(CONFIG.to_owned(), config(ask).to_string())].into();
        Call { args, env, settled, ..Call::default() }
    }

    fn links(&self, user: &UserHome) -> Vec<Link> {
        vec![
            user.link_of("XDG_DATA_HOME", ".local/share", "opencode/auth.json"),
            user.link_of("XDG_CONFIG_HOME", ".config", "opencode"),
        ]
    }

    fn login(&self, user: &UserHome) -> Login {
        let file = user.link_of("XDG_DATA_HOME", ".local/share", "opencode/auth.json");
        let variables =
            ["OPENCODE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"];
        login(user, &variables, &file, "opencode auth login")
    }

    fn abilities(&self) -> &'static [&'static str] {
        &["resume", "tokens", "cost"]
    }

    fn attach(&self, session: &str) -> Option<Vec<String>> {
        Some(words(["-s", session]))
    }
}

/// Its settings; what the plan or the user says in the same variable wins.
fn config(ask: &Ask<'_>) -> Value {
    let servers: Value = ask.mcp.iter().map(|(name, it)| (name.clone(), server(it))).collect();
    // Without a title there is no second request; snapshots are what git is there for.
    let mut config = json!({
        "autoupdate": false,
        "share": "disabled",
        "snapshot": false,
        "agent": { "title": { "disable": true } },
        "mcp": servers,
    });
    if ask.permissions != Permissions::Allow {
        // By itself it asks for almost nothing. Whom nobody answers, it takes to be refused.
        config["permission"] = json!({ "edit": "ask", "bash": "ask" });
    }
    let own = ask.user.variable(CONFIG).and_then(|text| serde_json::from_str(text).ok());
    if let Some(own) = own {
        merge(&mut config, own);
    }
    config
}

/// Puts what is in `over` over what is in `under`, object by object.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn server(server: &McpServer) -> Value {
    match &server.url {
        Some(url) => json!({ "type": "remote", "url": url, "enabled": true }),
        None => json!({
            "type": "local", "command": server.command, "environment": server.env, "enabled": true,
        }),
    }
}
