//! Pools: locks whose units are values that are told apart, such as ports.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How many values a range may have.
const MAX_VALUES: u32 = 1_000_000;

/// The values of a pool, and where a holder finds those that it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The values. What others hold of a pool of the same name is left out.
    pub values: PoolValues,
    /// The variable that the values are given in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl Pool {
    /// The variables for these values: `NAME` for one; for several `NAME` for the first, and
    /// `NAME_1`, `NAME_2` and so on for all of them.
    ///
    /// ```
    /// use orch_model::plan::{Pool, PoolValues};
    ///
    /// let values = PoolValues::Range("3000-3009".parse()?);
    /// let pool = Pool { values, env: Some("PORT".into()) };
    /// assert_eq!(pool.variables(&["3000".into()]), [("PORT".into(), "3000".into())].into());
    /// let two = pool.variables(&["3000".into(), "3001".into()]);
    /// assert_eq!(two.keys().collect::<Vec<_>>(), ["PORT", "PORT_1", "PORT_2"]);
    /// # Ok::<(), orch_model::plan::PoolRangeError>(())
    /// ```
    #[must_use]
    pub fn variables(&self, values: &[String]) -> BTreeMap<String, String> {
        let (Some(name), Some(first)) = (&self.env, values.first()) else {
            return BTreeMap::new();
        };
        let all = values.iter().zip(1..).filter(|_| values.len() > 1);
        let numbered = all.map(|(value, number): (_, u32)| (format!("{name}_{number}"), value));
        numbered.chain([(name.clone(), first)]).map(|(name, value)| (name, value.clone())).collect()
    }
}

/// Which values a pool has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PoolValues {
    /// The numbers of a range.
    Range(PoolRange),
    /// These.
    List(Vec<String>),
}

impl PoolValues {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        match self {
            Self::Range(range) => range.last - range.first + 1,
            Self::List(values) => u32::try_from(values.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.len()).map(|at| match self {
            Self::Range(range) => (range.first + at).to_string(),
            Self::List(values) => values[at as usize].clone(),
        })
    }
}

impl fmt::Display for PoolValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::List(values) => f.write_str(&values.join(", ")),
        }
    }
}

/// The numbers from a first to a last one, written `3000-3099`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolRange {
    first: u32,
    last: u32,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolRangeError {
    /// It isn't two numbers with a dash between them.
    #[error(
        "`{0}` is no range: write the first and the last number with a dash between them, such as \
         `3000-3099`"
    )]
    Syntax(String),
    /// It ends before it begins.
    #[error("the range `{0}` ends before it begins: write the smaller number first")]
    Reversed(String),
    /// It has too many numbers.
    #[error("the range `{0}` has more than 1000000 numbers: make it smaller")]
    TooLong(String),
}

impl FromStr for PoolRange {
    type Err = PoolRangeError;
    fn from_str(text: &str) -> Result<Self, PoolRangeError> {
        let number = |part: &str| {
            let part = part.trim();
            let is_number = !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
            if is_number { part.parse::<u32>().ok() } else { None }
        };
        let parts = text.split_once('-').map(|(first, last)| (number(first), number(last)));
        let Some((Some(first), Some(last))) = parts else {
            return Err(PoolRangeError::Syntax(text.into()));
        };
        if first > last {
            return Err(PoolRangeError::Reversed(text.into()));
        }
        if last - first >= MAX_VALUES {
            return Err(PoolRangeError::TooLong(text.into()));
        }
        Ok(Self { first, last })
    }
}

impl TryFrom<String> for PoolRange {
    type Error = PoolRangeError;
    fn try_from(text: String) -> Result<Self, PoolRangeError> {
        text.parse()
    }
}

impl From<PoolRange> for String {
    fn from(range: PoolRange) -> String {
        range.to_string()
    }
}

impl fmt::Display for PoolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for PoolRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Range".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "the first and the last number, such as 3000-3099",
            "pattern": "^[ ]*[0-9]+[ ]*-[ ]*[0-9]+[ ]*$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused_with_a_cure() {
        let range: PoolRange = " 3000 - 3002 ".parse().unwrap();
        assert_eq!(range.to_string(), "3000-3002");
        let values = PoolValues::Range(range);
        assert_eq!(values.iter().collect::<Vec<_>>(), ["3000", "3001", "3002"]);
        assert_eq!("0-999999".parse().map(PoolValues::Range).unwrap().len(), 1_000_000);
        for (text, expected) in [
            ("", "write the first"),
            ("3000", "write the first"),
            ("a-b", "write the first"),
            ("1-2-3", "write the first"),
            ("+1-2", "write the first"),
            ("1-99999999999", "write the first"),
            ("5-4", "smaller number first"),
            ("0-1000000", "make it smaller"),
        ] {
            let error = text.parse::<PoolRange>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_survive_the_way_through_json() {
        for text in ["\"1-3\"", "[\"a\",\"b\"]"] {
            let values: PoolValues = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&values).unwrap(), text);
        }
        assert!(serde_json::from_str::<PoolValues>("\"3-1\"").is_err());
        let list = PoolValues::List(vec!["a".into(), "b".into()]);
        assert_eq!((list.len(), list.to_string()), (2, "a, b".into()));
        let pool = Pool { values: list, env: None };
        assert!(pool.variables(&["a".into()]).is_empty());
    }
}
