//! How the agents that orch knows are called.
//!
//! An [`Adapter`] is a pure description. Its command lines and settings are those that were measured
//! with the versions that [`Adapter::tested`] names.

use std::{collections::BTreeMap, fmt::Debug, path::PathBuf};

use orch_model::plan::spec::{AgentKind, McpServer, Permissions};

use crate::{home::UserHome, stream::Dialect};

mod acp;
mod claude;
mod codex;
mod gemini;
mod opencode;

/// One kind of agent.
pub trait Adapter: Debug + Send + Sync {
    /// Which.
    fn kind(&self) -> AgentKind;

    /// The program that is started where the plan names none.
    fn program(&self) -> &'static str;

    /// How it is installed, for messages.
    fn install(&self) -> &'static str;

    /// The oldest version whose command line and stream are as described here.
    fn oldest(&self) -> Version;

    /// The version that was measured.
    fn tested(&self) -> Version;

    /// The language of its stream.
    fn dialect(&self) -> Dialect;

    /// Whether its session has the id that it is given. Others tell the id that they have chosen.
    fn names_session(&self) -> bool;

    /// Whether a session can only be continued in the folder that it was begun in.
    fn binds_session_to_folder(&self) -> bool;

    /// How it is called. It reads the prompt as its standard input.
    fn call(&self, ask: &Ask<'_>) -> Call;

    /// What it needs of the user's home to be logged in, and to be set up as the user has it.
    fn links(&self, user: &UserHome) -> Vec<Link>;

    /// Whether the user is logged in, as far as that can be known without asking the service.
    fn login(&self, user: &UserHome) -> Login;

    /// What it can do, in words.
    fn abilities(&self) -> &'static [&'static str];

    /// Whether it can be asked for its version.
    fn tells_version(&self) -> bool {
        true
    }

    /// Whether an attempt can continue the session of an earlier one.
    fn can_continue(&self) -> bool {
        true
    }

    /// The arguments by which a person continues a session; `None` where that is not possible.
    fn attach(&self, session: &str) -> Option<Vec<String>>;
}

/// The adapter of a kind; `None` for one that the plan describes.
#[must_use]
pub fn of(kind: AgentKind) -> Option<&'static dyn Adapter> {
    match kind {
        AgentKind::Codex => Some(&codex::Codex),
        AgentKind::Claude => Some(&claude::Claude),
        AgentKind::Opencode => Some(&opencode::Opencode),
        AgentKind::Gemini => Some(&gemini::Gemini),
        AgentKind::Acp => Some(&acp::Acp),
        _ => None,
    }
}

/// The adapters of agents that have a usual program.
pub fn all() -> impl Iterator<Item = &'static dyn Adapter> {
    AgentKind::ALL.into_iter().filter_map(of).filter(|adapter| !adapter.program().is_empty())
}

/// What is asked of an agent.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The model; `None`: as the agent is set up.
    pub model: Option<&'a str>,
    /// Whether it may do what it would ask a person for.
    pub permissions: Permissions,
    /// The session that it works in.
    pub session: Session<'a>,
    /// The servers of tools that it is given, by name.
    pub mcp: &'a BTreeMap<String, McpServer>,
    /// The user.
    pub user: &'a UserHome,
}

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session<'a> {
    /// A new one, under this id where the agent takes one.
    New(&'a str),
    /// One that is continued.
    Continued(&'a str),
}

/// How an agent is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The program that starts the agent's, with its arguments; empty: none.
    pub through: Vec<String>,
    /// The arguments up to where those of the plan belong.
    pub args: Vec<String>,
    /// The arguments after those.
    pub last: Vec<String>,
    /// Variables, besides those of the private home.
    pub env: BTreeMap<String, String>,
    /// Variables that have taken in what the plan says of them, and so win over it.
    pub settled: BTreeMap<String, String>,
    /// Variables that hold a folder, relative to the private home; it is made.
    pub folders: BTreeMap<&'static str, &'static str>,
    /// Files, relative to the private home, with what is in them.
    pub files: BTreeMap<&'static str, String>,
}

/// Something of the user's that shows in the private home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub target: PathBuf,
    /// Where it shows, relative to the private home.
    pub name: String,
}

/// Whether somebody is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login {
    /// There are credentials: this variable or file. Whether the service takes them, only it knows.
    Found(String),
    /// It can't be known.
    Unknown,
    /// There are none where the agent keeps them.
    Missing {
        /// What logs the user in.
        cure: &'static str,
    },
}

/// A version: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64, pub u64);

impl Version {
    /// The first version in a text, as in `codex-cli 0.169.0`. What follows the third number is passed
    /// over.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',')).find_map(|word| {
            let mut numbers = word.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
            let patch = numbers.next().unwrap_or("0");
            let digits = patch.find(|c: char| !c.is_ascii_digit()).unwrap_or(patch.len());
            Some(Self(major, minor, patch[..digits].parse().ok()?))
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Words as arguments.
fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

/// Program and arguments of a server of tools.
fn split(server: &McpServer) -> (&str, &[String]) {
    server.command.split_first().map_or(("", &[]), |(program, args)| (program, args))
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Credentials in the first of these variables or files that is there.
fn login(user: &UserHome, variables: &[&str], file: &Link, cure: &'static str) -> Login {
    if let Some(name) = variables.iter().find(|name| user.has(name)) {
        return Login::Found((*name).to_owned());
    }
    if file.target.is_file() {
        return Login::Found(file.target.to_string_lossy().into_owned());
    }
    Login::Missing { cure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, expected) in [
            ("codex-cli 0.169.0", Some(Version(0, 169, 0))),
            ("2.1.329 (Claude Code)", Some(Version(2, 1, 329))),
            ("1.18.33\n", Some(Version(1, 18, 33))),
            ("v0.61.0-nightly.20261121+abc", Some(Version(0, 61, 0))),
            ("WARNING: no PATH aliases\ntool 1.2", Some(Version(1, 2, 0))),
            ("no version here", None),
            ("99999999999999999999999.1.1", None),
        ] {
            assert_eq!(Version::find(text), expected, "{text}");
        }
        assert!(Version(0, 9, 9) < Version(0, 61, 0));
    }

    fn called(kind: AgentKind, session: Session<'_>, permissions: Permissions) -> String {
        let user = UserHome::new("/home/dev", [("GEMINI_API_KEY", "key")]);
        let mcp = BTreeMap::new();
        let ask = Ask { model: Some("m1"), permissions, session, mcp: &mcp, user: &user };
        let Call { args, last, .. } = of(kind).unwrap().call(&ask);
        [args, vec!["<args>".into()], last].concat().join(" ")
    }

    /// As they were measured.
    #[test]
    fn command_lines() {
        const ID: &str = "11111111-2222-5333-8444-555555555555";
        let (new, continued) = (Session::New(ID), Session::Continued(ID));
        let (allow, deny) = (Permissions::Allow, Permissions::Deny);
        for (kind, session, permissions, expected) in [
            (
                AgentKind::Codex,
                new,
                allow,
                "exec --json --skip-git-repo-check --disable plugins --disable apps --disable shell_snapshot -c \
                 analytics.enabled=false -c check_for_update_on_startup=false \
                 --dangerously-bypass-approvals-and-sandbox -m m1 <args> -",
            ),
            (
                AgentKind::Codex,
                continued,
                deny,
                "exec --json --skip-git-repo-check --disable plugins --disable apps --disable shell_snapshot -c \
                 analytics.enabled=false -c check_for_update_on_startup=false -s read-only -m m1 \
                 <args> resume 11111111-2222-5333-8444-555555555555 -",
            ),
            (
                AgentKind::Claude,
                new,
                allow,
                "-p --output-format stream-json --verbose --model m1 --session-id \
                 11111111-2222-5333-8444-555555555555 --permission-mode acceptEdits --allowedTools \
                 Bash,Write,Edit,Read <args>",
            ),
            (
                AgentKind::Claude,
                continued,
                deny,
                "-p --output-format stream-json --verbose --model m1 --resume \
                 11111111-2222-5333-8444-555555555555 --permission-mode default <args>",
            ),
            (AgentKind::Opencode, new, allow, "run --format json -m m1 --auto <args>"),
            (
                AgentKind::Opencode,
                continued,
                deny,
                "run --format json -m m1 -s 11111111-2222-5333-8444-555555555555 <args>",
            ),
            (
                AgentKind::Gemini,
                new,
                allow,
                "--output-format stream-json --skip-trust -m m1 --yolo --session-id \
                 11111111-2222-5333-8444-555555555555 <args>",
            ),
            (
                AgentKind::Gemini,
                continued,
                deny,
                "--output-format stream-json --skip-trust -m m1 --resume \
                 11111111-2222-5333-8444-555555555555 <args>",
            ),
        ] {
            assert_eq!(called(kind, session, permissions), expected);
        }
    }

    /// As they were measured.
    #[test]
    fn servers_of_tools() {
        let local = McpServer {
            command: ["run", "a b"].map(str::to_owned).into(),
            env: [("KEY".to_owned(), "\"v\"".to_owned())].into(),
            url: None,
        };
        let remote = McpServer { url: Some("http://h/mcp".into()), ..McpServer::default() };
        let mcp = [("far".to_owned(), remote), ("near".to_owned(), local)].into();
        let config = r#"{"mcp":{"own":{"type":"local"}},"share":"manual"}"#;
        let user = UserHome::new("/home/dev", [("OPENCODE_CONFIG_CONTENT", config)]);
        let session = Session::New("s");
        let ask =
            Ask { model: None, permissions: Permissions::Allow, session, mcp: &mcp, user: &user };
        let call = |kind| of(kind).unwrap().call(&ask);
        let codex = call(AgentKind::Codex).args.join(" ");
        assert!(
            codex.ends_with(
                r#"-c mcp_servers.far.url="http://h/mcp" -c mcp_servers.near.command="run" -c mcp_servers.near.args=["a b"] -c mcp_servers.near.env={"KEY"="\"v\""}"#
            ),
            "{codex}"
        );
        let claude = call(AgentKind::Claude).args.join(" ");
        assert!(
            claude.contains(
                r#"--mcp-config {"mcpServers":{"far":{"type":"http","url":"http://h/mcp"},"near":{"command":"run","args":["a b"],"env":{"KEY":"\"v\""}}}} --permission-mode"#
            ) && claude.ends_with("Bash,Write,Edit,Read,mcp__far,mcp__near"),
            "{claude}"
        );
        let gemini = &call(AgentKind::Gemini).files[".gemini/settings.json"];
        assert!(
            gemini.contains(
                r#""mcpServers":{"far":{"httpUrl":"http://h/mcp"},"near":{"command":"run","args":["a b"],"env":{"KEY":"\"v\""}}}"#
            ),
            "{gemini}"
        );
        let opencode = call(AgentKind::Opencode).settled["OPENCODE_CONFIG_CONTENT"].clone();
        let opencode: serde_json::Value = serde_json::from_str(&opencode).unwrap();
        assert_eq!(opencode["mcp"]["near"]["command"], serde_json::json!(["run", "a b"]));
        assert_eq!(opencode["mcp"]["far"]["url"], "http://h/mcp");
        assert_eq!(opencode["mcp"]["own"]["type"], "local", "the plan's own is kept");
        assert_eq!((&opencode["share"], &opencode["snapshot"]), (&"manual".into(), &false.into()));
        let acp = call(AgentKind::Acp);
        assert!(acp.through[2].contains(r#""near":{"command":["run","a b"]"#), "{:?}", acp.through);
        assert!(!acp.files[".gemini/settings.json"].contains("near"), "it is told by the protocol");
    }

    #[test]
    fn each_adapter_is_its_kind_and_old_enough() {
        assert_eq!(all().count(), 4);
        for adapter in all() {
            assert_eq!(of(adapter.kind()).unwrap().program(), adapter.program());
            assert!(adapter.oldest() <= adapter.tested());
        }
    }
}
