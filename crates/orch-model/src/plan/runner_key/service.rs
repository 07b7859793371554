//! The service that an agent asks: whom its limits concern together.

use std::collections::BTreeMap;

use super::{name, of_words};
use crate::plan::{Agent, spec::AgentKind};

/// How names of variables begin that coding agents and their services read.
const SERVICES: &[&str] = &[
    "ANTHROPIC_",
    "AWS_",
    "AZURE_",
    "CLAUDE_",
    "CODEX_",
    "CURSOR_",
    "DEEPSEEK_",
    "GEMINI_",
    "GOOGLE_",
    "GROQ_",
    "MISTRAL_",
    "OPENAI_",
    "OPENCODE_",
    "OPENROUTER_",
    "XAI_",
];

/// How those end that name where a service is.
const PLACES: &[&str] = &["_BASE_URL", "_API_BASE", "_API_URL", "_ENDPOINT"];

/// How those end that name an account, or a folder with a login.
const ACCOUNTS: &[&str] = &[
    "_ACCESS_KEY_ID",
    "_API_KEY",
    "_APPLICATION_CREDENTIALS",
    "_AUTH_TOKEN",
    "_CLOUD_PROJECT",
    "_CONFIG_DIR",
    "_HOME",
    "_OAUTH_TOKEN",
    "_PROFILE",
];

/// Folders with logins whatever the agent.
const HOMES: &[&str] = &["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];

/// Whom a limit of a service concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// The program with the account that it asks with, as `claude` or `codex at host:8080, account work`:
    /// what a limit of the account concerns, of whatever model.
    pub account: String,
    /// The same with the model, as `claude (claude-sonnet-4-5)`: what a rate limit concerns. Without a model
    /// it is that of the account.
    pub key: String,
}

impl Agent {
    /// What a rate limit of the service behind it concerns together: agents of one kind, at one place, with one account and one
    /// model. `model` is that of the task; without, it is the agent's own.
    ///
    /// The place and the account are told from the agent's variables and arguments; [`Agent::account`] says
    /// the account where they can't. Nothing of a credential is in the key but a short digest.
    #[must_use]
    pub fn service_key(&self, model: Option<&str>) -> String {
        self.service(model, &BTreeMap::new()).key
    }

    /// As [`Agent::service_key`], for a task with variables of its own, which win.
    #[must_use]
    pub fn service(&self, model: Option<&str>, env: &BTreeMap<String, String>) -> Service {
        let mut account = self.program();
        let variables = self.env.iter().filter(|(name, _)| !env.contains_key(*name)).chain(env);
        let (mut places, mut credentials) = (self.places(), Digest::default());
        for (name, value) in variables {
            let of_service = SERVICES.iter().any(|prefix| name.starts_with(prefix));
            let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
            if of_service && ends(PLACES) {
                places.push(place(value).unwrap_or(value));
            } else if HOMES.contains(&name.as_str()) || (of_service && ends(ACCOUNTS)) {
                credentials.take(name);
                credentials.take(value);
            }
        }
        places.sort_unstable();
        places.dedup();
        if !places.is_empty() {
            account.push_str(" at ");
            account.push_str(&places.join(" and "));
        }
        match (&self.account, credentials.get()) {
            (Some(name), _) => account.push_str(&format!(", account {name}")),
            (None, Some(digest)) => account.push_str(&format!(", account #{digest:08x}")),
            (None, None) => {}
        }
        let key = match model.or(self.model.as_deref()) {
            Some(model) => format!("{account} ({model})"),
            None => account.clone(),
        };
        Service { account, key }
    }

    /// The kind, or the program of one that any program may be of.
    fn program(&self) -> String {
        if !matches!(self.kind, AgentKind::Command | AgentKind::Acp) {
            return self.kind.to_string();
        }
        of_words(&self.command).unwrap_or_else(|| {
            // A script in its arguments, say: who has the same one asks the same.
            let mut all = Digest::default();
            self.command.iter().for_each(|word| all.take(word));
            let program = self.command.first().map_or("", |program| name(program));
            format!("{program} #{:08x}", all.get().unwrap_or_default())
        })
    }

    /// Where its arguments say that the service is.
    fn places(&self) -> Vec<&str> {
        let words = || self.command.iter().skip(1).chain(&self.args);
        let before = std::iter::once("").chain(words().map(String::as_str));
        let said = words().zip(before).filter_map(|(word, before)| {
            let names_place = |word: &str| {
                let word = word.to_ascii_lowercase().replace('-', "_");
                ["base_url", "api_base", "endpoint"].iter().any(|name| word.contains(name))
            };
            let is_named = names_place(word) || (before.starts_with('-') && names_place(before));
            place(word).filter(|_| is_named)
        });
        said.collect()
    }
}

/// Host, port and path of the first address in a text, without a login.
fn place(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '?' | '#' | ',');
    let address = rest.split(ends).next()?.trim_end_matches('/');
    let host = address.find('/').unwrap_or(address.len());
    Some(address[..host].rfind('@').map_or(address, |at| &address[at + 1..]))
}

/// A digest of texts, stable from release to release: FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo), folded to
/// 32 bits, which is too little to find a secret by.
#[derive(Debug, Default)]
struct Digest(Option<u64>);

impl Digest {
    fn take(&mut self, text: &str) {
        let sum = self.0.unwrap_or(0xcbf2_9ce4_8422_2325);
        let bytes = text.bytes().chain([0]);
        let add = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 = Some(bytes.fold(sum, add));
    }

    fn get(&self) -> Option<u32> {
        self.0.map(|sum| (sum >> 32) as u32 ^ sum as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(kind: AgentKind, env: &[(&str, &str)], args: &[&str]) -> Agent {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Agent { kind, args, env: env.collect(), ..Agent::of_command(Vec::new()) }
    }

    #[test]
    fn agents_of_one_account_and_model_share_a_key() {
        let plain =
            agent(AgentKind::Claude, &[("EDITOR", "vi"), ("CLAUDE_CODE_MAX_RETRIES", "1")], &[]);
        assert_eq!(plain.service_key(None), "claude");
        assert_eq!(plain.service_key(Some("opus")), "claude (opus)");
        let own = Agent { model: Some("opus".into()), ..plain.clone() };
        assert_eq!(own.service_key(None), "claude (opus)");
        assert_eq!(own.service_key(Some("haiku")), "claude (haiku)");
        assert_eq!(own.service(None, &BTreeMap::new()).account, "claude");

        let url = "https://me:secret@gate.example:8443/v1/?key=secret";
        let at = agent(AgentKind::Claude, &[("ANTHROPIC_BASE_URL", url)], &[]);
        assert_eq!(at.service_key(Some("opus")), "claude at gate.example:8443/v1 (opus)");
        let setting = "model_providers.x.base_url=\"http://gate.example/v1\"";
        let other = "mcp_servers.y.url=\"http://other.example\"";
        let at = agent(AgentKind::Codex, &[], &["-c", setting, "-c", other]);
        assert_eq!(at.service_key(None), "codex at gate.example/v1");
        let at = agent(AgentKind::Codex, &[], &["--base-url", "http://gate.example"]);
        assert_eq!(at.service_key(None), "codex at gate.example");
    }

    #[test]
    fn accounts_are_told_apart_and_not_told() {
        let with_key = |key| agent(AgentKind::Codex, &[("OPENAI_API_KEY", key)], &[]);
        let (one, other) =
            (with_key("sk-one").service_key(None), with_key("sk-two").service_key(None));
        assert_ne!(one, other);
        assert_eq!(one, with_key("sk-one").service_key(None));
        assert!(one.starts_with("codex, account #") && !one.contains("sk-"), "{one}");
        let named = Agent { account: Some("work".into()), ..with_key("sk-one") };
        assert_eq!(named.service_key(Some("m")), "codex, account work (m)");
        // A task's own variables win, and count only where they are the agent's.
        let env = |name: &str| BTreeMap::from([(name.to_owned(), "sk-two".to_owned())]);
        assert_eq!(with_key("sk-one").service(None, &env("OPENAI_API_KEY")).key, other);
        assert_eq!(with_key("sk-one").service(None, &env("SHOP_API_KEY")).key, one);
    }

    #[test]
    fn any_program_is_known_by_its_name() {
        let command = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            Agent::of_command(words).service_key(None)
        };
        assert_eq!(command(&["/opt/bin/my-agent", "{prompt}"]), "my-agent");
        assert_eq!(command(&["python3", "tools/agent.py"]), "agent.py");
        assert_ne!(command(&["sh", "-c", "echo 1"]), command(&["sh", "-c", "echo 2"]));
        let acp = Agent {
            command: vec!["gemini".into(), "--acp".into()],
            ..agent(AgentKind::Acp, &[], &[])
        };
        assert_eq!(acp.service_key(None), "gemini");
    }
}
