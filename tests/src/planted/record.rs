//! What was found of planted bugs: the record that the page of reliability has its table from.

use std::path::Path;

use orch_faults::campaign;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BUGS, Bug, Layer, Verdict};

/// A planted bug and a layer that was tried out on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tried {
    /// The name of the bug.
    pub name: String,
    /// What is done wrong.
    pub mistake: String,
    /// What was to catch it.
    pub layer: String,
    /// In how many of its tests, seeds or faults it did.
    pub how_often: String,
    /// Whether it did.
    pub is_caught: bool,
    /// Of what.
    pub commit: String,
}

impl Tried {
    /// What a layer said of a bug.
    #[must_use]
    pub fn new(bug: &Bug, layer: Layer, verdict: Verdict, commit: &str) -> Self {
        Self {
            name: bug.name.into(),
            mistake: bug.mistake.into(),
            layer: layer.to_string(),
            how_often: verdict.how_often,
            is_caught: verdict.is_caught,
            commit: commit.into(),
        }
    }

    /// Puts these in the place of what the record says of the same bugs. Bugs that can't be planted any more go.
    ///
    /// # Panics
    /// Where it can't be read or written.
    pub fn write(path: &Path, tried: &[Self]) {
        campaign::update(path, |old| {
            let mut all: Vec<Self> = match old {
                Value::Null => Vec::new(),
                old => serde_json::from_value(old)
                    .unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            };
            all.retain(|old| tried.iter().all(|new| new.name != old.name));
            all.extend_from_slice(tried);
            let place = |tried: &Self| BUGS.iter().position(|bug| bug.name == tried.name);
            all.retain(|tried| place(tried).is_some());
            all.sort_by_key(place);
            serde_json::to_value(all).expect("it is JSON")
        });
    }
}
