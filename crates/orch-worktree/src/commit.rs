//! Commits on objects: who made them, and what they say.

use std::ffi::OsString;

use orch_model::{CommitId, ports::WorktreeError};

use crate::repo::Repo;

/// A commit that is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCommit<'a> {
    pub(crate) tree: &'a str,
    pub(crate) parents: &'a [&'a CommitId],
    pub(crate) message: &'a str,
    /// Who made it; `None`: the user.
    pub(crate) author: Option<&'a Author>,
    /// Whether it is signed where the user's commits are.
    pub(crate) signed: bool,
}

/// The author of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) name: String,
    pub(crate) email: String,
    /// As git writes it: seconds since 1970 and the time zone; `None`: now.
    pub(crate) date: Option<String>,
}

impl Author {
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let pairs = [
            ("GIT_AUTHOR_NAME", Some(&self.name)),
            ("GIT_AUTHOR_EMAIL", Some(&self.email)),
            ("GIT_AUTHOR_DATE", self.date.as_ref()),
        ];
        let given = pairs.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into())));
        given.collect()
    }
}

/// What git knows of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: CommitId,
    pub(crate) parents: Vec<CommitId>,
    pub(crate) tree: String,
    pub(crate) author: Author,
    pub(crate) message: String,
}

impl Repo {
    /// Makes a commit that is durable when this returns.
    pub(crate) async fn commit(&self, new: NewCommit<'_>) -> Result<CommitId, WorktreeError> {
        let signing = self.signing.as_ref().filter(|_| new.signed);
        let sign = if signing.is_some() { "--gpg-sign" } else { "--no-gpg-sign" };
        let mut arguments = vec!["commit-tree", sign, "-F", "-"];
        for parent in new.parents {
            arguments.extend(["-p", parent.as_str()]);
        }
        arguments.push(new.tree);
        let mut call = self.git.call(arguments).durable().input(new.message);
        if let Some(signing) = signing {
            call = call.settings(signing.settings());
        }
        if let Some(author) = new.author {
            call = call.environment(author.environment());
        }
        let out = call.answer().await?.success()?;
        Ok(CommitId::new(String::from_utf8_lossy(&out).trim_end()))
    }

    /// A commit that is the engine's own note, and never signed: to keep work must not depend on
    /// a key.
    pub(crate) async fn commit_tree(
        &self,
        tree: &str,
        parents: &[&CommitId],
        message: &str,
    ) -> Result<CommitId, WorktreeError> {
        self.commit(NewCommit { tree, parents, message, author: None, signed: false }).await
    }

    /// The commits of a range, the oldest first, with their messages.
    pub(crate) async fn history(&self, range: &[&str]) -> Result<Vec<Known>, WorktreeError> {
        // Not `git log`: its settings can make it run programs.
        let arguments = [
            "rev-list",
            "--topo-order",
            "--reverse",
            "--no-commit-header",
            "--encoding=UTF-8",
            "--date=raw",
            "--format=%H%n%P%n%T%n%an%n%ae%n%ad%n%B%x00",
        ];
        let arguments = arguments.iter().chain(range).chain(&["--"]);
        Ok(read_history(&self.git.run(arguments).await?))
    }

    pub(crate) async fn subjects(
        &self,
        base: &CommitId,
        tip: &CommitId,
    ) -> Result<Vec<String>, WorktreeError> {
        let known = self.history(&["--no-merges", &format!("{base}..{tip}")]).await?;
        let first = |known: Known| known.message.lines().next().unwrap_or_default().to_owned();
        Ok(known.into_iter().map(first).collect())
    }
}

/// Reads what [`Repo::history`] asks for: six lines and the message, ended by a NUL.
fn read_history(out: &[u8]) -> Vec<Known> {
    let text = String::from_utf8_lossy(out);
    let read = |record: &str| {
        let mut fields = record.trim_start_matches('\n').splitn(7, '\n');
        let mut next = || fields.next().map(str::to_owned);
        Some(Known {
            id: CommitId::new(next().filter(|id| !id.is_empty())?),
            parents: next()?.split_whitespace().map(CommitId::new).collect(),
            tree: next()?,
            author: Author { name: next()?, email: next()?, date: next() },
            message: next()?,
        })
    };
    text.split('\0').filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read() {
        let text = "aa\n\nt1\nAnn\nann@x\n1 +0000\nFirst\n\0\nbb\naa cc\nt2\n\nb@x\n2 -0130\nSecond\n\nBody\n\0\n";
        let history = read_history(text.as_bytes());
        assert_eq!(history.len(), 2);
        assert_eq!(history[0].parents, Vec::<CommitId>::new());
        assert_eq!(history[1].parents, [CommitId::new("aa"), CommitId::new("cc")]);
        assert_eq!(history[1].author.date.as_deref(), Some("2 -0130"));
        assert_eq!(history[1].author.name, "");
        assert_eq!(history[1].message, "Second\n\nBody\n");
        assert_eq!(read_history(b""), []);
    }
}
