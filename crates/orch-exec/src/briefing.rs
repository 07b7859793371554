//! What an agent can be told of its task: the facts that a prompt is made of, and the prompt as it is
//! where nobody makes more of them.
//!
//! Nothing here is done for commands.

use std::path::PathBuf;

use orch_deps::Graph;
use orch_model::{
    CommitId, RunId, RunState, TaskState,
    plan::{LockClaim, LockMode, Prompt, Task, TaskIndex, Template, ValidPlan, Work},
    ports::WorktreeProvider,
    prompt::{
        LastAttempt, MOST_DEPENDENCIES, Made, PromptAction, PromptBranch, PromptContext,
        PromptDependency, PromptEpic, PromptLock, PromptTemplate, PromptText,
    },
    run::LastFailure,
    state::{Attempt, Merged},
};

/// A task that another one needs, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Needed {
    task: TaskIndex,
    attempt: Attempt,
    /// `None` where it has not been merged.
    result: Option<Merged>,
}

/// What a task needs; nothing for a command.
pub(crate) fn needed(
    plan: &ValidPlan,
    graph: &Graph,
    state: Option<&RunState>,
    task: TaskIndex,
) -> Vec<Needed> {
    if !matches!(plan.task(task).work, Work::Prompt { .. }) {
        return Vec::new();
    }
    let of = |task| match state.map(|state| &state.task(task).state) {
        Some(TaskState::Merged { attempt, result }) => {
            Needed { task, attempt: *attempt, result: Some(result.clone()) }
        }
        _ => Needed { task, attempt: 0, result: None },
    };
    graph.needs(task).into_iter().map(of).collect()
}

/// What tasks that are needed made. What git can't tell is left out: a prompt can do without.
pub(crate) async fn dependencies(
    plan: &ValidPlan,
    run: &RunId,
    needed: &[Needed],
    worktrees: Option<&dyn WorktreeProvider>,
) -> Vec<PromptDependency> {
    let mut found = Vec::with_capacity(needed.len().min(MOST_DEPENDENCIES));
    for Needed { task, attempt, result } in needed.iter().take(MOST_DEPENDENCIES) {
        let (tip, merge) = match result {
            Some(Merged::Commit { commit, merge_commit }) => (Some(commit), Some(merge_commit)),
            Some(Merged::Kept { commit, .. }) => (Some(commit), None),
            _ => (None, None),
        };
        let task = plan.task(*task);
        found.push(PromptDependency {
            task: task.id.clone(),
            title: task.title.clone(),
            is_merged: result.is_some(),
            attempt: *attempt,
            summary: None,
            commit: merge.or(tip).map(|commit| commit.short().to_owned()),
            made: match tip {
                Some(tip) => made(run, tip.as_str(), merge, worktrees).await,
                None => Made::default(),
            },
        });
    }
    found
}

/// What ends at a commit or a reference.
pub(crate) async fn made(
    run: &RunId,
    tip: &str,
    merge: Option<&CommitId>,
    worktrees: Option<&dyn WorktreeProvider>,
) -> Made {
    let Some(worktrees) = worktrees else { return Made::default() };
    worktrees.made(run, tip, merge).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "what a task made is left out of a prompt");
        Made::default()
    })
}

/// The facts of one attempt.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a ValidPlan,
    pub(crate) index: TaskIndex,
    pub(crate) run: &'a RunId,
    pub(crate) attempt: Attempt,
    pub(crate) repository: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) branch: Option<PromptBranch>,
    pub(crate) last: Option<LastAttempt>,
}

impl Facts<'_> {
    fn task(&self) -> &Task {
        self.plan.task(self.index)
    }

    /// What the agent of the task can be told.
    pub(crate) fn work(
        self,
        dependencies: Vec<PromptDependency>,
        needed: usize,
    ) -> Option<Box<PromptContext>> {
        let Work::Prompt { prompt, .. } = &self.task().work else { return None };
        let text = text_of(self.plan, prompt)?;
        let plan = self.plan;
        let briefing = &plan.task(self.index).briefing;
        let named = |name: &String| {
            let text = plan.text(name)?.to_owned();
            Some(PromptText { name: name.clone(), text })
        };
        let template = match &briefing.template {
            Template::Default => PromptTemplate::Default,
            Template::None => PromptTemplate::None,
            Template::Text(name) => named(name).map_or_else(Default::default, PromptTemplate::Text),
            _ => PromptTemplate::Usual,
        };
        let skills = briefing.skills.iter().filter_map(named).collect();
        let mut context = self.context(text, PromptAction::Work, template);
        context.skills = skills;
        context.more_dependencies = needed.saturating_sub(dependencies.len());
        context.dependencies = dependencies;
        Some(Box::new(context))
    }

    /// What whoever resolves the conflicts of the task can be told.
    pub(crate) fn resolve(self, prompt: String) -> Box<PromptContext> {
        let template = match &self.task().briefing.template {
            Template::None => PromptTemplate::None,
            _ => PromptTemplate::Usual,
        };
        Box::new(self.context(prompt, PromptAction::Resolve, template))
    }

    fn context(
        self,
        prompt: String,
        action: PromptAction,
        template: PromptTemplate,
    ) -> PromptContext {
        let plan = self.plan;
        let task = plan.task(self.index);
        let epic = task.epic.map(|epic| &plan.epics()[epic.get()]);
        PromptContext {
            title: task.title.clone(),
            action,
            epic: epic.map(|epic| PromptEpic { id: epic.id.clone(), title: epic.title.clone() }),
            attempt: self.attempt,
            template,
            domain: task.briefing.domain.clone(),
            repository: self.repository,
            directory: self.directory,
            branch: self.branch,
            files: task.files.clone(),
            locks: task.locks.iter().map(lock).collect(),
            verify: task.verify.iter().map(ToString::to_string).collect(),
            expects: task.expects,
            last: self.last,
            ..PromptContext::new(self.run.clone(), task.id.clone(), prompt)
        }
    }
}

fn lock(claim: &LockClaim) -> PromptLock {
    PromptLock {
        name: claim.name.to_string(),
        shared: claim.mode == LockMode::Shared,
        units: match claim.mode {
            LockMode::Counted { count, of } => Some((count, of)),
            _ => None,
        },
        env: claim.pool.as_ref().and_then(|pool| pool.env.clone()),
    }
}

/// What is told of the attempt before; `conflict` is what it is asked for where that conflicted.
pub(crate) fn last(
    failure: &LastFailure,
    conflict: Option<String>,
    output: Option<PathBuf>,
    reference: Option<String>,
    made: Made,
) -> LastAttempt {
    LastAttempt {
        attempt: failure.attempt,
        class: failure.class.clone(),
        message: failure.message.clone(),
        conflict,
        output,
        reference,
        made,
        said: None,
        verification: None,
    }
}

/// The text of a prompt, where it is part of the plan.
fn text_of(plan: &ValidPlan, prompt: &Prompt) -> Option<String> {
    match prompt {
        Prompt::Text(text) => Some(text.clone()),
        Prompt::File(name) => plan.text(name).map(str::to_owned),
        _ => None,
    }
}

/// The work of a task as its agent is told of it where no template is used: the skills, the prompt,
/// and what an attempt before conflicted in.
pub(crate) fn plain(plan: &ValidPlan, task: &Task, conflict: Option<&str>) -> Work {
    let Work::Prompt { agent, prompt, model } = &task.work else { return task.work.clone() };
    // Whoever runs the agent says what is wrong with a file that was not read with the plan.
    let Some(text) = text_of(plan, prompt) else { return task.work.clone() };
    let skills = task.briefing.skills.iter().filter_map(|name| plan.text(name));
    let mut all: String = skills.map(|skill| format!("{}\n\n", skill.trim_end())).collect();
    all.push_str(&text);
    if let Some(conflict) = conflict {
        all.push_str(&format!("\n\n---\n{conflict}"));
    }
    Work::Prompt { agent: agent.clone(), prompt: Prompt::Text(all), model: model.clone() }
}

/// What an agent is told whose attempt before could not be merged, and whose work is kept at `kept`.
pub(crate) fn after_conflict(kept: Option<&str>, conflict: &str) -> String {
    let kept = kept.map_or_else(String::new, |name| {
        format!(
            " That work is at {name}: look at it with `git show` or `git diff`, and take over what still fits."
        )
    });
    format!(
        "An earlier attempt at this task was done, and could not be merged: others changed the same \
         places meanwhile. This folder has their changes. Do the task again on top of them, so that what \
         both sides intended holds.{kept}\n\n{conflict}"
    )
}

/// What an agent is told that resolves the conflicts of a task's work, `theirs`.
pub(crate) fn resolution(
    plan: &ValidPlan,
    task: &Task,
    theirs: &CommitId,
    conflict: &str,
) -> String {
    let title = task.title.as_ref().map_or_else(String::new, |title| format!(" ({title})"));
    let mut prompt = format!(
        "A merge is in progress in this folder, and some files are in conflict. Resolve the conflicts so \
         that what both sides intended holds: HEAD has the results of other tasks, MERGE_HEAD ({}) the \
         work of task `{}`{title}. Edit the files until no conflict marker is left, and use `git add` or \
         `git rm` where one side is right as it is. You may commit the merge with `git commit --no-edit`, \
         or leave that to orch; do not abort it.\n\n{conflict}",
        theirs.short(),
        task.id,
    );
    if let Work::Prompt { prompt: of_task, .. } = &task.work
        && let Some(text) = text_of(plan, of_task)
    {
        prompt.push_str(&format!("\nThe task was:\n\n{text}\n"));
    }
    prompt
}

#[cfg(test)]
mod tests;
