//! Tasks, one by one.

use super::{
    Checker, DEFAULT_MAX_OUTPUT, DEFAULT_PRIORITY, DEFAULT_RETRIES, DEFAULT_TIMEOUT,
    LOWEST_PRIORITY, assignment::Named, locks, names,
};
use crate::{
    id::TaskId,
    plan::{
        Assignment, Prompt, Task, TaskIndex, Work,
        nearest::list,
        path::Path,
        problem::Finding,
        spec::{CommandLine, Expects, Isolation, TaskSpec},
    },
};

impl<'a> Checker<'a> {
    /// Checks a task and applies the defaults. Where something is wrong with it the result only
    /// serves to find cycles.
    pub(super) fn task(&mut self, index: usize) -> Task {
        let (task, path) = self.task_spec(index);
        let defaults = &self.spec.defaults;
        self.timeout(task.timeout, &path);
        self.silence_timeout(task.silence_timeout, &path);
        self.verify(task.verify.as_deref().unwrap_or_default(), &path);
        self.env(&task.env, &path);
        self.priority(task, &path);
        self.files(task, &path);
        self.isolation(task, &path);
        let (work, assignment) = self
            .work(task, &path)
            .unwrap_or_else(|| (Work::Command(CommandLine::Argv(Vec::new())), None));
        let needs = self.references(task, &task.needs, &path.then("needs"));
        let mut after = self.references(task, &task.after, &path.then("after"));
        after.retain(|other| needs.binary_search(other).is_err());
        let epic = task.epic.as_ref().and_then(|id| {
            let found = self.epics.get(id).copied();
            if found.is_none() {
                self.missing(
                    "epic",
                    id.as_str(),
                    path.then("epic"),
                    Some("add an `[[epic]]` with this id"),
                );
            }
            found
        });
        let briefing = self.briefing(task, epic, &path);
        let mut env = defaults.env.clone();
        env.extend(task.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        Task {
            id: task.id.clone(),
            title: task.title.clone(),
            epic,
            work,
            assignment: assignment.map(Box::new),
            briefing,
            needs,
            after,
            priority: task.priority.unwrap_or(DEFAULT_PRIORITY),
            estimate: task.estimate.map(|estimate| estimate.0),
            files: task.files.clone(),
            locks: locks::claims(&task.locks),
            env,
            timeout: task.timeout.or(defaults.timeout).unwrap_or(DEFAULT_TIMEOUT).0,
            silence_timeout: task
                .silence_timeout
                .or(defaults.silence_timeout)
                .map(|timeout| timeout.0),
            retries: task.retries.or(defaults.retries).unwrap_or(DEFAULT_RETRIES),
            verify: task.verify.as_ref().or(defaults.verify.as_ref()).cloned().unwrap_or_default(),
            isolation: task.isolation.or(defaults.isolation).unwrap_or_default(),
            expects: task.expects.or(defaults.expects).unwrap_or_default(),
            on_conflict: self.on_conflict(task),
            max_output: task.max_output.or(defaults.max_output).unwrap_or(DEFAULT_MAX_OUTPUT),
        }
    }

    fn priority(&mut self, task: &TaskSpec, path: &Path) {
        if let Some(priority) = task.priority.filter(|priority| *priority > LOWEST_PRIORITY) {
            let finding =
                Finding::new(path.then("priority"), format!("there is no priority {priority}"));
            self.report(finding.help("write a number from 0, the highest, to 4"));
        }
    }

    fn files(&mut self, task: &TaskSpec, path: &Path) {
        for (at, pattern) in task.files.iter().enumerate() {
            if let Err((message, help)) = names::file_glob(pattern) {
                self.report(Finding::new(path.then("files").then(at), message).help(help));
            }
        }
    }

    /// The tasks that a list names; sorted, without repeats.
    fn references(&mut self, task: &TaskSpec, ids: &[TaskId], path: &Path) -> Vec<TaskIndex> {
        let mut found = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            if *id == task.id {
                let finding = Finding::new(path.then(at), format!("task `{id}` waits for itself"));
                self.report(finding.help("remove it from the list"));
            } else if let Some(index) = self.tasks.get(id) {
                found.push(*index);
            } else {
                let help = if self.epics.keys().any(|epic| epic.as_str() == id.as_str()) {
                    "this is an epic: tasks wait for tasks, epics for epics; put the task into an epic that needs it"
                } else {
                    "add a `[[task]]` with this id, or remove it from the list"
                };
                self.missing("task", id.as_str(), path.then(at), Some(help));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn isolation(&mut self, task: &TaskSpec, path: &Path) {
        let defaults = &self.spec.defaults;
        let from_defaults = Path::from("defaults").then("isolation");
        if self.origin.is_damaged(&path.then("isolation"))
            || task.isolation.is_none() && self.origin.is_damaged(&from_defaults)
        {
            return;
        }
        let place = if task.isolation.is_some() { path.then("isolation") } else { path.then("id") };
        match task.isolation.or(defaults.isolation).unwrap_or_default() {
            Isolation::Worktree => {}
            Isolation::Epic => {
                if task.epic.is_none() && !self.origin.is_damaged(&path.then("epic")) {
                    let message = format!("task `{}` has isolation \"epic\" and no epic", task.id);
                    let help = "add `epic = \"...\"`, or use `isolation = \"worktree\"`";
                    self.report(Finding::new(place, message).help(help));
                }
            }
            Isolation::None => {
                let use_worktree = "`isolation = \"none\"` is only for tasks that write nothing";
                if !task.files.is_empty() {
                    let message =
                        format!("task `{}` writes files and has isolation \"none\"", task.id);
                    let help = format!(
                        "remove `files`, or use `isolation = \"worktree\"`: {use_worktree}"
                    );
                    self.report(Finding::new(path.then("files"), message).help(help));
                }
                let expects = task.expects.or(defaults.expects).unwrap_or_default();
                if expects != Expects::Any && !self.origin.is_damaged(&path.then("expects")) {
                    let at = if task.expects.is_some() { path.then("expects") } else { place };
                    let message =
                        format!("task `{}` expects changes and has isolation \"none\"", task.id);
                    let help = format!(
                        "use `expects = \"any\"`, or `isolation = \"worktree\"`: {use_worktree}"
                    );
                    self.report(Finding::new(at, message).help(help));
                }
            }
        }
    }

    /// What the task does: exactly one of `run`, `prompt` and `prompt_file`.
    fn work(&mut self, task: &'a TaskSpec, path: &Path) -> Option<(Work, Option<Assignment>)> {
        let given: Vec<&'static str> = [
            ("run", task.run.is_some()),
            ("prompt", task.prompt.is_some()),
            ("prompt_file", task.prompt_file.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_given)| is_given.then_some(key))
        .collect();
        let is_damaged = ["run", "prompt", "prompt_file"]
            .into_iter()
            .any(|key| !given.contains(&key) && self.origin.is_damaged(&path.then(key)));
        if given.is_empty() && !is_damaged {
            let message = format!("task `{}` has nothing to do", task.id);
            let help = "add `run = \"...\"`, or `prompt` (or `prompt_file`) and `agent`";
            self.report(Finding::new(path.then("id"), message).help(help));
        }
        if given.len() > 1 {
            let message = format!("task `{}` has {}", task.id, list(&given, "and"));
            let finding = Finding::new(path.then(given[1]), message).on_key();
            self.report(
                finding.help("keep one of them").related(path.then(given[0]), "already given here"),
            );
        }
        if let Some(command) = &task.run {
            self.command(command, &path.then("run"));
        }
        if let Some(prompt) = &task.prompt {
            self.text(prompt, "prompt", path);
        }
        if let Some(file) = &task.prompt_file
            && let Err((message, help)) = names::file(file)
        {
            self.report(Finding::new(path.then("prompt_file"), message).help(help));
        }
        let named = Named {
            agent: task.agent.as_ref(),
            fallbacks: task.fallback_agents.as_ref(),
            model: task.model.as_ref(),
        };
        self.named(named, path);
        match (given.as_slice(), is_damaged) {
            (["run"], false) => Some((self.command_work(task, path)?, None)),
            (["prompt"] | ["prompt_file"], _) => self.prompt_work(task, path),
            _ => None,
        }
    }

    fn command_work(&mut self, task: &TaskSpec, path: &Path) -> Option<Work> {
        let given = [
            ("agent", task.agent.is_some()),
            ("fallback_agents", task.fallback_agents.is_some()),
            ("model", task.model.is_some()),
            ("critical", task.critical),
            ("skills", !task.skills.is_empty()),
            ("domain", task.domain.is_some()),
            ("template", task.template.is_some()),
        ];
        for (key, is_given) in given {
            if is_given {
                let message = format!("`{key}` has no effect next to `run`");
                let help = format!("remove `{key}`, or give a `prompt` in place of `run`");
                self.report(Finding::new(path.then(key), message).on_key().help(help));
            }
        }
        task.run.clone().map(Work::Command)
    }

    fn prompt_work(
        &mut self,
        task: &'a TaskSpec,
        path: &Path,
    ) -> Option<(Work, Option<Assignment>)> {
        let (first, assignment) = self.assignment(task, path)?;
        let prompt = match (&task.prompt, &task.prompt_file) {
            (Some(text), _) => Prompt::Text(text.clone()),
            (None, Some(file)) => Prompt::File(file.clone()),
            (None, None) => return None,
        };
        let work = Work::Prompt { agent: first.agent, prompt, model: first.model };
        Some((work, Some(assignment)))
    }
}
