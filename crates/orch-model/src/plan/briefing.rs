//! What an agent is told besides its prompt.

use crate::id::DomainName;

/// How long a text that a plan names may be, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// What an agent is told besides its prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Briefing {
    /// What the prompt is put into.
    pub template: Template,
    /// The names of the texts that come first, in order; [`ValidPlan::text`] has each.
    ///
    /// [`ValidPlan::text`]: super::ValidPlan::text
    pub skills: Vec<String>,
    /// The field of knowledge that the task is about.
    pub domain: Option<DomainName>,
}

/// What a prompt is put into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Template {
    /// The default one for a coding agent of a kind that orch knows, none for any other program.
    #[default]
    Usual,
    /// The default one.
    Default,
    /// None: the agent gets the prompt after its skills, and nothing else.
    None,
    /// The text of this name; [`ValidPlan::text`] has it.
    ///
    /// [`ValidPlan::text`]: super::ValidPlan::text
    Text(String),
}

impl Template {
    /// The name of [`Template::Default`].
    pub const DEFAULT: &'static str = "default";
    /// The name of [`Template::None`].
    pub const NONE: &'static str = "none";

    /// The one that a plan names.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        match name {
            None => Self::Usual,
            Some(Self::DEFAULT) => Self::Default,
            Some(Self::NONE) => Self::None,
            Some(name) => Self::Text(name.to_owned()),
        }
    }
}
