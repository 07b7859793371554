//! Why a tree is not a plan: kept in parts until it is known where and in what words to say it.

use std::{fmt, ops::Range};

use serde::de::{self, Expected, Unexpected};

use crate::plan::{
    nearest::{list, nearest, nearest_key},
    path::Step,
};

/// What is wrong.
#[derive(Debug)]
pub(super) enum Kind {
    UnknownField { field: String, known: &'static [&'static str] },
    MissingField(&'static str),
    UnknownVariant { variant: String, known: &'static [&'static str] },
    Type { found: Found, expected: String },
    Custom(String),
}

/// What was found in place of the expected, in words; and whether a pair of quotes less or more
/// would help.
#[derive(Debug)]
pub(super) struct Found {
    text: String,
    quoted: Option<String>,
    bare: Option<String>,
}

/// An error, its place filled in on the way up by the lists and tables around it.
#[derive(Debug)]
pub(super) struct DecodeError(pub(super) Box<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) kind: Kind,
    /// From the inside to the outside.
    pub(super) steps: Vec<Step>,
    pub(super) span: Option<Range<usize>>,
}

impl DecodeError {
    fn new(kind: Kind) -> Self {
        Self(Box::new(Inner { kind, steps: Vec::new(), span: None }))
    }

    /// The error as the list or table around it sees it.
    pub(super) fn within(mut self, step: impl Into<Step>, span: &Range<usize>) -> Self {
        self.0.steps.push(step.into());
        self.0.span.get_or_insert_with(|| span.clone());
        self
    }
}

impl Kind {
    /// What is wrong, and how to mend it.
    pub(super) fn describe(&self, path: &[Step]) -> (String, Option<String>) {
        match self {
            Self::UnknownField { field, known } => {
                let help = match nearest_key(field, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known keys are {}", list(known, "and")),
                };
                (format!("unknown key `{field}`"), Some(help))
            }
            Self::MissingField(field) => {
                (format!("the key `{field}` is missing"), missing_help(field).map(Into::into))
            }
            Self::UnknownVariant { variant, known } => {
                let help = match nearest(variant, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write {}", list(known, "or")),
                };
                (format!("unknown value `{variant}`"), Some(help))
            }
            Self::Type { found, expected } => {
                let is_priority = matches!(path.last(), Some(Step::Key(key)) if key == "priority");
                let expected = if is_priority { "a whole number from 0 to 4" } else { expected };
                (format!("expected {expected}, found {}", found.text), found.help(expected))
            }
            Self::Custom(message) => custom(message, path),
        }
    }

    /// The key that was probably meant by an unknown one.
    pub(super) fn meant(&self) -> Option<&'static str> {
        match self {
            Self::UnknownField { field, known } => nearest_key(field, known),
            _ => None,
        }
    }
}

fn missing_help(field: &str) -> Option<&'static str> {
    Some(match field {
        "version" => "put `version = 1` at the top (in YAML `version: 1`)",
        "id" => "give it an id, for example `id = \"build\"`",
        "command" => {
            "give the program and its arguments, for example `command = [\"claude\", \"-p\", \"{prompt}\"]`"
        }
        "name" => "name the lock, for example `name = \"db\"`",
        _ => return None,
    })
}

/// The messages of our own types carry their cure behind a semicolon.
fn custom(message: &str, path: &[Step]) -> (String, Option<String>) {
    if let Some((what, cure)) = message.split_once("; ") {
        return (what.into(), Some(cure.into()));
    }
    let key = path.iter().rev().find_map(|step| match step {
        Step::Key(key) => Some(key.as_ref()),
        Step::Index(_) => None,
    });
    let help = match key {
        _ if message.contains("is reserved") => Some("choose another id"),
        _ if message.starts_with("`count`") => {
            Some("write for example `{ name = \"gpu\", count = 1, of = 4 }`")
        }
        _ if message.contains("not both") => Some("leave out `shared`, or `count` and `of`"),
        Some("id" | "needs" | "after" | "epic" | "agent" | "name" | "locks") => Some(
            "ids are 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, and begin with a letter, a digit or `_`",
        ),
        _ => None,
    };
    (message.into(), help.map(Into::into))
}

impl Found {
    fn new(found: Unexpected<'_>) -> Self {
        let (text, quoted, bare) = match found {
            Unexpected::Bool(value) => (format!("`{value}`"), Some(value.to_string()), None),
            Unexpected::Unsigned(number) => {
                (format!("the number {number}"), Some(number.to_string()), None)
            }
            Unexpected::Signed(number) => {
                (format!("the number {number}"), Some(number.to_string()), None)
            }
            Unexpected::Float(number) => {
                (format!("the number {number}"), Some(number.to_string()), None)
            }
            Unexpected::Str(text) => {
                let is_bare = text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok();
                (format!("the text {text:?}"), Some(text.into()), is_bare.then(|| text.into()))
            }
            Unexpected::Unit | Unexpected::Option => ("nothing".into(), None, None),
            Unexpected::Seq => ("a list".into(), None, None),
            Unexpected::Map => ("a table".into(), None, None),
            other => (other.to_string(), None, None),
        };
        Self { text, quoted, bare }
    }

    /// The digits of a number that was written without quotes.
    fn number(&self) -> Option<&str> {
        let text = self.quoted.as_deref()?;
        (self.bare.is_none() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
    }

    fn help(&self, expected: &str) -> Option<String> {
        let quoted = || self.quoted.as_ref().map(|text| format!("{text:?}"));
        if self.text == "nothing" {
            Some("give a value, or remove the key".into())
        } else if expected.starts_with("a duration") {
            self.number().map(|number| format!("add the unit: \"{number}s\" or \"{number}m\""))
        } else if expected.starts_with("a size") {
            self.number().map(|number| format!("add the unit: \"{number}KB\" or \"{number}MiB\""))
        } else if expected == "a list" {
            quoted().map(|text| format!("write it as a list: [{text}]"))
        } else if expected.starts_with("a whole number") || expected == "`true` or `false`" {
            let negative = || self.text.contains(" -").then(|| "write 0 or more".into());
            let bare = self.bare.as_ref().map(|bare| format!("write it without quotes: {bare}"));
            bare.or_else(negative)
        } else if expected == "text" {
            quoted().map(|text| format!("write it in quotes: {text}"))
        } else {
            None
        }
    }
}

/// Rust's names of types in the words of a plan.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" => "a whole number from 0 to 255".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "a string" => "text".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        "a boolean" => "`true` or `false`".into(),
        _ if text.starts_with("struct ") => "a table".into(),
        _ => text,
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Custom(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Type { found: Found::new(found), expected: plain(expected) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownField { field: field.into(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::MissingField(field))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownVariant { variant: variant.into(), known })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.kind.describe(&self.0.steps).0)
    }
}

impl std::error::Error for DecodeError {}
