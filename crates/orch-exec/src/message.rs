//! What the engine's commits say.

use orch_model::{
    CommitId, RunId,
    plan::{AgentChoice, MessageField, Task, TaskIndex, ValidPlan, Work},
    ports::{CommitMessage, MergeRequest, WorktreeError},
    state::Attempt,
};

use crate::orchestrator::Ports;

/// An attempt at a task, and who was given it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempted<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) attempt: Attempt,
    pub(crate) by: Option<&'a AgentChoice>,
}

/// What is asked for to bring a task's work in, which a branch holds and which began at `base`.
pub(crate) async fn merge_request(
    task: (&ValidPlan, TaskIndex),
    ports: &Ports,
    attempt: Attempted<'_>,
    (branch, base): (&str, &CommitId),
    commit: &CommitId,
) -> Result<MergeRequest, WorktreeError> {
    Ok(MergeRequest {
        commit: commit.clone(),
        branch: branch.to_owned(),
        message: of_merge(task, ports, attempt, (base, commit)).await?,
        strategy: task.0.merging().strategy,
    })
}

/// The message of the commit that brings a task's work in, which was made between these two commits.
async fn of_merge(
    (plan, index): (&ValidPlan, TaskIndex),
    ports: &Ports,
    Attempted { run, attempt, by }: Attempted<'_>,
    (base, tip): (&CommitId, &CommitId),
) -> Result<CommitMessage, WorktreeError> {
    let task = plan.task(index);
    let new = |subject| CommitMessage::new(subject, run.clone(), task.id.clone(), attempt);
    let Some(template) = &plan.merging().message else { return Ok(new(merge_subject(task))) };
    let commits = match &ports.worktrees {
        Some(worktrees) if template.uses(MessageField::Commits) => {
            worktrees.subjects(base, tip).await?
        }
        _ => Vec::new(),
    };
    let text = template.expand(|field| match field {
        MessageField::Task => task.id.to_string(),
        MessageField::Title => one_line(task.name()),
        MessageField::Epic => {
            task.epic.map_or_else(String::new, |epic| plan.epics()[epic.get()].id.to_string())
        }
        MessageField::Run => run.to_string(),
        MessageField::Attempt => attempt.to_string(),
        MessageField::Agent => match (&task.work, by) {
            (_, Some(by)) => by.agent.to_string(),
            (Work::Prompt { agent, .. }, None) => agent.to_string(),
            _ => String::new(),
        },
        MessageField::Commits => {
            let lines: Vec<_> = commits.iter().map(|line| format!("* {line}")).collect();
            lines.join("\n")
        }
        _ => String::new(),
    });
    let (subject, body) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
    Ok(CommitMessage { body: body.trim().to_owned(), ..new(one_line(subject)) })
        .map(|message| if message.subject.is_empty() { new(merge_subject(task)) } else { message })
}

/// The first line of the commit that merges a task's work, where the plan doesn't word it.
fn merge_subject(task: &Task) -> String {
    match &task.title {
        Some(title) => format!("Merge {}: {title}", task.id),
        None => format!("Merge {}", task.id),
    }
}

/// The first line of the commit of what a task left uncommitted.
pub(crate) fn commit_subject(task: &Task) -> String {
    match &task.title {
        Some(title) => format!("{}: {title}", task.id),
        None => format!("{}: work of the task", task.id),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
