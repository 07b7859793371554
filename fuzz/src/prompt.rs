//! Prompts in files, with front matter.
//!
//! What is wrong with one is said with the name of the file, or of the task; of one that is taken the prompt is the end of the
//! text; and the plan that it became part of is the same once it was written and read again.

use std::io;

use orch_model::plan::{self, Format};

/// The plan whose task has the prompt, and some that front matter can name.
const PLAN: &str = r#"{"version": 1,
    "agents": {"x": {"command": ["x"]}, "y": {"kind": "codex"}}, "defaults": {"agent": "x"},
    "epic": [{"id": "e"}],
    "task": [{"id": "a", "prompt_file": "p.md"}, {"id": "b", "run": "true"}, {"id": "c", "run": "true", "needs": ["a"]}]}"#;

/// Runs the target.
///
/// # Panics
/// Where something does not hold.
pub fn run(bytes: &[u8]) {
    let mut read = |name: &str| match name {
        "p.md" => String::from_utf8(bytes.to_vec())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        "skill.md" => Ok("---\nname: x\n---\nBe kind.\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match plan::parse_with(PLAN, Format::Json, &mut read) {
        Ok(plan) => {
            let prompt = plan.text("p.md").expect("it was read");
            assert!(bytes.ends_with(prompt.as_bytes()), "{prompt:?} is no end of the text");
            assert!(!prompt.trim().is_empty(), "there is no prompt");
            assert!(!prompt.contains('\0'), "no program can be given it");
            crate::plan::accepted(&plan);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                // What front matter gave that does not go with the rest of the plan is told of the task.
                let is_placed = problem.message.contains("p.md") || !problem.path.is_empty();
                assert!(is_placed, "it names no place: {problem:?}");
                assert!(!problem.message.contains('\n') && problem.span.is_some(), "{problem:?}");
            }
        }
    }
}
