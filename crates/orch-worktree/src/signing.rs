//! Signs what the engine commits where the user signs their own commits.
//!
//! To sign is to run a program that the configuration names, and an agent can write the configuration
//! of the repository. So what is run comes from the user's and the system's configuration alone. What
//! else matters is read once, and given to each call that signs, so that what is written to the
//! repository's configuration later has no effect.

use crate::settings::Settings;

/// Settings that name programs, and what git runs where there is none.
const PROGRAMS: [(&str, &str); 4] = [
    ("gpg.program", "gpg"),
    ("gpg.x509.program", "gpgsm"),
    ("gpg.ssh.program", "ssh-keygen"),
    // Fails, and so says that a key has to be named.
    ("gpg.ssh.defaultkeycommand", "false"),
];

/// Newer than `gpg.program`, and stronger.
const OPENPGP: &str = "gpg.openpgp.program";

/// How commits are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signing(Vec<String>);

impl Signing {
    /// Settings for a call that signs.
    pub(crate) fn settings(&self) -> &[String] {
        &self.0
    }

    /// What the configuration says; `None` where commits are not signed.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        if !settings.get("commit.gpgsign").is_some_and(is_true) {
            return None;
        }
        let given = |key: &str| settings.get(key).filter(|value| !value.is_empty());
        let program = |key: &str| settings.get_trusted(key).filter(|value| !value.is_empty());
        let mut all = vec![format!("gpg.format={}", given("gpg.format").unwrap_or("openpgp"))];
        for (key, default) in PROGRAMS {
            all.push(format!("{key}={}", program(key).unwrap_or(default)));
        }
        let openpgp = program(OPENPGP).or_else(|| program("gpg.program")).unwrap_or("gpg");
        all.push(format!("{OPENPGP}={openpgp}"));
        all.extend(given("user.signingkey").map(|key| format!("user.signingkey={key}")));
        Some(Self(all))
    }
}

/// A boolean as git reads it.
fn is_true(value: &str) -> bool {
    ["true", "yes", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
        || value.parse::<i64>().is_ok_and(|number| number != 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::parse;

    fn signing(entries: &[(&str, &str)]) -> Option<Signing> {
        let list: String =
            entries.iter().map(|(scope, entry)| format!("{scope}\0file:f\0{entry}\0")).collect();
        Signing::of(&Settings::new(parse(&list, Path::new("/g"))))
    }

    #[test]
    fn programs_come_from_the_users_configuration_alone() {
        let found = signing(&[
            ("system", "gpg.program\nold-gpg"),
            ("global", "commit.gpgsign\nfalse"),
            ("global", "gpg.ssh.program\nmine"),
            ("local", "commit.gpgsign"),
            ("local", "gpg.format\nssh"),
            ("local", "gpg.ssh.program\nevil"),
            ("local", "gpg.openpgp.program\nevil"),
            ("worktree", "gpg.ssh.defaultkeycommand\nevil"),
            ("local", "user.signingkey\n/a key.pub"),
            ("command", "commit.gpgsign\nfalse"),
        ]);
        let expected = [
            "gpg.format=ssh",
            "gpg.program=old-gpg",
            "gpg.x509.program=gpgsm",
            "gpg.ssh.program=mine",
            "gpg.ssh.defaultkeycommand=false",
            "gpg.openpgp.program=old-gpg",
            "user.signingkey=/a key.pub",
        ];
        assert_eq!(found.unwrap().settings(), expected);
    }

    #[test]
    fn who_does_not_sign_is_left_alone() {
        assert_eq!(signing(&[]), None);
        for no in ["commit.gpgsign\nfalse", "commit.gpgsign\n", "commit.gpgsign\n0"] {
            assert_eq!(signing(&[("global", no)]), None, "{no:?}");
        }
        for yes in ["commit.gpgsign", "commit.gpgsign\nYes", "commit.gpgsign\n1"] {
            assert!(signing(&[("global", yes)]).is_some(), "{yes:?}");
        }
    }
}
