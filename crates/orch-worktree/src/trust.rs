//! Whether somebody has changed what makes git run programs, or what leads it elsewhere.
//!
//! Nothing of it is run by the engine's git, see [`view`](crate::view). It is found out all the same: a
//! hook that an agent leaves is run by the next `git commit` of a person. What matters is looked at when
//! a task begins and when its agent has ended: settings that name programs or other places, hooks,
//! attributes, grafts, shallow boundaries, replaced objects, borrowed object stores.
//!
//! A look costs the system calls that find out whether a file is another one or was changed (its
//! inode, size and times); git is started only where one was.

mod keys;
mod stamp;
mod tree;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use orch_model::ports::WorktreeError;

use crate::{
    git::Git,
    repo::{Repo, Run},
    settings::{self, Scope},
    stash::{self, Stashed},
};

use stamp::Stamp;

/// How much of a value is shown.
const SHOWN: usize = 120;

/// What can make git run a program or lead it elsewhere: by file and what in it, what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint(BTreeMap<(String, String), String>);

/// What an attempt began with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Under which it can be found again.
    pub(crate) name: String,
    /// `None` where it can't any more.
    pub(crate) print: Option<Fingerprint>,
    /// What was in the stash; `None` where that is not known.
    pub(crate) stash: Option<Vec<Stashed>>,
}

/// A look at it.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) print: Fingerprint,
    stamp: Stamp,
    /// Files that the configuration includes.
    included: Vec<PathBuf>,
    name: tokio::sync::OnceCell<String>,
}

/// Looks at a repository.
#[derive(Debug)]
pub(crate) struct Trust {
    common: PathBuf,
    top_admin: PathBuf,
    last: Mutex<Option<Arc<Look>>>,
}

impl Repo {
    /// What an attempt begins with. Refused where that is not what the run began with: nothing starts
    /// in a repository that was changed under the run.
    pub(crate) async fn settings_of(
        &self,
        run: &Run,
        path: &Path,
    ) -> Result<Settings, WorktreeError> {
        self.refuse_detour(path)?;
        let look = self.trust.look(&self.git).await?;
        let changes = run.settings.get_or_init(|| Arc::clone(&look)).print.changes(&look.print);
        if !changes.is_empty() {
            return Err(WorktreeError::Tampered { changes });
        }
        let name = look.name(&self.git).await?.to_owned();
        let stash = Some(stash::entries(self.checkouts.common()));
        Ok(Settings { name, print: Some(look.print.clone()), stash })
    }
}

impl Look {
    /// The name under which it can be found again: that of an object of the repository.
    pub(crate) async fn name(&self, git: &Git) -> Result<&str, WorktreeError> {
        let write = || async {
            let call = git.call(["hash-object", "-w", "--stdin"]).input(self.print.to_bytes());
            let name = call.answer().await?.success()?;
            Ok(String::from_utf8_lossy(&name).trim().to_owned())
        };
        self.name.get_or_try_init(write).await.map(String::as_str)
    }
}

impl Trust {
    pub(crate) const fn new(common: PathBuf, top_admin: PathBuf) -> Self {
        Self { common, top_admin, last: Mutex::new(None) }
    }

    /// What stands there now.
    pub(crate) async fn look(&self, git: &Git) -> Result<Arc<Look>, WorktreeError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last.filter(|last| last.stamp.holds(&self.files(&last.included))) {
            return Ok(last);
        }
        let look = Arc::new(self.look_closely(git).await?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&look));
        Ok(look)
    }

    /// A look that an earlier process had; `None` where it is gone.
    pub(crate) async fn recall(
        &self,
        git: &Git,
        name: &str,
    ) -> Result<Option<Fingerprint>, WorktreeError> {
        let answer = git.call(["cat-file", "blob", "--end-of-options", name]).answer().await?;
        Ok(answer.success().ok().map(|bytes| Fingerprint::from_bytes(&bytes)))
    }

    async fn look_closely(&self, git: &Git) -> Result<Look, WorktreeError> {
        // Before anything is read: what changes meanwhile is seen by the next look.
        let mut stamp = Stamp::of(&self.files(&[]));
        let mut items = BTreeMap::new();
        let mut included = Vec::new();
        let own = [self.common.join("config"), self.top_admin.join("config.worktree")];
        match settings::read(git, &self.top_admin).await? {
            Err(complaint) => {
                items.insert((shown(&own[0]), "git can't read it".into()), complaint);
            }
            Ok(entries) => {
                for entry in entries.into_iter().filter(|e| e.scope == Scope::Repository) {
                    if !own.contains(&entry.file) && !included.contains(&entry.file) {
                        included.push(entry.file.clone());
                    }
                    if keys::matters(&entry.key, &entry.value) {
                        let place = (shown(&entry.file), entry.key);
                        let value: &mut String = items.entry(place).or_default();
                        let separator = if value.is_empty() { "" } else { "\n" };
                        *value = format!("{value}{separator}{}", entry.value);
                    }
                }
            }
        }
        if !included.is_empty() {
            stamp = stamp.with(&included);
        }
        self.lines(&mut items);
        self.contents(git, &mut items).await?;
        Ok(Look { print: Fingerprint(items), stamp, included, name: tokio::sync::OnceCell::new() })
    }

    /// Files of which each line counts.
    fn lines(&self, items: &mut BTreeMap<(String, String), String>) {
        for name in ["shallow", "objects/info/alternates"] {
            let path = self.common.join(name);
            let text = fs::read(&path).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()) {
                items.insert((shown(&path), line.to_owned()), "there".into());
            }
        }
        for path in files_in(&self.common.join("refs/replace")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap_or_default();
            items.insert(("refs/replace".into(), name), text.trim().to_owned());
        }
    }

    /// Files that count as a whole.
    async fn contents(
        &self,
        git: &Git,
        items: &mut BTreeMap<(String, String), String>,
    ) -> Result<(), WorktreeError> {
        let rules = ["info/attributes", "info/grafts"].map(|name| self.common.join(name));
        let files: Vec<PathBuf> =
            rules.into_iter().filter(|path| path.exists()).chain(self.hooks()).collect();
        let regular: Vec<&PathBuf> = files.iter().filter(|path| path.is_file()).collect();
        let mut names = Vec::new();
        if !regular.is_empty() {
            let call = git.call(["hash-object", "--no-filters", "--"]).arguments(&regular);
            let out = call.answer().await?.success()?;
            names.extend(String::from_utf8_lossy(&out).lines().map(str::to_owned));
        }
        let mut names = names.into_iter();
        for path in &files {
            let name = if path.is_file() { names.next() } else { None };
            items.insert((shown(path), "content".into()), name.unwrap_or_default());
            items.insert((shown(path), "kind and rights".into()), stamp::kind(path));
        }
        Ok(())
    }

    /// Hooks, except examples, which git does not run.
    fn hooks(&self) -> Vec<PathBuf> {
        let is_example = |path: &PathBuf| path.extension().is_some_and(|end| end == "sample");
        files_in(&self.common.join("hooks")).into_iter().filter(|path| !is_example(path)).collect()
    }

    /// All files and folders that a look depends on.
    fn files(&self, included: &[PathBuf]) -> Vec<PathBuf> {
        const SHARED: &[&str] = &[
            "config",
            "config.worktree",
            "hooks",
            "info/attributes",
            "info/grafts",
            "objects/info/alternates",
            "refs/replace",
            "shallow",
        ];
        let shared = SHARED.iter().map(|name| self.common.join(name));
        let own = self.top_admin.join("config.worktree");
        let replaced = files_in(&self.common.join("refs/replace"));
        shared.chain([own]).chain(self.hooks()).chain(replaced).chain(included.to_vec()).collect()
    }
}

impl Fingerprint {
    /// What is another than it was, each as a sentence for a person.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        let places = self.0.keys().chain(now.0.keys().filter(|key| !self.0.contains_key(*key)));
        let mut changes = Vec::new();
        for place in places {
            let (file, what) = place;
            let (was, is) = (self.0.get(place), now.0.get(place));
            let is_harmless = match (was, is) {
                (None, Some(is)) => keys::may_be_added(what, is),
                // History that was fetched completes it.
                (Some(_), None) => file.ends_with("/shallow"),
                (was, is) => was == is,
            };
            if is_harmless {
                continue;
            }
            changes.push(match (was, is) {
                (None, Some(is)) => format!("{file}: `{what}` is new: {}", value(is)),
                (Some(was), None) => format!("{file}: `{what}` is gone; it was {}", value(was)),
                (Some(was), Some(is)) => {
                    format!("{file}: `{what}` was {} and is {}", value(was), value(is))
                }
                (None, None) => continue,
            });
        }
        changes
    }

    fn to_bytes(&self) -> Vec<u8> {
        let words = self.0.iter().flat_map(|((file, what), value)| [file, what, value]);
        words.flat_map(|word| word.bytes().chain([0])).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut words = text.split('\0').map(str::to_owned);
        let mut items = BTreeMap::new();
        while let (Some(file), Some(what), Some(value)) = (words.next(), words.next(), words.next())
        {
            items.insert((file, what), value);
        }
        Self(items)
    }
}

/// A value, shortened and without the password of a URL.
fn value(text: &str) -> String {
    let mut line = text.lines().collect::<Vec<_>>().join("; ");
    if let Some((scheme, rest)) = line.split_once("://")
        && let Some((user, host)) = rest.split_once('@')
        && !user.contains('/')
    {
        line = format!("{scheme}://...@{host}");
    }
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("`{}...`", &line[..at]),
        None => format!("`{line}`"),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The files in a folder, in the order of their names.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(items: &[(&str, &str, &str)]) -> Fingerprint {
        let item = |(file, what, value): &(&str, &str, &str)| {
            (((*file).into(), (*what).into()), (*value).to_owned())
        };
        Fingerprint(items.iter().map(item).collect())
    }

    #[test]
    fn changes_are_told_and_what_does_no_harm_is_not() {
        let was = print(&[
            ("/g/config", "core.bare", "false"),
            ("/g/config", "remote.a.url", "https://me:secret@example.com/x"),
            ("/g/shallow", "1234", "there"),
        ]);
        assert!(was.changes(&was).is_empty());
        let more = print(&[
            ("/g/config", "core.bare", "false"),
            ("/g/config", "remote.a.url", "https://me:secret@example.com/x"),
            ("/g/config", "remote.b.url", "https://example.com/b"),
        ]);
        assert!(was.changes(&more).is_empty());
        let other = print(&[
            ("/g/config", "remote.a.url", "https://you:secret@example.com/x"),
            ("/g/config", "remote.b.url", "ext::sh -c id"),
            ("/g/shallow", "1234", "there"),
            ("/g/shallow", "5678", "there"),
        ]);
        let changes = was.changes(&other);
        assert_eq!(changes.len(), 4, "{changes:#?}");
        assert!(!changes.concat().contains("secret"), "{changes:#?}");
        assert_eq!(changes[0], "/g/config: `core.bare` is gone; it was `false`");
    }

    #[test]
    fn a_look_can_be_written_down() {
        let print = print(&[("/g/config", "alias.x", "a\nb"), ("/g/hooks/y", "content", "")]);
        assert_eq!(Fingerprint::from_bytes(&print.to_bytes()), print);
    }
}
