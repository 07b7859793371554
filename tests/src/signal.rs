//! Files on which agents and tests wait for one another.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::wait::until;

/// A file that is either absent or there: raised by one side, awaited by the other.
///
/// It prints as its path, so that it can stand in a script: `touch {started}; wait-for {go}`.
#[derive(Debug, Clone)]
pub struct Signal(PathBuf);

impl Signal {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Lets those go on that wait for it.
    ///
    /// # Panics
    /// Where the file can't be written.
    pub fn raise(&self) {
        fs::write(&self.0, "").expect("a signal can be raised");
    }

    /// Whether it was raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.exists()
    }

    /// Waits until it is raised.
    ///
    /// # Panics
    /// After [`crate::DEADLINE`].
    #[track_caller]
    pub fn wait(&self) {
        until(&format!("the signal {self}"), || self.is_raised().then_some(()));
    }

    /// What was written into it, without the white space around: a process id, for example.
    /// Waits until there is something.
    ///
    /// # Panics
    /// After [`crate::DEADLINE`].
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        until(&format!("a whole line in {self}"), || self.line())
    }

    pub(crate) fn line(&self) -> Option<String> {
        let text = fs::read_to_string(&self.0).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
