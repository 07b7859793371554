//! What the configuration of git said when this process looked first, and who said it.

use orch_model::ports::WorktreeError;

use crate::git::Git;

/// The settings in force, in the order in which later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings(Vec<Setting>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// Whether it is of the repository, whose configuration agents can write.
    is_local: bool,
    /// In lower case, but for the part in the middle.
    key: String,
    /// `None` where the key alone is there, which means `true`.
    value: Option<String>,
}

impl Settings {
    pub(crate) async fn read(git: &Git) -> Result<Self, WorktreeError> {
        Ok(Self::of(&git.run(["config", "--list", "--show-scope", "-z"]).await?))
    }

    /// Scope, NUL, key, line break, value, NUL.
    pub(crate) fn of(list: &[u8]) -> Self {
        let text = String::from_utf8_lossy(list);
        let mut fields = text.split('\0');
        let mut all = Vec::new();
        while let (Some(scope), Some(entry)) = (fields.next(), fields.next()) {
            let (key, value) = match entry.split_once('\n') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (entry, None),
            };
            let is_local = match scope {
                "local" | "worktree" => true,
                // What the engine itself says.
                "command" => continue,
                _ => false,
            };
            all.push(Setting { is_local, key: key.into(), value });
        }
        Self(all)
    }

    /// The value that wins; `Some(None)` for a key without one.
    pub(crate) fn get(&self, key: &str) -> Option<Option<&str>> {
        self.0.iter().rfind(|one| one.key == key).map(|one| one.value.as_deref())
    }

    /// The same of what agents can't write.
    pub(crate) fn get_trusted(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|one| one.key == key && !one.is_local)?.value.as_deref()
    }

    /// The key of a setting of the repository that matters for a fetch or a push and that is not as it
    /// was.
    pub(crate) fn first_change_of_network(&self, before: &Self, remote: &str) -> Option<String> {
        let (now, before) = (self.of_network(remote), before.of_network(remote));
        if now == before {
            return None;
        }
        let added = now.iter().find(|one| !before.contains(one));
        let changed = added.or_else(|| before.iter().find(|one| !now.contains(one)));
        changed.or(now.first()).map(|one| one.key.clone())
    }

    fn of_network(&self, remote: &str) -> Vec<&Setting> {
        const SECTIONS: [&str; 5] = ["credential.", "http.", "protocol.", "ssh.", "url."];
        const KEYS: [&str; 3] = ["core.askpass", "core.gitproxy", "core.sshcommand"];
        let remote = format!("remote.{remote}.");
        let matters = |key: &str| {
            SECTIONS.iter().any(|section| key.starts_with(section))
                || KEYS.contains(&key)
                || key.starts_with(&remote)
        };
        self.0.iter().filter(|one| one.is_local && matters(&one.key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, &str)]) -> Settings {
        let list: String =
            entries.iter().map(|(scope, entry)| format!("{scope}\0{entry}\0")).collect();
        Settings::of(list.as_bytes())
    }

    #[test]
    fn the_last_one_wins_and_says_whose_it_is() {
        let all = settings(&[
            ("global", "a.b\n1"),
            ("local", "a.b\n2"),
            ("command", "a.b\n3"),
            ("local", "a.c"),
        ]);
        assert_eq!(all.get("a.b"), Some(Some("2")));
        assert_eq!(all.get_trusted("a.b"), Some("1"));
        assert_eq!(all.get("a.c"), Some(None));
        assert_eq!(all.get("a.d"), None);
    }

    #[test]
    fn a_change_of_what_a_push_obeys_is_seen() {
        let before = [("local", "remote.origin.url\n/a"), ("local", "remote.fork.url\n/b")];
        let change = |more: (&str, &str)| {
            let now = settings(&[before[0], before[1], more]);
            now.first_change_of_network(&settings(&before), "origin")
        };
        for entry in ["remote.origin.pushurl\n/c", "credential.helper\n!x", "core.sshcommand\nx"] {
            let key = entry.split('\n').next().map(str::to_owned);
            assert_eq!(change(("local", entry)), key);
            assert_eq!(change(("worktree", entry)), key);
            assert_eq!(change(("global", entry)), None);
        }
        assert_eq!(change(("local", "remote.fork.pushurl\n/c")), None);
        assert_eq!(change(("local", "branch.main.remote\norigin")), None);
        let gone = settings(&before[1..]).first_change_of_network(&settings(&before), "origin");
        assert_eq!(gone.as_deref(), Some("remote.origin.url"));
    }
}
