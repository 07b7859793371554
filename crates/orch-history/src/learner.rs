//! Keeps what a run teaches, at its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use orch_exec::BeforeDelivery;
use orch_model::{DomainName, RunId, ports::BoxError};
use orch_state::FileStore;
use orch_worktree::{ChangeResults, GitWorktrees, GitWorktreesConfig, ResultFiles};

use crate::expertise::{Expertise, ExpertiseError, Lessons, lessons};

/// How often a commit is tried where somebody moves the target meanwhile.
const TRIES: usize = 5;

/// Where what is learned is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// In a folder of the repository, by a commit of the engine's own on top of the results.
    Commit {
        /// The folder, relative to the top of the repository, with `/` between its parts.
        folder: String,
    },
    /// In a folder of one's own choice.
    Folder {
        /// The folder. It is made.
        folder: PathBuf,
    },
}

/// Keeps what a run teaches: see [`crate::expertise`].
#[derive(Debug, Clone)]
pub struct Learner {
    store: FileStore,
    git: GitWorktreesConfig,
    keep: Keep,
}

/// What becomes of the files: new content by name, and what is wrong with others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    files: BTreeMap<String, Vec<u8>>,
    problems: Vec<String>,
}

impl Learner {
    /// One for the runs of a store; `git` is how their repository is opened.
    #[must_use]
    pub const fn new(store: FileStore, git: GitWorktreesConfig, keep: Keep) -> Self {
        Self { store, git, keep }
    }

    async fn commit(&self, run: &RunId, folder: &str) -> Result<Outcome, BoxError> {
        let lessons = lessons(&self.store, run).await?;
        let git = GitWorktrees::open(self.git.clone()).await?;
        for _ in 0..TRIES {
            let Some(found) = git.result_files(run, folder).await? else {
                return Ok(Outcome::default());
            };
            let outcome = outcome(&found.content, Some(&found.paths), &lessons);
            if outcome.files.is_empty() {
                return Ok(outcome);
            }
            let at = |(name, content): (&String, &Vec<u8>)| {
                (format!("{folder}/{name}"), content.clone())
            };
            let change = ChangeResults {
                run: run.clone(),
                base: found.tip,
                files: outcome.files.iter().map(at).collect(),
                message: message(run, &outcome),
            };
            if git.change_results(change).await?.is_some() {
                return Ok(outcome);
            }
        }
        Err("the target is moved faster than what was learned can be added".into())
    }

    async fn write(&self, run: &RunId, folder: &Path) -> Result<Outcome, BoxError> {
        let lessons = lessons(&self.store, run).await?;
        let git = GitWorktrees::open(self.git.clone()).await?;
        // Of results that were delivered already nothing is marked.
        let paths = git.result_files(run, "").await?.map(|ResultFiles { paths, .. }| paths);
        let folder = folder.to_owned();
        // It may wait for another process.
        let written =
            tokio::task::spawn_blocking(move || update(&folder, paths.as_ref(), &lessons));
        Ok(written.await??)
    }
}

#[async_trait]
impl BeforeDelivery for Learner {
    async fn before_delivery(&self, run: &RunId) -> Result<(), BoxError> {
        let outcome = match &self.keep {
            Keep::Commit { folder } => self.commit(run, folder).await?,
            Keep::Folder { folder } => self.write(run, folder).await?,
        };
        match &outcome.problems[..] {
            [] => Ok(()),
            problems => Err(format!("nothing is learned of these: {}", problems.join("; ")).into()),
        }
    }
}

/// Rewrites the files of a folder, one process at a time.
fn update(
    folder: &Path,
    paths: Option<&BTreeSet<String>>,
    lessons: &BTreeMap<DomainName, Lessons>,
) -> io::Result<Outcome> {
    fs::create_dir_all(folder)?;
    let mut gate = fd_lock::RwLock::new(File::create(folder.join(".lock"))?);
    let _gate = gate.write()?;
    let outcome = outcome(&read(folder)?, paths, lessons);
    for (name, content) in &outcome.files {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(folder.join(name)).map_err(|error| error.error)?;
    }
    Ok(outcome)
}

/// What is in a folder, by name.
fn read(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_file())
            && domain_of_file(&name).is_some()
        {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(files)
}

fn domain_of_file(name: &str) -> Option<DomainName> {
    DomainName::new(name.strip_suffix(".yaml")?).ok()
}

/// What the files become with these lessons; those that stay as they are are not among them.
fn outcome(
    found: &BTreeMap<String, Vec<u8>>,
    paths: Option<&BTreeSet<String>>,
    lessons: &BTreeMap<DomainName, Lessons>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let none = Lessons::default();
    let known = found.keys().filter_map(|name| domain_of_file(name));
    let domains: BTreeSet<DomainName> = known.chain(lessons.keys().cloned()).collect();
    for domain in domains {
        let name = format!("{domain}.yaml");
        let lessons = lessons.get(&domain).unwrap_or(&none);
        match updated(&name, found.get(&name), paths, lessons) {
            Ok(Some(text)) => {
                outcome.files.insert(name, text.into_bytes());
            }
            Ok(None) => {}
            Err(error) => outcome.problems.push(error.to_string()),
        }
    }
    outcome
}

fn updated(
    name: &str,
    found: Option<&Vec<u8>>,
    paths: Option<&BTreeSet<String>>,
    lessons: &Lessons,
) -> Result<Option<String>, ExpertiseError> {
    let text = String::from_utf8_lossy(found.map_or(&[], Vec::as_slice));
    let mut expertise = Expertise::parse(&text, name)?;
    let is_marked = paths.is_some_and(|paths| expertise.validate(paths));
    let has_learned = expertise.learn(lessons)?;
    if is_marked || has_learned { expertise.to_text().map(Some) } else { Ok(None) }
}

fn message(run: &RunId, outcome: &Outcome) -> String {
    let names: Vec<&str> = outcome.files.keys().map(String::as_str).collect();
    format!("Keep what run {run} teaches\n\nIn {}.", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expertise::Lesson;

    fn lessons(domain: &str, issue: &str) -> BTreeMap<DomainName, Lessons> {
        let lesson = Lesson {
            issue: issue.into(),
            error: "e".into(),
            solution: "s".into(),
            session: "20261121-r/a.1".into(),
        };
        let lessons = Lessons { learned: vec![lesson], effective: Vec::new() };
        BTreeMap::from([(DomainName::new(domain).unwrap(), lessons)])
    }

    fn found(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect()
    }

    #[test]
    fn only_what_changes_is_written_and_what_is_wrong_is_left_alone() {
        let files = found(&[
            ("api.yaml", "core_files: [gone.rs]"),
            ("database.yaml", "overview: [broken"),
            ("security.yaml", "core_files: [here.rs] # a comment"),
            ("README.md", "no such file"),
        ]);
        let paths = BTreeSet::from(["here.rs".to_owned()]);
        let mut all = lessons("testing", "i");
        all.extend(lessons("database", "j"));
        let outcome = outcome(&files, Some(&paths), &all);
        let names: Vec<_> = outcome.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["api.yaml", "testing.yaml"]);
        let text = String::from_utf8(outcome.files["testing.yaml"].clone()).unwrap();
        assert!(text.contains("issue: i") && text.contains("20261121-r/a.1"), "{text}");
        assert!(outcome.problems[0].starts_with("database.yaml"), "{:?}", outcome.problems);
        // What was written is not written again.
        let again = super::outcome(&outcome.files, Some(&paths), &lessons("testing", "i"));
        assert_eq!(again, Outcome::default());
    }
}
