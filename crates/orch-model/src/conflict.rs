//! What stands against a merge: the files, and what both sides made of the same lines.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How many bytes of hunks are kept of one conflict, all together. It goes into the journal, into
/// prompts and into a variable of the environment, of which Linux takes 128 KiB at most.
pub const LONGEST_CONFLICT: usize = 16 << 10;

/// How many bytes are kept of one hunk.
pub const LONGEST_HUNK: usize = 4 << 10;

/// A place in a file where two sides of a merge contradict one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    /// The file, relative to the repository.
    pub file: String,
    /// The line of the merged file where it begins, from 1; `None` where the sides don't differ in
    /// lines: one deleted the file, or it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Both sides between conflict markers, or what git says.
    pub text: String,
}

/// What stands against the merge of an attempt's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The files.
    pub files: Vec<String>,
    /// Where in them, as far as that is kept.
    pub hunks: Vec<Hunk>,
}

/// Cuts hunks to what is kept of a conflict, and says so where something is missing.
#[must_use]
pub fn capped(hunks: Vec<Hunk>) -> Vec<Hunk> {
    let mut left = LONGEST_CONFLICT;
    let all = hunks.len();
    let mut kept: Vec<Hunk> = Vec::new();
    for mut hunk in hunks {
        if left == 0 {
            break;
        }
        let limit = LONGEST_HUNK.min(left);
        if hunk.text.len() > limit {
            let end = (0..=limit).rev().find(|at| hunk.text.is_char_boundary(*at)).unwrap_or(0);
            hunk.text.truncate(end);
            hunk.text.push_str("\n[cut]");
        }
        left = left.saturating_sub(hunk.text.len());
        kept.push(hunk);
    }
    let missing = all - kept.len();
    if missing > 0
        && let Some(last) = kept.last_mut()
    {
        // Writing to a string can't fail.
        let _ = write!(last.text, "\n[{missing} more not shown]");
    }
    kept
}

/// A conflict as text, for a person or an agent.
#[must_use]
pub fn described(files: &[String], hunks: &[Hunk]) -> String {
    let mut text = String::new();
    if files.is_empty() {
        text.push_str("The two sides have no history in common.\n");
    } else {
        let _ = writeln!(text, "Files in conflict: {}", files.join(", "));
    }
    for hunk in hunks {
        let _ = match hunk.line {
            Some(line) => writeln!(text, "\n{}, line {line}:\n{}", hunk.file, hunk.text),
            None => writeln!(text, "\n{}: {}", hunk.file, hunk.text),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunk(text: String) -> Hunk {
        Hunk { file: "f".into(), line: Some(3), text }
    }

    #[test]
    fn what_is_kept_has_a_limit_and_says_so() {
        let small = vec![hunk("<<<<<<<\n".into())];
        assert_eq!(capped(small.clone()), small);
        let kept = capped(vec![hunk("ü".repeat(LONGEST_HUNK)); 20]);
        let bytes: usize = kept.iter().map(|hunk| hunk.text.len()).sum();
        assert!(bytes < LONGEST_CONFLICT + 1024, "{bytes}");
        assert!(kept[0].text.ends_with("[cut]"));
        assert!(kept.last().unwrap().text.ends_with("more not shown]"), "{:?}", kept.last());
    }

    #[test]
    fn a_person_reads_files_and_places() {
        let hunks =
            [hunk("both".into()), Hunk { line: None, text: "gone".into(), ..hunk(String::new()) }];
        let text = described(&["f".into()], &hunks);
        assert_eq!(text, "Files in conflict: f\n\nf, line 3:\nboth\n\nf: gone\n");
        assert!(described(&[], &[]).contains("no history in common"));
    }
}
