//! The stash, which all worktrees of a repository share (gitrepository-layout(5): of references only
//! `HEAD`, `refs/bisect`, `refs/worktree` and `refs/rewritten` are a worktree's own). What an agent
//! drops there may be another task's, or a person's. Git has no way to keep them apart, so it is found
//! out, and what went away is kept.

use std::{fs, path::Path};

use orch_model::{RunId, ports::WorktreeError};

use crate::{names::PRESERVED, repo::Repo};

/// An entry of the stash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stashed {
    commit: String,
    /// `WIP on BRANCH: ...` or `On BRANCH: ...`
    message: String,
}

impl Stashed {
    fn is_of(&self, branch: &str) -> bool {
        let rest =
            self.message.strip_prefix("WIP on ").or_else(|| self.message.strip_prefix("On "));
        rest.is_some_and(|rest| rest.starts_with(&format!("{branch}:")))
    }
}

/// The entries of the stash. Where references are in tables it is not known: none.
pub(crate) fn entries(common: &Path) -> Vec<Stashed> {
    let text = fs::read(common.join("logs/refs/stash")).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(entry).collect()
}

/// `OLD NEW NAME <MAIL> TIME ZONE TAB MESSAGE`.
fn entry(line: &str) -> Option<Stashed> {
    let (head, message) = line.split_once('\t')?;
    let commit = head.split(' ').nth(1)?;
    Some(Stashed { commit: commit.to_owned(), message: message.to_owned() })
}

impl Repo {
    /// What became of the stash since a task began, for a person.
    pub(crate) async fn stash_since(
        &self,
        before: &[Stashed],
        run: &RunId,
        branch: &str,
    ) -> Result<Vec<String>, WorktreeError> {
        let now = entries(self.checkouts.common());
        let mut notices = Vec::new();
        for gone in before.iter().filter(|entry| !now.contains(entry)) {
            let name = format!("{PRESERVED}{run}/stash/{}", gone.commit);
            let keep = self.git.call(["update-ref", &name, &gone.commit]).durable();
            let kept = match keep.answer().await?.code {
                Some(0) => format!("it is kept as {name}: `git stash apply {name}`"),
                _ => format!("its commit {} can't be found any more", gone.commit),
            };
            let what = &gone.message;
            notices.push(format!(
                "while it ran an entry went from the stash, which all worktrees share: `{what}`; {kept}"
            ));
        }
        let left = now.iter().filter(|e| e.is_of(branch) && !before.contains(e)).count();
        if left > 0 {
            notices.push(format!(
                "it left work in the stash, which all worktrees share and which is not merged ({left}): `git stash list`"
            ));
        }
        Ok(notices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_from_the_log() {
        let line = "0000 abcd A B <a@b> 1700000000 +0100\tWIP on orch/r/a: 1234 subject";
        let entry = entry(line).unwrap();
        assert_eq!(entry.commit, "abcd");
        assert!(entry.is_of("orch/r/a") && !entry.is_of("orch/r/ab") && !entry.is_of("orch/r"));
        assert_eq!(super::entry("torn"), None);
    }
}
