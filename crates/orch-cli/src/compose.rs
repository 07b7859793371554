//! Puts an engine together from arguments and configuration.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use orch_agents::{AgentAdapters, Prices, UserHome, prompt};
use orch_exec::{
    ParallelOrchestrator,
    model::ports::{AgentRunner, ModelRecords},
    review::Review,
    workspace,
};
use orch_model::{
    PlanSpec, ValidPlan,
    plan::{Format, parse_with},
};
use orch_state::FileLocks;

use crate::{
    app::Overrides,
    config::{self, Config, Places},
    diagnostics,
    error::CliError,
    render,
};

/// The repository that a command works on.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Its top folder.
    pub(crate) top: PathBuf,
    /// Where its runs are recorded.
    pub(crate) state_dir: PathBuf,
}

impl Workspace {
    /// The one that `--repo` names, or that the current folder lies in.
    pub(crate) fn find(repo: Option<&Path>) -> Result<Self, CliError> {
        let start = repo.unwrap_or(Path::new("."));
        if !start.is_dir() {
            return Err(CliError::input(format!(
                "{} is not a folder; name the repository with --repo",
                start.display()
            )));
        }
        let top = workspace::find(start);
        let state_dir = workspace::state_dir(&top);
        Ok(Self { top, state_dir })
    }

    pub(crate) fn config(&self) -> Result<Config, CliError> {
        config::load(&Places::of(&self.top))
    }

    /// The locks that the engine uses.
    pub(crate) fn locks(&self) -> Result<FileLocks, CliError> {
        let dir = self.config()?.lock_dir().map(|dir| self.top.join(dir));
        Ok(FileLocks::open(dir.unwrap_or_else(|| self.state_dir.join("locks")))?)
    }

    /// The runs of the repository and what they did, for a look back.
    pub(crate) async fn review(&self) -> Result<Review, CliError> {
        let root = self.config()?.engine(&Overrides::default()).worktree_root;
        let root = root.map(|root| self.top.join(root));
        Ok(Review::open(&self.top, Some(self.state_dir.clone()), root).await?)
    }

    /// What models cost.
    pub(crate) fn prices(&self, config: &Config) -> Result<Prices, CliError> {
        let own = config.prices().map(|file| read_prices(&self.top.join(file))).transpose()?;
        Ok(own.into_iter().fold(Prices::built_in(), Prices::with))
    }

    /// Coding agents, whose processes another runner runs.
    pub(crate) fn agents(
        config: &Config,
        processes: Arc<dyn AgentRunner>,
        state_dir: &Path,
    ) -> AgentAdapters {
        let agents = AgentAdapters::new(processes, state_dir, user());
        #[cfg(feature = "history")]
        let agents = agents.knowledge(Arc::new(crate::history::Expertise::of(config)));
        agents
    }

    pub(crate) async fn engine(
        &self,
        config: &Config,
        overrides: &Overrides,
    ) -> Result<ParallelOrchestrator, CliError> {
        self.engine_that_knows(config, overrides, ModelRecords::default()).await
    }

    /// An engine that knows what earlier runs tell, as far as a history is kept: of models, and of the tasks of
    /// a plan that is to begin.
    pub(crate) async fn experienced_engine(
        &self,
        config: &Config,
        overrides: &Overrides,
        plan: Option<&PlanSpec>,
    ) -> Result<ParallelOrchestrator, CliError> {
        #[cfg(feature = "history")]
        return crate::history::engine(self, config, overrides, plan).await;
        #[cfg(not(feature = "history"))]
        {
            let _ = plan;
            self.engine(config, overrides).await
        }
    }

    /// An engine that knows what came of models in earlier runs.
    pub(crate) async fn engine_that_knows(
        &self,
        config: &Config,
        overrides: &Overrides,
        records: ModelRecords,
    ) -> Result<ParallelOrchestrator, CliError> {
        #[cfg(feature = "history")]
        let learner = crate::history::learner(self, config, overrides)?;
        let prices = self.prices(config)?;
        let settings = config;
        let mut config = settings.engine(overrides);
        // Wherever in the repository `orch` was called from, it means the same folder.
        config.worktree_root = config.worktree_root.map(|root| self.top.join(root));
        config.lock_dir = config.lock_dir.map(|dir| self.top.join(dir));
        let state_dir = config.state_dir.clone().unwrap_or_else(|| self.state_dir.clone());
        let processes = orch_exec::defaults::runner(&config, &state_dir)?;
        let agents = Self::agents(settings, processes, &state_dir).prices(prices);
        let builder =
            ParallelOrchestrator::builder(&self.top).config(config).model_records(records);
        #[cfg(feature = "history")]
        let builder = match learner {
            Some(learner) => builder.before_delivery(Arc::new(learner)),
            None => builder,
        };
        Ok(builder.runner(Arc::new(agents)).build().await?)
    }
}

fn read_prices(path: &Path) -> Result<Prices, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| CliError::reading(path, error))?;
    Prices::parse(&text).map_err(|error| CliError::input(format!("{}: {error}", path.display())))
}

/// Whom agents work for.
pub(crate) fn user() -> UserHome {
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    // Whoever has no home has nothing in it.
    UserHome::new(std::env::home_dir().unwrap_or_else(|| "/nonexistent".into()), variables)
}

/// Reads a plan from a file, and what it names from the repository at `top`.
pub(crate) fn read_plan(top: &Path, path: &Path) -> Result<ValidPlan, CliError> {
    let name = path.to_string_lossy();
    let Some(format) = Format::of_path(&name) else {
        return Err(CliError::input(format!(
            "{name} is no plan: its name must end in .toml, .yaml, .yml or .json"
        )));
    };
    let bytes = std::fs::read(path).map_err(|error| {
        let cure = match error.kind() {
            std::io::ErrorKind::NotFound => "; `orch init` writes an example",
            _ => "",
        };
        CliError::input(format!("{name}: {error}{cure}"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::input(format!("{name} is not UTF-8 text: the byte at offset {at} is wrong"))
    })?;
    let read = &mut |name: &str| workspace::read_text(top, name);
    let plan = parse_with(&text, format, read).map_err(|problems| {
        CliError::Report(diagnostics::report(path, &text, &problems, render::is_colored()))
    })?;
    prompt::check(&plan).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        CliError::input(lines.join("\n"))
    })?;
    Ok(plan)
}
