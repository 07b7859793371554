//! What a task is about, so that like is compared with like.

use orch_model::{DomainName, plan::spec::TaskSpec};

/// The name of the domain of what belongs to no other.
const GENERAL: &str = "general";

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

/// The domain that most different words of a text speak for; `general` where fewer than two do,
/// or two domains are even. A guess: a plan that says `domain` knows better.
///
/// ```
/// use orch_history::detect_domain;
///
/// assert_eq!(detect_domain("Add a migration for the users table").as_str(), "database");
/// assert_eq!(detect_domain("Tidy up").as_str(), "general");
/// ```
#[must_use]
pub fn detect_domain(text: &str) -> DomainName {
    let words: std::collections::BTreeSet<String> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= 24)
        .map(str::to_ascii_lowercase)
        .collect();
    let count = |known: &[&str]| known.iter().filter(|word| words.contains(**word)).count();
    let mut scores: Vec<_> = WORDS.iter().map(|(name, known)| (count(known), *name)).collect();
    scores.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let name = match scores[..] {
        [(best, name), (second, _), ..] if best >= 2 && best > second => name,
        _ => GENERAL,
    };
    DomainName::new(name).expect("a name that stands above")
}

/// The domain of a task: as its plan says, else by its title, its prompt or command, and the files that it claims.
#[must_use]
pub fn domain_of(task: &TaskSpec) -> DomainName {
    if let Some(domain) = &task.domain {
        return domain.clone();
    }
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
    fn a_plan_knows_better() {
        let mut task = TaskSpec::new("a".parse().unwrap());
        task.title = Some("Write a SQL migration".into());
        assert_eq!(domain_of(&task).as_str(), "database");
        task.domain = Some("payments".parse().unwrap());
        assert_eq!(domain_of(&task).as_str(), "payments");
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
            DomainName::new(*name).unwrap();
            assert!(words.iter().all(|word| word.to_ascii_lowercase() == **word));
        }
    }
}
