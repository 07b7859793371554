//! From what is known of a task to what its agent is told.
//!
//! Templates are those of [`minijinja`], filled with a [`PromptContext`]. What is filled in is never read
//! as a template, whatever it contains. A template of a project can build on the default one by
//! `{% extends "default" %}` and replace some of its blocks: `skills`, `task`, `dependencies`, `knowledge`,
//! `place`, `guidelines`, `verification`, `last`, `report`.

use std::{fmt::Debug, sync::LazyLock};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use orch_model::{
    ValidPlan,
    plan::{Template, spec::AgentKind},
    prompt::{PromptAction, PromptContext, PromptTemplate, PromptText},
};

mod filters;
mod recall;
mod sample;

pub use recall::Recall;

/// The template that a project can build on.
const DEFAULT: &str = "default";
/// Those that it can not replace.
const AGAIN: &str = "orch/again";
const RESOLVE: &str = "orch/resolve";

static BUILT_IN: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_keep_trailing_newline(true);
    // A prompt is text, whatever the name of its template ends with.
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    filters::add(&mut env);
    for (name, text) in [
        (DEFAULT, include_str!("prompt/default.md")),
        (AGAIN, include_str!("prompt/again.md")),
        (RESOLVE, include_str!("prompt/resolve.md")),
        ("orch/what-is-left", include_str!("prompt/what_is_left.md")),
    ] {
        env.add_template(name, text).expect("a built-in template is right");
    }
    env
});

/// What is known in the field that a task is about, for its prompt.
pub trait Knowledge: Debug + Send + Sync {
    /// What is known that helps with a task; [`PromptContext::domain`] is its field, where the plan says
    /// so.
    fn of(&self, context: &PromptContext) -> Option<String>;
}

/// Why a prompt can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {name}{}: {message} ({help})", .line.map_or_else(String::new, |line| format!(":{line}")))]
#[non_exhaustive]
pub struct TemplateError {
    /// The template: its name in the plan, which is a file in most cases.
    pub name: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl TemplateError {
    fn new(error: &Error) -> Self {
        // An error within what a template includes or extends is about that.
        let mut error = error;
        while let Some(source) = std::error::Error::source(error)
            && let Some(inner) = source.downcast_ref::<Error>()
        {
            error = inner;
        }
        let message = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        let help = match error.kind() {
            ErrorKind::UndefinedError => format!(
                "there are {}; what may be missing is asked for first: {{% if last %}}...{{% endif %}}",
                sample::names().join(", ")
            ),
            ErrorKind::UnknownFilter => {
                format!("besides those of minijinja there are {}", filters::NAMES.join(", "))
            }
            ErrorKind::TemplateNotFound => {
                format!("a template can extend or include `{DEFAULT}` and nothing else")
            }
            _ => "see `docs/prompts.md` for what a template can contain".into(),
        };
        Self { name: error.name().unwrap_or("?").to_owned(), line: error.line(), message, help }
    }
}

/// What an agent is told that begins with a task, or resolves its conflicts.
///
/// `None` where that is the prompt as it is: there is no template, or the usual one of a program of which
/// nothing is known.
///
/// # Errors
/// Where the template of the project is wrong.
pub fn compose(context: &PromptContext, kind: AgentKind) -> Result<Option<String>, TemplateError> {
    let is_known = kind != AgentKind::Command;
    Ok(Some(match (&context.template, context.action) {
        (PromptTemplate::None, _) => return Ok(None),
        (PromptTemplate::Usual, _) if !is_known => return Ok(None),
        (_, PromptAction::Resolve) => render(RESOLVE, context)?,
        (PromptTemplate::Text(template), _) => custom(template, context)?,
        _ => render(DEFAULT, context)?,
    }))
}

/// What an agent is told that goes on in its session after an attempt that failed.
///
/// # Errors
/// None that is not a mistake in orch: the template is built in.
pub fn again(context: &PromptContext) -> Result<String, TemplateError> {
    render(AGAIN, context)
}

fn render(name: &str, context: &PromptContext) -> Result<String, TemplateError> {
    let template = BUILT_IN.get_template(name);
    let rendered = template.and_then(|template| template.render(Value::from_serialize(context)));
    rendered.map_err(|error| TemplateError::new(&error))
}

fn custom(template: &PromptText, context: &PromptContext) -> Result<String, TemplateError> {
    let render = || BUILT_IN.render_named_str(&template.name, &template.text, context);
    render().map_err(|error| TemplateError::new(&error))
}

/// Looks for what is wrong with the templates of a plan, before anything is started.
///
/// # Errors
/// The first mistake of each template.
pub fn check(plan: &ValidPlan) -> Result<(), Vec<TemplateError>> {
    let spec = plan.spec();
    let of_tasks = spec.tasks.iter().map(|task| &task.template);
    let of_epics = spec.epics.iter().map(|epic| &epic.template);
    let named = std::iter::once(&spec.defaults.template).chain(of_epics).chain(of_tasks);
    let mut names: Vec<&str> = named.flatten().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let mut errors = Vec::new();
    for name in names {
        if let Template::Text(name) = Template::of(Some(name))
            && let Some(text) = plan.text(&name)
            && let Err(error) = check_one(&name, text)
        {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Whether it is one that minijinja has.
fn is_function(name: &str) -> bool {
    BUILT_IN.globals().any(|(known, _)| known == name)
}

fn check_one(name: &str, text: &str) -> Result<(), TemplateError> {
    let template = BUILT_IN.template_from_named_str(name, text);
    let template = template.map_err(|error| TemplateError::new(&error))?;
    // What stands where no example leads.
    let known = sample::names();
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|name| !known.contains(name) && name != "super" && !is_function(name))
        .collect();
    unknown.sort_unstable();
    if let Some(first) = unknown.first() {
        let at = text.lines().position(|line| line.contains(first.as_str()));
        return Err(TemplateError {
            name: name.to_owned(),
            line: at.map(|at| at + 1),
            message: format!("there is no `{first}`"),
            help: format!("there are {}", known.join(", ")),
        });
    }
    let text = PromptText { name: name.to_owned(), text: text.to_owned() };
    for context in [sample::full(), sample::bare()] {
        custom(&text, &context)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
