//! The environment that agents inherit.

use std::{ffi::OsString, sync::OnceLock};

use orch_model::ports::redirects_git;
use serde::{Deserialize, Serialize};

use super::{patterns::Patterns, redact};

/// Variables that agents inherit: what programs need to find their way on the machine, to speak the
/// user's language, to reach the network, to build, and to log in as the agents that they are. A `*`
/// at the end stands for any rest.
const PASSED: &[&str] = &[
    // The machine and the user.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "CLICOLOR*",
    "FORCE_COLOR",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "TMP",
    "TEMP",
    "XDG_*",
    "HOSTNAME",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    "CI",
    // Keys that agents of the user's session hold, and the network.
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GPG_TTY",
    "GNUPGHOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "ftp_proxy",
    "no_proxy",
    "SSL_CERT_*",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_*",
    // Building.
    "CC",
    "CXX",
    "AR",
    "LD",
    "CPP",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "PKG_CONFIG*",
    "MAKEFLAGS",
    "CMAKE_*",
    "CCACHE_*",
    "SCCACHE_*",
    "CARGO_*",
    "RUST*",
    "LLVM_*",
    "GO*",
    "JAVA_*",
    "JDK_*",
    "MAVEN_*",
    "GRADLE_*",
    "ANDROID_*",
    "NODE_*",
    "NPM_*",
    "npm_*",
    "NVM_*",
    "PNPM_*",
    "YARN_*",
    "BUN_*",
    "DENO_*",
    "PYTHON*",
    "PIP_*",
    "UV_*",
    "POETRY_*",
    "CONDA_*",
    "VIRTUAL_ENV*",
    "PYENV_*",
    "RUBY*",
    "GEM_*",
    "BUNDLE_*",
    "RBENV_*",
    "DOTNET_*",
    "NUGET_*",
    "NIX_*",
    "MISE_*",
    "ASDF_*",
    "DOCKER_*",
    "BUILDKIT_*",
    // The agents themselves.
    "ANTHROPIC_*",
    "CLAUDE_*",
    "OPENAI_*",
    "CODEX_*",
    "GEMINI_*",
    "GOOGLE_*",
    "OPENCODE_*",
    "OPENROUTER_*",
    "MISTRAL_*",
    "AMP_*",
    "CURSOR_*",
];

/// What agents inherit of the environment of an orchestrator: what [`PASSED`] and the configuration
/// name. Never the variables that would redirect git, nor those that an orchestrator which itself runs
/// under another one was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Environment {
    variables: Vec<(OsString, OsString)>,
    /// Found when they are first asked for.
    #[serde(skip)]
    secrets: OnceLock<Vec<Vec<u8>>>,
    /// What is taken out of output besides.
    #[serde(default)]
    patterns: Patterns,
}

impl Environment {
    /// That of this process, with the variables that these patterns name too.
    pub(crate) fn inherited(more: &[String]) -> Self {
        let passes = |name: &OsString| {
            let patterns =
                PASSED.iter().copied().chain([LOCK_DIR]).chain(more.iter().map(String::as_str));
            let name = name.to_string_lossy();
            patterns.into_iter().any(|pattern| matches(pattern, &name))
        };
        let passed = std::env::vars_os().filter(|(name, _)| passes(name) && !is_hidden(name));
        Self { variables: passed.collect(), ..Self::default() }
    }

    /// With patterns of what is taken out of output.
    pub(crate) fn redact(self, patterns: Patterns) -> Self {
        Self { patterns, ..self }
    }

    pub(crate) const fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// With the variables of this process that these patterns name too.
    pub(crate) fn passing(&self, more: &[String]) -> Self {
        Self::inherited(more).redact(self.patterns.clone())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter().map(|(name, value)| (name, value))
    }

    /// The values that are secret.
    pub(super) fn secrets(&self) -> &[Vec<u8>] {
        self.secrets.get_or_init(|| {
            let texts =
                self.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
            redact::secrets(texts).collect()
        })
    }
}

/// Where locks are, which holds for agents too.
const LOCK_DIR: &str = "ORCH_LOCK_DIR";

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

fn is_hidden(name: &OsString) -> bool {
    name.to_str()
        .is_some_and(|name| redirects_git(name) || (name.starts_with("ORCH_") && name != LOCK_DIR))
}
