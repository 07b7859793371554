//! Submodules: repositories inside a worktree, with settings that an agent can write.
//!
//! Git looks into them by itself: `git status` and `git add` start a git in each, which runs the filters
//! that its configuration names. So git is told not to, and they are looked at one by one, each with
//! settings of the engine's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use orch_model::ports::WorktreeError;

use crate::{
    git::{Call, Git},
    parse::Status,
    preserve::status_of,
    settings,
    view::View,
};

/// The mode of a submodule in an index, see gitformat-index(5).
const GITLINK: [u8; 4] = 0o160_000_u32.to_be_bytes();

/// The mark of an index a part of which is in another file.
const LINK: &[u8] = b"link";

/// The submodules that an index names.
pub(crate) async fn of(git: &Git, index: Option<&Path>) -> Result<Vec<String>, WorktreeError> {
    let Some(own) = git.git_dir().map(|dir| dir.join("index")) else { return Ok(Vec::new()) };
    let bytes = fs::read(index.unwrap_or(&own)).unwrap_or_default();
    let has = |word: &[u8]| bytes.windows(word.len()).any(|found| found == word);
    // Anything may look like it by chance; git knows.
    if !has(&GITLINK) && !has(LINK) {
        return Ok(Vec::new());
    }
    let call = git.call(["ls-files", "--stage", "-z"]);
    let call = if let Some(index) = index { call.index(index) } else { call };
    let list = call.answer().await?.success()?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let links = list.split('\0').filter(|entry| entry.starts_with("160000 "));
    Ok(links.filter_map(|entry| Some(entry.split_once('\t')?.1.to_owned())).collect())
}

/// How all changes of a worktree are taken into an index.
#[derive(Debug)]
pub(crate) struct Adding {
    modules: Vec<String>,
    untouched: Vec<String>,
}

impl Adding {
    pub(crate) async fn new(
        git: &Git,
        index: Option<&Path>,
        status: &Status,
    ) -> Result<Self, WorktreeError> {
        Ok(Self { modules: of(git, index).await?, untouched: status.untouched.clone() })
    }

    /// The call for files.
    pub(crate) fn files<'g>(&self, git: &'g Git) -> Call<'g> {
        self.files_as(git, &[])
    }

    /// The same with further options.
    pub(crate) fn files_as<'g>(&self, git: &'g Git, options: &[&str]) -> Call<'g> {
        let others = self.modules.iter().chain(&self.untouched);
        let others = others.map(|path| format!(":(exclude,literal){path}"));
        let call = git.call(["add", "--all", "--sparse"]).arguments(options);
        call.arguments(["--", "."]).arguments(others)
    }

    /// The call for submodules, of which there is the commit to be taken; `None` where there are none.
    pub(crate) fn modules<'g>(&self, git: &'g Git) -> Option<Call<'g>> {
        let arguments = ["update-index", "--add", "--remove", "--replace", "-z", "--stdin"];
        let input: String = self.modules.iter().map(|path| format!("{path}\0")).collect();
        (!input.is_empty()).then(|| git.call(arguments).input(input))
    }
}

/// What submodules add to the status of a worktree.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// Those in which something is not committed, or of which that can't be said.
    pub(crate) changed: Vec<String>,
    /// Those whose commits are nowhere but in the worktree, with a slash at the end: repositories that
    /// somebody made there and added. Git keeps those of submodules in the worktree's git folder.
    pub(crate) nested: Vec<String>,
}

/// Looks into the submodules of a worktree.
pub(crate) async fn look(git: &Git) -> Result<Modules, WorktreeError> {
    let mut modules = Modules::default();
    for path in of(git, None).await? {
        let folder = git.folder().join(&path);
        match fs::symlink_metadata(folder.join(".git")) {
            Ok(meta) if meta.is_dir() => {
                modules.nested.push(format!("{path}/"));
                continue;
            }
            Ok(_) => {}
            // It is not checked out.
            Err(_) => continue,
        }
        let is_clean = match inside(git, &folder).await {
            Some(module) => {
                Box::pin(status_of(&module)).await.is_ok_and(|status| !status.is_dirty())
            }
            None => false,
        };
        if !is_clean {
            modules.changed.push(path);
        }
    }
    Ok(modules)
}

/// Git in a submodule; `None` where it leads out of the repository, or can't be read.
async fn inside(git: &Git, folder: &Path) -> Option<Git> {
    let top = git.folder().canonicalize().ok()?;
    let folder = folder.canonicalize().ok().filter(|folder| folder.starts_with(&top))?;
    let git_dir = git_dir_of(&folder)?.canonicalize().ok()?;
    let own = git.git_dir()?.canonicalize().ok()?;
    if !git_dir.starts_with(&top) && !git_dir.starts_with(&own) {
        return None;
    }
    let entries = settings::read(git, &git_dir).await.ok()?.ok()?;
    let trusted = git.view().map(|view| view.trusted().to_vec()).unwrap_or_default();
    let view = View::new(&git_dir, &entries, &trusted).ok()?;
    Some(git.with_view(Arc::new(view)).on_worktree(&git_dir, &folder))
}

fn git_dir_of(folder: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(folder.join(".git")).ok()?;
    Some(folder.join(text.strip_prefix("gitdir:")?.trim()))
}
