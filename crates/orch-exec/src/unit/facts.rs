//! What the agent of an attempt can be told.

use std::path::PathBuf;

use orch_model::{
    plan::Work,
    ports::AgentRequest,
    prompt::{LastAttempt, Made, PromptBranch, PromptContext},
};

use super::{
    Unit, Workplace,
    inherited::{CONFLICT, OUTPUT, REFERENCE},
};
use crate::briefing::{self, Facts};

impl Unit {
    /// The work, with what an agent has to know where the attempt before conflicted. One that is given
    /// a prompt may never look at its variables.
    pub(super) fn told(&self) -> Work {
        self.for_chosen(briefing::plain(&self.plan, self.task(), self.redo().as_deref()))
    }

    fn redo(&self) -> Option<String> {
        let inherited = |name: &str| self.inherited.get(name).map(String::as_str);
        Some(briefing::after_conflict(inherited(REFERENCE), inherited(CONFLICT)?))
    }

    /// What the agent of the task can be told besides; nothing for a command.
    pub(super) async fn context(
        &self,
        place: &Workplace,
        request: &AgentRequest,
    ) -> Option<Box<PromptContext>> {
        if !matches!(self.task().work, Work::Prompt { .. }) {
            return None;
        }
        let worktrees = self.ports.worktrees.as_deref();
        let found = briefing::dependencies(&self.plan, &self.run, &self.needed, worktrees).await;
        let mut facts = self.facts(place, request);
        facts.last = self.last().await;
        facts.work(found, self.needed.len())
    }

    pub(super) fn facts(&self, place: &Workplace, request: &AgentRequest) -> Facts<'_> {
        Facts {
            plan: &self.plan,
            index: self.index,
            run: &self.run,
            attempt: self.attempt,
            repository: request.repository.clone(),
            directory: request.directory.clone(),
            branch: match place {
                Workplace::Worktree(worktree) => Some(PromptBranch {
                    name: worktree.branch().to_owned(),
                    base: Some(worktree.base().short().to_owned()),
                }),
                _ => None,
            },
            last: None,
        }
    }

    async fn last(&self) -> Option<LastAttempt> {
        let previous = self.previous.as_ref()?;
        let reference = self.inherited.get(REFERENCE).cloned();
        let made = match &reference {
            Some(name) => {
                briefing::made(&self.run, name, None, self.ports.worktrees.as_deref()).await
            }
            None => Made::default(),
        };
        Some(briefing::last(
            previous,
            self.redo(),
            self.inherited.get(OUTPUT).map(PathBuf::from),
            reference,
            made,
        ))
    }
}
