//! Agents: the templates of their commands, and the models that they are told to use.

use std::collections::BTreeMap;

use super::Checker;
use crate::{
    id::AgentName,
    plan::{
        Agent,
        nearest::{list, nearest},
        path::Path,
        problem::Finding,
        spec::{AgentSpec, AgentStdin},
        template::{Piece, Placeholder, TemplateError, pieces},
    },
};

impl Checker<'_> {
    pub(super) fn agents(&mut self) -> BTreeMap<AgentName, Agent> {
        let agents = &self.spec.agents;
        agents.iter().map(|(name, spec)| (name.clone(), self.agent(name, spec))).collect()
    }

    fn agent(&mut self, name: &AgentName, spec: &AgentSpec) -> Agent {
        let path = Path::from("agents").then(String::from(name.clone()));
        let command = path.then("command");
        let is_damaged = self.origin.is_damaged(&command);
        if spec.command.first().is_none_or(String::is_empty) && !is_damaged {
            let finding =
                Finding::new(command.clone(), format!("the command of agent `{name}` is empty"));
            self.report(finding.help("give the program and its arguments"));
        }
        let mut takes_prompt = is_damaged;
        for (at, argument) in spec.command.iter().enumerate() {
            match pieces(argument) {
                Ok(pieces) => takes_prompt |= pieces.iter().any(is_prompt),
                Err(error) => {
                    takes_prompt = true;
                    let help = template_help(&error, &Placeholder::ALL.map(Placeholder::name));
                    self.report(Finding::new(command.then(at), error.to_string()).help(help));
                }
            }
            if argument.contains('\0') {
                let finding =
                    Finding::new(command.then(at), "the argument contains a NUL character");
                self.report(finding.help("remove it: no program can be given one"));
            }
        }
        if spec.stdin == Some(AgentStdin::Null) && !takes_prompt {
            let finding =
                Finding::new(path.then("stdin"), format!("agent `{name}` never sees its prompt"));
            self.report(finding.help("use `stdin = \"prompt\"`, or put `{prompt}` into `command`"));
        }
        if let Some(model) = &spec.model {
            self.text(model, "model", &path);
        }
        self.env(&spec.env, &path);
        let implied = if takes_prompt { AgentStdin::Null } else { AgentStdin::Prompt };
        Agent {
            command: spec.command.clone(),
            stdin: spec.stdin.unwrap_or(implied),
            model: spec.model.clone(),
            env: spec.env.clone(),
        }
    }

    pub(super) fn agent_exists(&mut self, name: &AgentName, path: &Path) {
        if !self.spec.agents.contains_key(name) {
            let help = format!("add `[agents.{name}]` with its `command`");
            self.missing("agent", name.as_str(), path.clone(), Some(&help));
        }
    }

    /// One finding for each agent whose command wants a model that some task doesn't have.
    pub(super) fn models(&mut self) {
        let spec = self.spec;
        if spec.defaults.model.is_some()
            || self.origin.is_damaged(&Path::from("defaults").then("model"))
        {
            return;
        }
        for (name, agent) in &spec.agents {
            let agent_path = Path::from("agents").then(String::from(name.clone()));
            let place = agent.command.iter().position(|argument| {
                let model = Piece::Placeholder(Placeholder::Model);
                pieces(argument).is_ok_and(|pieces| pieces.contains(&model))
            });
            let Some(place) = place else { continue };
            if agent.model.is_some() || self.origin.is_damaged(&agent_path.then("model")) {
                continue;
            }
            let without: Vec<usize> = (0..spec.tasks.len())
                .filter(|index| {
                    let (task, path) = self.task_spec(*index);
                    task.run.is_none()
                        && (task.prompt.is_some() || task.prompt_file.is_some())
                        && task.agent.as_ref().or(spec.defaults.agent.as_ref()) == Some(name)
                        && task.model.is_none()
                        && !self.origin.is_damaged(&path.then("model"))
                        && !self.origin.is_damaged(&path.then("agent"))
                })
                .collect();
            let Some(first) = without.first() else { continue };
            let (task, path) = self.task_spec(*first);
            let others = match without.len() - 1 {
                0 => String::new(),
                1 => " (nor has 1 more task)".into(),
                more => format!(" (nor have {more} more tasks)"),
            };
            let message = format!("task `{}` has no model for agent `{name}`{others}", task.id);
            let at = if task.agent.is_some() { path.then("agent") } else { path.then("id") };
            let help = format!("add `model` to the task, to `[agents.{name}]` or to `[defaults]`");
            let why = "the command has `{model}` here";
            self.report(
                Finding::new(at, message)
                    .help(help)
                    .related(agent_path.then("command").then(place), why),
            );
        }
    }
}

fn is_prompt(piece: &Piece<'_>) -> bool {
    matches!(piece, Piece::Placeholder(Placeholder::Prompt | Placeholder::PromptFile))
}

/// How to mend a template, given the names of its placeholders.
pub(super) fn template_help(error: &TemplateError, names: &[&'static str]) -> String {
    match error {
        TemplateError::Unknown(name) => match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{{{near}}}`?"),
            None => {
                let braced: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
                format!("write {}; a literal brace is `{{{{`", list(&braced, "or"))
            }
        },
        TemplateError::Lone => "write `{{` for a literal brace".into(),
    }
}
