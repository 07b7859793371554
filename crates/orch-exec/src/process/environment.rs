//! The environment that agents inherit.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// Variables that would lead an agent's git to another repository or give it other settings; those
/// that `git rev-parse --local-env-vars` names.
const GIT_VARIABLES: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
];

/// What agents inherit of the environment of an orchestrator: all but the variables that would
/// redirect git, and those that an orchestrator which itself runs under another one was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// That of this process.
    pub(crate) fn inherited() -> Self {
        Self(std::env::vars_os().filter(|(name, _)| !is_hidden(name)).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

fn is_hidden(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| {
        GIT_VARIABLES.contains(&name)
            || name.starts_with("GIT_CONFIG_KEY_")
            || name.starts_with("GIT_CONFIG_VALUE_")
            || name.starts_with("ORCH_")
    })
}
