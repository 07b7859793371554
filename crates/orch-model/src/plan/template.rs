//! Placeholders in the command of an agent: `{prompt}`, `{prompt_file}`, `{worktree}`, `{model}`.
//!
//! `{{` and `}}` are literal braces; a `}` on its own stands for itself.

/// What a placeholder is replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placeholder {
    /// The text of the prompt.
    Prompt,
    /// The path of a file with the prompt.
    PromptFile,
    /// The folder in which the agent works.
    Worktree,
    /// The model that the task names, or its agent, or `[defaults]`.
    Model,
}

impl Placeholder {
    /// Every placeholder.
    pub const ALL: [Self; 4] = [Self::Prompt, Self::PromptFile, Self::Worktree, Self::Model];

    /// Its name, without the braces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::PromptFile => "prompt_file",
            Self::Worktree => "worktree",
            Self::Model => "model",
        }
    }
}

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a, P = Placeholder> {
    /// Stands for itself.
    Text(&'a str),
    /// Is replaced.
    Placeholder(P),
}

/// Why an argument is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A name in braces that stands for nothing.
    #[error("unknown placeholder `{{{0}}}`")]
    Unknown(String),
    /// A `{` that opens no placeholder.
    #[error("`{{` opens no placeholder")]
    Lone,
}

/// The parts of one argument of an agent's command, in order.
///
/// # Errors
/// Names the first placeholder that is unknown, or says that a `{` opens none.
///
/// ```
/// use orch_model::plan::template::{Piece, Placeholder, pieces};
///
/// let parts = pieces("--model={model}").unwrap();
/// assert_eq!(parts, [Piece::Text("--model="), Piece::Placeholder(Placeholder::Model)]);
/// ```
pub fn pieces(argument: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    pieces_of(argument, |name| Placeholder::ALL.into_iter().find(|known| known.name() == name))
}

/// The same for other placeholders.
pub(super) fn pieces_of<P>(
    argument: &str,
    known: impl Fn(&str) -> Option<P>,
) -> Result<Vec<Piece<'_, P>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at(at);
        let (kept, after) = if tail.starts_with("{{") || tail.starts_with("}}") {
            (&rest[..=at], &tail[2..])
        } else if let Some(after) = tail.strip_prefix('}') {
            (&rest[..=at], after)
        } else {
            let end = tail.find('}').ok_or(TemplateError::Lone)?;
            let name = &tail[1..end];
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            let placeholder = match known(name) {
                Some(placeholder) => placeholder,
                None if !name.is_empty() && name.chars().all(is_name) => {
                    return Err(TemplateError::Unknown(name.into()));
                }
                None => return Err(TemplateError::Lone),
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(text));
            }
            pieces.push(Piece::Placeholder(placeholder));
            rest = &tail[end + 1..];
            continue;
        };
        pieces.push(Piece::Text(kept));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// One argument with every placeholder replaced.
///
/// # Errors
/// As [`pieces`]; never for an agent of a [`super::ValidPlan`].
pub fn expand<'v>(
    argument: &str,
    value: impl Fn(Placeholder) -> &'v str,
) -> Result<String, TemplateError> {
    Ok(pieces(argument)?
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Placeholder(placeholder) => value(placeholder),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced() {
        let table: &[(&str, Result<&str, TemplateError>)] = &[
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("{prompt}", Ok("<prompt>")),
            ("a{worktree}/{model}.{prompt_file}z", Ok("a<worktree>/<model>.<prompt_file>z")),
            ("{{prompt}}", Ok("{prompt}")),
            ("{{\"a\": {{\"b\": \"{model}\"}}}}", Ok("{\"a\": {\"b\": \"<model>\"}}")),
            ("a } b", Ok("a } b")),
            ("{prmpt}", Err(TemplateError::Unknown("prmpt".into()))),
            ("{é", Err(TemplateError::Lone)),
            ("{\"a\": 1}", Err(TemplateError::Lone)),
            ("{}", Err(TemplateError::Lone)),
        ];
        for (argument, expected) in table {
            let value = |placeholder| match placeholder {
                Placeholder::Prompt => "<prompt>",
                Placeholder::PromptFile => "<prompt_file>",
                Placeholder::Worktree => "<worktree>",
                Placeholder::Model => "<model>",
            };
            assert_eq!(
                expand(argument, value).as_deref(),
                expected.as_ref().copied(),
                "{argument}"
            );
        }
        assert_eq!(TemplateError::Unknown("x".into()).to_string(), "unknown placeholder `{x}`");
        assert_eq!(TemplateError::Lone.to_string(), "`{` opens no placeholder");
    }
}
