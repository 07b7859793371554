//! What the fuzz targets see of what takes secrets out of output.

use std::collections::BTreeMap;

use super::super::{environment::Environment, patterns::Patterns};

/// Takes secrets out of a stream, piece by piece.
#[derive(Debug, Clone)]
pub struct Redactor(super::Redactor);

impl Redactor {
    /// One for these values of variables whose names tell that they are secret, and these patterns.
    #[must_use]
    pub fn new(values: &[String], patterns: &Patterns) -> Self {
        let variables: BTreeMap<String, String> = values
            .iter()
            .enumerate()
            .map(|(number, value)| (format!("API_KEY_{number}"), value.clone()))
            .collect();
        let environment = Environment::default().redact(patterns.clone());
        Self(super::Redactor::new(&environment, &variables))
    }

    /// Takes a piece in and gives what may be written.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.push(bytes).into_owned()
    }

    /// Gives what was held back: nothing follows.
    pub fn finish(&mut self) -> Vec<u8> {
        self.0.finish()
    }

    /// A whole text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.0.text(text)
    }
}
