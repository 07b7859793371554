//! The history of the repository's runs: opened, and brought up to date.

use std::path::PathBuf;

use orch_agents::prompt::Knowledge;
use orch_exec::ParallelOrchestrator;
use orch_history::{
    HistoryError, Ingested, Keep, Learner, SqliteHistory, Statistics,
    expertise::{self, EXPERTISE_DIR},
};
use orch_model::{DomainName, PlanSpec, prompt::PromptContext};
use orch_state::FileStore;
use orch_worktree::GitWorktreesConfig;

use crate::{app::Overrides, compose::Workspace, config::Config, error::CliError, render};

/// The file, in the folder where runs are recorded.
const FILE: &str = "history.db";

/// Opens the history and takes in what happened since; `None` where nothing has been run. What is wrong with
/// it and stands in nobody's way is told.
pub(crate) async fn open(
    workspace: &Workspace,
    anew: bool,
) -> Result<Option<SqliteHistory>, HistoryError> {
    let store = FileStore::open(&workspace.state_dir)?;
    let path = workspace.state_dir.join(FILE);
    if store.runs()?.is_empty() && !path.exists() {
        return Ok(None);
    }
    let (mut history, mut aside) = SqliteHistory::open_or_replace(&path)?;
    let mut taken = take_in(&store, &history, anew).await;
    if matches!(taken, Err(HistoryError::Damaged { .. })) {
        // Damage that is only seen where it lies, in a file too large to be checked each time.
        drop(history);
        (history, aside) = SqliteHistory::replace(&path)?;
        taken = take_in(&store, &history, anew).await;
    }
    if let Some(aside) = aside {
        let (path, aside) = (path.display(), aside.display());
        render::tell(&format!(
            "{path} was damaged and is made anew from the journals; the damaged one is {aside}"
        ));
    }
    match taken {
        Ok(Ingested { unread, .. }) => {
            for (run, error) in unread {
                tracing::warn!("run {run} is not in the history: {error}");
            }
        }
        Err(error @ HistoryError::Newer { .. }) => render::tell(&error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(Some(history))
}

async fn take_in(
    store: &FileStore,
    history: &SqliteHistory,
    anew: bool,
) -> Result<Ingested, HistoryError> {
    if anew {
        history.check()?;
        orch_history::rebuild(store, history).await
    } else {
        orch_history::ingest(store, history).await
    }
}

/// Brings the history up to date, if that can be done.
pub(crate) async fn recorded(workspace: &Workspace) -> Option<SqliteHistory> {
    let opened = open(workspace, false).await;
    opened.unwrap_or_else(|error| {
        tracing::warn!("the history of runs can't be used: {error}");
        None
    })
}

/// What earlier runs tell of sessions to come; `None` where there are none, or they can't be read.
pub(crate) async fn statistics(workspace: &Workspace) -> Option<Statistics> {
    use orch_history::History as _;
    let history = recorded(workspace).await?;
    let statistics = history.statistics();
    statistics
        .inspect_err(|error| tracing::warn!("the history of runs can't be read: {error}"))
        .ok()
}

/// An engine that knows what earlier runs tell: of models, and of the tasks of a plan that is to begin.
pub(crate) async fn engine(
    workspace: &Workspace,
    config: &Config,
    overrides: &Overrides,
    plan: Option<&PlanSpec>,
) -> Result<ParallelOrchestrator, CliError> {
    let statistics = statistics(workspace).await;
    let records = statistics.as_ref().map(Statistics::model_records).unwrap_or_default();
    let engine = workspace.engine_that_knows(config, overrides, records).await?;
    Ok(match (statistics, plan) {
        (Some(statistics), Some(plan)) => engine.expecting(statistics.durations(plan)),
        _ => engine,
    })
}

/// What the project has written down, for the prompts of tasks.
#[derive(Debug)]
pub(crate) struct Expertise {
    folder: PathBuf,
}

impl Expertise {
    /// Where the configuration says, also where nothing is to be added to it.
    pub(crate) fn of(config: &Config) -> Self {
        let (_, folder) = config.expertise();
        Self { folder: if folder.is_empty() { EXPERTISE_DIR } else { folder }.into() }
    }
}

impl Knowledge for Expertise {
    fn of(&self, context: &PromptContext) -> Option<String> {
        let domain = context.domain.as_ref().map(DomainName::as_str);
        let title = context.title.as_deref().unwrap_or_default();
        let words = format!("{title}\n{}", context.prompt);
        expertise::knowledge(&context.directory, &self.folder, domain, &words)
    }
}

/// What keeps what runs teach, where that is wanted.
pub(crate) fn learner(
    workspace: &Workspace,
    config: &Config,
    overrides: &Overrides,
) -> Result<Option<Learner>, CliError> {
    let keep = match config.expertise() {
        ("commit", folder) => Keep::Commit { folder: in_repository(folder)? },
        ("folder", "") => {
            return Err(CliError::input(
                "expertise = \"folder\" needs expertise_dir, the folder that is meant",
            ));
        }
        ("folder", folder) => Keep::Folder { folder: workspace.top.join(folder) },
        _ => return Ok(None),
    };
    let store = FileStore::open(&workspace.state_dir)?;
    let engine = config.engine(overrides);
    let mut git = GitWorktreesConfig::new(&workspace.top).trees(engine.trees);
    if let Some(root) = engine.worktree_root {
        git = git.root(workspace.top.join(root));
    }
    Ok(Some(Learner::new(store, git, keep)))
}

/// A folder that lies in the repository, as git writes its path.
fn in_repository(folder: &str) -> Result<String, CliError> {
    let folder = if folder.is_empty() { EXPERTISE_DIR } else { folder };
    let parts: Vec<&str> =
        folder.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let leads_out = folder.starts_with('/') || parts.contains(&"..") || parts.is_empty();
    let is_ours = parts.first().is_some_and(|first| matches!(*first, ".git" | ".orch"));
    if leads_out || is_ours {
        return Err(CliError::input(format!(
            "expertise_dir = \"{folder}\" is no folder of the repository that is committed; name one such as {EXPERTISE_DIR}"
        )));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_lies_in_the_repository() {
        assert_eq!(in_repository("").unwrap(), EXPERTISE_DIR);
        assert_eq!(in_repository("./a//b/").unwrap(), "a/b");
        for bad in ["/a", "../a", "a/../../b", ".git/x", ".orch", "."] {
            let error = in_repository(bad).unwrap_err().to_string();
            assert!(error.contains("expertise_dir"), "{error}");
        }
    }
}
