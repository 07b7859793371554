//! What is known of a domain, in a file that people and the engine write together.
//!
//! `<folder>/<domain>.yaml` in the repository, version 1. People write `overview`, `core_files` and `patterns`, and
//! whatever else they like; the engine adds to `learned_from_failures` and `effective_patterns` what the
//! streams of agents show ([`lessons`]), and marks core files that are gone. What it finds it keeps,
//! unknown fields included; comments are lost when it writes.
//!
//! Entries with `sessions` are the engine's, and only they are pruned. What they say comes from agents:
//! it is data, cleaned of what could pass for anything else ([`clean`]).

mod clean;
mod learn;
mod lessons;
mod render;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use orch_model::DomainName;

use crate::domain::detect_domain;

pub use clean::clean;
pub use learn::LINES;
pub use lessons::{Lesson, Lessons, lessons};
pub use render::RENDERED;

/// The version of the files.
pub const EXPERTISE_VERSION: u32 = 1;

/// Where the files are by custom, in the repository.
pub const EXPERTISE_DIR: &str = "docs/expertise";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is known of a domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expertise {
    /// The version of the format.
    #[serde(default = "version")]
    pub version: u32,
    /// What one has to know first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub overview: String,
    /// The files that matter most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub core_files: Vec<CoreFile>,
    /// How things are done here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<Value>,
    /// What went wrong, and what helped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned_from_failures: Vec<Learned>,
    /// What was done where work was accepted at the first attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effective_patterns: Vec<Effective>,
    /// What people wrote besides.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

const fn version() -> u32 {
    EXPERTISE_VERSION
}

impl Default for Expertise {
    fn default() -> Self {
        Self {
            version: EXPERTISE_VERSION,
            overview: String::new(),
            core_files: Vec::new(),
            patterns: Vec::new(),
            learned_from_failures: Vec::new(),
            effective_patterns: Vec::new(),
            more: BTreeMap::new(),
        }
    }
}

/// A file that matters, or a folder: its path alone, or with what is to be said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CoreFile {
    /// Only its path.
    Path(String),
    /// With more.
    Described {
        /// Its path, relative to the repository; may have `*`.
        path: String,
        /// What it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        about: String,
        /// It does not exist any more.
        #[serde(default, skip_serializing_if = "is_false")]
        missing: bool,
        /// What people wrote besides.
        #[serde(flatten)]
        more: BTreeMap<String, Value>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl CoreFile {
    fn path(&self) -> &str {
        match self {
            Self::Path(path) | Self::Described { path, .. } => path,
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::Described { missing: true, .. })
    }

    fn mark(&mut self, is_missing: bool) {
        match self {
            Self::Described { missing, .. } => *missing = is_missing,
            Self::Path(path) if is_missing => {
                *self = Self::Described {
                    path: std::mem::take(path),
                    about: String::new(),
                    missing: true,
                    more: BTreeMap::new(),
                };
            }
            Self::Path(_) => {}
        }
    }
}

/// Something that went wrong, and what helped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// What was tried.
    pub issue: String,
    /// What was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What helped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub solution: String,
    /// Who saw it.
    #[serde(flatten)]
    pub seen: Seen,
    /// What people wrote besides.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Something that worked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// What.
    pub pattern: String,
    /// Who saw it.
    #[serde(flatten)]
    pub seen: Seen,
    /// What people wrote besides.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// In which sessions something was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// In how many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
    /// The newest of them, as `<run>/<task>.<attempt>`, in order; none: a person wrote this.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sessions: BTreeSet<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Why a file can't be used. It is left as it is then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpertiseError {
    /// It is not what such a file is.
    #[error("{path}: {message}")]
    Bad {
        /// The file.
        path: String,
        /// What is wrong, with the line.
        message: String,
    },
    /// A newer version wrote it.
    #[error(
        "{path} has version {found}, and this orch knows {EXPERTISE_VERSION}; use a newer orch"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
    },
    /// It can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The file of a domain in a folder.
#[must_use]
pub fn file_of(folder: &Path, domain: &DomainName) -> PathBuf {
    folder.join(format!("{domain}.yaml"))
}

/// What is known for a task that works in `directory`, as [`Expertise::render`] gives it: of its domain, where
/// that is named, else of the one that its words speak for. `folder` is where the files are, relative to
/// `directory` or absolute. `None`: nothing. A file that can't be used is told, and nothing more.
#[must_use]
pub fn knowledge(
    directory: &Path,
    folder: &Path,
    domain: Option<&str>,
    words: &str,
) -> Option<String> {
    let domain = match domain {
        Some(name) => DomainName::new(name).ok()?,
        None => detect_domain(words),
    };
    let place = directory.join(folder).canonicalize().ok()?;
    // An agent may have put a link there that leads elsewhere.
    if folder.is_relative() && !place.starts_with(directory.canonicalize().ok()?) {
        tracing::warn!(folder = %folder.display(), "it leads out of the worktree, so nothing is read from it");
        return None;
    }
    match Expertise::load(&place, &domain) {
        Ok(known) => Some(known?.render(RENDERED)).filter(|text| !text.is_empty()),
        Err(error) => {
            tracing::warn!(%error, "what is known can't be told");
            None
        }
    }
}

impl Expertise {
    /// Reads what is known of a domain from its file in a folder; `None` where there is none.
    ///
    /// # Errors
    /// Where it can't be read: it is no YAML, of a newer version, no plain file, or larger than 1 MiB.
    pub fn load(folder: &Path, domain: &DomainName) -> Result<Option<Self>, ExpertiseError> {
        let path = file_of(folder, domain);
        let shown = path.display().to_string();
        let io = |source| ExpertiseError::Io { path: shown.clone(), source };
        // An agent may have left a link there, to anything.
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            Ok(found) if !found.is_file() || found.len() > LARGEST => {
                let message = "it is no plain file, or larger than 1 MiB".into();
                return Err(ExpertiseError::Bad { path: shown, message });
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&path).map_err(io)?;
        Self::parse(&text, &shown).map(Some)
    }

    /// Reads the text of such a file; `path` is for messages.
    ///
    /// # Errors
    /// Where it is none, or of a newer version.
    pub fn parse(text: &str, path: &str) -> Result<Self, ExpertiseError> {
        let path = || path.to_owned();
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let read: Self = serde_saphyr::from_str(text)
            .map_err(|error| ExpertiseError::Bad { path: path(), message: error.to_string() })?;
        if read.version > EXPERTISE_VERSION {
            return Err(ExpertiseError::Newer { path: path(), found: read.version });
        }
        Ok(read)
    }

    /// The text of its file, which gives the same when it is read.
    ///
    /// # Errors
    /// Where it can't be written as YAML.
    pub fn to_text(&self) -> Result<String, ExpertiseError> {
        // Blocks are for people; a text that does not come through one is quoted.
        for blocks in [true, false] {
            let text = self.write(blocks)?;
            if Self::parse(&text, "expertise").is_ok_and(|again| again == *self) {
                return Ok(text);
            }
        }
        let message = "it does not come through YAML unchanged".into();
        Err(ExpertiseError::Bad { path: "expertise".into(), message })
    }

    fn write(&self, blocks: bool) -> Result<String, ExpertiseError> {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: blocks };
        serde_saphyr::to_string_with_options(self, options).map_err(|error| ExpertiseError::Bad {
            path: "expertise".into(),
            message: error.to_string(),
        })
    }

    /// Marks core files that are not among these files any more, and takes the mark from those that are
    /// there again. Whether something changed.
    pub fn validate(&mut self, files: &BTreeSet<String>) -> bool {
        let mut changed = false;
        for file in &mut self.core_files {
            let is_missing = !exists(file.path(), files);
            changed |= is_missing != file.is_missing();
            file.mark(is_missing);
        }
        changed
    }
}

/// Whether a path is that of a file or of a folder with files; with `*`, whether any fits.
fn exists(path: &str, files: &BTreeSet<String>) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    if path.contains(['*', '?', '[']) {
        let Ok(pattern) = glob::Pattern::new(path) else { return true };
        return files.iter().any(|file| pattern.matches(file));
    }
    let below = format!("{path}/");
    files.contains(path)
        || files.range(below.clone()..).next().is_some_and(|f| f.starts_with(&below))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# A comment.
overview: |
  Two databases.
  One of them is old.
core_files:
  - src/db.rs
  - path: migrations
    about: one a day
    owner: ann
patterns:
  - every query has a test
  - name: ids
    rule: they are UUIDs
learned_from_failures:
  - issue: the build needs a database
    solution: docker compose up db
    ticket: 12
contacts:
  - ann
";

    fn files(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_people_wrote_survives() {
        let read = Expertise::parse(TEXT, "x.yaml").unwrap();
        assert_eq!(read.overview, "Two databases.\nOne of them is old.\n");
        assert_eq!(read.more["contacts"], serde_json::json!(["ann"]));
        assert_eq!(read.learned_from_failures[0].more["ticket"], 12);
        assert_eq!(read.patterns[1]["rule"], "they are UUIDs");
        let text = read.to_text().unwrap();
        assert_eq!(Expertise::parse(&text, "x.yaml").unwrap(), read, "{text}");
        assert!(text.contains("overview: |"), "{text}");
        assert_eq!(Expertise::parse(&text, "").unwrap().to_text().unwrap(), text);
    }

    #[test]
    fn core_files_that_are_gone_are_marked() {
        let mut known = Expertise::parse(TEXT, "").unwrap();
        assert!(!known.validate(&files(&["migrations/1.sql", "src/db.rs"])));
        assert!(known.validate(&files(&["migrations-old/1.sql", "src/db.rs.bak"])));
        assert!(known.core_files.iter().all(CoreFile::is_missing));
        let text = known.to_text().unwrap();
        assert_eq!(text.matches("missing: true").count(), 2, "{text}");
        assert!(text.contains("owner: ann"), "{text}");
        assert!(known.validate(&files(&["migrations/1.sql", "src/db.rs"])));
        assert!(!known.core_files.iter().any(CoreFile::is_missing));
        known.core_files = vec![CoreFile::Path("src/*.rs".into()), CoreFile::Path("x?.c".into())];
        known.validate(&files(&["src/a.rs"]));
        assert!(!known.core_files[0].is_missing() && known.core_files[1].is_missing());
    }

    #[test]
    fn what_is_no_such_file_is_refused_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let domain = DomainName::new("api").unwrap();
        assert_eq!(Expertise::load(dir.path(), &domain).unwrap(), None);
        let path = file_of(dir.path(), &domain);
        for (text, told) in
            [("overview: [", "api.yaml"), ("version: 2", "version 2"), ("- a", "api")]
        {
            fs::write(&path, text).unwrap();
            let error = Expertise::load(dir.path(), &domain).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        fs::write(&path, "").unwrap();
        assert_eq!(Expertise::load(dir.path(), &domain).unwrap(), Some(Expertise::default()));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        let error = Expertise::load(dir.path(), &domain).unwrap_err().to_string();
        assert!(error.contains("no plain file"), "{error}");
    }

    #[test]
    fn a_task_is_told_what_is_known_of_its_domain() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, folder) = (dir.path().join("tree"), Path::new("docs/expertise"));
        fs::create_dir_all(tree.join(folder)).unwrap();
        fs::write(tree.join(folder).join("database.yaml"), "overview: Ours.").unwrap();
        fs::write(tree.join(folder).join("api.yaml"), "overview: [").unwrap();
        let told = |domain, words| knowledge(&tree, folder, domain, words);
        assert_eq!(told(None, "a SQL migration").as_deref(), Some("Ours.\n"));
        assert_eq!(told(Some("database"), "anything").as_deref(), Some("Ours.\n"));
        for (domain, words) in
            [(Some("api"), ""), (Some("../x"), ""), (None, "a word"), (Some("x"), "")]
        {
            assert_eq!(told(domain, words), None, "{domain:?}");
        }
        let elsewhere = tree.join(folder);
        assert_eq!(
            knowledge(dir.path(), &elsewhere, Some("database"), "").as_deref(),
            Some("Ours.\n")
        );
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("link")).unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("other/link")).unwrap();
        assert_eq!(
            knowledge(&dir.path().join("other"), Path::new("link"), Some("database"), ""),
            None
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_through(overview: String, issue in ".{0,80}", pattern: String) {
            let known = Expertise {
                overview,
                patterns: vec![Value::String(pattern)],
                learned_from_failures: vec![Learned {
                    issue,
                    error: String::new(),
                    solution: String::new(),
                    seen: Seen::default(),
                    more: BTreeMap::new(),
                }],
                ..Expertise::default()
            };
            match known.to_text() {
                Ok(text) => prop_assert_eq!(Expertise::parse(&text, "").unwrap(), known),
                // Some characters are in no YAML; then nothing is written.
                Err(error) => prop_assert!(error.to_string().contains("expertise"), "{}", error),
            }
        }
    }
}
