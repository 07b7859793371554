//! From the tree to a [`PlanSpec`], with every mistake on the way.
//!
//! serde stops at the first error. So the node that it stumbled over is poisoned, that is passed
//! over from then on, and the plan is decoded again, until that succeeds. What is missing only
//! because its own value was poisoned is not reported; the table around it is poisoned instead.

mod deserializer;
mod error;

use std::ops::Range;

use serde::de::DeserializeOwned;

use self::{
    deserializer::Reader,
    error::{DecodeError, Kind},
};
use super::{
    path::{Path, Step},
    problem::{Finding, Problem},
    source::{Entry, Node, Value},
    spec::{AgentSpec, EpicSpec, PlanSpec, TaskSpec},
};

/// How many problems are reported; beyond them the plan is not a plan.
pub(super) const MAX_PROBLEMS: usize = 200;

/// Decodes what can be decoded. `None` where nothing can be made of the rest.
pub(super) fn decode(root: &mut Node, problems: &mut Vec<Problem>) -> Option<PlanSpec> {
    if let Ok(spec) = read(root) {
        return Some(spec);
    }
    // Part by part first: a large plan is not decoded anew for each of its mistakes.
    settle_parts::<TaskSpec>(root, "task", problems);
    settle_parts::<EpicSpec>(root, "epic", problems);
    settle_parts::<AgentSpec>(root, "agents", problems);
    loop {
        match settle(root, &Path::default(), problems) {
            Settled::Value(spec) => return Some(spec),
            Settled::Missing("version") => {
                // Assumed, so that the rest can be looked at.
                let Value::Map(entries) = &mut root.value else { return None };
                entries.retain(|entry| !entry.stands_for("version"));
                let node = Node::new(Value::Int(1), root.span.clone());
                entries.push(Entry {
                    key: "version".into(),
                    key_span: root.span.clone(),
                    means: None,
                    node,
                });
            }
            Settled::Missing(_) | Settled::Nothing => return None,
        }
    }
}

/// Decodes a table of its own.
pub(super) fn table<T: DeserializeOwned>(
    node: &mut Node,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    match settle(node, &Path::default(), problems) {
        Settled::Value(value) => Some(value),
        Settled::Missing(_) | Settled::Nothing => None,
    }
}

fn read<T: DeserializeOwned>(node: &Node) -> Result<T, DecodeError> {
    T::deserialize(Reader(node))
}

/// Settles the elements of a list, or the values of a table, one by one.
fn settle_parts<T: DeserializeOwned>(
    root: &mut Node,
    key: &'static str,
    problems: &mut Vec<Problem>,
) {
    let Some(parts) = root.at_mut(&[key.into()]) else { return };
    let path = Path::from(key);
    let parts: Vec<(Path, &mut Node)> = match &mut parts.value {
        Value::Seq(elements) => {
            elements.iter_mut().enumerate().map(|(index, node)| (path.then(index), node)).collect()
        }
        Value::Map(entries) if key == "agents" => entries
            .iter_mut()
            .map(|entry| (path.then(entry.key.clone()), &mut entry.node))
            .collect(),
        _ => return,
    };
    for (path, node) in parts {
        if !matches!(settle::<T>(node, &path, problems), Settled::Value(_)) {
            node.is_poisoned = true;
        }
    }
}

/// What came of decoding a node over and over.
enum Settled<T> {
    Value(T),
    /// Nothing but this key of the node itself is missing; that has been reported.
    Missing(&'static str),
    /// The node is not even of the right kind, or there are too many problems.
    Nothing,
}

/// Decodes a node until all of its problems are known. `base` is its own path.
fn settle<T: DeserializeOwned>(
    node: &mut Node,
    base: &Path,
    problems: &mut Vec<Problem>,
) -> Settled<T> {
    loop {
        let error = match read(node) {
            Ok(value) => return Settled::Value(value),
            Err(DecodeError(error)) => error,
        };
        if problems.len() > MAX_PROBLEMS {
            return Settled::Nothing;
        }
        let mut steps = error.steps;
        steps.reverse();
        let Some(place) = node.at_mut(&steps) else { return Settled::Nothing };
        if !is_follow_on(&error.kind, place) {
            let span = error.span.unwrap_or_else(|| place.span.clone());
            problems.push(problem(&error.kind, base, &steps, span));
        }
        if steps.is_empty() {
            return match error.kind {
                Kind::MissingField(field) => Settled::Missing(field),
                _ => Settled::Nothing,
            };
        }
        place.is_poisoned = true;
        if let (Some(meant), Some((Step::Key(key), parent))) =
            (error.kind.meant(), steps.split_last())
            && let Some(parent) = node.at_mut(parent)
            && let Value::Map(entries) = &mut parent.value
            && let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key)
        {
            entry.means = Some(meant);
        }
    }
}

/// Whether a key is missing only because its value could not be read.
fn is_follow_on(kind: &Kind, place: &Node) -> bool {
    let Kind::MissingField(field) = kind else { return false };
    place.entries().iter().any(|entry| entry.node.is_poisoned && entry.stands_for(field))
}

fn problem(kind: &Kind, base: &Path, steps: &[Step], span: Range<usize>) -> Problem {
    let path = Path(base.0.iter().chain(steps).cloned().collect());
    let (message, help) = kind.describe(&path.0);
    Problem { help, span: Some(span), ..Finding::new(path, message).into() }
}
