//! What an attempt is told of those before it, so that it can go on from what they left.

use orch_model::{
    conflict::described,
    plan::{Prompt, Work, spec::Isolation},
};

use super::Unit;

/// Why the last attempt failed: its class and a message, in one line.
const FAILURE: &str = "ORCH_LAST_FAILURE";

/// What it conflicted in, where it did: files, and both sides of each place.
const CONFLICT: &str = "ORCH_LAST_CONFLICT";

/// The file with its output.
const OUTPUT: &str = "ORCH_LAST_OUTPUT";

/// The reference that keeps the newest work of earlier attempts.
const REFERENCE: &str = "ORCH_LAST_REF";

impl Unit {
    /// Looks for what the attempts before this one left. Must be called when the worktree is there: to
    /// make it is to keep what an earlier attempt left in its place.
    pub(super) async fn inherit(&mut self) {
        let Some(previous) = &self.previous else { return };
        let (runner, task) = (&self.ports.runner, self.task());
        let mut found = vec![(FAILURE, previous.to_string())];
        let conflict = previous.conflict.as_ref();
        found.extend(conflict.map(|found| (CONFLICT, described(&found.files, &found.hunks))));
        if let Some(output) = runner.output(&self.run, &task.id, previous.attempt) {
            found.push((OUTPUT, output.to_string_lossy().into_owned()));
        }
        // Where it goes on in the same folder, all of it is there.
        if task.isolation != Isolation::None
            && !self.proceeds
            && let Some(worktrees) = &self.ports.worktrees
        {
            match worktrees.kept(&self.run, &task.id).await {
                Ok(kept) => found.extend(kept.map(|name| (REFERENCE, name))),
                // The attempt can do without.
                Err(error) => self.warn(format!("the work of its earlier attempts: {error}")),
            }
        }
        self.inherited = found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }

    /// The work, with what an agent has to know where the attempt before conflicted. One that is given
    /// a prompt may never look at its variables.
    pub(super) fn with_conflict(&self, work: Work) -> Work {
        let Some(conflict) = self.inherited.get(CONFLICT) else { return work };
        let Work::Prompt { agent, prompt, model } = work else { return work };
        let text = match &prompt {
            Prompt::Text(text) => Some(text.clone()),
            // Whoever runs the agent says what is wrong with the file.
            Prompt::File(name) => std::fs::read_to_string(self.ports.workspace.join(name)).ok(),
            _ => None,
        };
        let Some(text) = text else { return Work::Prompt { agent, prompt, model } };
        let kept = self.inherited.get(REFERENCE).map_or_else(String::new, |name| {
            format!(" That work is at {name}: look at it with `git show` or `git diff`, and take over what still fits.")
        });
        let text = format!(
            "{text}\n\n---\nAn earlier attempt at this task was done, and could not be merged: others \
             changed the same places meanwhile. This folder has their changes. Do the task again on \
             top of them, so that what both sides intended holds.{kept}\n\n{conflict}"
        );
        Work::Prompt { agent, prompt: Prompt::Text(text), model }
    }
}
