//! Locks and pools as tasks name them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    id::LockName,
    plan::{Pool, PoolRange, PoolValues},
};

/// A lock as a task names it: `"db"`, or `{ name = "db", shared = true }`, or
/// `{ name = "gpu", count = 1, of = 4 }`, or
/// `{ pool = "ports", range = "3000-3099", count = 2, env = "PORT" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockSpec {
    /// Its name.
    pub name: LockName,
    /// Whether other shared holders are welcome.
    pub shared: bool,
    /// How many units of a counted lock the task takes, and how many there are.
    pub counted: Option<(u32, u32)>,
    /// The values that the task takes some of, where it is a pool.
    pub pool: Option<PoolSpec>,
}

impl LockSpec {
    /// A lock for one holder.
    #[must_use]
    pub fn new(name: LockName) -> Self {
        Self { name, shared: false, counted: None, pool: None }
    }
}

/// What a task takes of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// The pool.
    pub pool: Pool,
    /// How many of its values.
    pub count: u32,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct LockTable {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<LockName>,
    /// The name of a pool, in place of `name`: its values are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<LockName>,
    /// The values of a pool: the numbers from a first to a last one, such as `3000-3099`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<PoolRange>,
    /// The values of a pool, one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    /// The variable that a task finds its value of a pool in. Several are `NAME_1`, `NAME_2` and so
    /// on, and the first of them also `NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    /// Whether other shared holders are welcome.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
    /// How many units of a counted lock, or values of a pool, the task takes. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    /// How many units of a counted lock there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<u32>,
}

impl LockTable {
    fn into_pool(self) -> Result<LockSpec, &'static str> {
        let (Some(pool), None) = (self.pool, self.name) else {
            return Err("a lock has either a `name` or a `pool`, not both");
        };
        if self.shared || self.of.is_some() {
            return Err(
                "a pool has neither `shared` nor `of`: its `range` or `values` say how many \
                        there are",
            );
        }
        let values = match (self.range, self.values) {
            (Some(range), None) => PoolValues::Range(range),
            (None, Some(values)) => PoolValues::List(values),
            (Some(_), Some(_)) => return Err("a pool has either `range` or `values`, not both"),
            (None, None) => {
                return Err(
                    "a pool needs its values: write for example `range = \"3000-3099\"`, or \
                            `values = [\"a\", \"b\"]`",
                );
            }
        };
        let pool_of = Pool { values, env: self.env };
        let pool_spec = PoolSpec { pool: pool_of, count: self.count.unwrap_or(1) };
        Ok(LockSpec { name: pool, shared: false, counted: None, pool: Some(pool_spec) })
    }
}

impl Serialize for LockSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.shared && self.counted.is_none() && self.pool.is_none() {
            return self.name.serialize(serializer);
        }
        let mut table = LockTable {
            name: None,
            pool: None,
            range: None,
            values: None,
            env: None,
            shared: self.shared,
            count: self.counted.map(|(count, _)| count),
            of: self.counted.map(|(_, of)| of),
        };
        match &self.pool {
            None => table.name = Some(self.name.clone()),
            Some(PoolSpec { pool, count }) => {
                table.pool = Some(self.name.clone());
                table.count = Some(*count);
                table.env = pool.env.clone();
                match &pool.values {
                    PoolValues::Range(range) => table.range = Some(*range),
                    PoolValues::List(values) => table.values = Some(values.clone()),
                }
            }
        }
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LockSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = LockSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the name of a lock, or a table such as { name = \"db\", shared = true }",
                )
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<LockSpec, E> {
                let name = LockName::new(name).map_err(E::custom)?;
                Ok(LockSpec::new(name))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<LockSpec, A::Error> {
                let table = LockTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if table.pool.is_some() {
                    return table.into_pool().map_err(de::Error::custom);
                }
                if table.range.is_some() || table.values.is_some() || table.env.is_some() {
                    return Err(de::Error::custom(
                        "`range`, `values` and `env` belong to a pool: write `pool` in place of `name`",
                    ));
                }
                let Some(name) = table.name else {
                    return Err(de::Error::missing_field("name"));
                };
                let counted = match (table.count, table.of) {
                    (None, None) => None,
                    (count, Some(of)) => Some((count.unwrap_or(1), of)),
                    (Some(_), None) => {
                        return Err(de::Error::custom(
                            "`count` needs `of`: how many units there are in all",
                        ));
                    }
                };
                if counted.is_some_and(|(count, of)| count == 0 || count > of) {
                    return Err(de::Error::custom("`count` must be at least 1 and at most `of`"));
                }
                if table.shared && counted.is_some() {
                    return Err(de::Error::custom(
                        "a lock is either `shared` or counted, not both",
                    ));
                }
                Ok(LockSpec { name, shared: table.shared, counted, pool: None })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for LockSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Lock".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let name = generator.subschema_for::<LockName>();
        let table = generator.subschema_for::<LockTable>();
        schemars::json_schema!({
            "description": "a lock's name, or a table with its mode",
            "oneOf": [name, table],
        })
    }
}
