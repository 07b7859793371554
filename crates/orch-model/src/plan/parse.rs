//! A plan from its text: all of its problems at once, each with its place.

use std::ops::Range;

use super::{
    Format, Problem, Problems, VERSION, ValidPlan,
    decode::{MAX_PROBLEMS, decode},
    include::{ReadText, include},
    path::{Path, Step},
    problem::{Finding, floor},
    source::{self, Entry, Node, Value},
    validate::{Origin, check},
};

/// Reads a plan and validates it.
///
/// # Errors
/// Every problem of the plan in the order of the text, each with the bytes that it is about. Where
/// the syntax is broken only that is reported, and of a plan of a later version only its version.
///
/// ```
/// use orch_model::plan::{self, Format, Position};
///
/// let text = "version = 1\n[[task]]\nid = \"build\"\nrum = \"make\"\n";
/// let problems = plan::parse(text, Format::Toml).unwrap_err();
/// let problem = &problems.0[0];
/// assert_eq!(problem.message, "unknown key `rum`");
/// assert_eq!(problem.help.as_deref(), Some("did you mean `run`?"));
/// let span = problem.span.clone().unwrap();
/// assert_eq!(Position::of(text, span.start), Position { line: 4, column: 1 });
/// ```
pub fn parse(text: &str, format: Format) -> Result<ValidPlan, Problems> {
    parse_and(text, format, None)
}

/// Like [`parse`], and reads the files of the repository that the plan names: prompts with their front
/// matter, skills, templates. They become part of the plan, see [`PlanSpec::texts`].
///
/// # Errors
/// As [`parse`], and every mistake in those files, with file, line and cure.
///
/// [`PlanSpec::texts`]: super::PlanSpec::texts
pub fn parse_with(
    text: &str,
    format: Format,
    read: &mut ReadText<'_>,
) -> Result<ValidPlan, Problems> {
    parse_and(text, format, Some(read))
}

/// [`parse`] by the way alone that keeps the place of every value: what either way takes has to be the same.
///
/// # Errors
/// As [`parse`].
#[cfg(feature = "fuzz")]
pub fn parse_placed(text: &str, format: Format) -> Result<ValidPlan, Problems> {
    parse_with_places(text, format, None)
}

fn parse_and(
    text: &str,
    format: Format,
    mut read: Option<&mut ReadText<'_>>,
) -> Result<ValidPlan, Problems> {
    // Most plans are right, and reading one without its places takes half the memory.
    if let Some(mut spec) = source::read_plain(text, format) {
        let included = read.as_mut().map(|read| include(&mut spec, read)).unwrap_or_default();
        if included.findings.is_empty()
            && let Ok(plan) = spec.validate()
        {
            return Ok(plan);
        }
    }
    parse_with_places(text, format, read)
}

fn parse_with_places(
    text: &str,
    format: Format,
    read: Option<&mut ReadText<'_>>,
) -> Result<ValidPlan, Problems> {
    let (root, mut problems) = source::read(text, format);
    let mut plan = None;
    if let Some(mut root) = root {
        if let Some(newer) = newer_version(&root) {
            problems = vec![newer];
        } else if let Some(mut spec) = decode(&mut root, &mut problems) {
            let mut included = read.map(|read| include(&mut spec, read)).unwrap_or_default();
            let (valid, findings) = check(spec, &root);
            plan = valid;
            let findings = included.with(findings);
            problems.extend(findings.into_iter().map(|finding| locate(&root, finding)));
        }
    }
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(arrange(text, problems)),
    }
}

/// A later version may have other keys: to report them would be noise.
fn newer_version(root: &Node) -> Option<Problem> {
    let node = root.get("version")?;
    match node.value {
        Value::Int(version) if version > i128::from(VERSION) => {
            let version = u32::try_from(version).unwrap_or(u32::MAX);
            let finding = super::validate::bad_version(version);
            Some(Problem { span: Some(node.span.clone()), ..finding.into() })
        }
        _ => None,
    }
}

/// Sorts by place, bounds the number and makes every span fit for printing.
fn arrange(text: &str, mut problems: Vec<Problem>) -> Problems {
    problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
    if problems.len() > MAX_PROBLEMS {
        problems.truncate(MAX_PROBLEMS);
        let message = format!("more than {MAX_PROBLEMS} problems; the rest is not shown");
        problems.push(Finding::new(Path::default(), message).into());
    }
    for problem in &mut problems {
        let spans = problem.span.iter_mut().chain(problem.related.iter_mut().map(|(span, _)| span));
        for span in spans {
            *span = first_line(text, span);
        }
    }
    Problems(problems)
}

/// The part of a span that stands in its first line, on character boundaries.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    let end = floor(text, span.end).max(start);
    let part = &text[start..end];
    let line = part.lines().next().unwrap_or_default().trim_end();
    start..start + line.len()
}

/// Looks up the place of a finding. Its path leaves out what could not be read; that of the
/// problem is the path in the text.
fn locate(root: &Node, finding: Finding) -> Problem {
    let place = find(root, &finding.path);
    let span = match place.entry {
        Some(entry) if finding.on_key => entry.key_span.clone(),
        _ => place.node.span.clone(),
    };
    let related =
        finding.related.iter().map(|(path, why)| (find(root, path).node.span.clone(), why.clone()));
    let related = related.collect();
    let is_whole = finding.path.0.is_empty();
    Problem {
        path: place.path.to_string(),
        span: Some(if is_whole { 0..0 } else { span }),
        related,
        ..finding.into()
    }
}

/// Where a path leads.
struct Place<'a> {
    node: &'a Node,
    entry: Option<&'a Entry>,
    path: Path,
    /// Whether there was something for every step.
    is_whole: bool,
}

/// Follows a path as far as it goes, not counting what is poisoned.
fn find<'a>(root: &'a Node, path: &Path) -> Place<'a> {
    let mut place = Place { node: root, entry: None, path: Path::default(), is_whole: true };
    for step in &path.0 {
        let next = match (step, &place.node.value) {
            (Step::Index(index), Value::Seq(elements)) => elements
                .iter()
                .enumerate()
                .filter(|(_, node)| !node.is_poisoned)
                .nth(*index)
                .map(|(original, node)| (Step::Index(original), node, None)),
            (Step::Key(key), Value::Map(entries)) => entries
                .iter()
                .find(|entry| entry.key == *key)
                .map(|entry| (step.clone(), &entry.node, Some(entry))),
            // A value that stands where a list of one may stand.
            _ => None,
        };
        let Some((step, node, entry)) = next else {
            place.is_whole = false;
            return place;
        };
        place.node = node;
        place.entry = entry;
        place.path.0.push(step);
    }
    place
}

fn is_damaged(node: &Node) -> bool {
    node.is_poisoned
        || node.elements().iter().any(is_damaged)
        || node.entries().iter().any(|entry| is_damaged(&entry.node))
}

impl Origin for Node {
    fn is_damaged(&self, path: &Path) -> bool {
        let Some((Step::Key(key), parent)) =
            path.0.split_last().map(|(last, rest)| (last, rest.to_vec()))
        else {
            let place = find(self, path);
            return place.is_whole && is_damaged(place.node);
        };
        let parent = find(self, &Path(parent));
        parent.is_whole
            && parent
                .node
                .entries()
                .iter()
                .any(|entry| entry.stands_for(key) && is_damaged(&entry.node))
    }

    fn declares(&self, list: &'static str, id: &str) -> bool {
        let of_list = self.entries().iter().filter(|entry| entry.stands_for(list));
        of_list.map(|entry| &entry.node).any(|node| {
            node.is_poisoned
                || node.entries().iter().any(|entry| entry.node.is_poisoned && entry.key == id)
                || node.elements().iter().filter(|element| element.is_poisoned).any(|element| {
                    let mut texts = element.entries().iter().map(|entry| &entry.node.value);
                    texts.any(|value| matches!(value, Value::Str(text) if text == id))
                })
        })
    }
}

#[cfg(test)]
mod tests;
