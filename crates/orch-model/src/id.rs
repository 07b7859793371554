//! Names of tasks, epics, runs, locks and agents.
//!
//! All of them share one alphabet, `[a-z0-9._-]{1,64}`, so that an id can be used as a file name,
//! as a component of a git reference and as an argument of a command without any quoting.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The string is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The string has more than 64 characters.
    #[error("`{0}` is longer than 64 characters")]
    TooLong(String),
    /// A character outside `[a-z0-9._-]`.
    #[error("`{id}` contains {character:?}; ids use a-z, 0-9, `.`, `_` and `-`")]
    BadCharacter {
        /// The whole string.
        id: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// A leading dash or dot: the id could be taken for an option or a hidden file.
    #[error("`{0}` must not begin with a dash or a dot")]
    BadStart(String),
    /// `..`, a trailing dot or a trailing `.lock`: git refuses such reference names.
    #[error("`{0}` can't be part of a branch name: no `..`, no `.` or `.lock` at the end")]
    NotARef(String),
    /// A name that the engine uses for itself.
    #[error("`{0}` is reserved: `orch/<run>/{0}` is the branch of the run's result")]
    Reserved(String),
}

fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(character) =
        id.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-'))
    {
        return Err(IdError::BadCharacter { id: id.into(), character });
    }
    if id.len() > 64 {
        return Err(IdError::TooLong(id.into()));
    }
    if id.starts_with(['-', '.']) {
        return Err(IdError::BadStart(id.into()));
    }
    if id.contains("..") || id.ends_with('.') || id.ends_with(".lock") {
        return Err(IdError::NotARef(id.into()));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, reserved: $reserved:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a string as an id.
            ///
            /// # Errors
            /// Says which rule of the alphabet the string breaks.
            pub fn new(id: impl AsRef<str>) -> Result<Self, IdError> {
                let id = id.as_ref();
                check(id)?;
                let reserved: &[&str] = &$reserved;
                if reserved.contains(&id) {
                    return Err(IdError::Reserved(id.into()));
                }
                Ok(Self(id.into()))
            }

            /// The id as a string slice.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(id: String) -> Result<Self, IdError> {
                Self::new(id)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(id: &str) -> Result<Self, IdError> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().into()
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": "^[a-z0-9_][a-z0-9._-]{0,63}$",
                })
            }
        }
    };
}

id! {
    /// The id of a task: unique in its plan.
    TaskId, reserved: ["target"]
}
id! {
    /// The id of an epic: unique among the epics of its plan.
    EpicId, reserved: []
}
id! {
    /// The id of one run of a plan: unique in its repository.
    RunId, reserved: []
}
id! {
    /// The name of a lock that tasks share.
    LockName, reserved: []
}
id! {
    /// A field of knowledge, such as `database`, `api`, `frontend`, `testing`, `security`, `deployment`,
    /// `general`, or one of the project's own.
    DomainName, reserved: []
}
id! {
    /// The name of an agent as the plan's `[agents.NAME]` gives it.
    AgentName, reserved: []
}

/// The full object name of a git commit, in hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitId(Arc<str>);

impl CommitId {
    /// Takes the hexadecimal name as git prints it (40 or 64 digits); surrounding white space is dropped.
    #[must_use]
    pub fn new(hex: impl AsRef<str>) -> Self {
        Self(hex.as_ref().trim().into())
    }

    /// All digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first ten digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_kept() {
        for good in ["a", "login", "a.b-c_d", "0", "x-lock", &"a".repeat(64)] {
            assert!(TaskId::new(good).is_ok(), "{good}");
        }
        type Check = fn(&IdError) -> bool;
        let table: &[(&str, Check)] = &[
            ("", |e| matches!(e, IdError::Empty)),
            ("A", |e| matches!(e, IdError::BadCharacter { character: 'A', .. })),
            ("a b", |e| matches!(e, IdError::BadCharacter { character: ' ', .. })),
            ("ä", |e| matches!(e, IdError::BadCharacter { .. })),
            ("-a", |e| matches!(e, IdError::BadStart(_))),
            (".a", |e| matches!(e, IdError::BadStart(_))),
            ("a..b", |e| matches!(e, IdError::NotARef(_))),
            ("a.", |e| matches!(e, IdError::NotARef(_))),
            ("a.lock", |e| matches!(e, IdError::NotARef(_))),
            ("target", |e| matches!(e, IdError::Reserved(_))),
        ];
        for (bad, is_expected) in table {
            let error = TaskId::new(bad).expect_err(bad);
            assert!(is_expected(&error), "{bad}: {error}");
        }
        assert!(matches!(TaskId::new("a".repeat(65)), Err(IdError::TooLong(_))));
        assert!(EpicId::new("target").is_ok(), "only a task's branch can collide");
    }

    #[test]
    fn serde_refuses_what_new_refuses() {
        assert!(serde_json::from_str::<TaskId>("\"a..b\"").is_err());
        let id: TaskId = serde_json::from_str("\"ok\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"ok\"");
    }

    #[test]
    fn a_commit_is_shortened_for_people() {
        let id = CommitId::new("0123456789abcdef0123456789abcdef01234567\n");
        assert_eq!(id.short(), "0123456789");
        assert_eq!(id.as_str().len(), 40);
        assert_eq!(format!("{id:?}"), "0123456789");
    }
}
