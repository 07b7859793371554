//! Conflicts that an agent of the plan resolves: it gets a folder with the merge in progress, then the
//! task's verification decides, then the merge is made again, which finds the resolution.
//!
//! Whatever goes wrong here leaves the conflict as it was. After a crash the whole step is done again:
//! what an earlier resolver left is kept, and nothing that was not verified has been recorded.

use std::time::Duration;

use orch_model::{
    CommitId,
    conflict::described,
    outcome::Failure,
    plan::{Prompt, Work, spec::OnConflict},
    ports::{AgentRequest, MergeRequest, OpenMerge, Purpose, SealedMerge},
    usage::Usage,
};

use super::{Exit, Unit, Watched, Workplace};
use crate::{briefing, internal::UnitReport};

/// How often the conflicts of one attempt are resolved: the results may have grown meanwhile, and
/// conflict with the resolution.
pub(crate) const ROUNDS: u32 = 3;

/// What is in conflict, for whoever resolves it.
const CONFLICT: &str = "ORCH_CONFLICT";

/// Why a conflict stays one.
enum Left {
    /// That is how it is, for this reason.
    Conflicted(String),
    /// The unit has to stop.
    Exit(Exit),
}

impl From<Exit> for Left {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Failed(failure) => Self::Conflicted(failure.to_string()),
            exit @ Exit::Stopped(_) => Self::Exit(exit),
        }
    }
}

impl Unit {
    /// Has the conflicts of a merge resolved; whether the merge can be made again.
    pub(super) async fn resolve(
        &mut self,
        request: &MergeRequest,
        round: u32,
    ) -> Result<bool, Exit> {
        self.go_on()?;
        let worktrees = self.ports.worktrees.clone();
        let Some(worktrees) = worktrees else { return Ok(false) };
        let open = match worktrees.open_merge(request.clone(), false).await {
            Ok(Some(open)) => open,
            Ok(None) => return Ok(true),
            Err(error) => {
                self.warn(format!("its conflicts can't be resolved: {error}"));
                return Ok(false);
            }
        };
        let files = open.files.clone();
        self.reporter.write(UnitReport::Resolving { round, files }).await;
        let mut usage = None;
        let left = match self.resolve_in(&open, request, round, &mut usage).await {
            Ok(commit) => match worktrees.accept_merge(request, &commit).await {
                Ok(()) => None,
                Err(error) => Some(Left::Conflicted(error.to_string())),
            },
            Err(left) => Some(left),
        };
        self.reporter.tell(UnitReport::ResolvingEnded { resolved: left.is_none(), usage });
        let Some(left) = left else { return Ok(true) };
        let kept = match worktrees.close_merge(request).await {
            Ok(Some(kept)) => format!("; what the resolver did is kept at {kept}"),
            Ok(None) => String::new(),
            Err(error) => format!("; the folder of the merge stays: {error}"),
        };
        match left {
            Left::Exit(exit) => Err(exit),
            Left::Conflicted(reason) => {
                self.warn(format!("its conflicts were not resolved: {reason}{kept}"));
                Ok(false)
            }
        }
    }

    /// Takes away what a killed orchestrator left of a merge in progress, after it is done.
    pub(super) async fn close_merge(&self, request: &MergeRequest) {
        if matches!(self.task().on_conflict, OnConflict::Resolver | OnConflict::Manual)
            && let Some(worktrees) = &self.ports.worktrees
            && let Err(error) = worktrees.close_merge(request).await
        {
            self.warn(format!("the folder of its merge stays: {error}"));
        }
    }

    /// The verified commit that resolves them.
    async fn resolve_in(
        &mut self,
        open: &OpenMerge,
        request: &MergeRequest,
        round: u32,
        usage: &mut Option<Usage>,
    ) -> Result<CommitId, Left> {
        let place = Workplace::Folder(open.path.clone());
        if !open.unresolved.is_empty() {
            self.run_resolver(&place, open, round, usage).await?;
        }
        let sealed = self.ports.worktrees().map_err(Exit::from)?.seal_merge(request, true).await;
        let commit = match sealed.map_err(Exit::from)? {
            SealedMerge::Resolved { commit } => commit,
            SealedMerge::Open { reason, .. } => return Err(Left::Conflicted(reason)),
            _ => return Err(Left::Conflicted("the folder of the merge is gone".into())),
        };
        self.verify(&place, |index| Purpose::VerifyResolved { round, index }).await?;
        Ok(commit)
    }

    async fn run_resolver(
        &mut self,
        place: &Workplace,
        open: &OpenMerge,
        round: u32,
        usage: &mut Option<Usage>,
    ) -> Result<(), Left> {
        let Some(request) = self.resolver(place, open, round) else {
            return Err(Left::Conflicted("the plan names no resolver".into()));
        };
        let agent = self.ports.runner.start(request).await.map_err(Exit::from)?;
        let Watched { exit, stopped } = self.watch(agent.as_ref(), Duration::ZERO).await?;
        *usage = exit.usage;
        if let Some(stopped) = stopped {
            return Err(stopped.into());
        }
        if !exit.is_success() {
            let usual = Failure::Agent { exit: exit.status, output_tail: String::new() };
            let failure = exit.failure.unwrap_or(usual);
            return Err(Left::Conflicted(format!("the resolver {failure}")));
        }
        Ok(())
    }

    fn resolver(&self, place: &Workplace, open: &OpenMerge, round: u32) -> Option<AgentRequest> {
        let agent = self.plan.merging().resolver.clone()?;
        let task = self.task();
        let conflict = described(&open.files, &open.hunks);
        let prompt = briefing::resolution(&self.plan, task, &open.theirs, &conflict);
        let model = self.plan.spec().defaults.model.clone();
        let model = self.plan.agents().get(&agent).and_then(|known| known.model.clone()).or(model);
        let work = Work::Prompt { agent, prompt: Prompt::Text(prompt.clone()), model };
        let mut request = self.request(place, work, Purpose::Resolve { round });
        request.context = Some(self.facts(place, &request).resolve(prompt));
        request.env.insert(CONFLICT.into(), conflict);
        Some(request)
    }
}
