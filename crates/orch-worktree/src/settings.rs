//! The settings that git finds, as git reads them, and who says so.

use std::path::{Path, PathBuf};

use orch_model::ports::WorktreeError;

use crate::git::Git;

/// Who a setting is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Files of the user and of the system.
    User,
    /// A file of the repository, or one that it includes: agents can write it.
    Repository,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) scope: Scope,
    /// The file that it is in.
    pub(crate) file: PathBuf,
    /// Section and name in lower case; what is between them as it is written.
    pub(crate) key: String,
    /// `true` where only the name is written.
    pub(crate) value: String,
}

impl Entry {
    /// The filter that it sets up.
    pub(crate) fn filter(&self) -> Option<&str> {
        let (name, _) = self.key.strip_prefix("filter.")?.rsplit_once('.')?;
        Some(name)
    }
}

/// The settings in force, in the order in which later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings(Vec<Entry>);

impl Settings {
    pub(crate) const fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The value that wins.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|entry| entry.key == key).map(|entry| &*entry.value)
    }

    /// The same of what agents can't write.
    pub(crate) fn get_trusted(&self, key: &str) -> Option<&str> {
        let is_it = |entry: &&Entry| entry.key == key && entry.scope == Scope::User;
        self.0.iter().rfind(is_it).map(|entry| &*entry.value)
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

    fn of_network(&self, remote: &str) -> Vec<&Entry> {
        const SECTIONS: [&str; 5] = ["credential.", "http.", "protocol.", "ssh.", "url."];
        const KEYS: [&str; 3] = ["core.askpass", "core.gitproxy", "core.sshcommand"];
        let remote = format!("remote.{remote}.");
        let matters = |key: &str| {
            SECTIONS.iter().any(|section| key.starts_with(section))
                || KEYS.contains(&key)
                || key.starts_with(&remote)
        };
        let entries = self.0.iter();
        entries.filter(|one| one.scope == Scope::Repository && matters(&one.key)).collect()
    }
}

/// All settings for a git folder. `Err` within where git can't read them, with its complaint.
pub(crate) async fn read(
    git: &Git,
    git_dir: &Path,
) -> Result<Result<Vec<Entry>, String>, WorktreeError> {
    let git = git.plain().on_repository(git_dir);
    let list = ["config", "--list", "-z", "--show-scope", "--show-origin", "--includes"];
    let answer = git.call(list).answer().await?;
    if answer.code != Some(0) {
        return Ok(Err(answer.complaint()));
    }
    Ok(Ok(parse(&String::from_utf8_lossy(&answer.stdout), git_dir)))
}

/// `scope NUL origin NUL key [LF value] NUL`, again and again.
pub(crate) fn parse(text: &str, folder: &Path) -> Vec<Entry> {
    let mut words = text.split('\0');
    let mut entries = Vec::new();
    while let (Some(scope), Some(origin), Some(setting)) =
        (words.next(), words.next(), words.next())
    {
        let scope = match scope {
            "system" | "global" => Scope::User,
            "local" | "worktree" => Scope::Repository,
            // What this process says itself.
            _ => continue,
        };
        let (key, value) = setting.split_once('\n').unwrap_or((setting, "true"));
        let file = folder.join(origin.strip_prefix("file:").unwrap_or(origin));
        entries.push(Entry { scope, file, key: key.into(), value: value.into() });
    }
    entries
}

/// A setting as a configuration file has it, see "Syntax" in git-config(1).
pub(crate) fn line(key: &str, value: &str) -> String {
    let (section, rest) = key.split_once('.').unwrap_or((key, ""));
    let (middle, name) = match rest.rsplit_once('.') {
        Some((middle, name)) => (Some(middle), name),
        None => (None, rest),
    };
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let header = match middle {
        Some(middle) => format!("[{section} \"{}\"]", quoted(middle)),
        None => format!("[{section}]"),
    };
    let value = quoted(value).replace('\n', "\\n").replace('\t', "\\t");
    format!("{header}\n\t{name} = \"{value}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_apart() {
        let text = "local\0file:config\0core.bare\0worktree\0file:/x/config.worktree\0filter.a.b.clean\ncat\nx\0global\0file:/home/c\0user.name\nA B\0command\0command line:\0gc.auto\n0\0";
        let entries = parse(text, Path::new("/g"));
        assert_eq!(entries.len(), 3);
        assert_eq!((&*entries[0].key, &*entries[0].value), ("core.bare", "true"));
        assert_eq!(entries[0].file, Path::new("/g/config"));
        assert_eq!((entries[1].filter(), &*entries[1].value), (Some("a.b"), "cat\nx"));
        assert_eq!((entries[2].scope, &*entries[2].value), (Scope::User, "A B"));
    }

    #[test]
    fn what_is_written_can_be_read_by_git() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let settings = [
            ("core.eol", "lf"),
            ("remote.a \"b\" \\c.url", "https://x/#;\"y\"\\z\n\ttab "),
            ("branch.ünï.x.merge", ""),
        ];
        let text: String = settings.iter().map(|(key, value)| line(key, value)).collect();
        std::fs::write(&file, text).unwrap();
        let mut git = std::process::Command::new("git");
        let out = git.args(["config", "-z", "--list", "--file"]).arg(&file).output().unwrap();
        let expected: String = settings.iter().map(|(k, v)| format!("{k}\n{v}\0")).collect();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), expected);
    }

    fn settings(entries: &[(&str, &str)]) -> Settings {
        let list: String =
            entries.iter().map(|(scope, entry)| format!("{scope}\0file:f\0{entry}\0")).collect();
        Settings::new(parse(&list, Path::new("/g")))
    }

    #[test]
    fn the_last_one_wins_and_says_whose_it_is() {
        let all = settings(&[
            ("global", "a.b\n1"),
            ("local", "a.b\n2"),
            ("command", "a.b\n3"),
            ("local", "a.c"),
        ]);
        assert_eq!(all.get("a.b"), Some("2"));
        assert_eq!(all.get_trusted("a.b"), Some("1"));
        assert_eq!(all.get("a.c"), Some("true"));
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
