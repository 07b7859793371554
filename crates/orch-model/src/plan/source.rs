//! The text of a plan as a tree whose every value knows where it stands.

mod json;
mod toml;
mod yaml;

use std::ops::Range;

use super::{
    path::{Path, Step},
    problem::{Finding, Problem},
    spec::PlanSpec,
};

/// How a plan is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// YAML 1.2.
    Yaml,
    /// JSON (RFC 8259).
    Json,
}

impl Format {
    /// The format that a file's extension tells: `.toml`, `.yaml` or `.yml`, `.json`; letter case
    /// aside.
    ///
    /// ```
    /// use orch_model::plan::Format;
    ///
    /// assert_eq!(Format::of_path("plans/big.yml"), Some(Format::Yaml));
    /// assert_eq!(Format::of_path("Makefile"), None);
    /// ```
    #[must_use]
    pub fn of_path(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// How deep a plan may nest: far beyond what its model can hold.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// It could not be read and has been reported: the decoder passes over it.
    pub(super) is_poisoned: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    /// A date or time: TOML has them, plans don't.
    Date,
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    /// The key that was probably meant, where this one is unknown.
    pub(super) means: Option<&'static str>,
    pub(super) node: Node,
}

impl Entry {
    pub(super) fn new(key: String, key_span: Range<usize>, node: Node) -> Self {
        Self { key, key_span, means: None, node }
    }

    /// Whether it is what was written for `key`.
    pub(super) fn stands_for(&self, key: &str) -> bool {
        self.key == key || self.means == Some(key)
    }
}

impl Node {
    pub(super) fn new(value: Value, span: Range<usize>) -> Self {
        Self { value, span, is_poisoned: false }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn elements(&self) -> &[Node] {
        match &self.value {
            Value::Seq(elements) => elements,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The node at a path, poisoned ones counted.
    pub(super) fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Node> {
        let Some((first, rest)) = steps.split_first() else { return Some(self) };
        let next = match (first, &mut self.value) {
            (Step::Index(index), Value::Seq(elements)) => elements.get_mut(*index)?,
            (Step::Key(key), Value::Map(entries)) => {
                &mut entries.iter_mut().find(|entry| entry.key == *key)?.node
            }
            _ => return None,
        };
        next.at_mut(rest)
    }

    /// Adds `offset` to every span.
    fn shift(&mut self, offset: usize) {
        self.span = self.span.start + offset..self.span.end + offset;
        match &mut self.value {
            Value::Seq(elements) => elements.iter_mut().for_each(|node| node.shift(offset)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.key_span = entry.key_span.start + offset..entry.key_span.end + offset;
                    entry.node.shift(offset);
                }
            }
            _ => {}
        }
    }
}

/// What was read: a tree, unless the text is broken, and problems with their spans.
#[derive(Debug, Default)]
struct Read {
    root: Option<Node>,
    problems: Vec<Problem>,
}

impl Read {
    fn broken(problem: Problem) -> Self {
        Self { root: None, problems: vec![problem] }
    }
}

/// Reads a plan without the places of its values. `None` where something may be wrong with it, or
/// where the format's own reader is laxer than ours: those for YAML and JSON pass over duplicate keys.
pub(super) fn read_plain(text: &str, format: Format) -> Option<PlanSpec> {
    match format {
        Format::Toml => ::toml::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).ok(),
        Format::Yaml | Format::Json => None,
    }
}

/// Reads a text. No tree comes back where the syntax is broken: what follows from a guess at it
/// would be noise.
pub(super) fn read(text: &str, format: Format) -> (Option<Node>, Vec<Problem>) {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut read = match format {
        Format::Toml => toml::read(body),
        Format::Yaml => yaml::read(body),
        Format::Json => json::read(body),
    };
    let offset = text.len() - body.len();
    if offset > 0 {
        if let Some(root) = &mut read.root {
            root.shift(offset);
        }
        let spans = read.problems.iter_mut().flat_map(|problem| {
            problem.span.iter_mut().chain(problem.related.iter_mut().map(|(span, _)| span))
        });
        for span in spans {
            *span = span.start + offset..span.end + offset;
        }
    }
    (read.root, read.problems)
}

/// A problem of the text itself.
fn syntax(message: impl Into<String>, span: Range<usize>, help: Option<String>) -> Box<Problem> {
    let finding = Finding::new(Path::default(), message);
    Box::new(Problem { span: Some(span), help, ..finding.into() })
}

fn too_deep(span: Range<usize>) -> Box<Problem> {
    let help = "a plan needs five levels at most".to_owned();
    syntax(format!("values are nested deeper than {MAX_DEPTH} levels"), span, Some(help))
}

/// A key that a table has already.
fn duplicate_key(key: &str, span: Range<usize>, first: Option<Range<usize>>) -> Box<Problem> {
    let help = "keep one of the two".to_owned();
    let mut problem = syntax(format!("the key `{key}` is given twice"), span, Some(help));
    problem.related.extend(first.map(|span| (span, "first given here".to_owned())));
    problem
}

/// Collects the entries of a table and reports keys that come twice; the first one is kept.
#[derive(Debug, Default)]
struct Entries {
    list: Vec<Entry>,
    seen: std::collections::HashMap<String, usize>,
}

impl Entries {
    fn add(&mut self, entry: Entry, problems: &mut Vec<Problem>) {
        match self.seen.entry(entry.key.clone()) {
            std::collections::hash_map::Entry::Occupied(first) => {
                let first = self.list[*first.get()].key_span.clone();
                problems.push(*duplicate_key(&entry.key, entry.key_span, Some(first)));
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push(entry);
            }
        }
    }
}
