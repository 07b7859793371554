//! What a task is about, so that like is compared with like.

use std::fmt;

use orch_model::plan::spec::TaskSpec;
use serde::{Deserialize, Serialize};

/// What a task is about: `database`, `api`, `frontend`, `testing`, `security`, `deployment`, `general`,
/// or one of the project's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// Why a text names no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no domain: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, without a leading dash or dot"
)]
pub struct DomainError(String);

impl Domain {
    /// The domain of what belongs to no other.
    pub const GENERAL: &str = "general";

    /// Takes a name.
    ///
    /// # Errors
    /// Where it is not `[a-z0-9._-]{1,64}` without a leading dash or dot: it is part of the name of a file.
    pub fn new(name: impl Into<String>) -> Result<Self, DomainError> {
        let name = name.into();
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let is_plain = |b: u8| is_word(b) || b"-.".contains(&b);
        let begins = name.bytes().next().is_some_and(is_word);
        if begins && name.len() <= 64 && name.bytes().all(is_plain) {
            Ok(Self(name))
        } else {
            Err(DomainError(name))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self(Self::GENERAL.into())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;
    fn try_from(name: String) -> Result<Self, DomainError> {
        Self::new(name)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

/// Words that speak for a domain, whole and in lower case. Those that are used for anything (`test`,
/// `key`, `build`) are not among them, or only in forms that tell.
const WORDS: &[(&str, &[&str])] = &[
    (
        "database",
        &[
            "database",
            "databases",
            "db",
            "sql",
            "sqlite",
            "postgres",
            "postgresql",
            "mysql",
            "mongodb",
            "redis",
            "migration",
            "migrations",
            "schema",
            "schemas",
            "orm",
            "prisma",
            "sqlx",
            "diesel",
            "index",
            "indexes",
            "query",
            "queries",
            "table",
            "tables",
            "column",
            "transaction",
            "transactions",
        ],
    ),
    (
        "api",
        &[
            "api",
            "apis",
            "endpoint",
            "endpoints",
            "rest",
            "graphql",
            "grpc",
            "openapi",
            "swagger",
            "route",
            "routes",
            "handler",
            "handlers",
            "http",
            "request",
            "requests",
            "response",
            "responses",
            "webhook",
            "webhooks",
            "middleware",
            "rpc",
        ],
    ),
    (
        "frontend",
        &[
            "frontend",
            "ui",
            "css",
            "scss",
            "html",
            "react",
            "vue",
            "svelte",
            "angular",
            "tailwind",
            "component",
            "components",
            "button",
            "page",
            "pages",
            "layout",
            "browser",
            "dom",
            "jsx",
            "tsx",
            "modal",
            "form",
            "forms",
            "accessibility",
        ],
    ),
    (
        "testing",
        &[
            "testing",
            "tests",
            "coverage",
            "fixture",
            "fixtures",
            "mock",
            "mocks",
            "pytest",
            "jest",
            "vitest",
            "playwright",
            "cypress",
            "e2e",
            "flaky",
            "regression",
            "snapshot",
            "snapshots",
            "proptest",
            "fuzz",
            "fuzzing",
        ],
    ),
    (
        "security",
        &[
            "security",
            "auth",
            "authentication",
            "authorization",
            "oauth",
            "jwt",
            "password",
            "passwords",
            "encryption",
            "encrypt",
            "decrypt",
            "csrf",
            "xss",
            "vulnerability",
            "vulnerabilities",
            "cve",
            "sanitize",
            "permission",
            "permissions",
            "secret",
            "secrets",
            "tls",
            "login",
        ],
    ),
    (
        "deployment",
        &[
            "deployment",
            "deploy",
            "docker",
            "dockerfile",
            "kubernetes",
            "k8s",
            "helm",
            "terraform",
            "ansible",
            "nginx",
            "ci",
            "cd",
            "pipeline",
            "pipelines",
            "release",
            "releases",
            "rollout",
            "staging",
            "production",
            "infrastructure",
        ],
    ),
];

/// The domain that most different words of a text speak for; [`Domain::GENERAL`] where fewer than two do,
/// or two domains are even. A guess: a plan that says `domain` knows better.
///
/// ```
/// use orch_history::detect_domain;
///
/// assert_eq!(detect_domain("Add a migration for the users table").as_str(), "database");
/// assert_eq!(detect_domain("Tidy up").as_str(), "general");
/// ```
#[must_use]
pub fn detect_domain(text: &str) -> Domain {
    let words: std::collections::BTreeSet<String> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= 24)
        .map(str::to_ascii_lowercase)
        .collect();
    let count = |known: &[&str]| known.iter().filter(|word| words.contains(**word)).count();
    let mut scores: Vec<_> = WORDS.iter().map(|(name, known)| (count(known), *name)).collect();
    scores.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    match scores[..] {
        [(best, name), (second, _), ..] if best >= 2 && best > second => Domain(name.into()),
        _ => Domain::default(),
    }
}

/// The domain of a task, by its title, its prompt or command, and the files that it claims.
#[must_use]
pub fn domain_of(task: &TaskSpec) -> Domain {
    let command = task.run.as_ref().map(ToString::to_string);
    let parts = [task.title.as_deref(), task.prompt.as_deref(), command.as_deref()];
    let mut text = parts.into_iter().flatten().collect::<Vec<_>>().join("\n");
    for file in &task.files {
        text.push('\n');
        text.push_str(file);
    }
    detect_domain(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_file_names() {
        for good in ["database", "my-own_2", "2.x"] {
            assert_eq!(Domain::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "../up", "Api", "-x", "a b", &"a".repeat(65), "a/b", ".a"] {
            let error = Domain::new(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 64"), "{error}");
        }
        assert!(serde_json::from_str::<Domain>("\"../x\"").is_err());
    }

    #[test]
    fn every_built_in_domain_is_found_by_its_words() {
        for (text, domain) in [
            ("Write a SQL migration", "database"),
            ("Add the endpoint to the REST API", "api"),
            ("Fix the CSS of the login button component", "frontend"),
            ("Raise the coverage: add fixtures and mocks", "testing"),
            ("Rotate the JWT secret, hash the password", "security"),
            ("Deploy with docker and helm", "deployment"),
            ("Fix the typo", "general"),
            ("Migration", "general"),
            ("", "general"),
        ] {
            assert_eq!(detect_domain(text).as_str(), domain, "{text}");
        }
        for (name, words) in WORDS {
            Domain::new(*name).unwrap();
            assert!(words.iter().all(|word| word.to_ascii_lowercase() == **word));
        }
    }
}
