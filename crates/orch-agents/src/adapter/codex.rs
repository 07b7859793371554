//! `codex exec`, measured with 0.169.0.

use orch_model::plan::spec::{AgentKind, Permissions};

use super::{Adapter, Ask, Call, Link, Login, Session, Version, login, words};
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
