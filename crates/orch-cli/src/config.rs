//! Settings in layers: built-in < user < repository < environment < plan < flags.

use std::{fmt, path::PathBuf, str::FromStr};

use orch_exec::{EngineConfig, process::Patterns};
use orch_model::{
    Budget, BudgetScope, ByteSize, Span, ValidPlan,
    budget::Amount,
    event::RunSettings,
    plan::spec::{OnBudget, OnFailure, Schedule},
    resources::Contended,
};
use orch_worktree::{Include, TreeConfig, TreeKind};

use crate::app::{Overrides, ScheduleArg};

mod layers;

pub(crate) use layers::{Places, load};

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    File { path: PathBuf, line: usize },
    Environment(String),
    Plan,
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Plan => f.write_str("the plan's [run]"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A setting: its value as text, and where that comes from.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: Key,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

macro_rules! keys {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// The settings that there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Key { $($variant,)* }

        impl Key {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) const fn about(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

keys! {
    MaxConcurrency "max_concurrency" "how many tasks run at the same time, at most",
    Schedule "schedule" "when a task may start: ready or waves",
    MaxPerWave "max_per_wave" "with waves: how many tasks a wave has, at most (0: no limit)",
    WaveDelay "wave_delay" "with waves: the pause between two waves",
    OnFailure "on_failure" "what a failed task means for the rest: continue or stop",
    Budget "budget" "what a run may use at most: 1.50 (US dollars), 200000 tokens, 20 attempts (empty: no limit)",
    OnBudget "on_budget" "what happens where a budget is reached: pause or stop",
    Grace "grace" "how long an agent that is asked to end may take before it is killed",
    Backoff "backoff" "the pause before the first retry; doubled for each further one",
    BackoffMax "backoff_max" "the longest pause before a retry",
    MinFreeDisk "min_free_disk" "how much disk space must be free for a task to be started (0B: any)",
    MinFreeMemory "min_free_memory" "how much memory must be available for a task to be started (0B: any)",
    MaxTotalOutput "max_total_output" "how much output is kept of all tasks together; beyond it little of each",
    Pressure "pressure" "what fewer tasks run at a time for when it is contended: cpu, memory, io (empty: nothing)",
    Silence "silence" "how long an agent may do nothing before that is told",
    PassEnv "pass_env" "variables that agents inherit besides the usual ones: NAME, PREFIX_* or *",
    Redact "redact" "regular expressions of what is taken out of output, besides the values of secret variables",
    WorktreeRoot "worktree_root" "the folder for worktrees (empty: <repository>.worktrees)",
    WorktreeKind "worktree_kind" "how worktrees are made: auto, worktree, pool or overlay",
    WorktreePoolSize "worktree_pool_size" "with the pool: how many idle worktrees are kept, at most",
    WorktreePoolDisk "worktree_pool_disk" "with the pool: the space that idle worktrees may take",
    WorktreePoolAge "worktree_pool_age" "with the pool: how long an idle worktree is kept",
    WorktreePoolIgnored "worktree_pool_ignored" "with the pool: keep or clean what git ignores (build caches)",
    WorktreeInclude "worktree_include" "ignored files that worktrees get, as PATTERN or copy|symlink|hardlink|reflink:PATTERN",
    WorktreeSetup "worktree_setup" "a command that makes a worktree ready, such as npm ci",
    WorktreeSetupFiles "worktree_setup_files" "files that it depends on: while they are the same it runs once a worktree",
    WorktreeSubmodules "worktree_submodules" "whether submodules are checked out in worktrees: yes or no",
    TrustedFilters "trusted_filters" "filters of your git configuration that orch's git may run, such as lfs",
    WorktreeFreeDisk "worktree_free_disk" "no idle worktree is kept while less of the disk is free",
    Prices "prices" "a file with what models cost, which wins over the built-in table",
    Expertise "expertise" "whether what runs teach is kept: never, commit (by a commit on the results) or folder",
    ExpertiseDir "expertise_dir" "the folder for that (empty: docs/expertise; with `folder` it must be named)",
    LockDir "lock_dir" "the folder for locks; repositories that share one exclude one another (empty: .orch/locks)",
    Live "live" "whether `orch run` shows a live view: auto, always or never",
}

impl Key {
    /// What stands between the elements where files may give it as a list.
    const fn separator(self) -> Option<&'static str> {
        match self {
            Self::Redact => Some("\n"),
            Self::PassEnv | Self::Pressure | Self::TrustedFilters => Some(", "),
            _ => None,
        }
    }
}

/// Whether there is a live view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    Auto,
    Always,
    Never,
}

/// All settings with their origins.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    settings: Vec<Setting>,
}

impl Config {
    /// The built-in values.
    pub(crate) fn built_in() -> Self {
        let settings = Key::ALL
            .iter()
            .map(|key| Setting { key: *key, value: built_in(*key), origin: Origin::BuiltIn })
            .collect();
        Self { settings }
    }

    pub(crate) fn settings(&self) -> &[Setting] {
        &self.settings
    }

    fn get(&self, key: Key) -> &Setting {
        self.settings.iter().find(|setting| setting.key == key).expect("every key has a value")
    }

    /// Replaces a value.
    ///
    /// # Errors
    /// Where it is none of the kind that the setting takes; says what that is.
    pub(crate) fn set(&mut self, key: Key, value: &str, origin: Origin) -> Result<(), String> {
        check(key, value)?;
        let setting = self.settings.iter_mut().find(|setting| setting.key == key);
        let setting = setting.expect("every key has a value");
        setting.value = value.to_owned();
        setting.origin = origin;
        Ok(())
    }

    fn value<T: FromStr>(&self, key: Key) -> T {
        let parsed = self.get(key).value.parse().ok();
        parsed.expect("a value is checked when it is set")
    }

    pub(crate) fn live(&self) -> Live {
        parse_live(&self.get(Key::Live).value).expect("a value is checked when it is set")
    }

    /// The settings of the engine; `overrides` are the flags.
    pub(crate) fn engine(&self, overrides: &Overrides) -> EngineConfig {
        let max_per_wave: u32 = self.value(Key::MaxPerWave);
        let defaults = RunSettings {
            max_concurrency: self.value(Key::MaxConcurrency),
            schedule: parse_schedule(&self.get(Key::Schedule).value).unwrap_or_default(),
            max_per_wave: (max_per_wave > 0).then_some(max_per_wave),
            wave_delay: self.value(Key::WaveDelay),
            on_failure: parse_on_failure(&self.get(Key::OnFailure).value).unwrap_or_default(),
            budgets: self.budget().map(|budget| (BudgetScope::Run, budget)).into_iter().collect(),
            on_budget: parse_on_budget(&self.get(Key::OnBudget).value).unwrap_or_default(),
            grace: self.value(Key::Grace),
            backoff: self.value(Key::Backoff),
            backoff_max: self.value(Key::BackoffMax),
            min_free_disk: self.value(Key::MinFreeDisk),
            min_free_memory: self.value(Key::MinFreeMemory),
            max_total_output: self.value(Key::MaxTotalOutput),
            pressure: parse_pressure(&self.get(Key::Pressure).value).unwrap_or_default(),
            ..RunSettings::default()
        };
        let root = &self.get(Key::WorktreeRoot).value;

        let mut config = EngineConfig::default();
        config.defaults = defaults;
        config.silence = Some(self.value::<Span>(Key::Silence).0);
        let names = self.get(Key::PassEnv).value.split([',', ' ']);
        config.pass_env = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        config.redact = patterns(&self.get(Key::Redact).value);
        config.worktree_root = (!root.is_empty()).then(|| root.into());
        config.trees = self.trees();
        config.lock_dir = self.lock_dir();
        config.max_concurrency = overrides.concurrency().map(|(n, _)| n);
        config.budgets = overrides.budget.clone();
        config.schedule = overrides.schedule.map(|schedule| match schedule {
            ScheduleArg::Ready => Schedule::Ready,
            ScheduleArg::Waves => Schedule::Waves,
        });
        config
    }

    fn budget(&self) -> Option<Budget> {
        let text = &self.get(Key::Budget).value;
        text.parse().ok().filter(|_| !text.is_empty())
    }

    /// How worktrees are made.
    pub(crate) fn trees(&self) -> TreeConfig {
        let mut trees = TreeConfig::default();
        trees.kind = self.value(Key::WorktreeKind);
        trees.pool.size = self.value(Key::WorktreePoolSize);
        trees.pool.disk = self.value::<ByteSize>(Key::WorktreePoolDisk).0;
        trees.pool.age = self.value::<Span>(Key::WorktreePoolAge).0;
        trees.pool.free_floor = self.value::<ByteSize>(Key::WorktreeFreeDisk).0;
        let listed = |key| {
            let names = self.get(key).value.split([',', ' ']).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let include = listed(Key::WorktreeInclude);
        trees.include = include.iter().filter_map(|name| name.parse().ok()).collect();
        trees.setup = Some(self.get(Key::WorktreeSetup).value.clone()).filter(|s| !s.is_empty());
        trees.setup_key = listed(Key::WorktreeSetupFiles);
        trees.trusted_filters = listed(Key::TrustedFilters);
        trees.submodules = self.get(Key::WorktreeSubmodules).value == "yes";
        trees.pool.keep_ignored = self.get(Key::WorktreePoolIgnored).value == "keep";
        trees
    }

    /// Where locks are kept, if anywhere else than by custom.
    pub(crate) fn lock_dir(&self) -> Option<PathBuf> {
        let dir = &self.get(Key::LockDir).value;
        (!dir.is_empty()).then(|| dir.into())
    }

    /// Whether what runs teach is kept, and in which folder.
    #[cfg(feature = "history")]
    pub(crate) fn expertise(&self) -> (&str, &str) {
        (&self.get(Key::Expertise).value, &self.get(Key::ExpertiseDir).value)
    }

    /// A file with what models cost.
    pub(crate) fn prices(&self) -> Option<PathBuf> {
        let file = &self.get(Key::Prices).value;
        (!file.is_empty()).then(|| file.into())
    }

    /// The settings as a plan and flags change them, for people.
    pub(crate) fn with(mut self, plan: Option<&ValidPlan>, overrides: &Overrides) -> Self {
        let mut changes: Vec<(Key, String, Origin)> = Vec::new();
        if let Some(run) = plan.map(ValidPlan::run) {
            let mut of_plan = |key, value: Option<String>| {
                changes.extend(value.map(|value| (key, value, Origin::Plan)));
            };
            of_plan(Key::MaxConcurrency, run.max_concurrency.map(|n| n.to_string()));
            of_plan(Key::Schedule, run.schedule.map(|s| schedule_name(s).to_owned()));
            of_plan(Key::MaxPerWave, run.max_per_wave.map(|n| n.to_string()));
            of_plan(Key::WaveDelay, run.wave_delay.map(|delay| Span(delay).to_string()));
            of_plan(Key::OnFailure, run.on_failure.map(|o| on_failure_name(o).to_owned()));
            let budget = run.budgets.get(&BudgetScope::Run).copied();
            of_plan(Key::Budget, budget.map(budget_text));
            of_plan(Key::OnBudget, run.on_budget.map(|o| on_budget_name(o).to_owned()));
            of_plan(Key::MinFreeDisk, run.min_free_disk.map(|size| size.to_string()));
            of_plan(Key::MinFreeMemory, run.min_free_memory.map(|size| size.to_string()));
            of_plan(Key::MaxTotalOutput, run.max_total_output.map(|size| size.to_string()));
        }
        if let Some((n, flag)) = overrides.concurrency() {
            changes.push((Key::MaxConcurrency, n.to_string(), Origin::Flag(flag)));
        }
        if let Some(schedule) = overrides.schedule {
            let name = match schedule {
                ScheduleArg::Ready => "ready",
                ScheduleArg::Waves => "waves",
            };
            changes.push((Key::Schedule, name.into(), Origin::Flag("--schedule")));
        }
        for change in overrides.budget.iter().filter(|change| change.scope == BudgetScope::Run) {
            changes.push((Key::Budget, budget_text(change.budget), Origin::Flag("--budget")));
        }
        for (key, value, origin) in changes {
            let set = self.set(key, &value, origin);
            debug_assert!(set.is_ok(), "plan and flags are checked: {set:?}");
        }
        self
    }
}

fn built_in(key: Key) -> String {
    let settings = RunSettings::default();
    let trees = TreeConfig::default();
    match key {
        Key::MaxConcurrency => settings.max_concurrency.to_string(),
        Key::Schedule => schedule_name(settings.schedule).into(),
        Key::MaxPerWave => settings.max_per_wave.unwrap_or(0).to_string(),
        Key::WaveDelay => settings.wave_delay.to_string(),
        Key::OnFailure => on_failure_name(settings.on_failure).into(),
        Key::Budget => String::new(),
        Key::OnBudget => on_budget_name(settings.on_budget).into(),
        Key::Grace => settings.grace.to_string(),
        Key::Backoff => settings.backoff.to_string(),
        Key::BackoffMax => settings.backoff_max.to_string(),
        Key::MinFreeDisk => settings.min_free_disk.to_string(),
        Key::MinFreeMemory => settings.min_free_memory.to_string(),
        Key::MaxTotalOutput => settings.max_total_output.to_string(),
        Key::Pressure => {
            let names: Vec<_> = settings.pressure.iter().map(|of| of.name()).collect();
            names.join(", ")
        }
        Key::Expertise => "never".into(),
        Key::ExpertiseDir => String::new(),
        Key::Silence => "10m".into(),
        Key::PassEnv | Key::Redact | Key::WorktreeRoot | Key::LockDir | Key::Prices => {
            String::new()
        }
        Key::WorktreeInclude | Key::WorktreeSetup | Key::WorktreeSetupFiles => String::new(),
        Key::TrustedFilters => String::new(),
        Key::WorktreeSubmodules => if trees.submodules { "yes" } else { "no" }.into(),
        Key::WorktreeKind => trees.kind.to_string(),
        Key::WorktreePoolSize => trees.pool.size.to_string(),
        Key::WorktreePoolDisk => ByteSize(trees.pool.disk).to_string(),
        Key::WorktreePoolAge => Span(trees.pool.age).to_string(),
        Key::WorktreePoolIgnored => if trees.pool.keep_ignored { "keep" } else { "clean" }.into(),
        Key::WorktreeFreeDisk => ByteSize(trees.pool.free_floor).to_string(),
        Key::Live => "auto".into(),
    }
}

fn check(key: Key, value: &str) -> Result<(), String> {
    let one_of = |found: bool, names: &str| {
        found.then_some(()).ok_or_else(|| format!("`{value}` is not one of {names}"))
    };
    match key {
        Key::MaxConcurrency => match value.parse::<u32>() {
            Ok(1..) => Ok(()),
            _ => Err(format!("`{value}` is not a whole number from 1 on")),
        },
        Key::Budget if value.is_empty() => Ok(()),
        Key::Budget => value.parse::<Budget>().map(|_| ()),
        Key::OnBudget => one_of(parse_on_budget(value).is_some(), "pause, stop"),
        Key::WorktreeKind => value.parse::<TreeKind>().map(|_| ()),
        Key::WorktreePoolDisk | Key::WorktreeFreeDisk => value.parse::<ByteSize>().map(|_| ()),
        Key::WorktreePoolIgnored => one_of(["keep", "clean"].contains(&value), "keep, clean"),
        Key::MaxPerWave | Key::WorktreePoolSize => {
            value.parse::<u32>().map(|_| ()).map_err(|_| format!("`{value}` is not a whole number"))
        }
        Key::WaveDelay
        | Key::Grace
        | Key::Backoff
        | Key::BackoffMax
        | Key::Silence
        | Key::WorktreePoolAge => value.parse::<Span>().map(|_| ()),
        Key::MinFreeDisk | Key::MinFreeMemory | Key::MaxTotalOutput => {
            value.parse::<ByteSize>().map(|_| ())
        }
        Key::Pressure => parse_pressure(value).map(|_| ()),
        Key::Schedule => one_of(parse_schedule(value).is_some(), "ready, waves"),
        Key::OnFailure => one_of(parse_on_failure(value).is_some(), "continue, stop"),
        Key::Live => one_of(parse_live(value).is_some(), "auto, always, never"),
        Key::Expertise => {
            one_of(["never", "commit", "folder"].contains(&value), "never, commit, folder")
        }
        Key::ExpertiseDir => Ok(()),
        Key::Redact => Patterns::new(&patterns(value)).map(|_| ()),
        Key::WorktreeSubmodules => one_of(["yes", "no"].contains(&value), "yes, no"),
        Key::WorktreeInclude => value
            .split([',', ' '])
            .filter(|name| !name.is_empty())
            .try_for_each(|name| name.parse::<Include>().map(|_| ())),
        Key::WorktreeSetup | Key::WorktreeSetupFiles | Key::TrustedFilters => Ok(()),
        Key::PassEnv | Key::WorktreeRoot | Key::LockDir | Key::Prices => Ok(()),
    }
}

/// Patterns, one a line: within a line they match.
fn patterns(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn parse_pressure(text: &str) -> Result<Vec<Contended>, String> {
    text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::parse).collect()
}

fn parse_schedule(text: &str) -> Option<Schedule> {
    [Schedule::Ready, Schedule::Waves].into_iter().find(|s| schedule_name(*s) == text)
}

const fn schedule_name(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Waves => "waves",
        _ => "ready",
    }
}

fn parse_on_failure(text: &str) -> Option<OnFailure> {
    [OnFailure::Continue, OnFailure::Stop].into_iter().find(|o| on_failure_name(*o) == text)
}

const fn on_failure_name(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Stop => "stop",
        _ => "continue",
    }
}

fn parse_on_budget(text: &str) -> Option<OnBudget> {
    [OnBudget::Pause, OnBudget::Stop].into_iter().find(|o| on_budget_name(*o) == text)
}

const fn on_budget_name(on_budget: OnBudget) -> &'static str {
    match on_budget {
        OnBudget::Stop => "stop",
        _ => "pause",
    }
}

/// A budget as it can be read again.
fn budget_text(budget: Budget) -> String {
    let limits = budget.limits().map(|limit| match limit {
        Amount::Usd(money) => money.to_string(),
        Amount::Tokens(tokens) => format!("{tokens} tokens"),
        Amount::Attempts(attempts) => format!("{attempts} attempts"),
    });
    limits.collect::<Vec<_>>().join(", ")
}

fn parse_live(text: &str) -> Option<Live> {
    match text {
        "auto" => Some(Live::Auto),
        "always" => Some(Live::Always),
        "never" => Some(Live::Never),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use orch_worktree::IncludeMode;

    use orch_model::{PlanSpec, TaskId, plan::spec::TaskSpec};

    use super::*;

    fn file() -> Origin {
        Origin::File { path: "/repo/orch.toml".into(), line: 3 }
    }

    fn plan() -> ValidPlan {
        let mut plan = PlanSpec::new().task(TaskSpec::new(TaskId::new("a").unwrap()).run("true"));
        plan.run.max_concurrency = Some(5);
        plan.run.on_failure = Some(OnFailure::Stop);
        plan.validate().unwrap()
    }

    #[test]
    fn what_is_built_in_is_what_the_engine_has_without_a_configuration() {
        let config = Config::built_in().engine(&Overrides::default());
        assert_eq!(config.defaults, RunSettings::default());
        assert_eq!((config.max_concurrency, config.schedule), (None, None));
        assert_eq!((config.worktree_root, config.lock_dir), (None, None));
        assert_eq!(config.trees, TreeConfig::default());
    }

    #[test]
    fn every_setting_reaches_the_engine() {
        let mut config = Config::built_in();
        for (key, value) in [
            (Key::MaxConcurrency, "7"),
            (Key::Schedule, "waves"),
            (Key::MaxPerWave, "4"),
            (Key::WaveDelay, "2s"),
            (Key::OnFailure, "stop"),
            (Key::Budget, "1.50, 200000 tokens"),
            (Key::OnBudget, "stop"),
            (Key::Grace, "1m"),
            (Key::Backoff, "3s"),
            (Key::BackoffMax, "9s"),
            (Key::MinFreeDisk, "2GiB"),
            (Key::MinFreeMemory, "0B"),
            (Key::MaxTotalOutput, "1GiB"),
            (Key::Pressure, "cpu,io"),
            (Key::Silence, "5m"),
            (Key::PassEnv, "AWS_*, DATABASE_URL"),
            (Key::Redact, "id-[0-9]+\nkey=\\S+"),
            (Key::WorktreeRoot, "/trees"),
            (Key::WorktreeKind, "pool"),
            (Key::WorktreePoolSize, "3"),
            (Key::WorktreePoolDisk, "4GiB"),
            (Key::WorktreePoolAge, "2h"),
            (Key::WorktreePoolIgnored, "clean"),
            (Key::TrustedFilters, "lfs, crypt"),
            (Key::WorktreeFreeDisk, "5GiB"),
            (Key::WorktreeInclude, ".env, symlink:node_modules"),
            (Key::WorktreeSetup, "npm ci"),
            (Key::WorktreeSetupFiles, "package-lock.json"),
            (Key::WorktreeSubmodules, "yes"),
            (Key::Prices, "prices.json"),
            (Key::Expertise, "folder"),
            (Key::ExpertiseDir, "/known"),
            (Key::LockDir, "/locks"),
            (Key::Live, "never"),
        ] {
            config.set(key, value, file()).unwrap();
        }
        assert_eq!(config.live(), Live::Never);
        assert_eq!(config.prices(), Some("prices.json".into()));
        #[cfg(feature = "history")]
        assert_eq!(config.expertise(), ("folder", "/known"));
        assert!(config.settings().iter().all(|setting| setting.origin == file()));
        let engine = config.engine(&Overrides::default());
        let expected = RunSettings {
            max_concurrency: 7,
            schedule: Schedule::Waves,
            max_per_wave: Some(4),
            wave_delay: Span::from_secs(2),
            on_failure: OnFailure::Stop,
            budgets: [(BudgetScope::Run, "1.50, 200000 tokens".parse().unwrap())].into(),
            on_budget: OnBudget::Stop,
            grace: Span::from_secs(60),
            backoff: Span::from_secs(3),
            backoff_max: Span::from_secs(9),
            min_free_disk: ByteSize(2 << 30),
            min_free_memory: ByteSize(0),
            max_total_output: ByteSize(1 << 30),
            pressure: vec![Contended::Cpu, Contended::Io],
            ..RunSettings::default()
        };
        assert_eq!(engine.defaults, expected);
        assert_eq!(engine.pass_env, ["AWS_*", "DATABASE_URL"]);
        assert_eq!(engine.redact, ["id-[0-9]+", "key=\\S+"]);
        assert_eq!(engine.silence, Some(std::time::Duration::from_secs(300)));
        assert_eq!(engine.worktree_root, Some("/trees".into()));
        assert_eq!(engine.lock_dir, Some("/locks".into()));
        let (trees, pool) = (&engine.trees, &engine.trees.pool);
        assert_eq!((trees.kind, pool.size, pool.disk), (TreeKind::Pool, 3, 4 << 30));
        let modes: Vec<_> = trees.include.iter().map(|i| (i.pattern.as_str(), i.mode)).collect();
        let (copy, symlink) = (IncludeMode::Copy, IncludeMode::Symlink);
        assert_eq!(modes, [(".env", copy), ("node_modules", symlink)]);
        assert_eq!((trees.setup.as_deref(), trees.submodules), (Some("npm ci"), true));
        assert_eq!(trees.setup_key, ["package-lock.json"]);
        assert_eq!((pool.free_floor, pool.keep_ignored), (5 << 30, false));
        assert_eq!(pool.age, std::time::Duration::from_secs(7200));
        assert_eq!(trees.trusted_filters, ["lfs", "crypt"]);
    }

    #[test]
    fn the_plan_wins_over_files_and_flags_win_over_the_plan() {
        let mut config = Config::built_in();
        config.set(Key::MaxConcurrency, "7", file()).unwrap();
        let overrides = Overrides { max_concurrency: Some(2), ..Overrides::default() };
        for (overrides, limit, origin) in
            [(Overrides::default(), 5, Origin::Plan), (overrides, 2, Origin::Flag("-j"))]
        {
            let settings = config.engine(&overrides).settings(&plan());
            assert_eq!(settings.max_concurrency, limit);
            assert_eq!(settings.on_failure, OnFailure::Stop);
            let shown = config.clone().with(Some(&plan()), &overrides);
            let shown = shown.get(Key::MaxConcurrency);
            assert_eq!((shown.value.as_str(), &shown.origin), (&*limit.to_string(), &origin));
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_with_what_would_be_right() {
        for (key, value, cure) in [
            (Key::MaxConcurrency, "0", "from 1 on"),
            (Key::MaxPerWave, "-1", "whole number"),
            (Key::Grace, "soon", "30s"),
            (Key::Schedule, "later", "ready, waves"),
            (Key::OnFailure, "cry", "continue, stop"),
            (Key::Budget, "5 apples", "200000 tokens"),
            (Key::OnBudget, "cry", "pause, stop"),
            (Key::Live, "yes", "auto, always, never"),
            (Key::Expertise, "yes", "never, commit, folder"),
            (Key::MinFreeDisk, "5", "64MiB"),
            (Key::Pressure, "disk", "cpu, memory, io"),
            (Key::Redact, "a(b", "bad pattern"),
            (Key::WorktreeKind, "copy", "auto, worktree, pool, overlay"),
            (Key::WorktreePoolDisk, "much", "2GB"),
            (Key::WorktreePoolIgnored, "no", "keep, clean"),
            (Key::WorktreeInclude, "move:a", "copy, symlink"),
            (Key::WorktreeSubmodules, "some", "yes, no"),
        ] {
            let wrong = Config::built_in().set(key, value, file()).unwrap_err();
            assert!(wrong.contains(cure) && wrong.contains(value), "{wrong}");
        }
    }
}
