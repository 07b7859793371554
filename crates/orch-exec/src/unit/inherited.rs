//! What an attempt is told of those before it, so that it can go on from what they left.

use orch_model::{conflict::described, plan::spec::Isolation};

use super::Unit;

/// Why the last attempt failed: its class and a message, in one line.
const FAILURE: &str = "ORCH_LAST_FAILURE";

/// What it conflicted in, where it did: files, and both sides of each place.
pub(super) const CONFLICT: &str = "ORCH_LAST_CONFLICT";

/// The file with its output.
pub(super) const OUTPUT: &str = "ORCH_LAST_OUTPUT";

/// The reference that keeps the newest work of earlier attempts.
pub(super) const REFERENCE: &str = "ORCH_LAST_REF";

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
}
