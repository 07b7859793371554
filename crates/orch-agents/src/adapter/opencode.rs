//! `opencode run`, measured with 1.18.33.

use orch_model::plan::spec::{AgentKind, Permissions};

use super::{Adapter, Ask, Call, Link, Login, Session, Version, login, pairs, words};
use crate::{home::UserHome, stream::Dialect};

#[derive(Debug)]
pub(super) struct Opencode;

/// Without a title there is no second request; snapshots are what git is there for.
const CONFIG: &str = r#"{"autoupdate":false,"share":"disabled","snapshot":false,"agent":{"title":{"disable":true}}}"#;

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
            ("OPENCODE_CONFIG_CONTENT", CONFIG),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
        ]);
        Call { args, env, ..Call::default() }
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
