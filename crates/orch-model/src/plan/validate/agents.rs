//! Agents: the templates of their commands, and the models that they are told to use.

use std::collections::BTreeMap;

use super::Checker;
use crate::{
    id::AgentName,
    plan::{
        Agent, Task,
        nearest::{list, nearest},
        path::Path,
        problem::Finding,
        spec::{AgentKind, AgentOutput, AgentSpec, AgentStdin},
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
        let is_known = !matches!(spec.kind, AgentKind::Command | AgentKind::Acp);
        let is_missing = spec.command.is_empty() && !is_known;
        if (is_missing || spec.command.first().is_some_and(String::is_empty)) && !is_damaged {
            let finding = Finding::new(command, format!("the command of agent `{name}` is empty"));
            self.report(
                finding.help("give the program and its arguments, or the `kind` of the agent"),
            );
        }
        let arguments = |list: &'static str, arguments: &[String]| -> Vec<(Path, String)> {
            let path = path.then(list);
            arguments.iter().enumerate().map(|(at, text)| (path.then(at), text.clone())).collect()
        };
        let mut takes_prompt = is_damaged;
        let all = [arguments("command", &spec.command), arguments("args", &spec.args)].concat();
        for (place, argument) in all {
            match pieces(&argument) {
                Ok(pieces) => {
                    let is_taken = pieces.iter().any(is_prompt);
                    takes_prompt |= is_taken;
                    if is_taken && spec.kind != AgentKind::Command {
                        let message = format!(
                            "an agent of kind `{}` is given its prompt otherwise",
                            spec.kind
                        );
                        let help =
                            "remove the placeholder: it reads the prompt as its standard input";
                        self.report(Finding::new(place.clone(), message).help(help));
                    }
                }
                Err(error) => {
                    takes_prompt = true;
                    let help = template_help(&error, &Placeholder::ALL.map(Placeholder::name));
                    self.report(Finding::new(place.clone(), error.to_string()).help(help));
                }
            }
            if argument.contains('\0') {
                let finding = Finding::new(place, "the argument contains a NUL character");
                self.report(finding.help("remove it: no program can be given one"));
            }
        }
        for (at, link) in spec.link.iter().enumerate() {
            let is_inside = !link.is_empty()
                && !link.contains('\0')
                && link.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !is_inside {
                let message = format!("`{link}` is no path inside of the user's home");
                let help = "write it relative to the home, as `.npmrc` or `.config/tool`";
                self.report(Finding::new(path.then("link").then(at), message).help(help));
            }
        }
        self.mcp(spec, &path);
        self.events(spec, &path);
        if spec.stdin == Some(AgentStdin::Null) && !takes_prompt {
            let finding =
                Finding::new(path.then("stdin"), format!("agent `{name}` never sees its prompt"));
            self.report(finding.help("use `stdin = \"prompt\"`, or put `{prompt}` into `command`"));
        }
        if let Some(model) = &spec.model {
            self.text(model, "model", &path);
        }
        self.offers(spec, &path);
        if let Some(account) = &spec.account {
            self.text(account, "account", &path);
        }
        self.env(&spec.env, &path);
        let implied = if takes_prompt { AgentStdin::Null } else { AgentStdin::Prompt };
        Agent {
            kind: spec.kind,
            command: spec.command.clone(),
            args: spec.args.clone(),
            permissions: spec.permissions,
            link: spec.link.clone(),
            mcp: spec.mcp.clone(),
            events: spec.events.clone(),
            stdin: spec.stdin.unwrap_or(implied),
            model: spec.model.clone(),
            models: spec.models.clone(),
            env: spec.env.clone(),
            account: spec.account.clone(),
        }
    }

    /// The models that are offered for it.
    fn offers(&mut self, spec: &AgentSpec, path: &Path) {
        let Some(models) = &spec.models else { return };
        let here = path.then("models");
        if spec.model.is_some() {
            let finding = Finding::new(here.clone(), "`models` has no effect next to `model`");
            self.report(finding.on_key().help("remove one of them"));
        }
        let offered: Vec<_> = models
            .by_tier()
            .into_iter()
            .filter_map(|(tier, model)| Some((tier, model.as_ref()?)))
            .collect();
        if offered.is_empty() && !self.origin.is_damaged(&here) {
            let finding = Finding::new(here.clone(), "there is no model to choose from");
            self.report(finding.help("give `small`, `medium` or `large`"));
        }
        for (tier, model) in offered {
            self.text(model, tier.name(), &here);
        }
    }

    /// What the lines of its output say.
    fn events(&mut self, spec: &AgentSpec, path: &Path) {
        let is_jsonl = spec.output == AgentOutput::Jsonl;
        if is_jsonl && spec.kind != AgentKind::Command {
            let message = format!("an agent of kind `{}` has an output that is known", spec.kind);
            let finding = Finding::new(path.then("output"), message);
            self.report(finding.help("remove `output`, or use the kind `command`"));
        } else if is_jsonl == spec.events.is_empty()
            && !self.origin.is_damaged(&path.then("events"))
        {
            let (at, message, help) = if is_jsonl {
                (
                    "output",
                    "nothing says what the lines of its output say",
                    "add `events`, rules for lines",
                )
            } else {
                (
                    "events",
                    "its output is text, of which no rule can say anything",
                    "add `output = \"jsonl\"`",
                )
            };
            self.report(Finding::new(path.then(at), message).help(help));
        }
        for (at, rule) in spec.events.iter().enumerate() {
            let path = path.then("events").then(at);
            for name in rule.take.keys() {
                let known = rule.event.fields();
                if known.contains(&name.as_str()) {
                    continue;
                }
                let message = format!("a rule for this event takes no `{name}`");
                let help = match (nearest(name, known.iter().copied()), known) {
                    (Some(near), _) => format!("did you mean `{near}`?"),
                    (None, []) => "remove it: such a rule takes nothing".to_owned(),
                    (None, known) => {
                        let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                        format!("it takes {}", list(&known, "and"))
                    }
                };
                self.report(Finding::new(path.then("take").then(name.clone()), message).help(help));
            }
            let pointers = rule
                .take
                .iter()
                .map(|(name, pointer)| (path.then("take").then(name.clone()), pointer));
            let keys =
                rule.when.keys().map(|pointer| (path.then("when").then(pointer.clone()), pointer));
            for (place, pointer) in pointers.chain(keys) {
                if !pointer.starts_with('/') {
                    let message = format!("`{pointer}` is no JSON pointer");
                    self.report(
                        Finding::new(place, message)
                            .help("it begins with `/`, as in `/message/text`"),
                    );
                }
            }
        }
    }

    pub(super) fn agent_exists(&mut self, name: &AgentName, path: &Path) {
        if !self.spec.agents.contains_key(name) {
            let help = format!("add `[agents.{name}]` with its `command`");
            self.missing("agent", name.as_str(), path.clone(), Some(&help));
        }
    }

    /// One finding for each agent whose command wants a model that some task doesn't have.
    pub(super) fn models(&mut self, tasks: &[Task]) {
        let spec = self.spec;
        if self.origin.is_damaged(&Path::from("defaults").then("model")) {
            return;
        }
        for (name, agent) in &spec.agents {
            let agent_path = Path::from("agents").then(String::from(name.clone()));
            let place = agent.command.iter().position(|argument| {
                let model = Piece::Placeholder(Placeholder::Model);
                pieces(argument).is_ok_and(|pieces| pieces.contains(&model))
            });
            let Some(place) = place else { continue };
            let has_some = agent.model.is_some() || agent.models.is_some();
            let mut keys = ["model", "models"].into_iter();
            if has_some || keys.any(|key| self.origin.is_damaged(&agent_path.then(key))) {
                continue;
            }
            let without: Vec<usize> = (0..spec.tasks.len())
                .filter(|index| {
                    let (_, path) = self.task_spec(*index);
                    let mut candidates = tasks[*index].candidates();
                    candidates.any(|one| one.agent == *name && one.model.is_none())
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
            let at = if task.agent.as_ref() == Some(name) {
                path.then("agent")
            } else {
                path.then("id")
            };
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
