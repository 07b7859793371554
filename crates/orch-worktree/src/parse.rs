//! Reads what git prints.

use orch_model::CommitId;

/// A version of git, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

/// `git version 2.47.3`, also with the additions of vendors.
pub(crate) fn version(text: &str) -> Option<Version> {
    let number = text.trim().strip_prefix("git version ")?;
    let mut parts = number.split(['.', ' ', '-']);
    Some(Version(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Name and address of `Name <address> 1690000000 +0200`, as `git var GIT_AUTHOR_IDENT` prints it.
pub(crate) fn identity(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(" <")?;
    let (email, _) = rest.rsplit_once('>')?;
    Some((name, email))
}

/// What `git status --porcelain=v2 --branch -z --untracked-files=all` says of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Status {
    /// The commit of HEAD; `None` on a branch without commits.
    pub(crate) head: Option<CommitId>,
    /// The branch that is checked out, without `refs/heads/`; `None`: detached.
    pub(crate) branch: Option<String>,
    /// Tracked files that were changed.
    pub(crate) changed: Vec<String>,
    /// Files with conflicts.
    pub(crate) unmerged: Vec<String>,
    /// Files that git neither tracks nor ignores.
    pub(crate) untracked: Vec<String>,
    /// Files that git would store otherwise than the agent's git did, and that are as it saw them.
    pub(crate) untouched: Vec<String>,
}

impl Status {
    /// Whether anything is not committed.
    pub(crate) fn is_dirty(&self) -> bool {
        !(self.changed.is_empty() && self.unmerged.is_empty() && self.untracked.is_empty())
    }

    /// Repositories inside the worktree that are not submodules: git shows them as folders.
    pub(crate) fn nested(&self) -> Option<&str> {
        self.untracked.iter().map(String::as_str).find(|path| path.ends_with('/'))
    }

    /// The first few of the files that are not committed, for a person.
    pub(crate) fn summary(&self) -> String {
        let all: Vec<&str> = [&self.unmerged, &self.changed, &self.untracked]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        listed(&all)
    }
}

/// A few names and how many more there are.
pub(crate) fn listed(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> =
        names.iter().take(SHOWN).map(|n| format!("`{}`", n.as_ref().escape_debug())).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Reads a status; lines of a kind that is not known are left out.
pub(crate) fn status(text: &[u8]) -> Status {
    let mut status = Status::default();
    let mut records = text.split(|&b| b == 0).filter(|r| !r.is_empty());
    while let Some(record) = records.next() {
        let record = String::from_utf8_lossy(record);
        let path = |fields: usize| record.splitn(fields, ' ').last().unwrap_or_default().to_owned();
        match record.as_bytes().first() {
            Some(b'#') => {
                if let Some(oid) = record.strip_prefix("# branch.oid ") {
                    status.head = (oid != "(initial)").then(|| CommitId::new(oid));
                } else if let Some(name) = record.strip_prefix("# branch.head ") {
                    status.branch = (name != "(detached)").then(|| name.to_owned());
                }
            }
            Some(b'1') => status.changed.push(path(9)),
            Some(b'2') => {
                status.changed.push(path(10));
                records.next();
            }
            Some(b'u') => status.unmerged.push(path(11)),
            Some(b'?') => status.untracked.push(path(2)),
            _ => {}
        }
    }
    status
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The whole name.
    pub(crate) name: String,
    /// What it points at.
    pub(crate) commit: CommitId,
    /// The tree of that commit.
    pub(crate) tree: String,
    /// The reference that it stands for, if it is symbolic.
    pub(crate) symbolic: Option<String>,
}

/// The `--format` that [`references`] reads.
pub(crate) const REFERENCES: &str = "--format=%(refname)%00%(objectname)%00%(tree)%00%(symref)";

/// Reads what `git for-each-ref` prints with [`REFERENCES`].
pub(crate) fn references(text: &[u8]) -> Vec<Reference> {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split('\0');
            Some(Reference {
                name: fields.next()?.to_owned(),
                commit: CommitId::new(fields.next()?),
                tree: fields.next()?.to_owned(),
                symbolic: fields.next().filter(|s| !s.is_empty()).map(str::to_owned),
            })
        })
        .collect()
}

/// Reads what `git merge-tree --write-tree -z --name-only --no-messages` prints: the tree, and
/// the files in conflict.
pub(crate) fn merged_tree(text: &[u8]) -> (String, Vec<String>) {
    let mut fields =
        text.split(|&b| b == 0).map(|f| String::from_utf8_lossy(f).trim_end().to_owned());
    let tree = fields.next().unwrap_or_default();
    (tree, fields.filter(|f| !f.is_empty()).collect())
}

/// What `git merge-tree --write-tree -z --name-only --messages` prints of a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Conflicts {
    /// The tree, with markers in its files.
    pub(crate) tree: String,
    /// The files in conflict.
    pub(crate) files: Vec<String>,
    /// What is said of conflicts, and of which file.
    pub(crate) messages: Vec<(String, String)>,
}

/// Reads it: tree, files, nothing, and then for each message the number of its paths, the paths, its
/// kind and its text.
pub(crate) fn conflicts(text: &[u8]) -> Conflicts {
    let mut fields = text.split(|&b| b == 0).map(|f| String::from_utf8_lossy(f).into_owned());
    let tree = fields.next().unwrap_or_default();
    let files = fields.by_ref().take_while(|file| !file.is_empty()).collect();
    let mut found = Conflicts { tree, files, messages: Vec::new() };
    while let Some(count) = fields.next().and_then(|count| count.trim().parse::<usize>().ok()) {
        let paths: Vec<String> = fields.by_ref().take(count).collect();
        let (Some(kind), Some(message)) = (fields.next(), fields.next()) else { break };
        if kind.starts_with("CONFLICT") {
            found.messages.extend(paths.into_iter().map(|path| (path, message.clone())));
        }
    }
    found
}

/// Reads what `git worktree list --porcelain -z` prints: path and the checked-out branch, by its
/// whole name.
pub(crate) fn worktrees(text: &[u8]) -> Vec<(String, Option<String>)> {
    let mut all: Vec<(String, Option<String>)> = Vec::new();
    for field in text.split(|&b| b == 0) {
        let field = String::from_utf8_lossy(field);
        if let Some(path) = field.strip_prefix("worktree ") {
            all.push((path.to_owned(), None));
        } else if let (Some(branch), Some(last)) = (field.strip_prefix("branch "), all.last_mut()) {
            last.1 = Some(branch.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_vendors() {
        assert_eq!(version("git version 2.47.3\n"), Some(Version(2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some(Version(2, 39)));
        assert_eq!(version("git version 2.50.0-rc1"), Some(Version(2, 50)));
        assert_eq!(version("hg 6"), None);
        assert!(Version(2, 9) < Version(2, 38));
    }

    #[test]
    fn every_kind_of_status_record() {
        let oid = "a".repeat(40);
        let text = format!(
            "# branch.oid {oid}\0# branch.head orch/r/t\0\
             1 .M N... 100644 100644 100644 {oid} {oid} with space\0\
             2 R. N... 100644 100644 100644 {oid} {oid} R100 new\nline\0old name\0\
             u UU N... 100644 100644 100644 100644 {oid} {oid} {oid} both sides\0\
             ? nested/\0! ignored\0"
        );
        let status = status(text.as_bytes());
        assert_eq!(status.head, Some(CommitId::new(&oid)));
        assert_eq!(status.branch.as_deref(), Some("orch/r/t"));
        assert_eq!(status.changed, ["with space", "new\nline"]);
        assert_eq!(status.unmerged, ["both sides"]);
        assert_eq!(status.nested(), Some("nested/"));
        assert!(status.is_dirty());
        assert_eq!(status.summary(), "`both sides`, `with space`, `new\\nline` and 1 more");
    }

    #[test]
    fn a_new_repository_has_no_head() {
        let status = status(b"# branch.oid (initial)\0# branch.head (detached)\0");
        assert_eq!(status, Status::default());
        assert!(!status.is_dirty());
    }

    #[test]
    fn conflicts_with_odd_names() {
        let (tree, files) = merged_tree(b"abc\0a b\0c\nd\0");
        assert_eq!(tree, "abc");
        assert_eq!(files, ["a b", "c\nd"]);
        assert_eq!(merged_tree(b"abc\n\0"), ("abc".into(), vec![]));
    }

    #[test]
    fn what_is_said_of_conflicts() {
        let text = b"abc\0a b\0d\0\x001\0a b\0Auto-merging\0Auto-merging a b\n\x002\0d\0e\0CONFLICT (rename/delete)\0CONFLICT: d\n\0";
        let found = conflicts(text);
        assert_eq!((found.tree.as_str(), found.files), ("abc", vec!["a b".into(), "d".into()]));
        let said = |path: &str| (path.to_owned(), "CONFLICT: d\n".to_owned());
        assert_eq!(found.messages, [said("d"), said("e")]);
        assert_eq!(conflicts(b"abc\0f\0").files, ["f"]);
    }

    #[test]
    fn a_list_of_worktrees() {
        let list =
            b"worktree /a\0HEAD x\0branch refs/heads/main\0\0worktree /b\0HEAD y\0detached\0";
        assert_eq!(
            worktrees(list),
            [("/a".into(), Some("refs/heads/main".into())), ("/b".into(), None)]
        );
    }
}
