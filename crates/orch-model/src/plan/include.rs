//! The files that a plan names: prompts with their front matter, skills, templates.
//!
//! They are read together with the plan and become part of it, so that a run, and whoever resumes it,
//! uses them as they were when it was started, whatever agents make of the files meanwhile.

use std::{collections::HashMap, io, ops::Range};

use super::{
    MAX_TEXT, Template,
    decode::table,
    path::{Path, Step},
    problem::{Finding, Position, Problem},
    source::{self, Entry, Format, Node, Value},
    spec::{PlanSpec, TaskSpec},
};

/// Reads a file of the repository, by its path from the top of that.
pub type ReadText<'a> = dyn FnMut(&str) -> io::Result<String> + 'a;

/// The line around front matter.
const FENCE: &str = "---";

/// What belongs to the plan and not to a prompt.
const OF_THE_PLAN: [&str; 4] = ["id", "run", "prompt", "prompt_file"];

/// Where the skill of a name is, relative to the repository: the place where coding agents look for
/// skills too. What has a slash or a dot in it is a path.
///
/// ```
/// use orch_model::plan::skill_file;
///
/// assert_eq!(skill_file("rust-style"), ".agents/skills/rust-style/SKILL.md");
/// assert_eq!(skill_file("docs/style.md"), "docs/style.md");
/// ```
#[must_use]
pub fn skill_file(name: &str) -> String {
    if name.contains(['/', '.']) {
        name.to_owned()
    } else {
        format!(".agents/skills/{name}/SKILL.md")
    }
}

/// What came of reading the files of a plan.
#[derive(Debug, Default)]
pub(super) struct Included {
    pub(super) findings: Vec<Finding>,
    /// What front matter gave to a task, by the task: file and keys.
    given: HashMap<usize, (String, Vec<&'static str>)>,
}

impl Included {
    /// Adds what was found in the plan. What is said of a value from front matter names its file.
    pub(super) fn with(&mut self, findings: Vec<Finding>) -> Vec<Finding> {
        let mut all = std::mem::take(&mut self.findings);
        // A text that could not be read is missing too.
        let known: Vec<Path> = all.iter().map(|finding| finding.path.clone()).collect();
        all.extend(findings.into_iter().filter(|finding| !known.contains(&finding.path)));
        for finding in &mut all {
            if let [Step::Key(list), Step::Index(task), Step::Key(key), ..] = &*finding.path.0
                && list == "task"
                && let Some((file, keys)) = self.given.get(task)
                && keys.contains(&&**key)
            {
                finding.message = format!("{file}: {}", finding.message);
                finding.path = Path::element("task", *task).then("prompt_file");
                finding.on_key = false;
            }
        }
        all
    }
}

/// Reads the files that a plan names into its texts, and what the front matter of prompts says into its
/// tasks. Texts that are there already are left as they are.
pub(super) fn include(spec: &mut PlanSpec, read: &mut ReadText<'_>) -> Included {
    let mut files = Files { read, front: HashMap::new(), included: Included::default() };
    for index in 0..spec.tasks.len() {
        let Some(file) = spec.tasks[index].prompt_file.clone() else { continue };
        let path = Path::element("task", index).then("prompt_file");
        if !spec.texts.contains_key(&file)
            && let Some(text) = files.text(&file, &path)
        {
            let (front, body) = files.split(&file, &text, &path);
            files.front.insert(file.clone(), front);
            spec.texts.insert(file.clone(), body);
        }
        if let Some(Some(front)) = files.front.get(&file) {
            let keys = merge(&mut spec.tasks[index], front);
            files.included.given.insert(index, (file, keys));
        }
    }
    let mut wanted =
        vec![(spec.defaults.template.clone(), Path::from("defaults").then("template"))];
    for (index, epic) in spec.epics.iter().enumerate() {
        wanted.push((epic.template.clone(), Path::element("epic", index).then("template")));
    }
    for (index, task) in spec.tasks.iter().enumerate() {
        if task.template.is_some() {
            wanted.push((task.template.clone(), Path::element("task", index).then("template")));
        }
    }
    for (name, path) in wanted {
        if let Template::Text(name) = Template::of(name.as_deref())
            && !spec.texts.contains_key(&name)
            && let Some(text) = files.text(&name, &path)
        {
            spec.texts.insert(name, text);
        }
    }
    for index in 0..spec.tasks.len() {
        for at in 0..spec.tasks[index].skills.len() {
            let name = spec.tasks[index].skills[at].clone();
            let path = Path::element("task", index).then("skills").then(at);
            if !spec.texts.contains_key(&name)
                && let Some(text) = files.text(&skill_file(&name), &path)
            {
                // That of a skill is for whoever looks for one.
                let body = front_matter(&text).ok().flatten().map_or(0, |(_, body)| body);
                spec.texts.insert(name, text[body..].to_owned());
            }
        }
    }
    files.included
}

struct Files<'a, 'b> {
    read: &'a mut ReadText<'b>,
    /// The front matter of prompts, by file.
    front: HashMap<String, Option<TaskSpec>>,
    included: Included,
}

impl Files<'_, '_> {
    fn report(&mut self, path: &Path, message: String, help: impl Into<String>) {
        let finding = Finding::new(path.clone(), message).help(help);
        self.included.findings.push(finding);
    }

    fn text(&mut self, file: &str, path: &Path) -> Option<String> {
        if let Err((message, help)) = super::validate::file(file) {
            self.report(path, message, help);
            return None;
        }
        match (self.read)(file) {
            Ok(text) if text.len() > MAX_TEXT => {
                let message = format!("{file} is larger than {} KiB", MAX_TEXT >> 10);
                self.report(path, message, "tell agents where to find what is long");
                None
            }
            Ok(text) if text.contains('\0') => {
                let line = Position::of(&text, text.find('\0').unwrap_or(0)).line;
                let message = format!("{file}:{line}: a NUL character");
                self.report(path, message, "remove it: no program can be given one");
                None
            }
            Ok(text) => Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
            Err(error) => {
                let message = match error.kind() {
                    io::ErrorKind::NotFound => format!("there is no file {file}"),
                    _ => format!("{file} can't be read: {error}"),
                };
                let help = "write it, or correct its path, which is relative to the repository";
                self.report(path, message, help);
                None
            }
        }
    }

    /// Front matter and the rest of a prompt.
    fn split(&mut self, file: &str, text: &str, path: &Path) -> (Option<TaskSpec>, String) {
        let (yaml, body) = match front_matter(text) {
            Ok(None) => {
                if text.trim().is_empty() {
                    self.report(path, format!("{file} is empty"), "write a prompt in it");
                }
                return (None, text.to_owned());
            }
            Ok(Some(parts)) => parts,
            Err(()) => {
                let message = format!("{file}:1: front matter without an end");
                self.report(path, message, "write a line of `---` after it");
                return (None, text.to_owned());
            }
        };
        let mut problems = Vec::new();
        let front = decode(&text[yaml.clone()], &mut problems);
        for problem in problems {
            let at = problem.span.as_ref().map_or(yaml.start, |span| yaml.start + span.start);
            let place = match &problem.path {
                key if key.is_empty() || problem.message.contains(&format!("`{key}`")) => {
                    String::new()
                }
                key => format!("{key}: "),
            };
            let line = Position::of(text, at).line;
            let message = format!("{file}:{line}: {place}{}", problem.message);
            let help = problem.help.unwrap_or_else(|| "correct it there".into());
            self.report(path, message, help);
        }
        if text[body..].trim().is_empty() {
            self.report(
                path,
                format!("{file} has front matter and no prompt"),
                "write one after it",
            );
        }
        (front, text[body..].to_owned())
    }
}

/// Front matter and where the text after it begins, where there is some.
fn front_matter(text: &str) -> Result<Option<(Range<usize>, usize)>, ()> {
    let mut at = 0;
    let mut start = None;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let is_fence = line.trim_end() == FENCE;
        match start {
            None if !is_fence => return Ok(None),
            None => start = Some(end),
            Some(start) if is_fence => {
                let rest = &text[end..];
                let blank = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
                return Ok(Some((start..at, end + blank)));
            }
            Some(_) => {}
        }
        at = end;
    }
    if start.is_some() { Err(()) } else { Ok(None) }
}

/// Reads front matter as a task without an id.
fn decode(yaml: &str, problems: &mut Vec<Problem>) -> Option<TaskSpec> {
    let (root, found) = source::read(yaml, Format::Yaml);
    problems.extend(found);
    let mut root = root?;
    let Value::Map(entries) = &mut root.value else {
        let mut problem = Problem::new("front matter is keys and values");
        problem.help = Some("write for example `title: Log people in`".into());
        problems.push(problem);
        return None;
    };
    entries.retain(|entry| {
        let is_wrong = OF_THE_PLAN.contains(&entry.key.as_str());
        if is_wrong {
            let mut problem =
                Problem::new(format!("front matter can't have the key `{}`", entry.key));
            problem.span = Some(entry.key_span.clone());
            problem.help = Some("it belongs to the plan".into());
            problems.push(problem);
        }
        !is_wrong
    });
    let id = Node::new(Value::Str("front-matter".into()), 0..0);
    entries.push(Entry::new("id".into(), 0..0, id));
    table(&mut root, problems)
}

/// Gives a task what front matter says and the plan does not; which keys that were.
fn merge(task: &mut TaskSpec, front: &TaskSpec) -> Vec<&'static str> {
    let mut keys = Vec::new();
    macro_rules! take {
        ($is_given:ident: $($key:ident)*) => {
            $(if !task.$key.$is_given() && front.$key.$is_given() {
                task.$key = front.$key.clone();
                keys.push(stringify!($key));
            })*
        };
    }
    take!(is_some: title epic agent model domain template priority estimate timeout silence_timeout
        retries verify isolation expects on_conflict max_output);
    trait Given {
        fn is_given(&self) -> bool;
    }
    impl<T> Given for Vec<T> {
        fn is_given(&self) -> bool {
            !self.is_empty()
        }
    }
    impl<K, V> Given for std::collections::BTreeMap<K, V> {
        fn is_given(&self) -> bool {
            !self.is_empty()
        }
    }
    take!(is_given: skills needs after files locks env);
    keys
}

#[cfg(test)]
mod tests;
