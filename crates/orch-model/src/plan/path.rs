//! Places inside a plan, such as `task[3].needs[1]`.

use std::{borrow::Cow, fmt};

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a table, to the value of a key.
    Key(Cow<'static, str>),
    /// Into a list, counted from 0.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Self {
        Self::Key(key.into())
    }
}

impl From<String> for Step {
    fn from(key: String) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The steps from the root of a plan to one of its values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// The element of a list at the root: `task[3]`.
    pub(super) fn element(list: &'static str, index: usize) -> Self {
        Self::from(list).then(index)
    }

    /// One step further.
    pub(super) fn then(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }
}

impl From<&'static str> for Path {
    fn from(key: &'static str) -> Self {
        Self(vec![key.into()])
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                    if !key.is_empty() && key.chars().all(is_bare) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_people_write_it() {
        let path = Path::element("task", 3).then("needs").then(1);
        assert_eq!(path.to_string(), "task[3].needs[1]");
        let odd = Path::from("agents").then("a b".to_owned());
        assert_eq!(odd.to_string(), "agents.\"a b\"");
        assert_eq!(Path::default().to_string(), "");
    }
}
