//! The arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use orch_model::{BudgetChange, LockName, RunId, TaskId, plan::PoolRange, time::Span};

/// Runs coding agents, or any commands, in parallel on a plan of dependent tasks: each in a git
/// worktree of its own, verified, then merged.
#[derive(Debug, Parser)]
#[command(
    name = "orch",
    version,
    max_term_width = 100,
    after_help = "Exit codes:\n  \
        0    every task was merged\n  \
        1    some task failed, conflicted, was cancelled or skipped\n  \
        2    the input is wrong; nothing was started\n  \
        3    the engine could not do its job\n  \
        4    orch lock: not free in time\n  \
        5    orch lock: refused to break a deadlock; release what you hold and ask again\n  \
        6    a budget is used up; `orch resume --budget` continues the run\n  \
        130  interrupted; `orch resume` continues the run\n\n\
        Begin with `orch init`, look at the plan with `orch plan`, then `orch run`."
)]
pub struct App {
    /// The repository, or a folder in it [default: the current folder]
    #[arg(short = 'C', long, value_name = "DIR", global = true)]
    pub repo: Option<PathBuf>,
    /// Tell more on the standard error (-vv: still more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Run a plan
    #[command(after_help = "Examples:\n  \
        orch run plan.toml\n  \
        orch run plan.toml -j 8 --report report.json\n  \
        orch run plan.toml --json | jq -c 'select(.change == \"merged\")'")]
    Run(RunArgs),
    /// Draw a plan: waves, critical path, conflicts
    #[command(after_help = "Examples:\n  \
        orch plan plan.toml\n  \
        orch plan plan.toml --format dot | dot -Tsvg > plan.svg")]
    Plan(PlanArgs),
    /// Show what runs, and why the rest waits
    Status(StatusArgs),
    /// List the runs of this repository
    Runs(RunsArgs),
    /// Show the output of a task
    #[command(after_help = "Examples:\n  \
        orch logs login               what the last attempt printed\n  \
        orch logs login --attempt 1   what the first one did\n  \
        orch logs login -f            what is being printed")]
    Logs(LogsArgs),
    /// Show what a task changed, also what it has not committed yet
    #[command(after_help = "Examples:\n  \
        orch diff login            as a patch\n  \
        orch diff login --stat     files and how much of them\n  \
        orch diff login | git apply")]
    Diff(DiffArgs),
    /// Show what was used: money and tokens by task, epic, agent, model or day
    #[command(
        after_help = "Costs are those that agents tell, or come from the table of prices (see \
        `orch config`, `prices`).\n\n\
        Examples:\n  \
        orch cost                   the run that goes on, or the newest\n  \
        orch cost --by model        who was dear\n  \
        orch cost --all --by day    what was spent here, day by day (UTC)"
    )]
    Cost(CostArgs),
    /// Show what a task did: attempts, commits, files, verification, cost, where its work is
    Show(ShowArgs),
    /// Keep the work of a task: `orch gc` removes neither it nor its worktree any more
    Keep(KeepArgs),
    /// Bring the target back to where a run began, if nobody else has moved it since
    #[command(after_help = "Nothing is lost: what is taken from the target is kept as \
        refs/orch/<run>/undone/<n>/target.\n\
        Where the target is checked out, that checkout is moved along, and only while nothing in it \
        is changed.\n\n\
        Examples:\n  \
        orch undo --dry-run    what would be done\n  \
        orch undo              the run that ended last")]
    Undo(UndoArgs),
    /// Start nothing new in the run that goes on
    Pause(PauseArgs),
    /// Go on after `orch pause`, or continue a run that was stopped
    Resume(ResumeArgs),
    /// Cancel a task, or the whole run
    #[command(after_help = "Examples:\n  \
        orch cancel login   ends one task; those that need it are skipped\n  \
        orch cancel         ends everything; what was merged is delivered")]
    Cancel(CancelArgs),
    /// Show what could not be merged: files, both sides, and what to type
    Conflicts(ConflictsArgs),
    /// Resolve the conflicts of a task that waits for a person
    #[command(after_help = "Examples:\n  \
        cd \"$(orch resolve login)\"   a folder with the merge in progress\n  \
        git commit                    when the files are as they should be\n  \
        orch resume                   merges it, and what needs the task is run\n\n\
        For tasks with `on_conflict = \"manual\"`.")]
    Resolve(ResolveArgs),
    /// Show the processes of agents
    #[command(after_help = "The same, for scripts: .orch/runs/<run>/processes.json")]
    Ps(PsArgs),
    /// End the agent of a task at once, without grace; the task is cancelled
    Kill(KillArgs),
    /// Remove what ended runs left behind and what is safe elsewhere
    #[command(
        after_help = "No commit is lost: what is on no other branch is kept, and said so.\n\n\
        Examples:\n  \
        orch gc --dry-run                  what would go\n  \
        orch gc --runs --older-than 30d    old journals and output too"
    )]
    Gc(GcArgs),
    /// Take, free or list locks, also from inside of a task
    #[command(
        after_help = "In a task the lock is held until `orch lock release` or the end of the \
        attempt. Elsewhere it is held until `orch lock release` or the end of the process that \
        called `orch`: a script, or a shell.\n\n\
        Examples:\n  \
        orch lock acquire db && ./migrate; orch lock release db\n  \
        PORT=$(orch lock acquire ports --range 3000-3099)\n  \
        orch lock list"
    )]
    Lock(LockArgs),
    /// Check that what is recorded, git and the running processes agree
    #[command(after_help = "Exit codes:\n  \
        0    all is well\n  \
        1    something was found (after --repair: is left)\n\n\
        It changes nothing without --repair, and with it nothing that could be lost.")]
    Doctor(DoctorArgs),
    /// List the coding agents that can be called by their kind: found, version, login
    #[command(after_help = "Examples:\n  \
        orch agents             those that are installed\n  \
        orch agents plan.toml   those of a plan")]
    Agents(AgentsArgs),
    /// Print the command that continues the session of a task's agent by hand
    #[command(after_help = "Example:\n  \
        eval \"$(orch attach login)\"")]
    Attach(AttachArgs),
    /// Print a JSON Schema
    Schema(SchemaArgs),
    /// Write an example plan
    Init(InitArgs),
    /// Show each setting with its value and where it comes from
    #[command(after_help = "A setting comes from the first of these that gives one:\n  \
        flags\n  \
        the plan's [run]\n  \
        environment variables (ORCH_MAX_CONCURRENCY=4)\n  \
        orch.toml at the top of the repository\n  \
        orch/config.toml in the user's configuration folder\n  \
        built-in values")]
    Config(ConfigArgs),
    /// Print a script that completes `orch` in a shell
    #[command(after_help = "Example:\n  \
        orch completions bash > ~/.local/share/bash-completion/completions/orch")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a run is shown and limited; for `run` and `resume`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Print events as JSON, one a line, and nothing else on the standard output
    #[arg(long)]
    pub json: bool,
    /// Write the final report as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Settings that win over the plan's.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings (they win over the plan's)")]
pub struct Overrides {
    /// How many tasks run at the same time, at most
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrency: Option<u32>,
    /// Run tasks in parallel (the default)
    #[arg(long, conflicts_with = "sequential")]
    pub parallel: bool,
    /// Run one task at a time: -j 1
    #[arg(long, conflicts_with = "max_concurrency")]
    pub sequential: bool,
    /// When a task may start
    #[arg(long, value_enum)]
    pub schedule: Option<ScheduleArg>,
    /// What may be used at most: 1.50 (US dollars), 200000tokens, 20attempts, or several with commas; of
    /// a part: epic:ID=1.50, task:ID=..., agent:NAME=...
    #[arg(long, value_name = "[OF=]LIMIT")]
    pub budget: Vec<BudgetChange>,
}

impl Overrides {
    /// The concurrency that the flags ask for, with the flag that does.
    #[must_use]
    pub fn concurrency(&self) -> Option<(u32, &'static str)> {
        if self.sequential {
            Some((1, "--sequential"))
        } else {
            self.max_concurrency.map(|n| (n, "-j"))
        }
    }
}

/// When a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// The moment its last dependency is merged
    Ready,
    /// In batches
    Waves,
}

/// `orch run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plan: TOML, YAML or JSON
    pub plan: PathBuf,
    /// See [`Overrides`].
    #[command(flatten)]
    pub overrides: Overrides,
    /// See [`Output`].
    #[command(flatten)]
    pub output: Output,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `orch plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The plan: TOML, YAML or JSON
    pub plan: PathBuf,
    /// How to draw it
    #[arg(long, value_enum, default_value = "text")]
    pub format: PlanFormat,
    /// See [`Overrides`].
    #[command(flatten)]
    pub overrides: Overrides,
}

/// How to draw a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people
    Text,
    /// A Mermaid flowchart
    Mermaid,
    /// For Graphviz
    Dot,
    /// For programs
    Json,
}

/// `orch status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The run [default: the one that goes on, else the newest]
    pub run: Option<RunId>,
    /// For programs
    #[arg(long)]
    pub json: bool,
    /// Show every task, however many there are
    #[arg(long)]
    pub all: bool,
}

/// `orch runs`
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The task
    pub task: TaskId,
    /// Go on until the task has ended
    #[arg(short, long)]
    pub follow: bool,
    /// The run [default: the newest]
    #[arg(long)]
    pub run: Option<RunId>,
    /// The attempt [default: the last]
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

/// `orch diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The task
    pub task: TaskId,
    /// Files and how much of them was changed, not the changes
    #[arg(long)]
    pub stat: bool,
    /// The run [default: the one that goes on, else the newest]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The task
    pub task: TaskId,
    /// The run [default: the one that goes on, else the newest]
    #[arg(long)]
    pub run: Option<RunId>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch cost`
#[derive(Debug, Args)]
pub struct CostArgs {
    /// The run [default: the one that goes on, else the newest]
    pub run: Option<RunId>,
    /// A row for each of these
    #[arg(long, value_enum, default_value = "task")]
    pub by: CostBy,
    /// All runs of this repository together
    #[arg(long, conflicts_with = "run")]
    pub all: bool,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// What costs are summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CostBy {
    /// Tasks
    Task,
    /// Epics
    Epic,
    /// Agents
    Agent,
    /// Models
    Model,
    /// Days, in UTC
    Day,
}

/// `orch keep`
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// The task
    pub task: TaskId,
    /// The run [default: the one that goes on, else the newest]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch undo`
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The run [default: the one that ended last]
    pub run: Option<RunId>,
    /// Say only what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
    /// For programs; does not ask
    #[arg(long)]
    pub json: bool,
}

/// `orch pause`
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Stop the processes of running agents too
    #[arg(long)]
    pub freeze: bool,
    /// The run [default: the one that goes on]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run [default: the one that is paused, else the newest that was stopped]
    pub run: Option<RunId>,
    /// Give it another budget: 2.00 (US dollars), 200000tokens, 20attempts; of a part: epic:ID=2.00
    #[arg(long, value_name = "[OF=]LIMIT")]
    pub budget: Vec<BudgetChange>,
    /// See [`Output`].
    #[command(flatten)]
    pub output: Output,
}

/// `orch cancel`
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The task [default: everything]
    pub task: Option<TaskId>,
    /// The run [default: the one that goes on]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch conflicts`
#[derive(Debug, Args)]
pub struct ConflictsArgs {
    /// The run [default: the one that goes on, else the newest]
    pub run: Option<RunId>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch resolve`
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// The task
    pub task: TaskId,
    /// All is resolved: commit what is not, and take it
    #[arg(long, conflicts_with = "abort")]
    pub done: bool,
    /// Remove the folder; what is in it is kept under a reference
    #[arg(long)]
    pub abort: bool,
    /// The run [default: the one that goes on, else the newest]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch ps`
#[derive(Debug, Args)]
pub struct PsArgs {
    /// The run [default: every run whose agents are at work]
    #[arg(long)]
    pub run: Option<RunId>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch agents`
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// A plan whose agents are looked at [default: the usual program of each kind]
    pub plan: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch attach`
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The task
    pub task: TaskId,
    /// The run [default: the one that goes on, or the newest]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch kill`
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The task
    pub task: TaskId,
    /// The run [default: the one that goes on]
    #[arg(long)]
    pub run: Option<RunId>,
}

/// `orch gc`
#[derive(Debug, Args)]
pub struct GcArgs {
    /// List only
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the records (journal, output) of ended runs too, where no work depends on them
    #[arg(long)]
    pub runs: bool,
    /// How many of the newest runs keep their records
    #[arg(long, value_name = "N", requires = "runs", default_value_t = orch_exec::retention::KEEP)]
    pub keep: usize,
    /// Only of runs whose last event is longer ago: 30d, 12h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub older_than: Option<std::time::Duration>,
    /// How much space the records of all runs may take; beyond it the oldest go: 500MB, 2GiB
    #[arg(long, value_name = "SIZE", requires = "runs")]
    pub max_size: Option<orch_model::ByteSize>,
    /// Move work that is nowhere else to refs/orch/preserved/, so that its worktrees and branches can go
    #[arg(long)]
    pub preserve: bool,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Put right what can be put right without losing anything
    #[arg(long)]
    pub repair: bool,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch lock`
#[derive(Debug, Args)]
pub struct LockArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LockCommand,
}

/// What to do with locks.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum LockCommand {
    /// Take a lock, and wait until it is free; prints the values where it is a pool
    Acquire(LockAcquireArgs),
    /// Free a lock that was taken with `orch lock acquire`
    Release(LockReleaseArgs),
    /// Show who holds what, who waits, and which deadlocks were broken
    List(LockListArgs),
}

/// `orch lock acquire`
#[derive(Debug, Args)]
pub struct LockAcquireArgs {
    /// The lock
    pub name: LockName,
    /// Hold it together with other shared holders
    #[arg(long, conflicts_with_all = ["count", "of", "range"])]
    pub shared: bool,
    /// How many units, or values of a pool [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// How many units there are
    #[arg(long, value_name = "M", conflicts_with = "range")]
    pub of: Option<u32>,
    /// The values of a pool, such as 3000-3099
    #[arg(long, value_name = "FIRST-LAST")]
    pub range: Option<PoolRange>,
    /// How long to wait; 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
    /// From 0, the highest, to 4: who gives way in a deadlock [default: the task's, else 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=4))]
    pub priority: Option<u8>,
    /// Hold it for this process, not for the task or the calling process
    #[arg(long)]
    pub pid: Option<u32>,
}

/// `orch lock release`
#[derive(Debug, Args)]
pub struct LockReleaseArgs {
    /// The lock
    pub name: LockName,
    /// It was taken with this --pid
    #[arg(long)]
    pub pid: Option<u32>,
}

/// `orch lock list`
#[derive(Debug, Args)]
pub struct LockListArgs {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `orch schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of what
    #[arg(value_enum, default_value = "plan")]
    pub of: SchemaOf,
}

/// What a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Of a plan
    Plan,
}

/// `orch init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write
    #[arg(default_value = "orch-plan.toml")]
    pub file: PathBuf,
}

/// `orch config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// For programs
    #[arg(long)]
    pub json: bool,
    /// See [`Overrides`].
    #[command(flatten)]
    pub overrides: Overrides,
}
