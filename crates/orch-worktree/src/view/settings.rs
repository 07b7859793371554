//! The settings that git finds, as git reads them.

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
fn parse(text: &str, folder: &Path) -> Vec<Entry> {
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
}
