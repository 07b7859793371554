//! JSON, by `serde_json`: raw values are slices of the text, so their place in it is known.

use std::{fmt, ops::Range};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Entries, Entry, MAX_DEPTH, Node, Read, Value, syntax, too_deep};
use crate::plan::problem::Problem;

pub(super) fn read(text: &str) -> Read {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Read::broken(*broken(text, 0, &error));
    }
    let mut reader = Reader { text, problems: Vec::new() };
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    match reader.node(trimmed, 0) {
        Ok(root) => Read { root: Some(root), problems: reader.problems },
        Err(problem) => Read::broken(*problem),
    }
}

/// An error in the part of the text that begins at `start`. `serde_json` counts lines from 1 and
/// columns in bytes, also from 1.
fn broken(part: &str, start: usize, error: &serde_json::Error) -> Box<Problem> {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    let skipped = error.line().saturating_sub(1);
    let line: usize = part.split_inclusive('\n').take(skipped).map(str::len).sum();
    let at = start + (line + error.column().saturating_sub(1)).min(part.len());
    syntax(format!("not valid JSON: {what}"), at..at, None)
}

struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn span(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + part.len()
    }

    fn node(&mut self, raw: &'a str, depth: usize) -> Result<Node, Box<Problem>> {
        let span = self.span(raw);
        if depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        let broken = |error: serde_json::Error| broken(raw, span.start, &error);
        let value = match raw.as_bytes().first() {
            Some(b'{') => {
                let Pairs(pairs) = serde_json::from_str(raw).map_err(broken)?;
                let mut entries = Entries::default();
                for (key, value) in pairs {
                    let name = serde_json::from_str(key.get()).map_err(broken)?;
                    let node = self.node(value.get(), depth + 1)?;
                    entries.add(Entry::new(name, self.span(key.get()), node), &mut self.problems);
                }
                Value::Map(entries.list)
            }
            Some(b'[') => {
                let elements: Vec<&'a RawValue> = serde_json::from_str(raw).map_err(broken)?;
                let nodes = elements.into_iter().map(|element| self.node(element.get(), depth + 1));
                Value::Seq(nodes.collect::<Result<_, _>>()?)
            }
            Some(b'"') => Value::Str(serde_json::from_str(raw).map_err(broken)?),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') => Value::Null,
            _ => match raw.parse() {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Float(raw.parse().unwrap_or(f64::NAN)),
            },
        };
        Ok(Node::new(value, span))
    }
}

/// The keys and values of an object, unread.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
