//! Describes a conflict: what both sides made of the same lines, and what git says where it is not
//! about lines.

use std::collections::BTreeSet;

use orch_model::{
    CommitId, Hunk,
    conflict::capped,
    ports::{MergeSide, WorktreeError},
};

use crate::{names, parse, repo::Repo};

/// How many files are looked into.
const FILES: usize = 50;

/// A merge of two commits that conflicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The tree that git made of it, with conflict markers in files.
    pub(crate) tree: String,
    /// The files in conflict.
    pub(crate) files: Vec<String>,
}

impl Repo {
    /// Where two commits contradict one another; nothing where that can't be found out, for a conflict
    /// without a description is one all the same.
    pub(crate) async fn hunks(&self, ours: &CommitId, theirs: &CommitId) -> Vec<Hunk> {
        match self.look_for_hunks(ours, theirs).await {
            Ok(mut hunks) => {
                // Whoever reads them knows the sides by what they are, not by their ids.
                for Hunk { text, .. } in &mut hunks {
                    *text = text.replace(ours.as_str(), "the results");
                    *text = text.replace(theirs.as_str(), "the task");
                }
                capped(hunks)
            }
            Err(error) => {
                tracing::warn!(%error, "a conflict can't be described");
                Vec::new()
            }
        }
    }

    async fn look_for_hunks(
        &self,
        ours: &CommitId,
        theirs: &CommitId,
    ) -> Result<Vec<Hunk>, WorktreeError> {
        let arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--messages"];
        let call = self.git.call(arguments).arguments([ours.as_str(), theirs.as_str()]);
        let answer = call.answer().await?;
        if answer.code != Some(1) || answer.stdout.is_empty() {
            return Ok(Vec::new());
        }
        let said = parse::conflicts(&answer.stdout);
        let mut hunks = Vec::new();
        for file in said.files.iter().take(FILES) {
            let blob = format!("{}:{file}", said.tree);
            let answer = self.git.call(["cat-file", "blob", &blob]).answer().await?;
            let text = String::from_utf8_lossy(&answer.stdout);
            let in_lines = hunks_of(file, &text);
            if in_lines.is_empty() {
                let about = said.messages.iter().filter(|(about, _)| about == file);
                let text: Vec<_> = about.map(|(_, message)| message.trim()).collect();
                hunks.push(Hunk { file: file.clone(), line: None, text: text.join("\n") });
            }
            hunks.extend(in_lines);
        }
        Ok(hunks)
    }

    /// The files that two commits would conflict in.
    pub(crate) async fn clash(
        &self,
        one: &CommitId,
        other: &CommitId,
    ) -> Result<Vec<String>, WorktreeError> {
        let arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"];
        let call = self.git.call(arguments).arguments([one.as_str(), other.as_str()]);
        let answer = call.answer().await?;
        match answer.code {
            Some(0) => Ok(Vec::new()),
            Some(1) if !answer.stdout.is_empty() => Ok(parse::merged_tree(&answer.stdout).1),
            _ => Err(answer.into_error()),
        }
    }

    /// Where branches stand.
    pub(crate) async fn sides(&self, branches: &[String]) -> Result<Vec<MergeSide>, WorktreeError> {
        let names: Vec<_> = branches.iter().map(|branch| names::head(branch)).collect();
        let mut refs = self.refs(&names).await?;
        let found = branches.iter().filter_map(|branch| {
            let commit = refs.remove(&names::head(branch))?.commit;
            Some(MergeSide { branch: branch.clone(), commit })
        });
        Ok(found.collect())
    }
}

/// Whether a line is a conflict marker of one of the sides; the one between them is a heading in some
/// kinds of text.
fn marker(line: &str) -> Option<char> {
    let first = line.chars().next().filter(|c| matches!(c, '<' | '>'))?;
    let rest = line.trim_start_matches(first);
    let is_long = line.len() - rest.len() >= 7;
    (is_long && rest.starts_with(' ')).then_some(first)
}

/// The parts of a merged file between conflict markers.
fn hunks_of(file: &str, text: &str) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut open: Option<Hunk> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let found = marker(line);
        if found == Some('<') && open.is_none() {
            open = Some(Hunk { file: file.into(), line: Some(number), text: String::new() });
        }
        let Some(hunk) = &mut open else { continue };
        if !hunk.text.is_empty() {
            hunk.text.push('\n');
        }
        hunk.text.push_str(line);
        if found == Some('>') {
            hunks.extend(open.take());
        }
    }
    hunks
}

/// Whether a file has conflict markers that neither side of the merge has in its own text.
pub(crate) fn has_markers(text: &[u8], sides: &[Vec<u8>]) -> bool {
    let markers = |text: &[u8]| -> BTreeSet<String> {
        let text = String::from_utf8_lossy(text);
        let found = text.lines().filter(|line| marker(line).is_some());
        found.map(str::to_owned).collect()
    };
    let own: BTreeSet<String> = sides.iter().flat_map(|side| markers(side)).collect();
    !markers(text).is_subset(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGED: &str = "a\n<<<<<<< one\nONE\n=======\nTWO\n>>>>>>> two\nc\n";

    #[test]
    fn hunks_are_what_stands_between_markers() {
        let text = format!("{MERGED}{MERGED}");
        let hunks = hunks_of("f", &text);
        assert_eq!(hunks.iter().map(|hunk| hunk.line).collect::<Vec<_>>(), [Some(2), Some(9)]);
        assert_eq!(hunks[0].text, "<<<<<<< one\nONE\n=======\nTWO\n>>>>>>> two");
        assert_eq!(hunks_of("f", "Title\n=======\n"), []);
    }

    #[test]
    fn markers_of_the_text_itself_are_no_conflict() {
        let own = b"how git shows it:\n<<<<<<< HEAD\n>>>>>>> topic\n".to_vec();
        assert!(has_markers(MERGED.as_bytes(), &[]));
        assert!(!has_markers(&own, &[own.clone(), Vec::new()]));
        assert!(has_markers(&own, &[b"other".to_vec()]));
        assert!(!has_markers(b"a <<<<<<< b\n<<<<<<\n<<<<<<<<", &[]));
        assert!(has_markers(b"<<<<<<<<<< long\n", &[]));
    }
}
