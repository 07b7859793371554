//! How the engine is set up.

use std::{path::PathBuf, time::Duration};

use orch_model::{BudgetChange, ValidPlan, event::RunSettings, plan::spec::Schedule};

/// How the engine is set up.
///
/// A setting of a run comes, in this order, from the overrides here, from the plan's `[run]`, from
/// [`EngineConfig::defaults`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Settings that a plan may replace.
    pub defaults: RunSettings,
    /// Replaces the plan's `max_concurrency`.
    pub max_concurrency: Option<u32>,
    /// Replaces the plan's `schedule`.
    pub schedule: Option<Schedule>,
    /// Budgets that come on top of those of the plan, or replace them.
    pub budgets: Vec<BudgetChange>,
    /// How long an agent may do nothing before that is told. Default: 10 minutes.
    pub silence: Option<Duration>,
    /// Which variables of the environment agents inherit, besides those that programs commonly need;
    /// a `*` at the end of a name stands for any rest.
    pub pass_env: Vec<String>,
    /// Patterns of what is taken out of output before it is written; see `process::Patterns`.
    pub redact: Vec<String>,
    /// Where worktrees are made. Default: beside the repository, in `<repository>.worktrees`.
    pub worktree_root: Option<PathBuf>,
    /// How worktrees are made.
    #[cfg(feature = "defaults")]
    pub trees: orch_worktree::TreeConfig,
    /// Where locks are kept. Repositories that share a folder exclude one another by name, as is
    /// needed for ports. Default: `locks` where runs are recorded.
    pub lock_dir: Option<PathBuf>,
    /// Where runs are recorded. Default: `.orch` in the repository.
    pub state_dir: Option<PathBuf>,
}

impl EngineConfig {
    /// The settings in force for a run of this plan.
    #[must_use]
    pub fn settings(&self, plan: &ValidPlan) -> RunSettings {
        let run = plan.run();
        let mut settings = self.defaults.clone();
        if let Some(max) = self.max_concurrency.or(run.max_concurrency) {
            settings.max_concurrency = max.max(1);
        }
        if let Some(schedule) = self.schedule.or(run.schedule) {
            settings.schedule = schedule;
        }
        if let Some(delay) = run.wave_delay {
            settings.wave_delay.0 = delay;
        }
        settings.max_per_wave = run.max_per_wave.or(settings.max_per_wave);
        settings.on_failure = run.on_failure.unwrap_or(settings.on_failure);
        settings.min_free_disk = run.min_free_disk.unwrap_or(settings.min_free_disk);
        settings.max_total_output = run.max_total_output.unwrap_or(settings.max_total_output);
        settings.min_free_memory = run.min_free_memory.unwrap_or(settings.min_free_memory);
        for (scope, budget) in &run.budgets {
            let of_all = settings.budgets.entry(scope.clone()).or_default();
            *of_all = of_all.with(*budget);
        }
        for change in &self.budgets {
            let of_all = settings.budgets.entry(change.scope.clone()).or_default();
            *of_all = of_all.with(change.budget);
        }
        settings.on_budget = run.on_budget.unwrap_or(settings.on_budget);
        settings
    }
}
