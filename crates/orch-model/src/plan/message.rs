//! The messages of commits that bring work in, as a plan words them.

use super::template::{Piece, TemplateError, pieces_of};

/// What a placeholder of a message stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageField {
    /// The id of the task.
    Task,
    /// Its title, or its id where it has none.
    Title,
    /// The id of its epic; empty where it has none.
    Epic,
    /// The run.
    Run,
    /// The attempt whose work it is, from 1.
    Attempt,
    /// The agent that was given its prompt; empty where it is a command.
    Agent,
    /// The first lines of its commits, the oldest first, one a line after `* `.
    Commits,
}

impl MessageField {
    /// Every field.
    pub const ALL: [Self; 7] =
        [Self::Task, Self::Title, Self::Epic, Self::Run, Self::Attempt, Self::Agent, Self::Commits];

    /// Its name, without the braces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Title => "title",
            Self::Epic => "epic",
            Self::Run => "run",
            Self::Attempt => "attempt",
            Self::Agent => "agent",
            Self::Commits => "commits",
        }
    }
}

/// A message with placeholders that are all known.
///
/// ```
/// use orch_model::plan::{MessageField, MessageTemplate};
///
/// let template = MessageTemplate::new("{task}: {title}").unwrap();
/// let text = template.expand(|field| match field {
///     MessageField::Task => "login".into(),
///     _ => "Login endpoint".into(),
/// });
/// assert_eq!(text, "login: Login endpoint");
/// assert!(MessageTemplate::new("{tsk}").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTemplate(String);

impl MessageTemplate {
    /// Takes a text in which `{{` and `}}` are literal braces.
    ///
    /// # Errors
    /// Names the first placeholder that is unknown, or says that a `{` opens none.
    pub fn new(text: impl Into<String>) -> Result<Self, TemplateError> {
        let text = text.into();
        pieces_of(&text, known)?;
        Ok(Self(text))
    }

    /// Whether a field is part of it.
    #[must_use]
    pub fn uses(&self, field: MessageField) -> bool {
        self.pieces().contains(&Piece::Placeholder(field))
    }

    /// The text with every placeholder replaced. What a value contains is not looked at again.
    #[must_use]
    pub fn expand(&self, value: impl Fn(MessageField) -> String) -> String {
        let pieces = self.pieces().into_iter();
        pieces
            .map(|piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Placeholder(field) => value(field),
            })
            .collect()
    }

    fn pieces(&self) -> Vec<Piece<'_, MessageField>> {
        pieces_of(&self.0, known).expect("`new` has read it")
    }
}

fn known(name: &str) -> Option<MessageField> {
    MessageField::ALL.into_iter().find(|field| field.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_replaced_once() {
        let all: String = MessageField::ALL.map(|field| format!("{{{}}} ", field.name())).concat();
        let template = MessageTemplate::new(format!("{all}{{{{run}}}}")).unwrap();
        let text = template.expand(|field| format!("<{{{}}}>", field.name()));
        let expected: String =
            MessageField::ALL.map(|field| format!("<{{{}}}> ", field.name())).concat();
        assert_eq!(text, format!("{expected}{{run}}"));
        assert!(template.uses(MessageField::Commits));
        assert!(!MessageTemplate::new("{{commits}}").unwrap().uses(MessageField::Commits));
    }
}
